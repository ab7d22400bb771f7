"""Python clients of the HTTP service: ``Client`` and ``AsyncClient``.

Example:
    >>> from segdex.client import Client
    >>> with Client("http://127.0.0.1:8600") as client:  # doctest: +SKIP
    ...     for hit in client.search("red umbrella", limit=3).hits:
    ...         print(hit.score, hit.image.path)
"""

from segdex.client.asynchronous import AsyncClient
from segdex.client.errors import (
    AccessError,
    BusyError,
    NotThereError,
    RequestError,
    ServiceError,
    UnreachableError,
)
from segdex.client.synchronous import Client
from segdex_core.wire.search import Filter, Region, ViewWeights, WeightedSegment, WeightedText
from segdex_core.wire.segments import PointIn, Rle

__all__ = [
    "AccessError",
    "AsyncClient",
    "BusyError",
    "Client",
    "Filter",
    "NotThereError",
    "PointIn",
    "Region",
    "RequestError",
    "Rle",
    "ServiceError",
    "UnreachableError",
    "ViewWeights",
    "WeightedSegment",
    "WeightedText",
]
