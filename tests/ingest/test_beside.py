"""Files beside pictures are told by their first bytes, once; whatever changes is looked at again."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Tried
from tests.core.media.making import tiff, tiff_page, tiff_tags
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import ImageGoneError
from segdex_core.media import not_pictures
from segdex_core.media.not_pictures import NotPictures
from segdex_core.media.uris import canonical_uri, uri_to_path
from segdex_ingest.again import read_again
from segdex_ingest.analyse import Recipe
from segdex_ingest.beside import Beside
from segdex_ingest.report import FileOutcome, IngestReport, Outcome
from segdex_ingest.run import IngestOptions, ingest_into
from segdex_ingest.sync import plan_sync

RECIPE = Recipe(FloodSegmenter(), ColourEmbedder(), SMALL_FRAME)
VIDEO = b"\0\0\0\x14ftypqt  \0\0\0\0qt  "


class CountingSource(FileSource):
    """Counts which files are opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.before_read: Callable[[Path], None] = lambda _: None

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        self.opened.append(uri_to_path(uri).name)
        self.before_read(uri_to_path(uri))
        return super().read(uri, max_bytes=max_bytes)


class Desk:
    """A folder with one picture, and files beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "in"
        self.root.mkdir()
        self.memory = NotPictures(root / "memory")
        self.index = MemoryIndex()
        self.source = CountingSource()
        pixels = np.full((30, 30, 3), 255, np.uint8)
        pixels[5:20, 5:20] = (220, 30, 30)
        Image.fromarray(pixels).save(self.root / "picture.png")

    def write(self, name: str, data: bytes = b"{}", *, mtime_s: int = 1_000) -> Path:
        path = self.root / name
        path.write_bytes(data)
        os.utime(path, ns=(mtime_s * 10**9, mtime_s * 10**9))
        return path

    def ingest(
        self, *, named: tuple[Path, ...] = (), on_file: Callable[[FileOutcome], None] = lambda _: None
    ) -> IngestReport:
        """Ingest all files as a new process would; ``source.opened`` are the files that it opens."""
        self.source.opened.clear()
        return ingest_into(
            self.index,
            RECIPE,
            [canonical_uri(path) for path in sorted(self.root.iterdir())],
            source=self.source,
            profile="test",
            options=IngestOptions(max_pixels=10_000, max_bytes=1_000_000),
            beside=Beside(frozenset(map(canonical_uri, named)), self.memory.scan([str(self.root)])),
            on_file=on_file,
        )

    def kinds(self, report: IngestReport) -> dict[str, int]:
        return report.to_document().kinds


@pytest.fixture(name="desk")
def _desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def cpu_s_of(call: Callable[[], IngestReport]) -> tuple[IngestReport, float]:
    before = time.process_time()
    report = call()
    return report, time.process_time() - before


@pytest.mark.promise(
    "Ingest", "A second ingest opens no file again that lies beside the pictures and has not changed."
)
@pytest.mark.parametrize("files", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_second_run_opens_no_file_beside_the_pictures(desk: Desk, tried: Tried, files: int) -> None:
    for number in range(files):
        desk.write(f"{number}.{('json', 'xmp', 'mp4')[number % 3]}", VIDEO if number % 3 == 2 else b"{}")

    first, first_s = cpu_s_of(desk.ingest)
    opened = len(desk.source.opened)
    second, second_s = cpu_s_of(desk.ingest)

    assert opened == files + 1
    assert desk.source.opened == []
    assert first.counts[Outcome.NOT_AN_IMAGE] == second.counts[Outcome.NOT_AN_IMAGE] == files
    assert desk.kinds(first) == desk.kinds(second)
    assert [one.detail for one in first.files[:50]] == [one.detail for one in second.files[:50]]
    print(f"{files} files: {first_s:.2f} s of CPU, then {second_s:.2f} s")  # noqa: T201 - a figure for people
    tried(files, "files beside pictures")


def test_a_file_that_changes_is_looked_at_again(desk: Desk) -> None:
    desk.write("a.txt")
    desk.write("b.txt")
    picture = (desk.root / "picture.png").read_bytes()
    desk.ingest()

    desk.write("a.txt", picture + b"\0", mtime_s=2_000)
    report = desk.ingest()

    assert desk.source.opened == ["a.txt"]
    assert report.counts[Outcome.ADDED] == 1
    assert report.counts[Outcome.NOT_AN_IMAGE] == 1
    desk.write("a.txt", b"no picture any more", mtime_s=3_000)
    assert desk.ingest().counts[Outcome.UNREADABLE] == 1  # the index has a picture there
    assert desk.ingest().counts[Outcome.UNREADABLE] == 1


def test_a_file_that_is_written_while_it_is_read_is_not_remembered(desk: Desk) -> None:
    path = desk.write("a.bin")
    picture = (desk.root / "picture.png").read_bytes()

    def replace(read: Path) -> None:
        if read == path:
            desk.source.before_read = lambda _: None
            desk.write("a.bin", b"still no picture", mtime_s=2_000)

    desk.source.before_read = replace
    assert desk.kinds(desk.ingest()) == {"bin": 1}
    desk.write("a.bin", picture + b"\0", mtime_s=1_000)  # its first time is back

    assert desk.ingest().counts[Outcome.ADDED] == 1


def test_a_file_that_is_named_is_opened_and_named(desk: Desk) -> None:
    path = desk.write("a.json")
    desk.ingest()

    report = desk.ingest(named=(path,))

    assert desk.source.opened == ["a.json"]
    assert report.counts[Outcome.UNREADABLE] == 1


def test_names_of_pictures_are_opened_each_time(desk: Desk) -> None:
    desk.write("empty.jpg", b"")
    desk.ingest()

    report = desk.ingest()

    assert desk.source.opened == ["empty.jpg"]
    assert report.counts[Outcome.UNREADABLE] == 1


def test_a_segdex_that_reads_more_formats_opens_all_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.write("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    desk.ingest()
    monkeypatch.setattr(not_pictures, "recogniser", lambda: "newer")

    report = desk.ingest()

    assert desk.source.opened == ["a.heic"]
    assert desk.kinds(report) == {"heic": 1}


def test_what_a_stopped_run_has_seen_is_remembered(desk: Desk) -> None:
    for number in range(20):
        desk.write(f"{number:02}.json")

    def stop(outcome: FileOutcome) -> None:
        if outcome.uri.endswith("09.json"):
            raise KeyboardInterrupt

    assert desk.ingest(on_file=stop).interrupted
    desk.ingest()

    assert not {f"{number:02}.json" for number in range(10)} & set(desk.source.opened)
    desk.ingest()
    assert desk.source.opened == []


def test_a_video_of_3_gb_costs_kilobytes_and_is_not_too_large(desk: Desk) -> None:
    video = desk.write("long.mov", VIDEO)
    with video.open("r+b") as file:
        file.truncate(3_000_000_000)

    before = bytes_read()
    report = desk.ingest()
    first = bytes_read() - before
    desk.ingest()

    assert desk.kinds(report) == {"mov": 1}
    assert report.counts[Outcome.TOO_LARGE] == 0
    assert first < 1_000_000
    assert desk.source.opened == []


def test_a_raw_file_that_only_its_end_tells_is_read_once(desk: Desk) -> None:
    sensor = [*tiff_tags(640, 480, bits=16, channels=1, photometric=32803)]
    preview = tiff_page(np.zeros((48, 64, 3), np.uint8), (254, 4, (1,)))
    desk.write("a.nef", tiff(preview, (sensor, bytes(640 * 480 * 2)), sub=1))  # its directories come last

    first, second = desk.ingest(), desk.ingest()

    assert desk.kinds(first) == desk.kinds(second) == {"raw": 1}
    assert desk.source.opened == []


def test_a_picture_whose_file_became_a_video_is_not_read_whole_again(desk: Desk) -> None:
    path = desk.root / "picture.png"
    desk.ingest()
    [record] = desk.index.scroll_images()
    path.write_bytes(VIDEO)
    with path.open("r+b") as file:
        file.truncate(3_000_000_000)

    before = bytes_read()
    with pytest.raises(ImageGoneError, match="has changed"):  # as reembed, doctor and cut-outs read it
        read_again(record, source=desk.source, max_pixels=10_000)

    assert bytes_read() - before < 1_000_000
    assert plan_sync(desk.index, source=desk.source).gone == ()


def bytes_read() -> int:
    """Return how many bytes this process has read so far."""
    io = Path("/proc/self/io")
    if not io.exists():
        pytest.skip("the system counts no bytes")
    return int(io.read_text(encoding="ascii").split()[1])
