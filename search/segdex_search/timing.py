"""Wall time by stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Wall milliseconds by stage. Repeated runs of a stage are summed.

    Attributes:
        timings_ms: Milliseconds by stage, in the order in which the stages first ended.
    """

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block of code as a stage."""
        started = time.perf_counter()
        yield
        took_ms = (time.perf_counter() - started) * 1000
        self.timings_ms[name] = round(self.timings_ms.get(name, 0.0) + took_ms, 2)
