"""One thread for the models of a device, behind a queue that says when it is full."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from segdex.core.errors import SegdexError
from segdex.core.protocols import Embedder
from segdex.core.records import RGBImage, Vectors

_T = TypeVar("_T")

MAX_TEXTS = 64
"""Texts that are embedded in one call."""


class BusyError(SegdexError):
    """The queue is full; ask again in a moment."""


class ModelWorker:
    """Runs calls one after the other in a thread of its own.

    Texts that wait at the same time are embedded in one call. Threads may share it; a call must not ask the
    worker again.

    Args:
        embedder: For the texts.
        max_waiting: Calls that may wait or run; a further one is refused.
    """

    def __init__(self, embedder: Embedder, *, max_waiting: int) -> None:
        self._embedder = embedder
        self._max_waiting = max_waiting
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._texts: deque[_Texts] = deque()
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
        with self._admitted():
            asked = _Texts(list(texts), Future())
            with self._lock:
                self._texts.append(asked)
            self._executor.submit(self._embed_waiting)
            return asked.rows.result()

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

    def _embed_waiting(self) -> None:
        """Embed the texts that wait, as many as fit into one call; an earlier call may have taken all."""
        taken: list[_Texts] = []
        with self._lock:
            while self._texts and sum(len(each.texts) for each in taken) < MAX_TEXTS:
                taken.append(self._texts.popleft())
        if not taken:
            return
        try:
            rows = self._embedder.embed_texts([text for asked in taken for text in asked.texts])
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked, whatever it is
            for asked in taken:
                if len(taken) == 1:
                    asked.rows.set_exception(error)
                else:  # one text that cannot be embedded must not spoil the others
                    self._embed_alone(asked)
            return
        start = 0
        for asked in taken:
            asked.rows.set_result(rows[start : start + len(asked.texts)])
            start += len(asked.texts)

    def _embed_alone(self, asked: "_Texts") -> None:
        try:
            asked.rows.set_result(self._embedder.embed_texts(asked.texts))
        except Exception as error:  # noqa: BLE001 - likewise
            asked.rows.set_exception(error)


@dataclass(frozen=True, slots=True, eq=False)
class _Texts:
    texts: list[str]
    rows: "Future[Vectors]"


class QueuedEmbedder:
    """An ``Embedder`` whose calls go through a ``ModelWorker``."""

    def __init__(self, embedder: Embedder, worker: ModelWorker) -> None:
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
        return self._worker.run(lambda: self._embedder.embed_images(images))

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """See ``Embedder``."""
        return self._worker.embed_texts(texts)

    def relevance(self, image: RGBImage, texts: Vectors) -> npt.NDArray[np.float32]:
        """See ``Embedder``."""
        return self._worker.run(lambda: self._embedder.relevance(image, texts))
