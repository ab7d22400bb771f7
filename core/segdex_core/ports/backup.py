"""Protocols of backups: the content of an index in files, outside every index."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from segdex_core.dump import DumpCounts, IndexDump
from segdex_core.records import ImageRecord, IndexFingerprint


class Backup(Protocol):
    """A backup that was opened and verified."""

    @property
    def fingerprint(self) -> IndexFingerprint:
        """Fingerprint of the index that was backed up."""
        ...

    @property
    def counts(self) -> DumpCounts:
        """What the backup holds."""
        ...

    def records(self) -> Iterator[ImageRecord]:
        """Yield the images."""
        ...

    def dump(self) -> IndexDump:
        """Return the content."""
        ...


class BackupFormat(Protocol):
    """A form in which backups are stored."""

    def write(self, dump: IndexDump, path: Path) -> DumpCounts:
        """Write a dump to a new place, which appears under its name when it is complete.

        Raises:
            UsageError: If ``path`` exists.
            BackupStorageError: If it cannot be written.
        """
        ...

    def open(self, path: Path) -> Backup:
        """Open a backup, after comparing every file with its checksum.

        Raises:
            BackupInvalidError: If it is damaged or incomplete, or another version of segdex wrote it.
        """
        ...
