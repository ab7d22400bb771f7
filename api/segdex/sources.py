"""Sources of image files, and the files that paths and patterns match."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segdex_core.errors import UsageError
from segdex_core.ports.source import Listing, Source

if TYPE_CHECKING:
    from segdex_core.media.not_pictures import NotPictures


def open_source() -> Source:
    """Return the source that reads the files of this machine."""
    from segdex_backends.sources.files import FileSource

    return FileSource()


def open_not_pictures(cache_dir: Path | None) -> "NotPictures":
    """Return what remembers which files are no pictures.

    Args:
        cache_dir: Cache folder; None remembers nothing.
    """
    from segdex_core.media.not_pictures import NotPictures

    return NotPictures(None if cache_dir is None else cache_dir / "not-pictures")


def list_files(
    source: Source, paths: Sequence[str], *, include_hidden: bool = False, exclude: Sequence[str] = ()
) -> Listing:
    """Return the files that paths and patterns match; see ``Source.list``.

    Raises:
        UsageError: If there are no files.
    """
    listing = source.list(paths, include_hidden=include_hidden, exclude=exclude)
    if not listing.uris and not listing.problems:
        why = "".join(f"; {note}" for note in listing.notes)
        raise UsageError(
            f"{', '.join(paths)}: no file to ingest there{why}; name a folder with pictures in it"
        )
    return listing
