"""Entry points: open a library by its location, or segment an image without an index."""

import os
from typing import TYPE_CHECKING, Unpack
from urllib.parse import urlsplit

from segdex.answers import Masks
from segdex.arguments import PromptFields
from segdex.pictures import Picture
from segdex_core.errors import UsageError
from segdex_core.locations import EDGE, LOOPBACK, index_location, is_address, service_address

if TYPE_CHECKING:
    from segdex.client import AsyncClient, Client
    from segdex.library import Library

_PROBE_TIMEOUT_S = 10.0


def open(  # noqa: A001 - the public name is segdex.open
    location: str | os.PathLike[str], *, api_key: str | None = None, **settings: object
) -> "Library | Client":
    """Open a library: an index in a folder, on a Qdrant server, or behind a segdex service.

    Nothing is loaded before it is used. An index that does not exist is created by the first ``ingest``.

    Args:
        location: Folder, ``edge:PATH``, or ``http(s)://HOST:PORT`` of a Qdrant server or a segdex service;
            the response of the server tells which of the two it is. A service may have a path.
        api_key: API key of the server.
        settings: Settings of an index that is opened in this process, as ``Settings`` names them, such as
            ``profile="offline"`` or ``device="cpu"``. A service has its own settings and refuses them.

    Raises:
        UsageError: If the location or a setting is not allowed, or no server answers.
    """
    place = os.fspath(location)
    if isinstance(location, str) and is_address(place) and _is_service(place):
        from segdex.client import Client

        _refuse_settings(settings)
        return Client(place, api_key=api_key)
    from segdex.wiring import REAL, build_settings, open_library

    try:
        # a path is a folder, whatever its name looks like
        index = index_location(place if isinstance(location, str) else f"{EDGE}{place}")
    except ValueError as error:
        raise UsageError(f"a location {error}") from error
    return open_library(build_settings(index=index, index_api_key=api_key, **settings), REAL)


def open_async(location: str, *, api_key: str | None = None) -> "AsyncClient":
    """Open a library behind a segdex service, for use in an event loop.

    Args:
        location: Address of a segdex service, ``http(s)://HOST:PORT``.
        api_key: API key of the service.

    Raises:
        UsageError: If ``location`` is not an address.
    """
    from segdex.client import AsyncClient

    if not is_address(location):
        raise UsageError(
            f"open_async needs the address of a segdex service, but got {location!r}: start one with "
            "`segdex serve`, or use segdex.open in a thread"
        )
    return AsyncClient(location, api_key=api_key)


def segment(
    image: Picture, *, profile: str | None = None, device: str | None = None, **prompt: Unpack[PromptFields]
) -> Masks:
    """Segment one object from points, a box, an earlier mask or a text; no index is needed.

    The models are loaded on the first call with a profile and device, and kept for later calls.

    Args:
        image: Path, bytes of an image file, Pillow image, or (H, W, 3) uint8 array.
        profile: ``default`` or ``offline``; None for ``SEGDEX_PROFILE``, or ``default`` if it is not set.
        device: ``auto``, ``cpu`` or ``cuda``; None for ``SEGDEX_DEVICE``, or ``auto`` if it is not set.
        prompt: ``points``, ``negative_points``, ``box``, ``mask``, ``text``, ``masks``; see ``PromptFields``.

    Raises:
        QueryError: If the prompt is empty, or does not fit the image.
        ImageError: If the image cannot be read.
        ModelError: If a model cannot be downloaded or loaded.

    Example:
        >>> import segdex
        >>> mask = segdex.segment("cat.jpg", points=[(220, 120)]).mask  # doctest: +SKIP
    """
    key = (profile, device)
    if key not in _WITHOUT_INDEX:
        from segdex.wiring import REAL, build_settings, open_library

        settings = build_settings(profile=profile, device=device)
        _WITHOUT_INDEX[key] = open_library(settings, REAL, has_index=False)
    return _WITHOUT_INDEX[key].segment(image, **prompt)


_WITHOUT_INDEX: "dict[tuple[str | None, str | None], Library]" = {}
"""Libraries without an index by profile and device; they keep their models loaded."""


def _is_service(address: str) -> bool:
    """Return whether a segdex service answers at an address, rather than a Qdrant server.

    Raises:
        UsageError: If the address is malformed, or no server answers.
    """
    import httpx

    try:
        address = service_address(address)
    except ValueError as error:
        raise UsageError(f"the address of a server {error}") from error
    is_here = urlsplit(address).hostname in LOOPBACK
    try:
        found = httpx.get(f"{address}/healthz", timeout=_PROBE_TIMEOUT_S, trust_env=not is_here)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise UsageError(
            f"nothing answers at {address}: start a Qdrant server or `segdex serve` there ({error})"
        ) from error
    try:
        said = found.json()
    except ValueError:
        return False  # Qdrant answers in plain text
    return isinstance(said, dict) and said.get("status") == "ok"


def _refuse_settings(settings: dict[str, object]) -> None:
    if settings:
        raise UsageError(
            f"{', '.join(settings)} cannot be set here: the service has models and settings of its own"
        )
