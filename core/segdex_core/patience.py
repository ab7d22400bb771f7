"""How long calls to an index wait for a server that is away for a while.

Whoever answers a person is told at once. A job, or an ingest that runs for hours, waits: reads change
nothing, and all writes to an index may be repeated.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

LONG_S = 600.0
"""Seconds that jobs and commands wait: a server is restarted or moved to another machine in that time."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait.

    Attributes:
        wait_s: Seconds after the first failure of a call.
        on_wait: Called with what is waited for before each pause, and with "" when it is over. An error that
            it raises, such as KeyboardInterrupt, ends the wait.
    """

    wait_s: float
    on_wait: Callable[[str], None]


_PATIENCE: ContextVar[Patience | None] = ContextVar("patience", default=None)


def patience() -> Patience | None:
    """Return how long calls of this thread wait; None if they do not."""
    return _PATIENCE.get()


@contextmanager
def patient(on_wait: Callable[[str], None], *, wait_s: float = LONG_S) -> Iterator[None]:
    """Let calls to an index in this block wait for a server that is away.

    Args:
        on_wait: See ``Patience``.
        wait_s: See ``Patience``.
    """
    token = _PATIENCE.set(Patience(wait_s, on_wait))
    try:
        yield
    finally:
        _PATIENCE.reset(token)
