"""A picture on which a model fails is the outcome of that picture; what is not its fault ends the run."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Tried
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import IndexUnavailableError, ModelError, ModelInvalidError, ModelMissingError
from segdex_core.media.limits import MAX_RATIO, MAX_SIDE_PX
from segdex_core.media.uris import uri_to_path
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures
from segdex_core.records import RGBImage, Vectors
from segdex_ingest.analyse import Embedding, Recipe
from segdex_ingest.reembed import ReembedOptions, reembed_index, rehearse_reembedding
from segdex_ingest.report import IngestReport, Outcome
from segdex_ingest.run import FAILURES_IN_A_ROW, IngestOptions, ingest_into

SOURCE = FileSource()
SETTINGS = replace(SMALL_FRAME, points_per_side=2, crop_layers=0)
BAD = (255, 0, 255)

Raises = Callable[[], None]


def is_bad(image: RGBImage) -> bool:
    """Return whether a picture is of the colour on which the models of these tests fail."""
    return bool((image == BAD).all(axis=2).any())


class FailingSegmenter(FloodSegmenter):
    """Raises at pictures of one colour."""

    def __init__(self, raises: Raises) -> None:
        self.raises = raises

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        if any(map(is_bad, images)):
            self.raises()
        return super().encode(images, frame_px=frame_px)


class FailingEmbedder(ColourEmbedder):
    """Raises at pictures of one colour."""

    fingerprint = "failing"

    def __init__(self, raises: Raises) -> None:
        super().__init__()
        self.raises = raises

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        if any(map(is_bad, images)):
            self.raises()
        return super().embed_images(images)


def raising(error: BaseException) -> Raises:
    """Return a function that raises an error."""

    def raise_it() -> None:
        raise error

    return raise_it


def write(folder: Path, names: Sequence[str]) -> None:
    """Write pictures, all different; those whose names begin with ``bad`` show the bad colour."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.full((40, 60, 3), 30 + 5 * number, np.uint8)
        pixels[10:30, 20:40] = BAD if name.startswith("bad") else (30, 160, 60)
        Image.fromarray(pixels).save(folder / name)


def ingest(
    folder: Path, segmenter: FloodSegmenter, *, index: MemoryIndex | None = None, threads: int = 1
) -> IngestReport:
    """Ingest a folder with a segmenter and colours."""
    return ingest_into(
        MemoryIndex() if index is None else index,
        Recipe(segmenter, ColourEmbedder(), SETTINGS),
        SOURCE.list([str(folder)]).uris,
        source=SOURCE,
        profile="offline",
        options=IngestOptions(max_pixels=10**8, max_bytes=10**8, analysis_threads=threads),
    )


def outcomes(report: IngestReport) -> dict[str, str]:
    """Return the outcome of each file by its name."""
    return {uri_to_path(file.uri).name: file.outcome.value for file in report.files}


@pytest.mark.promise(
    "Ingest", "An error of a model on one picture is that picture's outcome; the run goes on."
)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("CUDA out of\nmemory"), "RuntimeError: CUDA out of memory"),
        (MemoryError(), "MemoryError"),
        (ValueError("shape"), "ValueError: shape"),
        (OSError("no kernel"), "OSError: no kernel"),
    ],
)
def test_a_picture_on_which_a_model_fails_is_an_outcome(
    error: Exception, reason: str, threads: int, tmp_path: Path, tried: Tried
) -> None:
    write(tmp_path / "p", ["a.png", "bad.png", "c.png", "d.png"])
    index = MemoryIndex()
    report = ingest(tmp_path / "p", FailingSegmenter(raising(error)), index=index, threads=threads)

    assert outcomes(report) == {"a.png": "added", "bad.png": "failed", "c.png": "added", "d.png": "added"}
    assert report.files[1].detail == f"{tmp_path / 'p' / 'bad.png'}: a model failed on it: {reason}"
    assert report.to_document().has_failures
    assert index.counts().images == 3
    repaired = ingest(tmp_path / "p", FloodSegmenter(), index=index)
    assert repaired.counts[Outcome.ADDED] == 1
    tried(4, "pictures, of which one makes a model fail")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
        ModelInvalidError("its files are damaged"),
        SystemExit(),
    ],
)
def test_what_is_no_fault_of_the_picture_ends_the_run(error: BaseException, tmp_path: Path) -> None:
    write(tmp_path / "p", ["a.png", "bad.png", "c.png"])

    with pytest.raises(type(error)):
        ingest(tmp_path / "p", FailingSegmenter(raising(error)))


def test_ctrl_c_in_a_model_stops_the_run_and_keeps_what_was_done(tmp_path: Path) -> None:
    write(tmp_path / "p", ["a.png", "bad.png", "c.png"])
    report = ingest(tmp_path / "p", FailingSegmenter(raising(KeyboardInterrupt())))

    assert report.interrupted
    assert outcomes(report) == {"a.png": "added"}


