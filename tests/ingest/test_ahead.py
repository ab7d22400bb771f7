"""Pictures are analysed ahead: each once, a few at a time, with the same result as one after the other."""

import os
import random
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest
from PIL import Image
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter
from tests.waiting import wait_until

from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import ModelInvalidError
from segdex_core.media.uris import canonical_uri
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures
from segdex_core.records import ImageRecord, RGBImage, Vectors
from segdex_ingest.ahead import Analyses
from segdex_ingest.analyse import AnalysedImage, Recipe
from segdex_ingest.failures import StoppedError
from segdex_ingest.ledger import Ledger
from segdex_ingest.plan import plan_ingest
from segdex_ingest.report import FileOutcome, IngestReport
from segdex_ingest.run import IngestOptions, carry_out, ingest_into, prepare_index
from segdex_ingest.write import PictureWriter

SIDE = 24
DONE_S = 300.0
SETTINGS = replace(SMALL_FRAME, points_per_side=2, crop_layers=0)


class NumberedSegmenter(FloodSegmenter):
    """Counts the pictures it encodes by their number; waits, and fails for a picture, if told to."""

    def __init__(self, delays_s: Callable[[], float] = lambda: 0.0) -> None:
        self.delays_s = delays_s
        self.seen: Counter[int] = Counter()
        self.fails_for: int | None = None

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        for number in map(number_of, images):
            self.seen[number] += 1
            time.sleep(self.delays_s())
            if number == self.fails_for:
                raise ModelInvalidError(f"picture {number} breaks the model")
        return super().encode(images, frame_px=frame_px)


class NumberedEmbedder(ColourEmbedder):
    """Waits, and fails for a picture, if told to."""

    def __init__(self, delays_s: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__(samples_per_side=4)
        self.delays_s = delays_s
        self.fails_for: int | None = None

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        time.sleep(self.delays_s())
        if number_of(images[0]) == self.fails_for:  # the picture comes first, then its crops
            raise ModelInvalidError(f"picture {self.fails_for} breaks the embedder")
        return super().embed_images(images)


def number_of(image: RGBImage) -> int:
    return int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])


def picture(number: int) -> RGBImage:
    image = np.full((SIDE, SIDE, 3), (number * 37 % 256, number * 11 % 256, number * 5 % 256), np.uint8)
    image[4:12, 4:12] = 255 - image[4:12, 4:12]
    image[0, 0] = (number % 256, number // 256, 0)
    return image


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("segdex")]


def recipe_with(
    segmenter: NumberedSegmenter | None = None, embedder: NumberedEmbedder | None = None
) -> Recipe:
    return Recipe(segmenter or NumberedSegmenter(), embedder or NumberedEmbedder(), SETTINGS)


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
        [canonical_uri(path) for path in paths],
        source=FileSource(),
        profile="test",
        options=IngestOptions(
            max_pixels=10_000, max_bytes=100_000, decode_threads=jobs, analysis_threads=workers, limit=limit
        ),
        on_file=on_file,
    )


def content(index: MemoryIndex) -> dict[UUID, object]:
    found: dict[UUID, object] = {}
    for segment in index.scroll_segments():
        vectors = index.get_vectors([segment.segment_id])[segment.segment_id]
        found[segment.segment_id] = (segment, {view: row.tobytes() for view, row in vectors.items()})
    records = list(index.scroll_images())
    whole = index.get_image_vectors([record.image_id for record in records])
    for record in records:
        found[record.image_id] = (record, whole[record.image_id].tobytes())
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
    workers: int,
    segmenting: Callable[[], float],
    embedding: Callable[[], float],
) -> None:
    paths = write_pictures(tmp_path, [0, 1, 2, 3, 1, 4, 5, 6, 0, 7, 8, 9])
    alone, together = MemoryIndex(), MemoryIndex()
    first = ingest(paths, alone, recipe_with(), workers=1)

    delayed = recipe_with(NumberedSegmenter(segmenting), NumberedEmbedder(embedding))
    second = ingest(paths, together, delayed, workers=workers)

    assert content(together) == content(alone)
    assert [(f.uri, f.outcome, f.segments) for f in second.files] == [
        (f.uri, f.outcome, f.segments) for f in first.files
    ]
    assert alone.counts().images == 10
    assert alone.counts().segments >= 10


