"""File paths as URIs, the form in which the index stores the locations of images.

``file:`` URIs percent-encode every byte that is not plain ASCII, so a name that is not valid UTF-8 survives a
round trip through JSON. A plain path does not.

Each file or folder has one canonical URI. ``canonical_uri`` resolves ``~``, ``..``, links in the folders
above a file, and the Unicode form of a name. Ingests, filters, deletions, jobs and ``segdex sync`` all use
it, so that a person may name a folder in any way and always means the same one.
"""

import os
import re
import unicodedata
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes, urlsplit

from segdex_core.media.slow_shares import WATCHDOG
from segdex_core.wording import printable

_FILE_URI = re.compile(r"file:/", re.IGNORECASE)
"""Start of a ``file:`` URI; RFC 8089 allows one slash. A file may be called ``file:x``."""


def canonical_uri(place: str | Path) -> str:
    """Return the canonical URI of a file or folder.

    A link to a folder is followed. A link to a file keeps its own name, because its target may have a
    meaningless name, as in a git-annex store. A name that does not exist is also looked up in its other
    Unicode forms, because file systems and keyboards use different forms.

    Args:
        place: A path, which may be relative or start with ``~``, or a URI. A URI with a scheme other than
            ``file:`` is returned unchanged.

    Raises:
        ValueError: If a path contains a null byte, or a ``file:`` URI names another machine.
    """
    if isinstance(place, str) and "://" in place and not _FILE_URI.match(place):
        return place
    return canonical_path(named_path(place)).as_uri()


def named_path(place: str | Path) -> Path:
    """Return the path that a person names by a path, which may start with ``~``, or by a ``file:`` URI.

    Raises:
        ValueError: If a ``file:`` URI names another machine.
    """
    if _FILE_URI.match(str(place)):
        return uri_to_path(str(place))
    path = Path(place)
    try:
        return path.expanduser()
    except RuntimeError:  # no such user: the name of a file may start with ~
        return path


def canonical_path(path: Path) -> Path:
    """Return the absolute path that ``canonical_uri`` names; where no share answers, as it is written.

    Raises:
        ValueError: If the path contains a null byte.
    """
    path = path.absolute()
    try:
        return WATCHDOG.call(lambda _: _canonical(path), str(path))
    except TimeoutError:
        return Path(os.path.normpath(path))


def _canonical(path: Path) -> Path:
    path = as_written(path)
    # functions of os.path, because those of Path fail for a folder that may not be looked at
    if path.name in ("", "..") or os.path.isdir(path):
        return Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent)) / path.name


def as_written(path: Path) -> Path:
    """Return the path with each missing name replaced by that of an entry in another Unicode form, if any."""
    if str(path).isascii() or os.path.exists(path):
        return path
    found = Path(path.anchor)
    for name in path.parts[1:]:
        found /= _entry_name(found, name)
    return found


def _entry_name(folder: Path, name: str) -> str:
    """Return the name of the entry of a folder that differs from ``name`` in its Unicode form at most."""
    if name.isascii() or os.path.lexists(folder / name):
        return name
    wanted = unicodedata.normalize("NFC", name)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return name
    return next((other for other in names if unicodedata.normalize("NFC", other) == wanted), name)


def spellings(uri: str) -> tuple[str, ...]:
    """Return a ``file:`` URI and its composed (NFC) and decomposed (NFD) forms, without duplicates.

    A filter matches all forms: the file may be deleted or on another machine, so the form in the index is
    unknown.

    Example:
        >>> spellings("file:///caf%C3%A9")
        ('file:///caf%C3%A9', 'file:///cafe%CC%81')
    """
    if not _FILE_URI.match(uri):
        return (uri,)
    path = str(uri_to_path(uri))
    forms = (path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path))
    return tuple(dict.fromkeys(Path(form).as_uri() for form in forms))


def path_to_uri(path: Path) -> str:
    """Return the ``file:`` URI of a path, made absolute without following links.

    Example:
        >>> path_to_uri(Path("/a/b c.jpg"))
        'file:///a/b%20c.jpg'
    """
    return path.absolute().as_uri()


def uri_to_path(uri: str) -> Path:
    """Return the path of a ``file:`` URI, however it is written.

    A file has no query and no fragment, so ``?`` and ``#`` are characters of its name.

    Raises:
        ValueError: If the URI has another scheme, or names another machine.

    Example:
        >>> uri_to_path("file:///a/b%20c.jpg"), uri_to_path("file:/a/b c#1.jpg")
        (PosixPath('/a/b c.jpg'), PosixPath('/a/b c#1.jpg'))
    """
    if not _FILE_URI.match(uri):
        raise ValueError(f"not a file: URI: {uri!r}")
    rest = uri[len("file:") :]
    if rest.startswith("//"):
        host, _, below = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise ValueError(f"{uri!r} names the machine {host!r}; a file of this one is file:///FOLDER/NAME")
        rest = f"/{below}"
    return Path(os.fsdecode(unquote_to_bytes(os.fsencode(rest))))


def uri_sources(uri: str) -> tuple[str, ...]:
    """Return the URI and the URIs of all folders above it, nearest first.

    Segments store these URIs as keywords, so a search below a folder is an exact keyword match, which every
    index supports.

    Example:
        >>> uri_sources("file:///a/b/c.jpg")
        ('file:///a/b/c.jpg', 'file:///a/b', 'file:///a', 'file:///')
    """
    parts = urlsplit(uri)
    parents = PurePosixPath(parts.path).parents
    return (uri, *(f"{parts.scheme}://{parent}" for parent in parents))


def display_path(uri: str) -> str:
    r"""Return the path of a URI for people, with characters replaced that would harm a terminal.

    Bytes that are not UTF-8 are replaced too, in any locale. The URI itself has the name without loss.

    Example:
        >>> display_path("file:///caf%E9/caf%C3%A9.jpg")
        '/caf\ufffd/caf\xe9.jpg'
    """
    return printable(os.fsencode(uri_to_path(uri)).decode("utf-8", "replace"))
