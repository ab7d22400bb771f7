"""Where pictures lie: list them, ask for their version, read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileVersion:
    """What a source knows of a file without reading it; another version means that the bytes may differ.

    Attributes:
        size_bytes: Length of the file.
        mtime_ns: Modification time in nanoseconds since 1970 UTC.
    """

    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ListingProblem:
    """A folder, or something in it, that could not be listed.

    Attributes:
        uri: URI of the place, as it was reached.
        reason: One line.
    """

    uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source lists.

    Attributes:
        uris: Canonical URIs of files (``segdex_core.media.uris``), each once, in the order to ingest them.
        problems: What could not be listed; the listing went on without it.
    """

    uris: tuple[str, ...]
    problems: tuple[ListingProblem, ...] = ()


class Source(Protocol):
    """Reads places of one kind, such as the files of this machine."""

    def list(
        self, places: Sequence[str], *, include_hidden: bool = False, exclude: Sequence[str] = ()
    ) -> Listing:
        """Return the files that places name, whatever they hold.

        Args:
            places: Files, folders and patterns, at least one.
            include_hidden: Take names that start with a dot too.
            exclude: Patterns of names to leave out.

        Raises:
            UsageError: If a place does not exist, or a pattern matches nothing.
        """
        ...

    def version(self, uri: str) -> FileVersion:
        """Return the version of a file.

        Raises:
            ImageUnreadableError: If it is gone, or must not be read.
        """
        ...

    def exists(self, uri: str) -> bool:
        """Return whether there is a file."""
        ...

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """Return the bytes of a file.

        Raises:
            ImageUnreadableError: If it is gone, must not be read, or is not a regular file.
            ImageTooLargeError: If it is longer than ``max_bytes``.
        """
        ...