@pytest.mark.parametrize("workers", [1, 4])
def test_a_picture_that_lies_in_many_files_is_analysed_once(tmp_path: Path, workers: int) -> None:
    paths = write_pictures(tmp_path, [1, 1, 2, 1, 1, 2, 3, 1, 1, 1, 2, 1, 1, 3, 3, 1])
    segmenter = NumberedSegmenter(random_delays(5))

    ingest(paths, MemoryIndex(), recipe_with(segmenter), workers=workers)

    assert segmenter.seen == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("workers", [1, 3])
def test_only_a_few_pictures_are_in_flight(tmp_path: Path, workers: int) -> None:
    paths = write_pictures(tmp_path, range(40))
    segmenter, done, most = NumberedSegmenter(), 0, 0

    def count(_: FileOutcome) -> None:
        nonlocal done, most
        if done == 0:  # the workers are faster than the writer
            wait_until(lambda: sum(segmenter.seen.values()) >= 2 * workers, what="pictures ahead")
        most = max(most, sum(segmenter.seen.values()) - done)
        done += 1

    ingest(paths, MemoryIndex(), recipe_with(segmenter), workers=workers, on_file=count)

    assert 2 <= most <= 2 + 2 * workers + 2
    assert done == 40


@pytest.mark.parametrize("part", ["segmenter", "embedder"])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_model_that_fails_stops_at_its_picture_and_those_before_are_written(
    tmp_path: Path, workers: int, part: str
) -> None:
    paths = write_pictures(tmp_path, range(12))
    segmenter, embedder = NumberedSegmenter(), NumberedEmbedder(random_delays(7))
    broken: NumberedSegmenter | NumberedEmbedder = segmenter if part == "segmenter" else embedder
    broken.fails_for = 5
    index = MemoryIndex()

    with pytest.raises(ModelInvalidError, match="picture 5 breaks"):
        ingest(paths, index, recipe_with(segmenter, embedder), workers=workers)
    stored = index.counts().images
    broken.fails_for = None
    ingest(paths, index, recipe_with(segmenter, embedder), workers=workers)

    undisturbed = MemoryIndex()
    ingest(paths, undisturbed, recipe_with(), workers=1)
    assert stored == 5
    assert content(index) == content(undisturbed)


def test_a_failure_ahead_of_the_limit_is_nobodys(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, range(6))
    segmenter = NumberedSegmenter()
    segmenter.fails_for = 3

    report = ingest(paths, MemoryIndex(), recipe_with(segmenter), workers=3, limit=2)

    assert len(report.files) == 2
    # no more than may be needed, but for one that was read out of turn
    assert sum(segmenter.seen.values()) <= 3


def test_an_index_that_fails_stops_the_workers(tmp_path: Path) -> None:
    class Broken(MemoryIndex):
        def upsert_image(self, record: ImageRecord, vector: Vectors) -> ImageRecord:
            raise OSError("full")

    paths = write_pictures(tmp_path, range(30))
    segmenter = NumberedSegmenter()

    with pytest.raises(OSError, match="full"):
        ingest(paths, Broken(), recipe_with(segmenter), workers=2)

    assert sum(segmenter.seen.values()) <= 2 + 2 * 2 + 2


@pytest.mark.parametrize("workers", [1, 3])
def test_ctrl_c_stops_at_the_next_checkpoint(tmp_path: Path, workers: int) -> None:
    paths = write_pictures(tmp_path, range(12))
    index = MemoryIndex()
    stopped = threading.Event()
    segmenter = NumberedSegmenter()

    class UntilStopped(NumberedEmbedder):
        """Embeds the third picture only when the run is over."""

        def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
            if number_of(images[0]) >= 2:  # the picture comes first, then its crops
                assert stopped.wait(DONE_S)
            return super().embed_images(images)

    def stop_at_the_second(_: FileOutcome) -> None:
        if index.counts().images == 2:
            stopped.set()
            raise KeyboardInterrupt

    report = ingest(
        paths,
        index,
        recipe_with(segmenter, UntilStopped()),
        workers=workers,
        jobs=1,  # in order: one worker does not begin the third picture first
        on_file=stop_at_the_second,
    )

    assert report.interrupted
    assert len(report.files) == 2
    assert index.counts().images == 2
    assert sum(segmenter.seen.values()) <= 2 + 2 * workers + 2


