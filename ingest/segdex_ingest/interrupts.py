"""Ctrl-C and SIGTERM between two pictures instead of in the middle of one."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Keeps a first signal back while a picture is written; a second one acts at once.

    Both leave an index that the next run completes; after the first one, no picture is written in part. Only
    the main thread gets signals: in other threads nothing is kept back.
    """

    def __init__(self) -> None:
        self._kept: Callable[[], None] | None = None

    @contextmanager
    def kept_back(self) -> Iterator[None]:
        """Keep a signal back until ``deliver``."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Handler] = {number: signal.getsignal(number) for number in _SIGNALS}

        def keep(number: int, frame: FrameType | None) -> None:
            if self._kept is None:
                self._kept = lambda: _act(before[number], number, frame)
            else:
                _act(before[number], number, frame)

        for number in _SIGNALS:
            signal.signal(number, keep)
        try:
            yield
        finally:
            for known, handler in before.items():
                if handler is not None:  # None: a library in C has set it
                    signal.signal(known, handler)

    def deliver(self) -> None:
        """Let a signal that was kept back act now."""
        act, self._kept = self._kept, None
        if act is not None:
            act()


def _act(handler: Handler, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
