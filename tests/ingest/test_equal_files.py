"""Thousands of equal files cost about what thousands of different ones do, and every file has its outcome."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import Tried
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex.render.results import image_out
from segdex.usecases.manage import delete_images, sync_index
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import IndexUnavailableError
from segdex_core.media.uris import path_to_uri, uri_to_path
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import ImageRecord
from segdex_ingest.analyse import Recipe
from segdex_ingest.ledger import Ledger
from segdex_ingest.plan import plan_ingest
from segdex_ingest.report import FileOutcome, IngestReport, Outcome
from segdex_ingest.run import IngestOptions, ingest_into, rehearse

RECIPE = Recipe(FloodSegmenter(), ColourEmbedder(), replace(SMALL_FRAME, points_per_side=2, crop_layers=0))
OPTIONS = IngestOptions(max_pixels=10_000, max_bytes=1_000_000)
ROW = bytes([255, 255, 255]) * 4
RED, BLUE = (b"P6 8 8 255\n" + (bytes(colour) * 4 + ROW) * 8 for colour in ([220, 30, 30], [30, 60, 220]))


class CountingSource(FileSource):
    """Counts how often it is asked whether a file exists."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def exists(self, uri: str) -> bool:
        self.asked += 1
        return super().exists(uri)


class CountingIndex(MemoryIndex):
    """Counts the files in the records that are written, and may fail at a write."""

    def __init__(self) -> None:
        super().__init__()
        self.files_written = self.updates = 0
        self.fails_at: int | None = None

    def update_image(self, record: ImageRecord) -> ImageRecord:
        self.updates += 1
        if self.updates == self.fails_at:
            raise IndexUnavailableError("memory does not answer")
        self.files_written += len(record.files)
        return super().update_image(record)


def fill(folder: Path, count: int, data: bytes = RED, *, mtime_s: int = 1) -> list[str]:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        path = folder / f"{number:05}.ppm"
        path.write_bytes(data)
        os.utime(path, (mtime_s, mtime_s))
    return [path_to_uri(path) for path in sorted(folder.iterdir())]


def ingest(index: SegmentIndex, uris: Sequence[str], source: FileSource, *tags: str) -> IngestReport:
    options = replace(OPTIONS, tags=tags)
    return ingest_into(index, RECIPE, uris, source=source, profile="test", options=options)


def rehearsed(index: SegmentIndex, uris: Sequence[str], source: FileSource) -> list[FileOutcome]:
    ledger = Ledger(index.scroll_images() if index.fingerprint() else ())
    plan = plan_ingest(uris, source=source, ledger=ledger, recipe=RECIPE.fingerprint())
    return list(rehearse(plan, source=source, ledger=ledger, options=OPTIONS).files)


def said(files: Sequence[FileOutcome]) -> list[tuple[str, Outcome, str]]:
    return [(file.uri, file.outcome, file.detail) for file in files]


@pytest.mark.promise("Ingest", "Many equal files cost about as much as many different ones.")
def test_equal_files_are_looked_at_and_written_a_few_times_each(tmp_path: Path, tried: Tried) -> None:
    count = 400
    uris = fill(tmp_path / "in", count)
    index, source = CountingIndex(), CountingSource()
    expected = said(rehearsed(index, uris, source))
    source.asked = 0

    report = ingest(index, uris, source)

    assert said(report.files) == expected
    assert report.counts[Outcome.ADDED] == 1
    assert report.counts[Outcome.UNCHANGED] == count - 1
    assert source.asked <= 2 * count
    assert index.files_written <= 8 * count
    [record] = index.scroll_images()
    assert [file.uri for file in record.files] == uris
    [segment, *_] = index.scroll_segments()
    assert set(uris) <= set(segment.sources)

    source.asked = index.files_written = 0
    again = ingest(index, uris, source)
    assert again.counts[Outcome.UNCHANGED] == count
    assert (source.asked, index.files_written) == (0, 0)
    ingest(index, uris, source, "tag")
    assert index.files_written <= 2 * count
    tried(count, "equal files")


