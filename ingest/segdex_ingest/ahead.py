"""Analyse pictures ahead of the thread that writes them: several at a time, crops of several in one batch."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Event, Lock
from types import TracebackType
from typing import Self
from uuid import UUID

import numpy as np

from segdex_core.ports.embedder import Embedder
from segdex_core.records import RGBImage
from segdex_ingest.analyse import AnalysedImage, ImageViews, Recipe, assemble, segment_image, views_of
from segdex_ingest.stopping import stoppable_embedder, stoppable_segmenter

_CROPS_PER_CALL = 64
"""Fills the batches of an embedder, and is done in a second on a CPU, so that Ctrl-C is answered."""


class Analyses:
    """The analyses of a run that were begun and not written yet, each picture once.

    A worker segments a picture, then leaves its crops to be embedded and takes the next picture; whichever
    worker comes when nobody embeds does so for all that wait. So no worker is idle while a picture waits, and
    batches span pictures. An analysis depends on nothing but the pixels: it can be begun before it is known
    whether it will be needed, and in any order.

    Args:
        recipe: The models, which all workers share.
        workers: Threads that segment and embed, 1 or more.
        is_stored: Whether the picture with this id needs no analysis any more.
        limit: Begin at most so many before they are asked for; None for all.
    """

    def __init__(
        self, recipe: Recipe, *, workers: int, is_stored: Callable[[UUID], bool], limit: int | None = None
    ) -> None:
        self._stopped = Event()
        self._recipe = replace(
            recipe,
            segmenter=stoppable_segmenter(recipe.segmenter, self._check),
            embedder=stoppable_embedder(recipe.embedder, self._check),
        )
        # half of the workers: while one embeds, the others bring it the crops of its next batch
        self._batches = _SharedBatches(self._recipe.embedder, at_once=max(workers // 2, 1))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="segdex-analyse")
        self._is_stored = is_stored
        self._may_begin = limit
        self._lock = Lock()
        self._by_id: dict[UUID, Future[AnalysedImage]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop: what runs ends at its next call of a model, the rest is not begun."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, image_id: UUID, pixels: RGBImage) -> None:
        """Analyse a picture that will probably be asked for; called by the threads that decode."""
        with self._lock:
            # a picture is forgotten only when it is stored: else a copy of it would be analysed again
            if image_id in self._by_id or self._is_stored(image_id) or self._stopped.is_set():
                return
            if self._may_begin is not None:
                if self._may_begin == 0:
                    return
                self._may_begin -= 1
            self._submit(image_id, pixels)

    def result(self, image_id: UUID, pixels: RGBImage) -> AnalysedImage:
        """Wait for the analysis of a picture, begun now if it was not; raises what a model raised for it."""
        with self._lock:
            future = self._by_id.get(image_id) or self._submit(image_id, pixels)
        return future.result()

    def forget(self, image_id: UUID) -> None:
        """Let go of an analysis that was stored; nothing happens if there is none."""
        with self._lock:
            self._by_id.pop(image_id, None)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise _StoppedError

    def _submit(self, image_id: UUID, pixels: RGBImage) -> Future[AnalysedImage]:
        self._by_id[image_id] = future = Future[AnalysedImage]()
        self._pool.submit(self._analyse, pixels, future)
        return future

    def _analyse(self, pixels: RGBImage, future: Future[AnalysedImage]) -> None:
        try:
            views = views_of(pixels, segment_image(pixels, self._recipe), self._recipe)
        except Exception as error:  # noqa: BLE001 - raised again by ``result``
            future.set_exception(error)
            return
        self._batches.embed(_Waiting(views, future))


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A picture whose crops wait to be embedded."""

    views: ImageViews
    future: Future[AnalysedImage]


@dataclass(slots=True, eq=False)
class _SharedBatches:
    """Embeds in the thread of whoever comes while fewer than ``at_once`` do; the others leave it theirs."""

    embedder: Embedder
    at_once: int
    lock: Lock = field(default_factory=Lock)
    waiting: list[_Waiting] = field(default_factory=list)
    busy: int = 0

    def embed(self, picture: _Waiting) -> None:
        """Have a picture embedded, at once or soon, and with it whatever waits."""
        with self.lock:
            self.waiting.append(picture)
        while pictures := self._take_all():
            try:
                self._embed_together(pictures)
            finally:
                with self.lock:
                    self.busy -= 1

    def _take_all(self) -> list[_Waiting]:
        with self.lock:
            if not self.waiting or self.busy == self.at_once:
                return []  # whoever is busy looks again when done
            self.busy += 1
            taken, self.waiting = self.waiting, []
            return taken

    def _embed_together(self, pictures: Sequence[_Waiting]) -> None:
        crops = [crop for picture in pictures for crop in picture.views.crops]
        try:
            rows = np.concatenate(
                [
                    self.embedder.embed_images(crops[start : start + _CROPS_PER_CALL])
                    for start in range(0, len(crops), _CROPS_PER_CALL)
                ]
            )
            ends = np.cumsum([len(picture.views.crops) for picture in pictures])
            parts = np.split(rows, ends[:-1])
            analysed = [assemble(picture.views, part) for picture, part in zip(pictures, parts, strict=True)]
        except Exception as error:  # noqa: BLE001 - raised again by ``Analyses.result``
            if len(pictures) == 1:
                pictures[0].future.set_exception(error)
                return
            for picture in pictures:  # so that it is raised for no other picture than its own
                self._embed_together([picture])
            return
        for picture, result in zip(pictures, analysed, strict=True):
            picture.future.set_result(result)


class _StoppedError(Exception):
    """The run is over; nobody asks for the result any more."""
