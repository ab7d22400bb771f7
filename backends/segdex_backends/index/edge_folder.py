"""The folder of an embedded index: its description, the files of its shards, and its free disk space.

::

    PATH/lock           held by the one process that changes the index, and names it
    PATH/segdex.json    the description; it marks the folder as an index of segdex
    PATH/notes.json     notes next to the description, by the name of the shard of segments
    PATH/manifest.json  checksums of all files; there while the index is closed
    PATH/written.json   the least number of points of each shard
    PATH/segments-4/    Qdrant Edge shard of the segments
    PATH/images-4/      Qdrant Edge shard of the ledger of images
    PATH/sets-5/        Qdrant Edge shard of the named sets

See ``edge_access`` for who may use them when.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from qdrant_edge import EdgeShard

from segdex_backends.index.edge_checks import damaged
from segdex_backends.index.edge_lock import LOCK
from segdex_backends.index.edge_manifest import MANIFEST, WRITTEN, FileSum, sum_file
from segdex_backends.index.layout import is_of_this_schema, real_names
from segdex_backends.index.payloads import missing_index
from segdex_core.errors import (
    IndexStorageError,
    SegdexError,
    SegmentIndexError,
    UsageError,
)
from segdex_core.files import PART, sync, sync_folder, write_durably

_PRIVATE = 0o700  # vectors and paths of pictures are for their owner alone
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
_NEW = ".new"  # suffix of an incomplete shard, which is renamed when it is complete
_GONE = ".gone"  # suffix of a shard that is being removed
_LOG_IN_THE_MAKING = "tmp-"
_STORAGE_SIGNS = (
    "No space left", "Disk quota", "Permission denied", "Read-only file", "Not a directory", "File too large",
)  # fmt: skip


class EdgeFolder:
    """The files of one embedded index, whoever uses it.

    Args:
        path: Path of the folder. With ``create``, it may be missing or empty.
        create: Whether to create a missing folder.

    Raises:
        UsageError: If ``path`` is not valid UTF-8.
        IndexMissingError: If there is no index and ``create`` is False.
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
            path.mkdir(_PRIVATE, parents=True, exist_ok=True)
            self._check_ours(create=create)

    @property
    def is_writable(self) -> bool:
        """Whether this process may change the folder."""
        return os.access(self.path, os.W_OK)

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
        with self.translated():
            write_durably(self.path / name, json.dumps(dict(content), indent=2).encode())

    def folder_names(self) -> set[str]:
        """Return the names of the subfolders."""
        with self.translated():
            return {file.name for file in self.path.iterdir() if file.is_dir()}

    def shards(self) -> set[str]:
        """Return the names of all whole shards of the index, also those that a re-embedding fills."""
        named = self.named_shards()
        return {name for name in self.folder_names() if name in named or is_of_this_schema(name)}

    def named_shards(self) -> set[str]:
        """Return the names of the shards that are in use."""
        description = self.read_description()
        return set() if description is None else set(real_names(description, self.location).values())

    def remove_shard(self, name: str) -> None:
        """Remove a shard; a removal that is stopped leaves no part under its name."""
        gone = self.path / f"{name}{_GONE}"
        with self.translated():
            if not name.endswith((_NEW, _GONE)):
                if gone.exists():
                    shutil.rmtree(gone)
                (self.path / name).rename(gone)
                shutil.rmtree(gone)
            else:
                shutil.rmtree(self.path / name)

    def sum_files(self, *, synced: Collection[str]) -> dict[str, FileSum]:
        """Return the sums of the files of the index by path, whose shards are closed.

        Closing a shard has synced what changed in its files, but not that there are new ones.

        Args:
            synced: Files that are not new. The others are synced to the disk.
        """
        files = {
            file: sum_file(self.path / file) for file in (_MARKER, _NOTES) if (self.path / file).exists()
        }
        for name in sorted(self.shards()):
            for root, folders, found in os.walk(self.path / name):
                paths = {
                    (Path(root) / file).relative_to(self.path).as_posix(): file for file in sorted(found)
                }
                new = paths.keys() - synced
                for path in new:
                    sync(self.path / path)
                if new:
                    sync_folder(Path(root))
                files.update({path: sum_file(self.path / path) for path in paths})
                folders.sort()
        return files

    def parts(self) -> list[Path]:
        """Return the temporary files of ``write_durably``."""
        return list(self.path.glob(f".*{PART}"))

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
        # by a process that terminated before it created the index
        left_over = {LOCK, WRITTEN, MANIFEST, f"{_MARKER}{_NEW}"}  # the last one of an earlier segdex
        left_over.update(part.name for part in self.parts())
        other = sorted(file.name for file in self.path.iterdir() if file.name not in left_over)
        if other and (self.path / WRITTEN).exists():
            raise damaged(self.location, self.path, f"{_MARKER} is missing")
        if other:
            raise SegmentIndexError(
                f"{self.path} is no segdex index but holds {other[0]!r}; give --index an empty or new "
                "folder, and the folder with the pictures to `segdex ingest`"
            )
        if not create:
            raise missing_index(self.location)


def make_shard(home: Path, make: Callable[[str], EdgeShard]) -> None:
    """Make a shard, so that it is there whole or not at all."""
    part = home.with_name(f"{home.name}{_NEW}")
    if part.exists():
        shutil.rmtree(part)
    make(str(part)).close()
    part.replace(home)
    sync_folder(home.parent)