def test_equal_files_that_are_all_replaced_or_renamed_leave_one_picture(tmp_path: Path) -> None:
    count = 200
    uris = fill(tmp_path / "in", count)
    index, source = CountingIndex(), CountingSource()
    ingest(index, uris, source)

    index.files_written = 0
    (tmp_path / "in").rename(tmp_path / "moved")
    moved = [path_to_uri(path) for path in sorted((tmp_path / "moved").iterdir())]
    report = ingest(index, moved, source)
    assert report.counts[Outcome.RENAMED] == 1
    assert report.counts[Outcome.UNCHANGED] == count - 1
    [record] = index.scroll_images()
    assert [file.uri for file in record.files] == moved
    assert index.files_written <= 8 * count

    index.files_written = 0
    fill(tmp_path / "moved", count, BLUE, mtime_s=2)
    expected = said(rehearsed(index, moved, source))
    report = ingest(index, moved, source)
    assert said(report.files) == expected
    assert report.counts[Outcome.REPLACED] == count
    [record] = index.scroll_images()
    assert [file.uri for file in record.files] == moved
    assert len({segment.image_id for segment in index.scroll_segments()}) == 1
    assert index.files_written <= 16 * count


def test_a_run_that_is_killed_before_it_wrote_all_places_is_completed_by_the_next(tmp_path: Path) -> None:
    uris = fill(tmp_path / "in", 100)
    source = CountingSource()
    whole = CountingIndex()
    ingest(whole, uris, source)
    assert whole.updates > 5

    for fails_at in range(1, whole.updates + 1):
        index = CountingIndex()
        index.fails_at = fails_at
        with pytest.raises(IndexUnavailableError):
            ingest(index, uris, source)
        index.fails_at = None
        report = ingest(index, uris, source)
        assert len(report.files) == 100
        assert list(index.scroll_images()) == list(whole.scroll_images())
        assert list(index.scroll_segments()) == list(whole.scroll_segments())


def test_a_picture_that_is_deleted_while_its_places_are_gathered_is_ingested_again(tmp_path: Path) -> None:
    uris = fill(tmp_path / "in", 60)
    index, source = CountingIndex(), CountingSource()
    done: list[str] = []

    def on_file(file: FileOutcome) -> None:
        done.append(file.uri)
        if len(done) == 50:
            [record] = index.scroll_images()
            index.delete_image(record.image_id)

    report = ingest_into(index, RECIPE, uris, source=source, profile="test", options=OPTIONS, on_file=on_file)

    assert done == uris
    assert [file.uri for file in report.files] == uris
    assert report.counts[Outcome.ADDED] == 2
    [record] = index.scroll_images()
    assert set(uris[49:]) <= {file.uri for file in record.files}
    ingest(index, uris, source)
    [record] = index.scroll_images()
    assert [file.uri for file in record.files] == uris


Verbs = dict[str, Callable[[], object]]


def cpu_s(index: SegmentIndex, uris: Sequence[str]) -> dict[str, float]:
    """Return the CPU seconds of each verb on files."""
    source, eighth = FileSource(), [str(uri_to_path(uri)) for uri in uris[: len(uris) // 8]]
    verbs: Verbs = {
        "rehearse": lambda: rehearsed(index, uris, source),
        "ingest": lambda: ingest(index, uris, source),
        "again": lambda: ingest(index, uris, source),
        "tag": lambda: ingest(index, uris, source, "tag"),
        "sync": lambda: sync_index(index, source=source, dry_run=False, force=False),
        "show": lambda: [image_out(record) for record in index.scroll_images()],
        "delete": lambda: delete_images(index, eighth),
    }
    took = {}
    for name, verb in verbs.items():
        start = time.process_time()
        verb()
        took[name] = time.process_time() - start
    return took


def opened(kind: str, folder: Path) -> SegmentIndex:
    return MemoryIndex() if kind == "memory" else QdrantIndex(EdgeStore(folder, create=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "edge"])
def test_the_cost_of_a_file_does_not_grow_with_its_copies(kind: str, tmp_path: Path) -> None:
    """In CPU seconds, as ratios: eight times the files take about eight times as long, and no square."""
    took = {
        count: cpu_s(opened(kind, tmp_path / f"index-{count}"), fill(tmp_path / str(count), count))
        for count in SIZES
    }

    few, many = SIZES[0], SIZES[-1]
    for verb in took[many]:
        # a square would take eight times as long again; a busy machine doubles some
        assert took[many][verb] < 4 * many / few * max(took[few][verb], 0.1), verb


SIZES = (500, 1_000, 4_000)
