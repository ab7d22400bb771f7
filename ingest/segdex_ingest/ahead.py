"""Work in threads ahead of the thread that writes: read files, and analyse each image once."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from threading import Event, Lock
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

from segdex_ingest.analyse import AnalysedImage
from segdex_ingest.failures import StoppedError

Analyse = Callable[[bytes, str, Callable[[], None]], AnalysedImage]
"""Analyses an image, given its bytes, its name for error messages, and a checkpoint to call now and then."""


class Analyses:
    """The analyses of a run that were started and not yet written, at most one per image.

    An analysis depends only on the bytes, so it may start in any order and before it is known to be needed.

    Args:
        analyse: Called in threads; an exception from its checkpoint ends it.
        threads: Number of threads that analyse, 1 or more.
        is_stored: Returns whether the image with the given id needs no analysis.
        at: Held while the image with the given id and name is analysed; see ``RunJournal.at``.
        limit: Maximum number of analyses that ``begin`` starts; None for no limit.
    """

    def __init__(
        self,
        analyse: Analyse,
        *,
        threads: int,
        is_stored: Callable[[UUID], bool],
        at: Callable[[UUID, str], AbstractContextManager[None]] = lambda *_: nullcontext(),
        limit: int | None = None,
    ) -> None:
        self._analyse = analyse
        self._stopped = Event()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="segdex-analyse")
        self._is_stored = is_stored
        self._at = at
        self._may_begin = limit
        self._lock = Lock()
        self._by_id: dict[UUID, Future[AnalysedImage]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop: running analyses end before their next model call, and queued analyses are canceled."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, image_id: UUID, data: bytes, *, name: str) -> None:
        """Start the analysis of an image that will probably be needed; called by the reader threads."""
        with self._lock:
            # an analysis is kept until its image is stored, so that a copy of the image is not analysed again
            if image_id in self._by_id or self._is_stored(image_id) or self._stopped.is_set():
                return
            if self._may_begin is not None:
                if self._may_begin == 0:
                    return
                self._may_begin -= 1
            self._submit(image_id, data, name)

    def result(self, image_id: UUID, data: bytes, *, name: str) -> AnalysedImage:
        """Return the analysis of an image when it is done; start it if it has not started.

        Raises:
            ImageError: If the bytes cannot be read as an image.
            ModelError: If a model fails, or cannot be loaded.
        """
        with self._lock:
            future = self._by_id.get(image_id) or self._submit(image_id, data, name)
        return future.result()

    def forget(self, image_id: UUID) -> None:
        """Drop the analysis of a stored image; unknown ids are ignored."""
        with self._lock:
            self._by_id.pop(image_id, None)

    def _submit(self, image_id: UUID, data: bytes, name: str) -> Future[AnalysedImage]:
        call = copy_context().run  # the index is as patient in a thread as in its caller
        self._by_id[image_id] = future = self._pool.submit(call, self._run, image_id, data, name)
        return future

    def _run(self, image_id: UUID, data: bytes, name: str) -> AnalysedImage:
        with self._at(image_id, name):
            self._checkpoint()  # it may have waited
            return self._analyse(data, name, self._checkpoint)

    def _checkpoint(self) -> None:
        if self._stopped.is_set():
            raise StoppedError


Item = TypeVar("Item")
Result = TypeVar("Result")


def results_ahead(
    items: Iterable[Item], call: Callable[[Item], Result], *, threads: int, ahead: int
) -> Generator[tuple[Item, Result]]:
    """Yield each item with the result of a call, in order; threads work on at most ``ahead`` items ahead."""
    remaining = iter(items)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="segdex-read")
    try:
        while True:
            while len(waiting) <= ahead:
                item = next(remaining, None)
                if item is None:
                    break
                waiting.append((item, pool.submit(copy_context().run, call, item)))
            if not waiting:
                return
            item, future = waiting.popleft()
            yield item, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
