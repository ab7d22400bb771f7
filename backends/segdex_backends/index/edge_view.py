"""Private copies of an embedded index, for reading.

Qdrant Edge lets one process at a time load a shard, and loading writes into its files. A reader therefore
loads a copy in the temporary folder: readers do not wait for each other, an index in a folder that cannot be
written can be read, and a reader that is killed leaves no trace in the index. The copy is compared with the
checksums of the manifest in the same pass, at about 0.7 CPU seconds for 1 GB (50,000 to 100,000 segments).
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from segdex_backends.index.edge_checks import compare
from segdex_backends.index.edge_manifest import Manifest, sum_file
from segdex_core.errors import IndexStorageError
from segdex_core.files import PART

VIEW_BYTES = 1 << 30
"""Bytes above which an index is not copied but read where it is, by one process at a time."""

ROOM_BYTES = 64 << 20
"""Free bytes that loading a copy needs besides those of the copy; on a full disk it ends with SIGBUS."""

_PREFIX = "segdex-index-"
_IN_USE = "in-use"
_SHORT_S = 3600.0  # a folder without its lock is left alone for so long
_MEMORY = Path("/dev/shm")  # noqa: S108 - the name that Linux gives it


class View:
    """A private copy of some shards; ``close`` removes it. One that a killed process left is removed later.

    Args:
        parent: Folder to make it in; see ``room_for``.
    """

    def __init__(self, parent: Path) -> None:
        _sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        part = self.path / f"{_IN_USE}{PART}"
        self._lock = os.open(part, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        part.rename(self.path / _IN_USE)  # without the lock, it would be taken for one that was left

    def close(self) -> None:
        """Remove the copy; shards that are still open go on with the files that they have mapped."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            os.close(self._lock)

    def copy(self, folder: Path, names: Collection[str], manifest: Manifest | None, *, location: str) -> None:
        """Copy shards of an index, and compare them with its manifest.

        Args:
            folder: Folder of the index.
            names: Names of the shards.
            manifest: Manifest of the index; None if it was not closed, so that nothing can be compared.
            location: Location of the index, for messages.

        Raises:
            SegmentIndexError: If a file is missing, or differs from the manifest.
        """
        for name in names:
            for root, folders, files in os.walk(folder / name):
                inner = Path(root).relative_to(folder)
                (self.path / inner).mkdir(exist_ok=True)
                for file in files if manifest is None else ():
                    sum_file(folder / inner / file, copy_to=self.path / inner / file)
                folders.sort()
        if manifest is not None:
            compare(folder, manifest, names, location=location, view=self.path)


def room_for(data_bytes: int) -> Path | None:
    """Return a folder with room for a copy: the temporary folder, or memory; None if both are full."""
    needed_bytes = data_bytes + ROOM_BYTES
    for parent in (Path(tempfile.gettempdir()), _MEMORY):
        with suppress(OSError):
            if os.access(parent, os.W_OK) and shutil.disk_usage(parent).free >= needed_bytes:
                return parent
    return None


def no_room(location: str, data_bytes: int) -> IndexStorageError:
    """Return the error for an index that cannot be read because no disk has room for a copy."""
    return IndexStorageError(
        f"{location} cannot be read: the disk of {tempfile.gettempdir()} is full, a copy needs "
        f"{(data_bytes + ROOM_BYTES) >> 20} MiB; make room, or name another folder with TMPDIR"
    )


def _sweep(parent: Path) -> None:
    """Remove the copies of processes that were killed."""
    with suppress(OSError):
        for path in parent.glob(f"{_PREFIX}*"):
            _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    try:
        descriptor = os.open(path / _IN_USE, os.O_RDWR)
    except FileNotFoundError:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _SHORT_S:  # otherwise it is being made or removed
                shutil.rmtree(path, ignore_errors=True)
        return
    except OSError:  # of another user
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        pass
    finally:
        os.close(descriptor)
