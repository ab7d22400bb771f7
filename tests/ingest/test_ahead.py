"""Pictures are analysed ahead: each once, a few at a time, with the same result as one after the other."""

import os
import random
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest
from PIL import Image
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex_backends.index.memory import MemoryIndex
from segdex_core.errors import ModelInvalidError
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import encode_mask
from segdex_core.records import SEGMENT_VIEWS, ImageRecord, RGBImage, Segment, Vectors
from segdex_ingest import ahead
from segdex_ingest.ahead import Analyses
from segdex_ingest.analyse import AnalysedImage, Recipe, analyse_image
from segdex_ingest.report import FileOutcome, IngestReport
from segdex_ingest.run import IngestOptions, ingest_into

SIDE = 24
DONE_S = 30.0


class Stage:
    """What the workers do in these tests: two segments of each picture, quickly, and counted."""

    def __init__(self, delays_s: Callable[[], float] = lambda: 0.0) -> None:
        self.delays_s = delays_s
        self.seen: Counter[int] = Counter()
        self.fails_for: int | None = None
        self.hold: threading.Event | None = None

    def segment(self, image: RGBImage, recipe: Recipe) -> list[Segment]:
        number = number_of(image)
        self.seen[number] += 1
        if self.hold is not None:
            assert self.hold.wait(DONE_S)
        time.sleep(self.delays_s())
        _ = recipe.segmenter.fingerprint  # every call of a model asks whether the run goes on
        if number == self.fails_for:
            raise ModelInvalidError(f"picture {number} breaks the model")
        return [square(4 + number % 7, score=0.9), square(12, score=0.5)]


def number_of(image: RGBImage) -> int:
    return int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])


