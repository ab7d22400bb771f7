"""One thread for the models of a device, behind a queue of limited length."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Generic, TypeVar
from uuid import UUID

from segdex_core.choices import ProfileName
from segdex_core.errors import SegdexError
from segdex_core.ports.embedder import Embedder, ReadsTexts
from segdex_core.records import RGBImage, Vectors
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings
from segdex_search.presence import PresenceJudge
from segdex_search.refine.refiner import Refiner

_T = TypeVar("_T")

MAX_TEXTS = 64
"""Number of texts after which a call takes no further requests."""

MAX_IMAGES = 16
"""Number of images after which a call takes no further requests: 16 take 0.15 s with the offline embedder on
two cores."""


class BusyError(SegdexError):
    """The queue is full; retry in a moment."""


class ModelThread:
    """Runs calls one after the other in its own thread.

    Waiting texts are embedded together in one call, and waiting images in another call. Threads may share an
    object; a call must not submit another call.

    Args:
        embedder: Embeds texts and images.
        max_waiting: Maximum number of calls that wait or run; further calls are refused.
    """

    def __init__(self, embedder: Embedder, *, max_waiting: int) -> None:
        self._texts = _Batch(embedder.embed_texts, MAX_TEXTS)
        self._images = _Batch(embedder.embed_images, MAX_IMAGES)
        self._max_waiting = max_waiting
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._lock = threading.Lock()
        self.waiting = 0

    def run(self, call: Callable[[], _T]) -> _T:
        """Run a call when its turn comes, and return its result.

        Raises:
            BusyError: If too many calls are waiting.
        """
        with self._admitted():
            return self._executor.submit(copy_context().run, call).result()  # keeps the request's id

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return ``Embedder.embed_texts``, in one call with other waiting texts.

        Raises:
            BusyError: If too many calls are waiting.
            QueryError: If a text cannot be embedded.
        """
        return self._embed(self._texts, texts)

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        """Return ``Embedder.embed_images``, in one call with other waiting images.

        Raises:
            BusyError: If too many calls are waiting.
        """
        return self._embed(self._images, images)

    def close(self) -> None:
        """End the thread after the calls that wait."""
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
    """Items that wait to be embedded together.

    Args:
        embed: Returns one row for each item.
        limit: Number of items after which a call takes no further requests.
    """

    def __init__(self, embed: Callable[[Sequence[_T]], Vectors], limit: int) -> None:
        self._embed, self._limit = embed, limit
        self._waiting: deque[tuple[list[_T], Future[Vectors]]] = deque()
        self._lock = threading.Lock()

    def add(self, items: Sequence[_T]) -> "Future[Vectors]":
        """Add items; the future receives their rows."""
        rows: Future[Vectors] = Future()
        with self._lock:
            self._waiting.append((list(items), rows))
        return rows

    def embed_waiting(self) -> None:
        """Embed the waiting items that fit into one call; an earlier call may have taken all of them."""
        taken: list[tuple[list[_T], Future[Vectors]]] = []
        with self._lock:
            while self._waiting and sum(len(items) for items, _ in taken) < self._limit:
                taken.append(self._waiting.popleft())
        if len(taken) < 2 or not self._try(taken):
            # an item that cannot be embedded must not fail the others
            for asked in taken:
                self._alone(*asked)

    def _try(self, taken: "list[tuple[list[_T], Future[Vectors]]]") -> bool:
        try:
            found = self._embed([item for items, _ in taken for item in items])
        except Exception:  # noqa: BLE001 - each request is retried alone, and gets its own error
            return False
        start = 0
        for items, rows in taken:
            rows.set_result(found[start : start + len(items)])
            start += len(items)
        return True

    def _alone(self, items: list[_T], rows: "Future[Vectors]") -> None:
        try:
            rows.set_result(self._embed(items))
        except Exception as error:  # noqa: BLE001 - every error belongs to the caller
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

    def reading_hint(self, text: str) -> str | None:
        """See ``ReadsTexts``; this takes no turn, because no network runs."""
        return self._embedder.reading_hint(text) if isinstance(self._embedder, ReadsTexts) else None


class ServiceModels:
    """Loaded models for a library with many callers; see ``Models``.

    Args:
        recipe: Recipe with the segmenter and the embedder.
        profile: Profile of the models.
        judge: Decides whether an image shows what a query describes.
        refiner: Re-decodes masks.
        worker: Thread of the segmenter and the refiner.
    """

    analysis_threads = 1  # a job leaves cores to searches

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
        self.new_embedder = recipe.embedder  # as jobs, a re-embedding does not go through the queue
        self.judge = judge
        self.refiner = refiner

    def recipes(self, generator: GeneratorSettings) -> Recipe:  # noqa: ARG002 - a service has one recipe
        """See ``Models``; jobs bypass the queue of the models, so that searches do not wait for them."""
        return self._recipe

    def forget(self, image_id: UUID) -> None:
        """See ``Models``."""
        self.refiner.forget(image_id)

    def run(self, call: Callable[[], _T]) -> _T:
        """See ``Models``."""
        return self._worker.run(call)
