"""Protocol of an image source, which lists files, reports their versions, and reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


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
        notes: Lines about what was left out on purpose, or matched nothing.
        left_out: Canonical URIs of the files and folders that were left out because of an exclude.
        named: Canonical URIs of the files that a place names itself, and not a folder or a pattern.
        places: Absolute paths and patterns of the places.
    """

    uris: tuple[str, ...]
    problems: tuple[ListingProblem, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LostFolder:
    """A folder whose state explains why a file below it is missing: its disk may not be mounted.

    Attributes:
        uri: URI of the folder.
        state: ``missing``: it is the topmost folder above the file that does not exist. ``empty``: it is the
            nearest folder above the file that exists, and it has no entries.
    """

    uri: str
    state: Literal["missing", "empty"]


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
            UsageError: If a place does not exist, or nothing matches any of them.
        """
        ...

    def version(self, uri: str) -> FileVersion:
        """Return the version of a file.

        Raises:
            ImageUnreadableError: If the file does not exist or cannot be read.
        """
        ...

    def exists(self, uri: str) -> bool:
        """Return whether the file exists.

        Raises:
            ImageUnreadableError: If that is not known: no permission, a failing disk, a share that does not
                answer.
        """
        ...

    def lost_folder(self, uri: str) -> LostFolder | None:
        """Return the folder that a missing file was lost with; None if its folder is there, with others.

        Raises:
            ImageUnreadableError: If that is not known.
        """
        ...

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """Return the bytes of a file; of a file that is no image, only the first bytes are read.

        Raises:
            NotAnImageError: If the first bytes are not those of an image.
            ImageUnreadableError: If the file does not exist, cannot be read, or is not a regular file.
            ImageTooLargeError: If the file is larger than ``max_bytes``.
        """
        ...
