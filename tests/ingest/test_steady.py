"""What is recorded of a file belongs to the bytes that were read, whatever happens to the file meanwhile."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.conftest import Tried
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import ImageUnreadableError
from segdex_core.media.uris import path_to_uri, uri_to_path
from segdex_core.ports.source import FileVersion
from segdex_ingest.analyse import Recipe
from segdex_ingest.report import FileOutcome, IngestReport, Outcome
from segdex_ingest.run import IngestOptions, ingest_into
from segdex_ingest.steady import SECOND_NS, TICK_NS, read_steady

RECIPE = Recipe(FloodSegmenter(), ColourEmbedder(), replace(SMALL_FRAME, points_per_side=2, crop_layers=0))
COLOURS = [(220, 30, 30), (30, 160, 60), (30, 60, 220), (240, 220, 40)]


def picture(number: int) -> bytes:
    """Return the file of a picture whose left half has a colour."""
    return b"P6 8 8 255\n" + (bytes(COLOURS[number]) * 4 + b"\xff" * 12) * 8


class ChangingSource(FileSource):
    """Lets something happen to a file after each of the first reads."""

    def __init__(self, *happens: Callable[[Path], object]) -> None:
        super().__init__()
        self._happens = list(happens)

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        data = super().read(uri, max_bytes=max_bytes)
        if self._happens:
            self._happens.pop(0)(uri_to_path(uri))
        return data


def write(number: int) -> Callable[[Path], None]:
    def do(path: Path) -> None:
        path.write_bytes(picture(number))

    return do


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def vanish(path: Path) -> None:
    path.unlink()


def ingest(
    index: MemoryIndex,
    folder: Path,
    source: FileSource,
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> IngestReport:
    return ingest_into(
        index,
        RECIPE,
        [path_to_uri(path) for path in sorted(folder.iterdir())],
        source=source,
        profile="test",
        options=IngestOptions(max_pixels=10_000, max_bytes=100_000, decode_threads=1),
        on_file=on_file,
    )


@pytest.mark.promise("Ingest", "A file that changes or vanishes while it is read ends in one named outcome.")
@pytest.mark.parametrize(
    ("happens", "outcome"),
    [
        ([write(1)], Outcome.ADDED),
        ([grow], Outcome.ADDED),
        ([write(1), write(2)], Outcome.UNREADABLE),
        ([vanish], Outcome.UNREADABLE),
    ],
)
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, happens: list[Callable[[Path], object]], outcome: Outcome
) -> None:
    folder, index = tmp_path / "in", MemoryIndex()
    folder.mkdir()
    (folder / "a.ppm").write_bytes(picture(0))

    [file] = ingest(index, folder, ChangingSource(*happens)).files

    assert file.outcome == outcome
    if outcome is Outcome.UNREADABLE:
        assert "changes while it is read" in file.detail or "No such file" in file.detail
        assert index.counts().images == 0
        return
    [record] = index.scroll_images()
    assert record.size_bytes == (folder / "a.ppm").stat().st_size
    [again] = ingest(index, folder, FileSource()).files
    assert again.outcome is Outcome.UNCHANGED


class Clock:
    """A clock that only moves when somebody waits, and a file that is written at its times."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


class ClockedSource(FileSource):
    def __init__(self, clock: Clock, versions: list[tuple[int, FileVersion, bytes]]) -> None:
        super().__init__()
        self._clock, self._versions = clock, versions

    def _now(self) -> tuple[FileVersion, bytes]:
        return next(one[1:] for one in reversed(self._versions) if one[0] <= self._clock.now_ns)

    def version(self, uri: str) -> FileVersion:
        return self._now()[0]

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        return self._now()[1]


@pytest.mark.parametrize(("tick_ns", "start_ns"), [(TICK_NS, 10**12 + 1), (SECOND_NS, 10**12)])
def test_a_second_change_in_the_tick_of_the_first_is_not_missed(tick_ns: int, start_ns: int) -> None:
    clock, version = Clock(start_ns), FileVersion(3, start_ns)
    # written again with the same size and time, after another program might have read it
    source = ClockedSource(clock, [(0, version, b"old"), (start_ns + tick_ns // 2, version, b"new")])

    found = read_steady(
        "file:///a", source=source, max_bytes=9, clock_ns=lambda: clock.now_ns, sleep=clock.sleep
    )

    assert found == (version, b"new")


def test_a_time_in_the_future_is_taken_as_it_is() -> None:
    clock, version = Clock(10**12), FileVersion(3, 10**15)
    source = ClockedSource(clock, [(0, version, b"old")])

    found = read_steady(
        "file:///a", source=source, max_bytes=9, clock_ns=lambda: clock.now_ns, sleep=clock.sleep
    )

    assert found == (version, b"old")
    assert clock.now_ns == 10**12


def test_a_file_that_is_shorter_than_its_size_is_not_taken() -> None:
    source = ClockedSource(Clock(1), [(0, FileVersion(4, 0), b"old")])

    with pytest.raises(ImageUnreadableError, match="changes while it is read"):
        read_steady("file:///a", source=source, max_bytes=9)


class AtFile:
    """Does something once, after so many files."""

    def __init__(self, number: int, do: Callable[[], object]) -> None:
        self._left, self._do = number, do

    def __call__(self, file: FileOutcome) -> None:
        self._left -= 1
        if self._left == 0:
            self._do()


@pytest.mark.promise("Ingest", "Two ingests of one folder at once leave what one leaves.")
def test_two_ingests_of_one_folder_at_once_leave_what_one_leaves(tmp_path: Path, tried: Tried) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.ppm").write_bytes(picture(number))
        (folder / f"{number}-copy.ppm").write_bytes(picture(number))
    alone = MemoryIndex()
    ingest(alone, folder, FileSource())
    expected = list(alone.scroll_images()), list(alone.scroll_segments())

    for moment in range(1, 9):
        index = MemoryIndex()
        other = AtFile(moment, partial(ingest, index, folder, FileSource()))

        report = ingest(index, folder, FileSource(), on_file=other)
        assert (list(index.scroll_images()), list(index.scroll_segments())) == expected
        assert not {one.outcome for one in report.files} - {Outcome.ADDED, Outcome.UNCHANGED}
    tried(8, "moments at which another ingest ran")


def test_a_folder_that_vanishes_during_a_run_leaves_an_outcome_for_each_file(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.ppm").write_bytes(picture(number))
    index = MemoryIndex()
    source = ChangingSource(lambda path: shutil.rmtree(path.parent))

    report = ingest(index, folder, source)

    assert [file.outcome for file in report.files] == [Outcome.UNREADABLE] * 4
    assert index.counts().images == 0
