"""Protocol of an image source, which lists files, reports their versions, and reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileVersion:
    """Metadata of a file, known without reading it. If the metadata changes, the bytes may differ.

    Attributes:
        size_bytes: Size of the file in bytes.
        mtime_ns: Modification time in nanoseconds since 1970 UTC.
    """

    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ListingProblem:
    """A folder, or an entry of a folder, that could not be listed.

    Attributes:
        uri: URI of the folder or entry, by the path that the listing took.
        reason: Reason in one line.
    """

    uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Result of ``Source.list``.

    Attributes:
        uris: Canonical URIs of files (see ``segdex_core.media.uris``), without duplicates, in ingest order.
        problems: Folders and entries that could not be listed and were skipped.
    """

    uris: tuple[str, ...]
    problems: tuple[ListingProblem, ...] = ()


class Source(Protocol):
    """A source of one kind, such as the files of this machine."""

    def list(
        self, places: Sequence[str], *, include_hidden: bool = False, exclude: Sequence[str] = ()
    ) -> Listing:
        """Return the files that ``places`` name, whatever their content.

        Args:
            places: Files, folders and glob patterns; at least one.
            include_hidden: Whether to include names that start with a dot.
            exclude: Patterns of names to skip.

        Raises:
            UsageError: If a place does not exist, or a pattern matches nothing.
        """
        ...

    def version(self, uri: str) -> FileVersion:
        """Return the version of a file.

        Raises:
            ImageUnreadableError: If the file does not exist or cannot be read.
        """
        ...

    def exists(self, uri: str) -> bool:
        """Return whether the file exists."""
        ...

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """Return the bytes of a file.

        Raises:
            ImageUnreadableError: If the file does not exist, cannot be read, or is not a regular file.
            ImageTooLargeError: If the file is larger than ``max_bytes``.
        """
        ...
