"""The worker of the models: one call at a time, texts together, and a word when it is full."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.waiting import wait_until

from segdex.http.model_thread import BusyError, ModelThread, QueuedEmbedder
from segdex_core.errors import QueryError
from segdex_core.records import RGBImage, Vectors


class RecordingEmbedder(ColourEmbedder):
    """Remembers which texts came together."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        self.batches.append(len(texts))
        return super().embed_texts(texts)

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        self.batches.append(len(images))
        return super().embed_images(images)


class Gate:
    """Holds the thread of the models until it is opened."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def hold(self) -> None:
        self.reached.set()
        self.open.wait()


@contextmanager
def held(worker: ModelThread, *, waiting: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads whose calls of the worker wait; it goes on at the end, when so many calls wait."""
    gate = Gate()
    with ThreadPoolExecutor(8) as pool:
        blocking = pool.submit(worker.run, gate.hold)
        gate.reached.wait()
        try:
            yield pool
            wait_until(lambda: worker.waiting == waiting, what="all wait")
        finally:
            gate.open.set()
        blocking.result()


@pytest.fixture(name="embedder")
def _embedder() -> RecordingEmbedder:
    return RecordingEmbedder()


@pytest.fixture(name="worker")
def _worker(embedder: RecordingEmbedder) -> Iterator[ModelThread]:
    worker = ModelThread(embedder, max_waiting=8)
    yield worker
    worker.close()


def test_a_call_runs_in_the_thread_of_the_models_and_its_error_comes_back(worker: ModelThread) -> None:
    assert worker.run(lambda: threading.current_thread().name).startswith("models")
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 // 0)
    assert worker.waiting == 0


def test_texts_that_wait_together_are_embedded_together(
    worker: ModelThread, embedder: RecordingEmbedder
) -> None:
    colours = ["red", "green", "blue", "red", "pink"]

    with held(worker, waiting=6) as pool:
        rows = [pool.submit(worker.embed_texts, [colour]) for colour in colours]

    found = np.concatenate([row.result() for row in rows])
    np.testing.assert_array_equal(found, ColourEmbedder().embed_texts(colours))
    assert embedder.batches == [5]


def test_pictures_that_wait_together_are_embedded_together(
    worker: ModelThread, embedder: RecordingEmbedder
) -> None:
    pictures = [np.full((20, 30, 3), colour, np.uint8) for colour in COLOURS_RGB.values()][:4]
    queued = QueuedEmbedder(embedder, worker)

    with held(worker, waiting=5) as pool:
        rows = [pool.submit(queued.embed_images, [picture]) for picture in pictures]

    found = np.concatenate([row.result() for row in rows])
    np.testing.assert_array_equal(found, ColourEmbedder().embed_images(pictures))
    assert embedder.batches == [4]


def test_a_text_that_cannot_be_embedded_spoils_no_other(
    worker: ModelThread, embedder: RecordingEmbedder
) -> None:
    with held(worker, waiting=3) as pool:
        good, bad = pool.submit(worker.embed_texts, ["red"]), pool.submit(worker.embed_texts, [" "])

    assert good.result().shape == (1, embedder.dim)
    with pytest.raises(QueryError, match="empty"):
        bad.result()


def test_a_full_queue_refuses_and_answers_again_later(embedder: RecordingEmbedder) -> None:
    worker = ModelThread(embedder, max_waiting=2)
    gate = Gate()

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(worker.run, gate.hold) for _ in range(2)]
        gate.reached.wait()
        wait_until(lambda: worker.waiting == 2, what="both wait")
        with pytest.raises(BusyError, match="ask again"):
            worker.embed_texts(["red"])
        with pytest.raises(BusyError):
            worker.run(lambda: None)
        gate.open.set()
        for call in calls:
            call.result()

    assert worker.embed_texts(["red"]).shape == (1, embedder.dim)
    worker.close()


def test_the_queued_embedder_is_the_embedder(worker: ModelThread, embedder: RecordingEmbedder) -> None:
    queued = QueuedEmbedder(embedder, worker)
    image = np.full((9, 9, 3), 200, np.uint8)
    texts = embedder.embed_texts(["red", "blue"])

    assert (queued.name, queued.dim, queued.fingerprint) == (
        embedder.name,
        embedder.dim,
        embedder.fingerprint,
    )
    np.testing.assert_array_equal(queued.embed_texts(["red", "blue"]), texts)
    np.testing.assert_array_equal(queued.embed_images([image]), embedder.embed_images([image]))
