"""Processes that decode, so that a file ends no more than itself."""

import threading
import weakref
from collections.abc import Callable

from segdex_core.errors import DecodersUnavailableError, ImageError, ImageTooLargeError, ImageUnreadableError
from segdex_core.media.decode import DecodedImage
from segdex_core.media.worker_messages import Request
from segdex_core.media.worker_process import (
    DecodeLimits,
    WorkerEndedError,
    WorkerMemoryError,
    WorkerProcess,
    unavailable,
)
from segdex_core.wording import printable

_TRIES = 3
"""Processes that one file may end. The first may have been damaged by an earlier file, or killed from
outside."""


class DecodePool:
    """Decodes image files in processes that start when they are needed and are used for many files.

    Threads share it; a call waits until a process is free.

    Args:
        limits: What decoding may use.
        start: Starts a process.
    """

    def __init__(
        self, limits: DecodeLimits, *, start: Callable[[DecodeLimits], WorkerProcess] = WorkerProcess
    ) -> None:
        self._limits = limits
        self._start = start
        self._changed = threading.Condition()
        self._idle: list[WorkerProcess] = []
        self._count = 0  # idle, busy or about to start
        self._workers: set[WorkerProcess] = set()
        self._closed = False
        # also when the interpreter ends; where it is killed, the system ends them
        self._finalizer = weakref.finalize(self, _end_all, self._workers)

    @property
    def pids(self) -> tuple[int, ...]:
        """Ids of the processes that run now."""
        return tuple(worker.pid for worker in tuple(self._workers))

    def __call__(self, data: bytes, *, name: str, max_pixels: int) -> DecodedImage:
        """See ``Decode``."""
        name = printable(name)
        request = Request(data, name, max_pixels)
        tries = 0
        while True:
            worker = self._take()
            is_fresh = worker.decoded == 0
            try:
                image = worker.decode(request)
            except WorkerMemoryError as error:
                self._discard(worker)
                if is_fresh:  # else what earlier files left in the process may be what was too much
                    raise ImageTooLargeError(
                        f"{name}: needs more than the {self._limits.memory_mib:,} MiB of memory that "
                        "SEGDEX_DECODE_MEMORY_MIB allows"
                    ) from error
            except WorkerEndedError as error:
                self._discard(worker)
                tries += 1
                if error.by_the_file or tries == _TRIES:
                    raise ImageUnreadableError(f"{name}: {error}") from error
            except BaseException as error:
                if isinstance(error, ImageError):  # the process is as good as before
                    self._give_back(worker)
                else:  # as at Ctrl-C: its answer would be that of the next file
                    self._discard(worker)
                raise
            else:
                self._give_back(worker)
                return image

    def close(self) -> None:
        """End all processes. Calls that wait for one, or for an answer, fail."""
        with self._changed:
            self._closed = True
            while self._idle:
                self._forget(self._idle.pop())
            self._changed.notify_all()
        self._finalizer()  # a thread that waits for an answer of a killed process ends and forgets it

    def _take(self) -> WorkerProcess:
        with self._changed:
            while True:
                if self._closed:
                    raise DecodersUnavailableError("the processes that decode pictures were closed")
                while self._idle:
                    worker = self._idle.pop()
                    if worker.is_alive:
                        return worker
                    self._forget(worker)
                if self._count < self._limits.processes:
                    self._count += 1
                    break
                self._changed.wait()
        try:
            worker = self._started()
        except DecodersUnavailableError:
            with self._changed:
                self._count -= 1
                self._changed.notify()
                if self._count == 0:
                    raise
                # another process runs: go on with fewer
                while not self._idle and self._count and not self._closed:
                    self._changed.wait()
            return self._take()
        with self._changed:
            self._workers.add(worker)
        return worker

    def _started(self) -> WorkerProcess:
        for tries in range(1, _TRIES + 1):
            try:
                return self._start(self._limits)
            except WorkerEndedError as error:  # killed from outside, as no file was decoded yet
                if tries == _TRIES:
                    raise unavailable(str(error)) from error
        raise AssertionError("unreachable")

    def _give_back(self, worker: WorkerProcess) -> None:
        with self._changed:
            if self._closed:
                self._forget(worker)
            else:
                self._idle.append(worker)
            self._changed.notify()

    def _discard(self, worker: WorkerProcess) -> None:
        with self._changed:
            self._forget(worker)
            self._changed.notify()

    def _forget(self, worker: WorkerProcess) -> None:
        self._count -= 1
        self._workers.discard(worker)
        worker.end()


def _end_all(workers: set[WorkerProcess]) -> None:
    for worker in tuple(workers):
        worker.kill()
