"""Where an index or a service is: a folder, or the address of a server. No part of an address is dropped.

``Settings`` keeps a location in one form: ``edge:PATH``, or ``http(s)://HOST:PORT`` of a Qdrant server.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

EDGE = "edge:"
"""Start of the location of an embedded index."""

QDRANT_PORT = 6333
"""Port of a Qdrant server whose address names none."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine."""

FORMS = "a folder, edge:PATH, http://HOST:PORT or https://HOST:PORT"
"""What the location of an index may be."""

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_NEARLY = re.compile(r"https?(:|/)|ttps?:/", re.IGNORECASE)  # http:/HOST, http//HOST, https:HOST, ttp://HOST
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_HOST_AND_PORT = re.compile(r"(?P<host>[^/:@\s]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})(/.*)?")
_BARE_HOST = re.compile(r"localhost|\d{1,3}(\.\d{1,3}){3}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The address of a Qdrant server.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Name or address, in brackets for IPv6.
        port: Port of HTTP.
        has_port: Whether the port was named; otherwise it is ``QDRANT_PORT``.
    """

    scheme: str
    host: str
    port: int
    has_port: bool

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def is_address(text: str) -> bool:
    """Return whether a text starts as the address of a server does, whatever follows."""
    return _ADDRESS.match(text.strip()) is not None


def index_location(text: str) -> str:
    """Return the location of an index in its one form; an address without a port stays without.

    Args:
        text: What a person writes: a folder, ``edge:PATH``, or the address of a Qdrant server.

    Raises:
        ValueError: If it is none of these; the message has no password.

    Example:
        >>> index_location(" my-index/ "), index_location("HTTP://qdrant:6333/")
        ('edge:my-index', 'http://qdrant:6333')
    """
    place = text.strip()
    if is_address(place):
        address = server_address(place)
        return str(address) if address.has_port else f"{address.scheme}://{address.host}"
    is_named = place.startswith(EDGE)
    folder = place.removeprefix(EDGE).strip()
    if not folder:
        raise ValueError(
            f"must be {FORMS}, but is empty" if not is_named else "must name a folder behind edge:"
        )
    if not folder.isprintable() and any(ord(sign) < 32 for sign in folder):
        raise ValueError("must be a path without control characters")
    if not is_named:
        _refuse_what_is_no_folder(folder)
    return f"{EDGE}{_expanded(folder)}"


def embedded_folder(location: str) -> Path | None:
    """Return the folder of an embedded index, or None if the index is on a server.

    Args:
        location: Location as ``index_location`` returns it.
    """
    return _expanded(location.removeprefix(EDGE)) if location.startswith(EDGE) else None


def server_address(text: str) -> ServerAddress:
    """Return the parts of the address of a Qdrant server.

    Raises:
        ValueError: If it is malformed, or has a part that would not be used; the message has no password.
    """
    parts = _split(text)
    if parts.scheme not in ("http", "https"):
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "must not have a user name or password: Qdrant takes an API key, set SEGDEX_INDEX_API_KEY"
        )
    if parts.path.strip("/"):
        raise ValueError(
            f"must not have a path, but has {parts.path!r}: gRPC has none, so give the Qdrant server a "
            "host or port of its own"
        )
    if parts.query or parts.fragment:
        raise ValueError("must end behind the port: `?` and `#` are not supported")
    port = parts.port
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    return ServerAddress(parts.scheme, host, QDRANT_PORT if port is None else port, port is not None)


def service_address(text: str) -> str:
    """Return the address of a segdex service, which may have a path, without a slash at its end.

    Raises:
        ValueError: If it is malformed, or has a part that would not be used; the message has no password.
    """
    if not is_address(text):
        place = _HOST_AND_PORT.fullmatch(text.strip())
        hint = f": write http://{text.strip()}" if place is not None else ""
        raise ValueError(f"must be http://HOST:PORT or https://HOST:PORT{hint}")
    parts = _split(text)
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "must not have a user name or password: a service takes an API key, set SEGDEX_SERVER_KEY"
        )
    if parts.query or parts.fragment:
        raise ValueError("must end behind the port or the path: `?` and `#` are not supported")
    return text.strip().rstrip("/")


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text.strip())
        is_sound = bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message may show a password
        is_sound = False
    if not is_sound or any(sign.isspace() or not sign.isprintable() for sign in text.strip()):
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT, with a port of 1 to 65535")
    return parts


def _refuse_what_is_no_folder(place: str) -> None:
    """Raise if a text without ``edge:`` is more likely a mistyped address than a folder.

    Raises:
        ValueError: If so; the message says what to write instead.
    """
    if _DRIVE.match(place):
        if Path("C:/").drive:
            return
        raise ValueError("must be a folder of this machine, which has no drives such as C:")
    if _HOST_AND_PORT.fullmatch(place):
        address = place.partition("/")[0]
        raise ValueError(
            f"must be {FORMS}, but {place!r} has no scheme: write http://{address} for a Qdrant server, or "
            f"edge:{place} for a folder"
        )
    if _BARE_HOST.fullmatch(place):
        raise ValueError(
            f"must be {FORMS}: write http://{place}:{QDRANT_PORT} for a Qdrant server, or edge:{place} for a "
            "folder"
        )
    if "@" in place and ":" in place:
        raise ValueError(f"must be {FORMS}, and have no user name or password")
    if ":" in place.partition("/")[0] or _NEARLY.match(place):
        hint = (
            "an address starts with http:// or https://"
            if "://" in place or _NEARLY.match(place)
            else f"write edge:{place} for a folder with a colon in its name"
        )
        raise ValueError(f"must be {FORMS}, but is {place!r}: {hint}")


def _expanded(folder: str) -> Path:
    path = Path(folder)
    try:
        return path.expanduser()
    except RuntimeError:  # no such user: the name of a folder may start with ~
        return path
