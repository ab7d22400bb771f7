"""Resources that are opened on first use, and closed with the library."""

from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import Generic, Protocol, TypeVar

from segdex_core.ports.index import SegmentIndex


class Closes(Protocol):
    """A resource that can be closed."""

    def close(self) -> None:
        """Release the resource."""
        ...


T = TypeVar("T", bound=Closes)


class Lazy(Generic[T]):
    """A resource that is opened once, on first use; threads may share it.

    Args:
        open_it: Opens the resource.
    """

    def __init__(self, open_it: Callable[[], T]) -> None:
        self._open_it = open_it
        self._lock = RLock()
        self._opened: T | None = None

    def get(self) -> T:
        """Return the resource; the first call opens it."""
        return self._get(self._open_it)

    def close(self) -> None:
        """Close the resource if it is open; the next ``get`` opens it again."""
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
    """An index that is opened once, on first use; threads may share it.

    Args:
        open_index: Opens the index; its argument says whether to create a missing index.
    """

    def __init__(self, open_index: Callable[[bool], SegmentIndex]) -> None:
        super().__init__(partial(open_index, False))
        self._open_index = open_index

    def get(self, *, create: bool = False) -> SegmentIndex:
        """Return the index; the first call opens it.

        Args:
            create: Whether to create a missing index.

        Raises:
            IndexMissingError: If the index does not exist and ``create`` is False.
            SegmentIndexError: If the index cannot be used.
        """
        return self._get(lambda: self._open_index(create))

    def replace(self, index: SegmentIndex) -> None:
        """Return another index from now on, which shares what the former one has opened."""
        with self._lock:
            self._opened = index


NO_INDEX = "this needs an index: open one with segdex.open, or name it with --index"
