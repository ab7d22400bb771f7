"""File paths as URIs: the form in which the index stores where a picture lies.

``file:`` URIs percent-encode every byte that is not plain ASCII, so a name that is not valid UTF-8 survives
the round trip through JSON, which a bare path does not.

One place has one URI, the canonical one: ``canonical_uri`` resolves ``~``, ``..``, links in the folders above
a file, and the form of Unicode that a name was typed in. Ingests, filters, deletions and ``segdex sync`` all
go through it.
"""

import os
import unicodedata
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes, urlsplit


def canonical_uri(place: str | Path) -> str:
    """Return the one URI of a place, however it is written.

    A link that stands for a folder is followed. A link that stands for a file keeps its own name: what lies
    behind it may have a name that nobody knows, as in a store of git-annex. A name that does not exist is
    looked for composed (NFC) and decomposed (NFD), as file systems and keyboards differ in what they write.

    Args:
        place: A path, with ``~`` or relative to the current folder, or a URI. URIs of other schemes than
            ``file:`` are returned as they are.

    Raises:
        ValueError: If a path has a zero byte.
    """
    text = str(place)
    if urlsplit(text).scheme == "file":
        path = uri_to_path(text)
    elif isinstance(place, str) and "://" in text:
        return text
    else:
        path = Path(place).expanduser()
    return canonical_path(path).as_uri()


def canonical_path(path: Path) -> Path:
    """Return the absolute path that ``canonical_uri`` names.

    Raises:
        ValueError: If the path has a zero byte.
    """
    path = as_written(path.absolute())
    if path.name in ("", "..") or path.is_dir():
        return path.resolve()
    return path.parent.resolve() / path.name


def as_written(path: Path) -> Path:
    """Return the path with each missing name in the form of Unicode that exists, if one does."""
    if path.exists() or str(path).isascii():
        return path
    found = Path(path.anchor)
    for name in path.parts[1:]:
        forms = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
        found /= next((form for form in forms if os.path.lexists(found / form)), name)
    return found


def spellings(uri: str) -> tuple[str, ...]:
    """Return a ``file:`` URI and the same name composed (NFC) and decomposed (NFD), each once.

    A filter asks for them all: the place may be gone, or lie on another machine, so that nobody can say which
    form the index holds.

    Example:
        >>> spellings("file:///caf%C3%A9")
        ('file:///caf%C3%A9', 'file:///cafe%CC%81')
    """
    if urlsplit(uri).scheme != "file":
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
    """Return the path of a ``file:`` URI.

    Raises:
        ValueError: If the URI has another scheme.

    Example:
        >>> uri_to_path("file:///a/b%20c.jpg")
        PosixPath('/a/b c.jpg')
    """
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ValueError(f"not a file: URI: {uri!r}")
    return Path(unquote_to_bytes(parts.path).decode("utf-8", "surrogateescape"))


def uri_sources(uri: str) -> tuple[str, ...]:
    """Return the URI and all folders above it, nearest first, as URIs.

    They are stored with a segment as keywords, so that "all below this folder" is an exact keyword match
    that every index can answer.

    Example:
        >>> uri_sources("file:///a/b/c.jpg")
        ('file:///a/b/c.jpg', 'file:///a/b', 'file:///a', 'file:///')
    """
    parts = urlsplit(uri)
    parents = PurePosixPath(parts.path).parents
    return (uri, *(f"{parts.scheme}://{parent}" for parent in parents))


def display_path(uri: str) -> str:
    """Return a text to show for a URI: its path, with what cannot be printed replaced."""
    path = str(uri_to_path(uri))
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in path)
