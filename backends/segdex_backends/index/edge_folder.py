"""The folder of an embedded index: its lock, its description, its shards, and its free disk space.

::

    PATH/lock           held by the one process that changes the index, and names it
    PATH/segdex.json    the description; it marks the folder as an index of segdex
    PATH/notes.json     notes next to the description, by the name of the shard of segments
    PATH/manifest.json  checksums of all files; there while the index is closed
    PATH/written.json   the least number of points of each shard
    PATH/segments-4/    Qdrant Edge shard of the segments
    PATH/images-4/      Qdrant Edge shard of the ledger of images
    PATH/sets-5/        Qdrant Edge shard of the named sets

A folder is either read, through a private copy of its shards, or held for changes by one process.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Literal

from qdrant_edge import EdgeShard

from segdex_backends.index import edge_recover
from segdex_backends.index.edge_lock import WAIT_S, FolderLock
from segdex_backends.index.edge_manifest import (
    MANIFEST,
    WRITTEN,
    Manifest,
    read_manifest,
    read_written,
    remove_manifest,
    sum_file,
    write_manifest,
    write_written,
)
from segdex_backends.index.edge_view import VIEW_BYTES, View, compare, damaged, no_room, room_for
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
LOCK = "lock"
"""Name of the lock file in the folder of an index."""

_NEW = ".new"  # suffix of an incomplete shard, which is renamed when it is complete
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
        wait_s: Longest wait in seconds for another process that has the index open.

    Raises:
        UsageError: If ``path`` is not valid UTF-8.
        IndexMissingError: If there is no index and ``create`` is False.
        IndexStorageError: If the folder cannot be written.
        SegmentIndexError: If the folder has other content.
    """

    def __init__(self, path: Path, *, create: bool, wait_s: float = WAIT_S) -> None:
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
        self._lock = FolderLock(path / LOCK, self.location, wait_s=wait_s)
        self._view: View | None = None
        self._points: dict[str, int] = {}
        self._synced: frozenset[str] = frozenset()
        self._noting = Lock()

    @property
    def is_held(self) -> bool:
        """Whether this process has the index open for changes."""
        return self._lock.is_held

    @property
    def is_writable(self) -> bool:
        """Whether this process may change the folder."""
        return os.access(self.path, os.W_OK)

    def read(self, names: Collection[str]) -> None:
        """Make the shards ``names`` readable, as they are now.

        They are copied while writers are kept away. An index that is too large to be copied is held instead,
        and an index that was not closed is recovered first.

        Raises:
            IndexLockedError: If another process has the index open for changes, and does not end.
            IndexStorageError: If there is no room for the copy.
            SegmentIndexError: If the index is damaged.
        """
        with self.translated():
            found = self._copy(names)
            if found == "not closed":
                self.hold()
                if not set(names) <= self._points.keys():
                    return
                self._seal()
                self._lock.release()
                found = self._copy(names)
            if found != "copied":
                self.hold()

    def hold(self) -> None:
        """Take the index for changes, until ``close``; its files are compared with what was written last.

        Raises:
            IndexLockedError: If another process has the index open, and does not end.
            IndexStorageError: If the folder cannot be written, or its disk is full.
            SegmentIndexError: If the index is damaged.
        """
        with self.translated():
            self._lock.hold()
            try:
                self.check_free(OPEN_FREE_BYTES)
                for part in _parts(self.path):  # of a killed process: nobody else writes here now
                    part.unlink()
                manifest, shards = read_manifest(self.path), self._shards()
                if manifest is not None:
                    compare(self.path, manifest, set(manifest.points), location=self.location)
                    self._points = dict(manifest.points)
                    self._synced = frozenset(manifest.files)
                else:
                    self._points = self._recover(self.path, shards)
                write_written(self.path, self._points, durably=True)
                remove_manifest(self.path)
            except BaseException:
                self._lock.release()
                raise

    def _copy(self, names: Collection[str]) -> Literal["copied", "not closed", "no room"]:
        """Copy the shards if that needs no change to the folder; "no room" is also for one too large."""
        is_writable = self.is_writable
        with self._lock.shared():
            manifest = read_manifest(self.path)
            if manifest is not None:
                data_bytes = manifest.data_bytes
            elif is_writable:
                return "not closed"
            else:
                data_bytes = sum(map(self.size_bytes, names))
            parent = room_for(data_bytes)
            if is_writable and (parent is None or data_bytes > VIEW_BYTES):
                return "no room"
            if parent is None:
                raise no_room(self.location, data_bytes)
            view = View(parent)
            try:
                view.copy(self.path, names, manifest, location=self.location)
                if manifest is None:
                    present = [name for name in names if (view.path / name).exists()]
                    self._points = self._recover(view.path, present)
                else:
                    self._points = dict(manifest.points)
            except BaseException:
                view.close()
                raise
        self._view = view
        return "copied"

    def _recover(self, root: Path, names: Collection[str]) -> dict[str, int]:
        """Check shards that were not closed, in a process of its own; return their numbers of points.

        Raises:
            SegmentIndexError: If a shard cannot be loaded or read, or lacks points.
        """
        points: dict[str, int] = {}
        if names:
            done = subprocess.run(
                [sys.executable, edge_recover.__file__, str(root), *sorted(names)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                if done.returncode < 0:
                    reason = f"reading it ends with {signal.Signals(-done.returncode).name}"
                else:  # the last line of a traceback
                    reason = done.stderr.strip().rpartition("\n")[2].partition("Exception: ")[2]
                raise damaged(
                    self.location, self.path, reason or done.stderr.strip() or "it cannot be loaded"
                )
            points.update(json.loads(done.stdout))
        needed = self._named() | set(names)
        for name, least in read_written(self.path).items():
            # another one is of a former schema, or of a re-embedding that was given up, and is being removed
            if name in needed and points.get(name, 0) < least:
                problem = f"{name} has {points.get(name, 0):,} points, but {least:,} were written"
                raise damaged(self.location, self.path, problem)
        return points

    def _seal(self) -> Manifest:
        """Write the manifest of the index, whose shards are closed.

        Closing a shard has synced what changed in its files, but not that there are new ones.
        """
        files = {
            file: sum_file(self.path / file) for file in (_MARKER, _NOTES) if (self.path / file).exists()
        }
        for name in sorted(self._shards()):
            for root, folders, found in os.walk(self.path / name):
                paths = {
                    (Path(root) / file).relative_to(self.path).as_posix(): file for file in sorted(found)
                }
                new = paths.keys() - self._synced
                for path in new:
                    sync(self.path / path)
                if new:
                    sync_folder(Path(root))
                files.update({path: sum_file(self.path / path) for path in paths})
                folders.sort()
        self._synced = frozenset(files)
        points = {name: count for name, count in self._points.items() if name in self._shards()}
        manifest = Manifest(points, files)
        write_written(self.path, points, durably=True)
        write_manifest(self.path, manifest)
        return manifest

    def _shards(self) -> set[str]:
        """Return the names of all whole shards of the index, also those that a re-embedding fills."""
        named = self._named()
        return {name for name in self.folder_names() if name in named or is_of_this_schema(name)}

    def _named(self) -> set[str]:
        """Return the names of the shards that are in use."""
        description = self.read_description()
        return set() if description is None else set(real_names(description, self.location).values())

    def note_points(self, name: str, count: int, *, durably: bool = False) -> None:
        """Note that a shard must have at least ``count`` points from now on; see ``write_written``."""
        with self._noting, self.translated():
            if self._points.get(name) != count:
                self._points[name] = count
                write_written(self.path, self._points, durably=durably)

    def noted_points(self, name: str) -> int:
        """Return the number of points that a shard must have at least."""
        return self._points.get(name, 0)

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

    def remove_shard(self, name: str) -> None:
        """Remove a shard that is not in use; a removal that is stopped leaves no part under its name."""
        gone = self.path / f"{name}{_GONE}"
        with self._noting, self.translated():
            if self._points.pop(name, None) is not None:
                write_written(self.path, self._points, durably=True)
            if not name.endswith((_NEW, _GONE)):
                if gone.exists():
                    shutil.rmtree(gone)
                (self.path / name).rename(gone)
                shutil.rmtree(gone)
            else:
                shutil.rmtree(self.path / name)

    def open_shard(self, name: str, make: Callable[[str], EdgeShard]) -> EdgeShard:
        """Open a shard, in the private copy if the index is not held. A missing one is created by ``make``.

        Raises:
            SegmentIndexError: If the shard has fewer or more points than were written.
        """
        if self._view is None:
            self.check_free(OPEN_FREE_BYTES)
        root = self.path if self._view is None else self._view.path
        home, part = root / name, root / f"{name}{_NEW}"
        with self.translated():
            if not home.exists():
                if self._points.get(name):
                    raise damaged(self.location, self.path, f"{name} is missing")
                if part.exists():
                    shutil.rmtree(part)
                make(str(part)).close()
                part.replace(home)
                sync_folder(root)
                if self._view is None:
                    self.note_points(name, 0, durably=True)
            shard = EdgeShard.load(str(home))
            held, written = shard.info().points_count, self._points.get(name, 0)
            if held != written:
                shard.close()
                problem = f"{name} has {held:,} points, but {written:,} were written"
                raise damaged(self.location, self.path, problem)
            return shard

    def drop_view(self) -> None:
        """Remove the private copy, whose shards are no longer asked."""
        if self._view is not None:
            self._view.close()
            self._view = None

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

    def release(self) -> None:
        """Give up a hold that has failed; the next to open the index checks it."""
        self._lock.release()

    def close(self, *, is_whole: bool) -> None:
        """Write the manifest and release the lock; calling it twice is harmless.

        Args:
            is_whole: Whether all shards were closed; otherwise the next to open the index checks it.
        """
        try:
            if is_whole and self._lock.is_held:
                with self.translated():
                    self._seal()
        finally:
            self._lock.release()
            self.drop_view()

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
        left_over.update(part.name for part in _parts(self.path))
        other = sorted(file.name for file in self.path.iterdir() if file.name not in left_over)
        if other and (self.path / WRITTEN).exists():
            raise damaged(self.location, self.path, f"{_MARKER} is missing")
        if other:
            raise SegmentIndexError(
                f"{self.path} is no segdex index but holds {other[0]!r}; give --index an empty or new folder"
            )
        if not create:
            raise missing_index(self.location)


def _parts(folder: Path) -> list[Path]:
    """Return the temporary files of ``write_durably``."""
    return list(folder.glob(f".*{PART}"))
