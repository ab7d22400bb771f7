"""Long sequences in parts, for requests of a bounded size."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def slices(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield consecutive parts of at most ``size`` values.

    Example:
        >>> list(slices([1, 2, 3], 2))
        [[1, 2], [3]]
    """
    return (values[start : start + size] for start in range(0, len(values), size))
