"""What is opened when it is first needed, and closed with the library."""

from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import Generic, Protocol, TypeVar

from segdex_core.ports.index import SegmentIndex


class Closes(Protocol):
    """What has to be closed."""

    def close(self) -> None:
        """Release what it holds."""
        ...


T = TypeVar("T", bound=Closes)


class Lazy(Generic[T]):
    """Something that is opened once; threads may share it.

    Args:
        open_it: Opens it.
    """

    def __init__(self, open_it: Callable[[], T]) -> None:
        self._open_it = open_it
        self._lock = RLock()
        self._opened: T | None = None

    def get(self) -> T:
        """Return it; open it the first time."""
        return self._get(self._open_it)

    def close(self) -> None:
        """Close it if it was opened; the next ``get`` opens it again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _get(self, open_it: Callable[[], T]) -> T:
        with self._lock:
            if self._opened is None:
                self._opened = open_it()
            return self._opened


class LazyIndex(Lazy[SegmentIndex]):
    """An index that is opened once; threads may share it.

    Args:
        open_index: Opens the index; its argument says whether one that is not there is created.
    """

    def __init__(self, open_index: Callable[[bool], SegmentIndex]) -> None:
        super().__init__(partial(open_index, False))
        self._open_index = open_index

    def get(self, *, create: bool = False) -> SegmentIndex:
        """Return the index; open it the first time.

        Args:
            create: Whether an index that is not there is created.

        Raises:
            IndexMissingError: If it is not there and is not created.
            SegmentIndexError: If it cannot be used.
        """
        return self._get(lambda: self._open_index(create))


NO_INDEX = "this needs an index: open one with segdex.open, or name it with --index"
