"""Pictures as the segmenter encoded them, kept for the next question within a bound of memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


FeaturesT = TypeVar("FeaturesT", bound=_Sized)


class EncodingCache(Generic[FeaturesT]):
    """A cache that several threads may share.

    Args:
        max_mib: What the kept encodings may hold together; the least recently used one goes first. One that
            is larger is used and not kept.
    """

    def __init__(self, max_mib: int) -> None:
        self._max_bytes = max_mib << 20
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
        features = encode()
        with self._lock:
            self._kept[key] = features
            self._kept.move_to_end(key)
            while self._kept and self.nbytes > self._max_bytes:
                self._kept.popitem(last=False)
        return features
