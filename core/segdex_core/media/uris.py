"""File paths as URIs: the form in which the index stores where a picture lies.

``file:`` URIs percent-encode every byte that is not plain ASCII, so a name that is not valid UTF-8 survives
the round trip through JSON, which a bare path does not.
"""

from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes, urlsplit


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
