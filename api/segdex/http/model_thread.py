"""One thread for the models of a device, behind a queue that says when it is full."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Generic, TypeVar

from segdex_core.choices import ProfileName
from segdex_core.errors import SegdexError
from segdex_core.ports.embedder import Embedder
from segdex_core.records import RGBImage, Vectors
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings
from segdex_search.presence import PresenceJudge
from segdex_search.refine.refiner import Refiner

_T = TypeVar("_T")

MAX_TEXTS = 64
"""Texts that are embedded in one call."""

MAX_IMAGES = 16
"""Pictures that are embedded in one call: sixteen take 0.15 s with the offline embedder on two cores."""


class BusyError(SegdexError):
    """The queue is full; ask again in a moment."""


class ModelThread:
    """Runs calls one after the other in a thread of its own.

    Texts that wait at the same time are embedded in one call, and so are pictures. Threads may share it; a
    call must not ask the worker again.

    Args:
        embedder: For texts and pictures.
        max_waiting: Calls that may wait or run; a further one is refused.
    """

    def __init__(self, embedder: Embedder, *, max_waiting: int) -> None:
        self._texts = _Batch(embedder.embed_texts, MAX_TEXTS)
        self._images = _Batch(embedder.embed_images, MAX_IMAGES)
        self._max_waiting = max_waiting
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._lock = threading.Lock()
        self.waiting = 0

    def run(self, call: Callable[[], _T]) -> _T:
        """Return what a call returns; waits for its turn.

        Raises:
            BusyError: If too many wait.
        """
        with self._admitted():
            return self._executor.submit(copy_context().run, call).result()  # with the request's id

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return ``Embedder.embed_texts``, together with other texts that wait.

        Raises:
            BusyError: If too many wait.
            QueryError: If a text cannot be embedded.
        """
        return self._embed(self._texts, texts)

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        """Return ``Embedder.embed_images``, together with other pictures that wait.

        Raises:
            BusyError: If too many wait.
        """
        return self._embed(self._images, images)

    def close(self) -> None:
        """End the thread once what waits is done."""
        self._executor.shutdown()

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        with self._lock:
            if self.waiting >= self._max_waiting:
                raise BusyError(f"{self.waiting} requests wait for the models already: ask again in a moment")
            self.waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self.waiting -= 1

    def _embed(self, batch: "_Batch[_T]", items: Sequence[_T]) -> Vectors:
        with self._admitted():
            rows = batch.add(items)
            self._executor.submit(batch.embed_waiting)
            return rows.result()


class _Batch(Generic[_T]):
    """What waits to be embedded together.

    Args:
        embed: Returns a row for each item.
        limit: No more asking is added to a call that has so many items.
    """

    def __init__(self, embed: Callable[[Sequence[_T]], Vectors], limit: int) -> None:
        self._embed, self._limit = embed, limit
        self._waiting: deque[tuple[list[_T], Future[Vectors]]] = deque()
        self._lock = threading.Lock()

    def add(self, items: Sequence[_T]) -> "Future[Vectors]":
        """Put items in; the future gets their rows."""
        rows: Future[Vectors] = Future()
        with self._lock:
            self._waiting.append((list(items), rows))
        return rows

    def embed_waiting(self) -> None:
        """Embed what waits, as much as fits into one call; an earlier call may have taken all."""
        taken: list[tuple[list[_T], Future[Vectors]]] = []
        with self._lock:
            while self._waiting and sum(len(items) for items, _ in taken) < self._limit:
                taken.append(self._waiting.popleft())
        if len(taken) < 2 or not self._try(taken):
            # one item that cannot be embedded must not spoil the others
            for asked in taken:
                self._alone(*asked)

    def _try(self, taken: "list[tuple[list[_T], Future[Vectors]]]") -> bool:
        try:
            found = self._embed([item for items, _ in taken for item in items])
        except Exception:  # noqa: BLE001 - each is tried again alone, and gets its own error
            return False
        start = 0
        for items, rows in taken:
            rows.set_result(found[start : start + len(items)])
            start += len(items)
        return True

    def _alone(self, items: list[_T], rows: "Future[Vectors]") -> None:
        try:
            rows.set_result(self._embed(items))
        except Exception as error:  # noqa: BLE001 - it belongs to who asked, whatever it is
            rows.set_exception(error)


class QueuedEmbedder:
    """An ``Embedder`` whose calls go through a ``ModelThread``."""

    def __init__(self, embedder: Embedder, worker: ModelThread) -> None:
        self._embedder, self._worker = embedder, worker

    @property
    def name(self) -> str:
        """See ``Embedder``."""
        return self._embedder.name

    @property
    def fingerprint(self) -> str:
        """See ``Embedder``."""
        return self._embedder.fingerprint

    @property
    def dim(self) -> int:
        """See ``Embedder``."""
        return self._embedder.dim

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        """See ``Embedder``."""
        return self._worker.embed_images(images)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """See ``Embedder``."""
        return self._worker.embed_texts(texts)


class ServiceModels:
    """Models that are loaded, for a library whose callers are many; see ``Models``.

    Args:
        recipe: Segmenter and embedder.
        profile: Of the models.
        judge: Says whether a picture shows what was asked for.
        refiner: Draws masks.
        worker: Where the segmenter and the refiner run.
    """

    analysis_threads = 1  # a job leaves cores to those who search

    def __init__(
        self,
        recipe: Recipe,
        profile: ProfileName,
        judge: PresenceJudge,
        refiner: Refiner,
        worker: ModelThread,
    ) -> None:
        self._recipe = recipe
        self._worker = worker
        self.profile: ProfileName = profile
        self.segmenter = recipe.segmenter
        self.embedder = QueuedEmbedder(recipe.embedder, worker)
        self.judge = judge
        self.refiner = refiner

    def recipes(self, generator: GeneratorSettings) -> Recipe:  # noqa: ARG002 - a service has one recipe
        """See ``Models``; jobs use the models beside the queue, so that searches do not wait for them."""
        return self._recipe

    def run(self, call: Callable[[], _T]) -> _T:
        """See ``Models``."""
        return self._worker.run(call)
