"""Caches of encoded images, in memory and on disk, with limited sizes."""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from segdex_core.files import PRIVATE_FILE, PRIVATE_FOLDER, remove_parts, write_durably


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


FeaturesT = TypeVar("FeaturesT", bound=_Sized)


class EncodingCache(Generic[FeaturesT]):
    """A cache of encoded images that several threads may share.

    Args:
        max_mib: Maximum size of the cached features in MiB; the least recently used features are removed
            first. Features larger than this are returned but not cached.
        disk: Cache on disk; None for none.
    """

    def __init__(self, max_mib: int, disk: "EncodingFiles[FeaturesT] | None" = None) -> None:
        self._max_bytes = max_mib << 20
        self._disk = disk
        self._kept: OrderedDict[tuple[UUID | None, Hashable], FeaturesT] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    @property
    def nbytes(self) -> int:
        """Number of bytes in the cache."""
        return sum(features.nbytes for features in self._kept.values())

    def get(self, key: Hashable, encode: Callable[[], FeaturesT], *, of: UUID | None = None) -> FeaturesT:
        """Return the cached features of a key, or call ``encode`` and cache the result.

        Two threads that request one key at the same time may both encode.

        Args:
            key: What is encoded, and by what.
            encode: Encodes it.
            of: Image that ``forget`` finds it by.
        """
        own = (of, key)
        with self._lock:
            if own in self._kept:
                self._kept.move_to_end(own)
                self.hits += 1
                return self._kept[own]
            self.misses += 1
        features = encode() if self._disk is None else self._disk.get(key, encode, of=of)
        with self._lock:
            self._kept[own] = features
            self._kept.move_to_end(own)
            while self._kept and self.nbytes > self._max_bytes:
                self._kept.popitem(last=False)
        return features

    def forget(self, image_id: UUID) -> None:
        """Remove everything of an image from the memory; ``forget_encodings`` removes its files."""
        with self._lock:
            for own in [own for own in self._kept if own[0] == image_id]:
                del self._kept[own]


class EncodingFiles(Generic[FeaturesT]):
    """A cache of encoded images in a folder, for later processes; least recently used files go first.

    If a file cannot be read or written, the image is encoded again.

    Args:
        folder: Folder of the files, created when first needed.
        max_mib: Maximum size of all files in MiB.
        dump: Converts features to bytes.
        restore: Converts bytes to features; raises ValueError for other bytes.
    """

    def __init__(
        self,
        folder: Path,
        max_mib: int,
        *,
        dump: Callable[[FeaturesT], bytes],
        restore: Callable[[bytes], FeaturesT],
    ) -> None:
        self._folder, self._max_bytes = folder, max_mib << 20
        self._dump, self._restore = dump, restore

    def get(self, key: Hashable, encode: Callable[[], FeaturesT], *, of: UUID | None = None) -> FeaturesT:
        """Return the features in the file of a key, or call ``encode`` and write the file.

        Args:
            key: What is encoded, and by what.
            encode: Encodes it.
            of: Image that ``forget_encodings`` finds the file by.
        """
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        path = self._folder / f"{'' if of is None else _start(of)}{digest}{_ENDING}"
        try:
            features = self._restore(path.read_bytes())
            path.touch()  # marks the file as recently used
        except (OSError, ValueError):
            features = encode()
            self._write(path, self._dump(features))
        return features

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_durably(path, data, mode=PRIVATE_FILE, folder_mode=PRIVATE_FOLDER)
            remove_parts(self._folder)
            files = sorted(self._folder.glob(f"*{_ENDING}"), key=lambda file: -file.stat().st_mtime_ns)
            total = 0
            for file in files:
                total += file.stat().st_size
                if total > self._max_bytes:
                    file.unlink(missing_ok=True)
        except OSError as error:
            _log.info("an encoded picture was not kept in %s: %s", self._folder, error)


def forget_encodings(folder: Path, image_id: UUID) -> None:
    """Delete the files of an image from a folder of ``EncodingFiles``; the folder need not exist.

    Raises:
        OSError: If a file cannot be deleted.
    """
    for file in folder.glob(f"{_start(image_id)}*{_ENDING}"):
        file.unlink(missing_ok=True)


def _start(image_id: UUID) -> str:
    return f"{image_id.hex}-"


_ENDING = ".encoding"

_log = logging.getLogger(__name__)
