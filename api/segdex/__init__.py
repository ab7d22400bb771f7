"""segdex: search for objects in images.

Example:
    >>> import segdex
    >>> with segdex.open("edge:my-index") as library:  # doctest: +SKIP
    ...     library.ingest("~/Pictures")
    ...     for hit in library.search("red umbrella", limit=5):
    ...         print(hit.score, hit.image.path, hit.box)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segdex.answers import Answer, Hit, ImageHits, Masks, Segment
    from segdex.answers_async import AsyncAnswer, AsyncHit
    from segdex.arguments import IngestProgress, MaskChoices, QueryImage
    from segdex.client import AsyncClient, Client
    from segdex.library import Library
    from segdex.opening import open, open_async, segment  # noqa: A004 - the public name is segdex.open
    from segdex_core.errors import SegdexError
    from segdex_core.wire.search import Filter, Region, ViewWeights, WeightedSegment, WeightedText

    __version__: str

__all__ = [
    "Answer",
    "AsyncAnswer",
    "AsyncClient",
    "AsyncHit",
    "Client",
    "Filter",
    "Hit",
    "ImageHits",
    "IngestProgress",
    "Library",
    "MaskChoices",
    "Masks",
    "QueryImage",
    "Region",
    "SegdexError",
    "Segment",
    "ViewWeights",
    "WeightedSegment",
    "WeightedText",
    "__version__",
    "open",
    "open_async",
    "segment",
]

_HOME = {
    "segdex.answers": ("Answer", "Hit", "ImageHits", "Masks", "Segment"),
    "segdex.answers_async": ("AsyncAnswer", "AsyncHit"),
    "segdex.arguments": ("IngestProgress", "MaskChoices", "QueryImage"),
    "segdex.client": ("AsyncClient", "Client"),
    "segdex.library": ("Library",),
    "segdex.opening": ("open", "open_async", "segment"),
    "segdex_core.errors": ("SegdexError",),
    "segdex_core.wire.search": ("Filter", "Region", "ViewWeights", "WeightedSegment", "WeightedText"),
}
"""Module that defines each public name. It is imported on first use, so that ``import segdex`` stays fast."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("segdex")
    else:
        home = next((module for module, names in _HOME.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module 'segdex' has no attribute {name!r}")
        value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
