"""Pictures as the segmenter encoded them, kept for the next question within a bound of memory."""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from uuid import uuid4


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


FeaturesT = TypeVar("FeaturesT", bound=_Sized)


class EncodingCache(Generic[FeaturesT]):
    """A cache that several threads may share.

    Args:
        max_mib: What the kept encodings may hold together; the least recently used one goes first. One that
            is larger is used and not kept.
        disk: Where they are kept as well; None for nowhere.
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
        """Bytes that are held."""
        return sum(features.nbytes for features in self._kept.values())

    def get(self, key: Hashable, encode: Callable[[], FeaturesT]) -> FeaturesT:
        """Return what is kept under a key, else what ``encode`` makes.

        Two threads that ask for the same key at the same time may both encode.
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
    """Encoded pictures in a folder, for the next process; the oldest go when there are too many bytes.

    A file that cannot be read or written is as good as none: the picture is encoded again.

    Args:
        folder: Made when it is first needed.
        max_mib: What the files may have together.
        dump: Makes bytes of features.
        restore: And features of bytes; raises ValueError for others.
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
        """Return what the file of a key holds, else what ``encode`` makes, which is kept."""
        path = self._folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()}{_ENDING}"
        try:
            features = self._restore(path.read_bytes())
            path.touch()  # the most recently used
        except (OSError, ValueError):
            features = encode()
            self._write(path, self._dump(features))
        return features

    def _write(self, path: Path, data: bytes) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{uuid4().hex}")
            part.write_bytes(data)
            part.replace(path)
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
