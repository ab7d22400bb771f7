"""Analyse pictures ahead of the thread that writes them, several at a time, each once."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock
from types import TracebackType
from typing import Self
from uuid import UUID

from segdex_ingest.analyse import AnalysedImage

Analyse = Callable[[bytes, str, Callable[[], None]], AnalysedImage]
"""Makes an analysis of the bytes of a picture, its name for messages, and what is called now and then."""


class Analyses:
    """The analyses of a run that were begun and not written yet, each picture once.

    An analysis depends on nothing but the bytes: it can be begun before it is known whether it will be
    needed, and in any order.

    Args:
        analyse: Called in threads; what its checkpoint raises ends it.
        threads: Threads that analyse, 1 or more.
        is_stored: Whether the picture with this id needs no analysis any more.
        limit: Begin at most so many before they are asked for; None for all.
    """

    def __init__(
        self,
        analyse: Analyse,
        *,
        threads: int,
        is_stored: Callable[[UUID], bool],
        limit: int | None = None,
    ) -> None:
        self._analyse = analyse
        self._stopped = Event()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="segdex-analyse")
        self._is_stored = is_stored
        self._may_begin = limit
        self._lock = Lock()
        self._by_id: dict[UUID, Future[AnalysedImage]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop: what runs ends before its next call of a model, the rest is not begun."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, image_id: UUID, data: bytes, *, name: str) -> None:
        """Analyse a picture that will probably be asked for; called by the threads that read."""
        with self._lock:
            # a picture is forgotten only when it is stored: else a copy of it would be analysed again
            if image_id in self._by_id or self._is_stored(image_id) or self._stopped.is_set():
                return
            if self._may_begin is not None:
                if self._may_begin == 0:
                    return
                self._may_begin -= 1
            self._submit(image_id, data, name)

    def result(self, image_id: UUID, data: bytes, *, name: str) -> AnalysedImage:
        """Wait for the analysis of a picture, begun now if it was not.

        Raises:
            ImageError: If the bytes cannot be read as a picture.
            ModelError: If a model fails, or cannot be loaded.
        """
        with self._lock:
            future = self._by_id.get(image_id) or self._submit(image_id, data, name)
        return future.result()

    def forget(self, image_id: UUID) -> None:
        """Let go of an analysis that was stored; nothing happens if there is none."""
        with self._lock:
            self._by_id.pop(image_id, None)

    def _submit(self, image_id: UUID, data: bytes, name: str) -> Future[AnalysedImage]:
        self._by_id[image_id] = future = self._pool.submit(self._analyse, data, name, self._checkpoint)
        return future

    def _checkpoint(self) -> None:
        if self._stopped.is_set():
            raise StoppedError


class StoppedError(Exception):
    """The run is over; nobody asks for the result any more."""
