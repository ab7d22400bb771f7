"""File paths as URIs, the form in which the index stores the locations of images.

``file:`` URIs percent-encode every byte that is not plain ASCII, so a name that is not valid UTF-8 survives a
round trip through JSON. A plain path does not.

Each file or folder has one canonical URI. ``canonical_uri`` resolves ``~``, ``..``, links in the folders
above a file, and the Unicode form of a name. Ingests, filters, deletions and ``segdex sync`` all use it.
"""

import os
import unicodedata
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes, urlsplit


def canonical_uri(place: str | Path) -> str:
    """Return the canonical URI of a file or folder.

    A link to a folder is followed. A link to a file keeps its own name, because its target may have a
    meaningless name, as in a git-annex store. A name that does not exist is also looked up in composed (NFC)
    and decomposed (NFD) form, because file systems and keyboards use different forms.

    Args:
        place: A path, which may be relative or start with ``~``, or a URI. A URI with a scheme other than
            ``file:`` is returned unchanged.

    Raises:
        ValueError: If a path contains a null byte.
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
        ValueError: If the path contains a null byte.
    """
    path = as_written(path.absolute())
    if path.name in ("", "..") or path.is_dir():
        return path.resolve()
    return path.parent.resolve() / path.name


def as_written(path: Path) -> Path:
    """Return the path with each missing name replaced by its existing Unicode form (NFC or NFD), if any."""
    if path.exists() or str(path).isascii():
        return path
    found = Path(path.anchor)
    for name in path.parts[1:]:
        forms = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
        found /= next((form for form in forms if os.path.lexists(found / form)), name)
    return found


def spellings(uri: str) -> tuple[str, ...]:
    """Return a ``file:`` URI and its composed (NFC) and decomposed (NFD) forms, without duplicates.

    A filter matches all forms: the file may be deleted or on another machine, so the form in the index is
    unknown.

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
    """Return the path of a URI for display, with unprintable characters replaced."""
    path = str(uri_to_path(uri))
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in path)
