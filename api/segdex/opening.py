"""The front door: open a library by its location, or segment a picture without one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Unpack
from urllib.parse import urlsplit

from segdex.answers import Masks
from segdex.arguments import PromptFields
from segdex.pictures import Picture
from segdex_core.errors import UsageError

if TYPE_CHECKING:
    from segdex.client import AsyncClient, Client
    from segdex.library import Library

_PROBE_TIMEOUT_S = 10.0


def open(  # noqa: A001 - it is called segdex.open
    location: str | os.PathLike[str], *, api_key: str | None = None, **settings: object
) -> "Library | Client":
    """Open a library: an index in a folder, on a Qdrant server, or behind a segdex service.

    Nothing is loaded yet. An index that does not exist is created by the first ``ingest``.

    Args:
        location: A folder or ``edge:PATH``, or ``http(s)://HOST:PORT`` of a Qdrant server or a segdex
            service; the server says which of both it is.
        api_key: Of the server.
        settings: Of an index that is opened here, as ``Settings`` names them, such as ``profile="offline"``
            or ``device="cpu"``; a service has its own.

    Raises:
        UsageError: If the location or a setting is not allowed, or no server answers there.
    """
    place = os.fspath(location)
    if _is_address(place) and _is_service(place):
        from segdex.client import Client

        _refuse_settings(settings)
        return Client(place, api_key=api_key)
    from segdex.wiring import REAL, build_settings, open_library

    return open_library(build_settings(index=_index_location(place), index_api_key=api_key, **settings), REAL)


def open_async(location: str, *, api_key: str | None = None) -> "AsyncClient":
    """Open a library behind a segdex service, for use in an event loop.

    Args:
        location: ``http(s)://HOST:PORT`` of a segdex service.
        api_key: Of the service.

    Raises:
        UsageError: If the location is no address.
    """
    from segdex.client import AsyncClient

    if not _is_address(location):
        raise UsageError(
            f"open_async needs the address of a segdex service, but got {location!r}: start one with "
            "`segdex serve`, or use segdex.open in a thread"
        )
    return AsyncClient(location, api_key=api_key)


def segment(
    image: Picture, *, profile: str | None = None, device: str | None = None, **prompt: Unpack[PromptFields]
) -> Masks:
    """Return the mask of the object that points, a box, an earlier mask or a text name; needs no index.

    The models are loaded by the first call with a profile and device, and kept for the next ones.

    Args:
        image: A path, the bytes of a file, a Pillow image, or an (H, W, 3) uint8 array.
        profile: ``default`` or ``offline``; None for ``SEGDEX_PROFILE``, else ``default``.
        device: ``auto``, ``cpu`` or ``cuda``; None for ``SEGDEX_DEVICE``, else ``auto``.
        prompt: ``points``, ``negative_points``, ``box``, ``mask``, ``text``, ``masks``; see ``PromptFields``.

    Raises:
        QueryError: If the prompt names nothing, or does not fit the picture.
        ImageError: If the picture cannot be read.
        ModelError: If a model cannot be fetched or loaded.

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
"""Libraries without an index, whose models are loaded."""


def _is_address(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _is_service(address: str) -> bool:
    """Return whether a segdex service answers there, and not a Qdrant server.

    Raises:
        UsageError: If nothing answers.
    """
    import httpx

    is_here = urlsplit(address).hostname in {"localhost", "127.0.0.1", "::1"}
    try:
        found = httpx.get(f"{address.rstrip('/')}/healthz", timeout=_PROBE_TIMEOUT_S, trust_env=not is_here)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise UsageError(
            f"nothing answers at {address}: start a Qdrant server or `segdex serve` there ({error})"
        ) from error
    try:
        said = found.json()
    except ValueError:
        return False  # Qdrant says so in words
    return isinstance(said, dict) and said.get("status") == "ok"


def _index_location(place: str) -> str:
    if not place.strip():
        raise UsageError("the location is empty: name a folder, or the address of a server")
    if place.startswith("edge:") or _is_address(place):
        return place
    if "://" in place:
        raise UsageError(
            f"a location must be a folder, edge:PATH, http://HOST:PORT or https://HOST:PORT, but is {place!r}"
        )
    return f"edge:{Path(place).expanduser()}"


def _refuse_settings(settings: dict[str, object]) -> None:
    if settings:
        raise UsageError(
            f"{', '.join(settings)} cannot be set here: the service has models and settings of its own"
        )