def test_memory_stays_flat_over_a_thousand_pictures(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, [*range(1000)])
    ledger, source = Ledger(()), FileSource()
    plan = plan_ingest([canonical_uri(path) for path in paths], source=source, ledger=ledger, recipe="recipe")
    sizes: list[int] = []

    class Forgetful(MemoryIndex):
        """Stores nothing, so that what grows is the pipeline's."""

        def upsert_image(self, record: ImageRecord, vector: Vectors) -> ImageRecord:
            return record

        def update_image(self, record: ImageRecord) -> ImageRecord:
            return record

    def analyse(data: bytes, name: str, checkpoint: Callable[[], None]) -> AnalysedImage:
        """Return a vector of 64 KiB."""
        return AnalysedImage(
            sha256=sha256(data).hexdigest(),
            size_bytes=len(data),
            size_hw=(SIDE, SIDE),
            captured_s=None,
            place_lat_lon=None,
            recipe="recipe",
            segments=(),
            segment_vectors={},
            image_vector=np.zeros((1, 1 << 14), np.float32),
        )

    index = Forgetful()
    prepare_index(index, recipe_with(), profile="test")
    tracemalloc.start()
    try:
        report = carry_out(
            plan,
            source=source,
            ledger=ledger,
            writer=PictureWriter(index, exists=source.exists),
            analyse=analyse,
            options=IngestOptions(max_pixels=10_000, max_bytes=100_000, decode_threads=2, analysis_threads=3),
            on_file=lambda _: sizes.append(tracemalloc.get_traced_memory()[0]),
        )
    finally:
        tracemalloc.stop()

    assert len(report.files) == 1000
    # a line of the report and of the ledger for each picture
    growth = max(sizes[900:]) - max(sizes[100:200])
    assert growth / 800 < 4096


def test_rows_of_another_shape_are_a_failure_and_not_a_wait(tmp_path: Path) -> None:
    class Scalar(NumberedEmbedder):
        def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
            return np.array(1, np.float32)

    paths = write_pictures(tmp_path, [1, 2])

    report = ingest(paths, MemoryIndex(), recipe_with(embedder=Scalar()), workers=2)

    assert [file.outcome for file in report.files] == ["failed", "failed"]


def counted(seen: list[str]) -> Callable[[bytes, str, Callable[[], None]], AnalysedImage]:
    """Return an analysis of nothing that notes the names it is asked for."""

    def analyse(data: bytes, name: str, checkpoint: Callable[[], None]) -> AnalysedImage:
        checkpoint()
        seen.append(name)
        return AnalysedImage(
            sha256="ab" * 32,
            size_bytes=len(data),
            size_hw=(1, 1),
            captured_s=None,
            place_lat_lon=None,
            recipe="",
            segments=(),
            segment_vectors={},
            image_vector=np.zeros((1, 2), np.float32),
        )

    return analyse


def test_what_is_stored_already_is_not_begun() -> None:
    seen: list[str] = []

    with Analyses(counted(seen), threads=1, is_stored=lambda _: True) as analyses:
        analyses.begin(uuid4(), b"", name="a")

    assert not seen


def test_after_the_end_nothing_is_begun() -> None:
    seen: list[str] = []

    with Analyses(counted(seen), threads=1, is_stored=lambda _: False) as analyses:
        pass
    analyses.begin(uuid4(), b"", name="a")

    assert not seen


def test_an_analysis_that_was_begun_ends_at_its_next_checkpoint() -> None:
    began, ended = threading.Event(), threading.Event()
    raised: list[Exception] = []

    def analyse(data: bytes, name: str, checkpoint: Callable[[], None]) -> AnalysedImage:
        began.set()
        try:
            while True:  # until the run is over
                checkpoint()
                ended.wait(0.01)
        except StoppedError as error:
            raised.append(error)
            raise

    with Analyses(analyse, threads=1, is_stored=lambda _: False) as analyses:
        analyses.begin(uuid4(), b"", name="a")
        assert began.wait(DONE_S)

    assert len(raised) == 1


def test_a_result_is_kept_until_it_is_forgotten() -> None:
    seen: list[str] = []
    image_id = uuid4()

    with Analyses(counted(seen), threads=2, is_stored=lambda _: False) as analyses:
        first = analyses.result(image_id, b"", name="a")
        again = analyses.result(image_id, b"", name="a")
        analyses.forget(image_id)
        analyses.result(image_id, b"", name="b")

    assert first is again
    assert seen == ["a", "b"]