def test_an_index_that_fails_ends_the_run(tmp_path: Path) -> None:
    class Away(MemoryIndex):
        def upsert_image(self, *_: object) -> None:  # type: ignore[override]
            raise IndexUnavailableError("away")

    write(tmp_path / "p", ["a.png"])
    with pytest.raises(IndexUnavailableError):
        ingest(tmp_path / "p", FloodSegmenter(), index=Away())


def test_a_model_that_cannot_be_loaded_ends_the_run(tmp_path: Path) -> None:
    class Missing:
        def fingerprint(self) -> str:
            return "0" * 16

        def load(self) -> Recipe:
            raise ModelMissingError("the model is missing")

    write(tmp_path / "p", ["a.png", "b.png"])
    index = MemoryIndex()
    ingest(tmp_path / "p", FloodSegmenter(), index=index)
    write(tmp_path / "p", ["x.png", "y.png", "z.png"])
    with pytest.raises(ModelMissingError):
        ingest_into(
            index,
            Missing(),
            SOURCE.list([str(tmp_path / "p")]).uris,
            source=SOURCE,
            profile="offline",
            options=IngestOptions(max_pixels=10**8, max_bytes=10**8),
        )


def test_a_fault_that_hits_every_picture_stops_the_run_with_one_line(tmp_path: Path) -> None:
    fails = FailingSegmenter(raising(RuntimeError("a bug")))
    one_less = [f"bad{number:02}.png" for number in range(FAILURES_IN_A_ROW - 1)]
    write(tmp_path / "p", [*one_less, "good.png", *(f"later-{name}" for name in one_less)])
    for name in one_less:
        (tmp_path / "p" / f"later-{name}").rename(tmp_path / "p" / f"z{name}")
    assert ingest(tmp_path / "p", fails).counts[Outcome.FAILED] == FAILURES_IN_A_ROW - 1

    write(tmp_path / "q", [f"bad{number:02}.png" for number in range(FAILURES_IN_A_ROW + 5)])
    with pytest.raises(ModelError) as stopped:
        ingest(tmp_path / "q", fails)
    assert str(stopped.value).startswith(f"stopped: a model failed on {FAILURES_IN_A_ROW} pictures in a row")
    assert "RuntimeError: a bug" in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_a_picture_on_which_an_embedder_fails_is_missing_from_a_reembedding(tmp_path: Path) -> None:
    write(tmp_path / "p", ["a.png", "bad.png", "c.png"])
    index, seen = MemoryIndex(), []
    ingest(tmp_path / "p", FloodSegmenter(), index=index)
    embedding = Embedding(FailingEmbedder(raising(RuntimeError("no"))))
    options = ReembedOptions(max_pixels=10**6)
    rehearse_reembedding(index, embedding, source=SOURCE, profile="offline", options=options)
    report = reembed_index(
        index,
        embedding,
        source=SOURCE,
        profile="offline",
        options=options,
        on_image=lambda record, problem: seen.append(problem),
    )

    assert report.embedded == 2
    assert report.index is None
    assert [one.reason for one in report.missing] == [
        f"{tmp_path / 'p' / 'bad.png'}: a model failed on it: RuntimeError: no"
    ]
    assert len(seen) == 3


@pytest.mark.promise(
    "Ingest", "A picture of a shape that no model can look at is refused before it is decoded."
)
@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((1, 50_000_000), "1 x 50,000,000 pixels, more than the 65,535 allowed for one side"),
        ((2_000_000, 1), "2,000,000 x 1 pixels, more than the 65,535 allowed for one side"),
        ((MAX_SIDE_PX, 1), "one side is more than 4,000 times as long as the other"),
        ((1, MAX_RATIO + 1), "one side is more than 4,000 times as long as the other"),
    ],
)
def test_a_shape_that_no_model_can_look_at_is_too_large(
    size: tuple[int, int], says: str, tmp_path: Path, tried: Tried
) -> None:
    write(tmp_path / "p", ["a.png", "c.png"])
    Image.new("1", size).save(tmp_path / "p" / "b.png")
    report = ingest(tmp_path / "p", FloodSegmenter())

    assert outcomes(report) == {"a.png": "added", "b.png": "too_large", "c.png": "added"}
    assert says in report.files[1].detail
    tried(1, f"picture of {size[0]:,} x {size[1]:,} pixels among others")


def test_a_shape_at_the_limit_is_ingested(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    Image.new("RGB", (MAX_RATIO * 2, 2), (30, 160, 60)).save(tmp_path / "p" / "wide.png")
    Image.new("RGB", (17, MAX_SIDE_PX), (30, 160, 60)).save(tmp_path / "p" / "tall.png", compress_level=1)
    report = ingest(tmp_path / "p", FloodSegmenter())

    assert set(outcomes(report).values()) <= {"added", "no_segments"}
