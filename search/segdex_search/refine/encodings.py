"""Caches of encoded images, in memory and on disk, with limited sizes."""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from segdex_core.files import remove_parts, write_durably


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
        self._kept: OrderedDict[Hashable, FeaturesT] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    @property
    def nbytes(self) -> int:
        """Number of bytes in the cache."""
        return sum(features.nbytes for features in self._kept.values())

    def get(self, key: Hashable, encode: Callable[[], FeaturesT]) -> FeaturesT:
        """Return the cached features of a key, or call ``encode`` and cache the result.

        Two threads that request one key at the same time may both encode.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                self.hits += 1
                return self._kept[key]
            self.misses += 1
        features = encode() if self._disk is None else self._disk.get(key, encode)
        with self._lock:
            self._kept[key] = features
            self._kept.move_to_end(key)
            while self._kept and self.nbytes > self._max_bytes:
                self._kept.popitem(last=False)
        return features


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

    def get(self, key: Hashable, encode: Callable[[], FeaturesT]) -> FeaturesT:
        """Return the features in the file of a key, or call ``encode`` and write the file."""
        path = self._folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()}{_ENDING}"
        try:
            features = self._restore(path.read_bytes())
            path.touch()  # marks the file as recently used
        except (OSError, ValueError):
            features = encode()
            self._write(path, self._dump(features))
        return features

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_durably(path, data)
            remove_parts(self._folder)
            files = sorted(self._folder.glob(f"*{_ENDING}"), key=lambda file: -file.stat().st_mtime_ns)
            total = 0
            for file in files:
                total += file.stat().st_size
                if total > self._max_bytes:
                    file.unlink(missing_ok=True)
        except OSError as error:
            _log.info("an encoded picture was not kept in %s: %s", self._folder, error)


_ENDING = ".encoding"

_log = logging.getLogger(__name__)
