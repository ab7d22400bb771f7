"""The folder of an embedded index: its lock, its description, its shards, and its free disk space.

::

    PATH/lock         held by the one process that has the index open
    PATH/segdex.json  the description; it marks the folder as an index of segdex
    PATH/notes.json   notes next to the description, by the name of the shard of segments
    PATH/segments-4/  Qdrant Edge shard of the segments
    PATH/images-4/    Qdrant Edge shard of the ledger of images
    PATH/sets-5/      Qdrant Edge shard of the named sets
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from qdrant_edge import EdgeShard

from segdex_backends.index.payloads import missing_index
from segdex_core.errors import (
    IndexLockedError,
    IndexStorageError,
    SegdexError,
    SegmentIndexError,
    UsageError,
)
from segdex_core.files import replace_durably, sync, sync_folder

WRITE_FREE_BYTES = 128 << 20
"""Free disk space in bytes below which nothing is written.

Qdrant Edge writes through memory maps of sparse 32 MiB files, so a full disk ends the process with SIGBUS
instead of an error (measured with 0.9.0 on a tmpfs). The free space is therefore checked before each write.
"""

OPEN_FREE_BYTES = 64 << 20
"""Free disk space in bytes below which an index is not opened, because opening replays the write-ahead log
into sparse files."""

_MARKER = "segdex.json"
_NOTES = "notes.json"
_LOCK = "lock"
_NEW = ".new"  # suffix of an incomplete file or shard, which is renamed when it is complete
_GONE = ".gone"  # suffix of a shard that is being removed
_LOG_IN_THE_MAKING = "tmp-"
_STORAGE_SIGNS = (
    "No space left", "Disk quota", "Permission denied", "Read-only file", "Not a directory", "File too large",
)  # fmt: skip


class EdgeFolder:
    """The lock and the files of one embedded index.

    Args:
        path: Path of the folder. With ``create``, it may be missing or empty.
        create: Whether to create a missing folder.

    Raises:
        UsageError: If ``path`` is not valid UTF-8.
        IndexMissingError: If there is no index and ``create`` is False.
        IndexLockedError: If another process has the index open.
        IndexStorageError: If the folder cannot be written.
        SegmentIndexError: If the folder has other content.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        try:
            str(path).encode()
        except UnicodeEncodeError as error:  # Qdrant Edge takes the path as text
            raise UsageError(f"--index edge:PATH must be valid UTF-8, but got {str(path)!r}") from error
        self.path = path
        self.location = f"edge:{path}"
        with self.translated():
            if not create and not path.exists():
                raise missing_index(self.location)
            if path.exists() and not path.is_dir():
                raise IndexStorageError(
                    f"{path} is a file, but an embedded index is a folder; change --index"
                )
            path.mkdir(parents=True, exist_ok=True)
            self._check_ours(create=create)
            self._lock = FileLock(path / _LOCK, thread_local=False)
            self._acquire()

    def read_description(self) -> Mapping[str, object] | None:
        """Return the description of the index, or None if there is none yet."""
        return self._read(_MARKER)

    def read_notes(self) -> Mapping[str, object]:
        """Return the notes next to the description."""
        return self._read(_NOTES) or {}

    def _read(self, name: str) -> Mapping[str, object] | None:
        marker = self.path / name
        with self.translated():
            if not marker.exists():
                return None
            try:
                found = json.loads(marker.read_bytes())
            except ValueError as error:
                raise SegmentIndexError(
                    f"{marker} is damaged: remove {self.path} and ingest again"
                ) from error
        if not isinstance(found, dict):
            raise SegmentIndexError(f"{marker} is damaged: remove {self.path} and ingest again")
        return found

    def write_description(self, description: Mapping[str, object]) -> None:
        """Write or replace the description atomically, which makes the folder an index."""
        self._write(_MARKER, description)

    def write_notes(self, notes: Mapping[str, object]) -> None:
        """Replace the notes atomically."""
        self._write(_NOTES, notes)

    def _write(self, name: str, content: Mapping[str, object]) -> None:
        self.check_free(WRITE_FREE_BYTES)
        part = self.path / f"{name}{_NEW}"
        with self.translated():
            part.write_text(json.dumps(dict(content), indent=2), encoding="ascii")
            replace_durably(part, self.path / name)

    def folder_names(self) -> set[str]:
        """Return the names of the subfolders."""
        with self.translated():
            return {file.name for file in self.path.iterdir() if file.is_dir()}

    def remove_shard(self, name: str) -> None:
        """Remove a shard that is not in use; a removal that is stopped leaves no part under its name."""
        gone = self.path / f"{name}{_GONE}"
        with self.translated():
            if not name.endswith((_NEW, _GONE)):
                if gone.exists():
                    shutil.rmtree(gone)
                (self.path / name).rename(gone)
                shutil.rmtree(gone)
            else:
                shutil.rmtree(self.path / name)

    def open_shard(self, name: str, make: Callable[[str], EdgeShard]) -> EdgeShard:
        """Open a shard of the index. A missing shard is created by ``make(path)``."""
        self.check_free(OPEN_FREE_BYTES)
        home, part = self.path / name, self.path / f"{name}{_NEW}"
        with self.translated():
            if not home.exists():
                if part.exists():
                    shutil.rmtree(part)
                make(str(part)).close()
                part.replace(home)
                sync_folder(self.path)
            return EdgeShard.load(str(home))

    def sync_log(self, name: str) -> None:
        """Sync the write-ahead log of a shard to disk, so that a power failure loses nothing.

        It takes 7 ms, and ``EdgeShard.flush`` takes 200 ms (on a virtual disk); loading replays the log. The
        next files of the log have temporary names until they are used, so they are skipped.
        """
        with self.translated():
            for file in (self.path / name / "wal").iterdir():
                if not file.name.startswith(_LOG_IN_THE_MAKING):
                    sync(file)

    def size_bytes(self, name: str) -> int:
        """Return the disk space in bytes that a shard uses; its files are sparse."""
        with self.translated():
            return sum(file.lstat().st_blocks * 512 for file in (self.path / name).rglob("*"))

    def check_free(self, needed_bytes: int) -> None:
        """Check the free disk space.

        Raises:
            IndexStorageError: If less than ``needed_bytes`` are free.
        """
        with self.translated():
            free_bytes = shutil.disk_usage(self.path).free
        if free_bytes < needed_bytes:
            raise IndexStorageError(
                f"the disk of {self.location} is full: {free_bytes >> 20} MiB are free, but "
                f"{-(-needed_bytes >> 20)} MiB are needed; make room, or choose another --index"
            )

    def close(self) -> None:
        """Release the lock; calling it twice is harmless."""
        self._lock.release()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Convert errors of the file system and of Qdrant Edge to segdex errors."""
        try:
            yield
        except SegdexError:
            raise
        except OSError as error:
            raise IndexStorageError(
                f"{self.location} cannot be used: {error.strerror or error}; check the permissions and the "
                "room on its disk, or choose another --index"
            ) from error
        except BaseException as error:
            # Qdrant Edge raises exactly Exception for every error, or a panic of its Rust code.
            if type(error) is not Exception and type(error).__name__ != "PanicException":
                raise
            reason = " ".join(str(error).split())
            if any(sign in reason for sign in _STORAGE_SIGNS):
                raise IndexStorageError(
                    f"{self.location} cannot be written: {reason}; check the permissions and the room on its "
                    "disk, or choose another --index"
                ) from error
            raise SegmentIndexError(
                f"{self.location} does not work, ingest into a new --index if it stays so: {reason}"
            ) from error

    def _check_ours(self, *, create: bool) -> None:
        if (self.path / _MARKER).exists():
            return
        left_over = {_LOCK, f"{_MARKER}{_NEW}"}  # by a process that terminated before it created the index
        other = sorted(file.name for file in self.path.iterdir() if file.name not in left_over)
        if other:
            raise SegmentIndexError(
                f"{self.path} is no segdex index but holds {other[0]!r}; give --index an empty or new folder"
            )
        if not create:
            raise missing_index(self.location)

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise IndexLockedError(
                f"another process has {self.location} open; wait until it ends, or run a Qdrant server, "
                "which many can use: --index http://HOST:PORT"
            ) from error