def picture(number: int) -> RGBImage:
    image = np.full((SIDE, SIDE, 3), (number * 37 % 256, number * 11 % 256, number * 5 % 256), np.uint8)
    image[0, 0] = (number % 256, number // 256, 0)
    return image


def square(side: int, *, score: float) -> Segment:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[2 : 2 + side, 2 : 2 + side] = True
    box = BoxXYXY(2, 2, 2 + side, 2 + side)
    return Segment(
        box=box,
        mask=encode_mask(mask),
        area_px=side * side,
        predicted_iou=score,
        stability=0.9,
        score=score,
    )


class BatchingEmbedder(ColourEmbedder):
    """Remembers the sizes of its calls; waits, and fails for a picture, if told to."""

    def __init__(self, delays_s: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__(samples_per_side=4)
        self.delays_s = delays_s
        self.calls: list[int] = []
        self.fails_for: int | None = None
        self.hold: threading.Event | None = None

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        self.calls.append(len(images))
        if self.hold is not None:
            assert self.hold.wait(DONE_S)
        time.sleep(self.delays_s())
        whole = [image for image in images if image.shape == (SIDE, SIDE, 3)]
        if self.fails_for in [number_of(image) for image in whole]:
            raise ModelInvalidError(f"picture {self.fails_for} breaks the embedder")
        return super().embed_images(images)


@pytest.fixture(name="stage")
def _stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    monkeypatch.setattr(ahead, "segment_image", stage.segment)
    return stage


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("segdex")]


def recipe_with(embedder: BatchingEmbedder) -> Recipe:
    return Recipe(FloodSegmenter(), embedder)


def write_pictures(folder: Path, numbers: Sequence[int]) -> list[Path]:
    paths = []
    for place, number in enumerate(numbers):
        paths.append(folder / f"{place:04}.png")
        Image.fromarray(picture(number)).save(paths[-1])
        os.utime(paths[-1], ns=(10**12, 10**12))
    return paths


def ingest(
    paths: Sequence[Path],
    index: MemoryIndex,
    recipe: Recipe,
    *,
    workers: int,
    jobs: int = 2,
    limit: int | None = None,
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> IngestReport:
    return ingest_into(
        index,
        recipe,
        paths,
        profile="test",
        options=IngestOptions(max_pixels=10_000, max_bytes=100_000, jobs=jobs, workers=workers, limit=limit),
        on_file=on_file,
    )


def content(index: MemoryIndex) -> dict[UUID, object]:
    found: dict[UUID, object] = {}
    for segment in index.scroll_segments():
        vectors = index.get_vectors([segment.segment_id])[segment.segment_id]
        found[segment.segment_id] = (segment, {view: row.tobytes() for view, row in vectors.items()})
    for record in index.scroll_images():
        found[record.image_id] = (record, index._images[record.image_id].vector.tobytes())
    return found


def random_delays(seed: int) -> Callable[[], float]:
    generator = random.Random(seed)
    return lambda: generator.choice((0.0, 0.0, 0.002, 0.01))


NOW: Callable[[], float] = lambda: 0.0  # noqa: E731
SLOW: Callable[[], float] = lambda: 0.01  # noqa: E731


@pytest.mark.parametrize(
    ("segmenting", "embedding"),
    [(SLOW, NOW), (NOW, SLOW), (random_delays(1), random_delays(2)), (random_delays(3), random_delays(4))],
)
@pytest.mark.parametrize("workers", [2, 5])
def test_the_index_is_the_same_with_any_number_of_workers_and_any_delays(
    tmp_path: Path,
    stage: Stage,
    workers: int,
    segmenting: Callable[[], float],
    embedding: Callable[[], float],
) -> None:
    paths = write_pictures(tmp_path, [0, 1, 2, 3, 1, 4, 5, 6, 0, 7, 8, 9])
    alone, together = MemoryIndex(), MemoryIndex()
    first = ingest(paths, alone, recipe_with(BatchingEmbedder()), workers=1)
    stage.delays_s = segmenting

    second = ingest(paths, together, recipe_with(BatchingEmbedder(embedding)), workers=workers)

    assert content(together) == content(alone)
    assert [(f.uri, f.outcome, f.segments) for f in second.files] == [
        (f.uri, f.outcome, f.segments) for f in first.files
    ]
    assert len(content(alone)) == 30


@pytest.mark.parametrize("workers", [1, 4])
def test_a_picture_that_lies_in_many_files_is_analysed_once(
    tmp_path: Path, stage: Stage, workers: int
) -> None:
    paths = write_pictures(tmp_path, [1, 1, 2, 1, 1, 2, 3, 1, 1, 1, 2, 1, 1, 3, 3, 1])
    stage.delays_s = random_delays(5)

    ingest(paths, MemoryIndex(), recipe_with(BatchingEmbedder()), workers=workers)

    assert stage.seen == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("workers", [1, 3])
def test_only_a_few_pictures_are_in_flight(tmp_path: Path, stage: Stage, workers: int) -> None:
    paths = write_pictures(tmp_path, range(40))
    most = 0

    def wait_a_little(outcome: FileOutcome) -> None:
        nonlocal most
        time.sleep(0.02)  # the workers are faster than the writer
        most = max(most, sum(stage.seen.values()) - len(done))
        done.append(outcome)

    done: list[FileOutcome] = []
    ingest(paths, MemoryIndex(), recipe_with(BatchingEmbedder()), workers=workers, on_file=wait_a_little)

    assert 2 <= most <= 2 + 2 * workers + 2
    assert len(done) == 40


@pytest.mark.parametrize("part", ["segmenter", "embedder"])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_model_that_fails_stops_at_its_picture_and_those_before_are_written(
    tmp_path: Path, stage: Stage, workers: int, part: str
) -> None:
    paths = write_pictures(tmp_path, range(12))
    embedder = BatchingEmbedder(random_delays(7))
    broken: Stage | BatchingEmbedder = stage if part == "segmenter" else embedder
    broken.fails_for = 5
    index = MemoryIndex()

    with pytest.raises(ModelInvalidError, match="picture 5 breaks"):
        ingest(paths, index, recipe_with(embedder), workers=workers)
    stored = index.counts().images
    broken.fails_for = None
    ingest(paths, index, recipe_with(embedder), workers=workers)

    undisturbed = MemoryIndex()
    ingest(paths, undisturbed, recipe_with(BatchingEmbedder()), workers=1)
    assert stored == 5
    assert content(index) == content(undisturbed)


def test_a_failure_ahead_of_the_limit_is_nobodys(tmp_path: Path, stage: Stage) -> None:
    paths = write_pictures(tmp_path, range(6))
    stage.fails_for = 3

    report = ingest(paths, MemoryIndex(), recipe_with(BatchingEmbedder()), workers=3, limit=2)

    assert len(report.files) == 2
    assert sum(stage.seen.values()) <= 3  # no more than may be needed, but for one that was read out of turn


def test_an_index_that_fails_stops_the_workers(tmp_path: Path, stage: Stage) -> None:
    class Broken(MemoryIndex):
        def upsert_image(self, record: ImageRecord, vector: Vectors) -> ImageRecord:
            raise OSError("full")

    paths = write_pictures(tmp_path, range(30))
    stage.delays_s = SLOW

    with pytest.raises(OSError, match="full"):
        ingest(paths, Broken(), recipe_with(BatchingEmbedder()), workers=2)

    assert sum(stage.seen.values()) < 12


@pytest.mark.parametrize("workers", [1, 3])
def test_ctrl_c_stops_at_the_next_call_of_a_model(tmp_path: Path, stage: Stage, workers: int) -> None:
    paths = write_pictures(tmp_path, range(12))
    index = MemoryIndex()

    def for_a_minute(image: RGBImage, recipe: Recipe) -> list[Segment]:
        if number_of(image) >= 2:
            for _ in range(6000):
                time.sleep(0.01)
                _ = recipe.segmenter.decoder_id
        return [square(5, score=0.5)]

    def stop_at_the_second(_: FileOutcome) -> None:
        if index.counts().images == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ahead, "segment_image", for_a_minute)
        started = time.perf_counter()
        report = ingest(
            paths,
            index,
            Recipe(FloodSegmenter(), BatchingEmbedder()),
            workers=workers,
            jobs=1,  # in order: one worker does not begin the third picture first
            on_file=stop_at_the_second,
        )

    assert report.interrupted
    assert len(report.files) == 2
    assert time.perf_counter() - started < 20


def test_memory_stays_flat_over_a_thousand_pictures(tmp_path: Path, stage: Stage) -> None:
    numbers = [*range(1000)]
    paths = write_pictures(tmp_path, numbers)

    class Forgetful(MemoryIndex):
        """Stores nothing, so that what grows is the pipeline's."""

        def upsert_segments(self, segments: object) -> None:
            pass

        def upsert_image(self, record: ImageRecord, vector: Vectors) -> ImageRecord:
            return record

    class Sizes:
        def __init__(self) -> None:
            self.bytes: list[int] = []

        def __call__(self, _: FileOutcome) -> None:
            self.bytes.append(tracemalloc.get_traced_memory()[0])

    sizes = Sizes()
    tracemalloc.start()
    try:
        report = ingest(paths, Forgetful(), recipe_with(BatchingEmbedder()), workers=3, on_file=sizes)
    finally:
        tracemalloc.stop()

    assert len(report.files) == 1000
    # a line of the report and of the ledger for each picture; its pixels and vectors alone have 8 KiB
    growth = max(sizes.bytes[900:]) - max(sizes.bytes[100:200])
    assert growth / 800 < 4096


def start_some(analyses: Analyses, numbers: Sequence[int]) -> dict[int, UUID]:
    ids = {number: uuid4() for number in numbers}
    for number, image_id in ids.items():
        analyses.begin(image_id, picture(number))
    return ids


def assert_same(found: AnalysedImage, expected: AnalysedImage) -> None:
    assert list(found.segments) == list(expected.segments)
    np.testing.assert_array_equal(found.image_vector, expected.image_vector)
    for view in SEGMENT_VIEWS:
        np.testing.assert_array_equal(found.segment_vectors[view], expected.segment_vectors[view])


def test_crops_of_several_pictures_are_embedded_together(stage: Stage) -> None:
    embedder = BatchingEmbedder()
    embedder.hold = threading.Event()
    recipe = recipe_with(embedder)

    with Analyses(recipe, workers=3, is_stored=lambda _: False) as analyses:
        ids = start_some(analyses, range(10))
        deadline = time.monotonic() + DONE_S
        # one worker waits in the embedder, and the two others go through all pictures meanwhile
        while len(analyses._batches.waiting) < 9 and time.monotonic() < deadline:
            time.sleep(0.005)
        embedder.hold.set()
        results = {number: analyses.result(image_id, picture(number)) for number, image_id in ids.items()}

    crops = 1 + 2 * len(SEGMENT_VIEWS)
    assert embedder.calls == [crops, 9 * crops]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("segdex_ingest.analyse.segment_image", stage.segment)
        for number, result in results.items():
            assert_same(result, analyse_image(picture(number), recipe))


def test_a_call_of_the_embedder_is_never_long(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_CROPS_PER_CALL", 3)
    embedder = BatchingEmbedder()

    with Analyses(recipe_with(embedder), workers=1, is_stored=lambda _: False) as analyses:
        result = analyses.result(uuid4(), picture(1))

    assert max(embedder.calls) == 3
    assert sum(embedder.calls) == 1 + 2 * len(SEGMENT_VIEWS)
    assert result.image_vector.shape[0] == 1


def test_what_is_stored_already_is_not_begun(stage: Stage) -> None:
    with Analyses(recipe_with(BatchingEmbedder()), workers=1, is_stored=lambda _: True) as analyses:
        start_some(analyses, [1, 2])

    assert not stage.seen


def test_after_the_end_nothing_is_begun(stage: Stage) -> None:
    with Analyses(recipe_with(BatchingEmbedder()), workers=1, is_stored=lambda _: False) as analyses:
        pass
    start_some(analyses, [1])

    assert not stage.seen


def test_rows_of_another_shape_are_an_error_and_not_a_wait(stage: Stage) -> None:
    class Scalar(BatchingEmbedder):
        def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
            return np.array(1, np.float32)

    with (
        Analyses(recipe_with(Scalar()), workers=2, is_stored=lambda _: False) as analyses,
        pytest.raises(ValueError, match="dimension"),
    ):
        analyses.result(uuid4(), picture(1))
