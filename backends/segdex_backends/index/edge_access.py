"""How a process has an embedded index open: it reads a private copy, or it holds the folder for changes."""

from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock
from typing import Literal

from qdrant_edge import EdgeShard

from segdex_backends.index.edge_checks import compare, damaged, recover
from segdex_backends.index.edge_folder import OPEN_FREE_BYTES, EdgeFolder, make_shard
from segdex_backends.index.edge_lock import LOCK, FolderLock
from segdex_backends.index.edge_manifest import (
    Manifest,
    read_manifest,
    remove_manifest,
    write_manifest,
    write_written,
)
from segdex_backends.index.edge_view import VIEW_BYTES, View, no_room, room_for


class EdgeAccess:
    """The access of one process to the shards of an embedded index, and the numbers of their points.

    Args:
        folder: Folder of the index.
        wait_s: Longest wait in seconds for another process that has the index open.
    """

    def __init__(self, folder: EdgeFolder, *, wait_s: float) -> None:
        self._folder = folder
        self._lock = FolderLock(folder.path / LOCK, folder.location, wait_s=wait_s)
        self._view: View | None = None
        self._points: dict[str, int] = {}
        self._synced: frozenset[str] = frozenset()
        self._noting = Lock()

    @property
    def is_held(self) -> bool:
        """Whether this process has the index open for changes."""
        return self._lock.is_held

    def read(self, names: Collection[str]) -> None:
        """Make the shards ``names`` readable, as they are now.

        They are copied while writers are kept away. An index that is too large to be copied is held instead,
        and an index that was not closed is recovered first.

        Raises:
            IndexLockedError: If another process has the index open for changes, and does not end.
            IndexStorageError: If there is no room for the copy.
            SegmentIndexError: If the index is damaged.
        """
        with self._folder.translated():
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
        with self._folder.translated():
            self._lock.hold()
            try:
                self._folder.check_free(OPEN_FREE_BYTES)
                for part in self._folder.parts():  # of a killed process: nobody else writes here now
                    part.unlink()
                manifest, shards = read_manifest(self._folder.path), self._folder.shards()
                if manifest is not None:
                    compare(self._folder.path, manifest, set(manifest.points), location=self._folder.location)
                    self._points = dict(manifest.points)
                    self._synced = frozenset(manifest.files)
                else:
                    self._points = self._recover(shards)
                write_written(self._folder.path, self._points, durably=True)
                remove_manifest(self._folder.path)
            except BaseException:
                self._lock.release()
                raise

    def open_shard(self, name: str, make: Callable[[str], EdgeShard]) -> EdgeShard:
        """Open a shard, in the private copy if the index is not held. A missing one is created by ``make``.

        Raises:
            SegmentIndexError: If the shard has fewer or more points than were written.
        """
        if self._view is None:
            self._folder.check_free(OPEN_FREE_BYTES)
        root = self._folder.path if self._view is None else self._view.path
        home = root / name
        with self._folder.translated():
            if not home.exists():
                if self._points.get(name):
                    raise damaged(self._folder.location, self._folder.path, f"{name} is missing")
                make_shard(home, make)
                if self._view is None:
                    self.note_points(name, 0, durably=True)
            shard = EdgeShard.load(str(home))
            held, written = shard.info().points_count, self._points.get(name, 0)
            if held != written:
                shard.close()
                problem = f"{name} has {held:,} points, but {written:,} were written"
                raise damaged(self._folder.location, self._folder.path, problem)
            return shard

    def note_points(self, name: str, count: int, *, durably: bool = False) -> None:
        """Note that a shard must have at least ``count`` points from now on; see ``write_written``."""
        with self._noting, self._folder.translated():
            if self._points.get(name) != count:
                self._points[name] = count
                write_written(self._folder.path, self._points, durably=durably)

    def noted_points(self, name: str) -> int:
        """Return the number of points that a shard must have at least."""
        return self._points.get(name, 0)

    def remove_shard(self, name: str) -> None:
        """Remove a shard that is not in use; a removal that is stopped leaves no part under its name."""
        with self._noting, self._folder.translated():
            if self._points.pop(name, None) is not None:
                write_written(self._folder.path, self._points, durably=True)
            self._folder.remove_shard(name)

    def drop_view(self) -> None:
        """Remove the private copy, whose shards are no longer asked."""
        if self._view is not None:
            self._view.close()
            self._view = None

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
                with self._folder.translated():
                    self._seal()
        finally:
            self._lock.release()
            self.drop_view()

    def _copy(self, names: Collection[str]) -> Literal["copied", "not closed", "no room"]:
        """Copy the shards if that needs no change to the folder; "no room" is also for one too large."""
        is_writable = self._folder.is_writable
        with self._lock.shared():
            manifest = read_manifest(self._folder.path)
            if manifest is not None:
                data_bytes = manifest.data_bytes
            elif is_writable:
                return "not closed"
            else:
                data_bytes = sum(map(self._folder.size_bytes, names))
            parent = room_for(data_bytes)
            if is_writable and (parent is None or data_bytes > VIEW_BYTES):
                return "no room"
            if parent is None:
                raise no_room(self._folder.location, data_bytes)
            view = View(parent)
            try:
                view.copy(self._folder.path, names, manifest, location=self._folder.location)
                if manifest is None:
                    present = [name for name in names if (view.path / name).exists()]
                    self._points = self._recover(present, root=view.path)
                else:
                    self._points = dict(manifest.points)
            except BaseException:
                view.close()
                raise
        self._view = view
        return "copied"

    def _recover(self, names: Collection[str], *, root: Path | None = None) -> dict[str, int]:
        needed = self._folder.named_shards() | set(names)
        return recover(
            self._folder.path,
            names,
            needed=needed,
            location=self._folder.location,
            root=root,
            lock=self._lock.descriptor,
        )

    def _seal(self) -> None:
        """Write the manifest of the index, whose shards are closed."""
        files = self._folder.sum_files(synced=self._synced)
        self._synced = frozenset(files)
        shards = self._folder.shards()
        points = {name: count for name, count in self._points.items() if name in shards}
        write_written(self._folder.path, points, durably=True)
        write_manifest(self._folder.path, Manifest(points, files))
