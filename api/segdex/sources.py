"""Sources of image files, and the files that paths and patterns match."""

from collections.abc import Sequence

from segdex_core.errors import UsageError
from segdex_core.ports.source import Listing, Source


def open_source() -> Source:
    """Return the source that reads the files of this machine."""
    from segdex_backends.sources.files import FileSource

    return FileSource()


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
