"""An ingest whose decoders are killed, or that meets files that end them, ends as an undisturbed one."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
from PIL import Image
from tests.conftest import Tried
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.hostile_decoder import MODULE, SIGNATURE
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import DecodersUnavailableError
from segdex_core.media.decode import decode_image
from segdex_core.media.pool import DecodePool
from segdex_core.media.uris import uri_to_path
from segdex_core.media.worker_process import DecodeLimits, WorkerProcess
from segdex_core.ports.decoder import Decode
from segdex_ingest.analyse import Recipe
from segdex_ingest.report import IngestReport
from segdex_ingest.run import IngestOptions, ingest_into

SOURCE = FileSource()
LIMITS = DecodeLimits(processes=2, cpu_s=60, memory_mib=1_024, wall_s=120.0)
SETTINGS = replace(SMALL_FRAME, points_per_side=2, crop_layers=0)


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(LIMITS)
    yield pool
    pool.close()


def ingest(folder: Path, index: MemoryIndex, decode: Decode) -> IngestReport:
    """Ingest a folder with three analyses at a time."""
    return ingest_into(
        index,
        Recipe(FloodSegmenter(), ColourEmbedder(), SETTINGS),
        SOURCE.list([str(folder)]).uris,
        source=SOURCE,
        profile="offline",
        options=IngestOptions(max_pixels=10**8, max_bytes=10**8, analysis_threads=3, decode=decode),
    )


def outcomes(report: IngestReport) -> dict[str, str]:
    """Return the outcome of each file by its name."""
    return {uri_to_path(file.uri).name: file.outcome.value for file in report.files}


@pytest.mark.promise("Ingest", "Decoders that are killed at random moments during an ingest lose no picture.")
def test_decoders_killed_at_random_moments_lose_nothing(
    pool: DecodePool, tmp_path: Path, tried: Tried
) -> None:
    count, random = 120, Random(7)
    kills: list[int] = []
    for number in range(count):
        picture = Image.new("RGB", (60, 40), (number, 200, 255 - number))
        picture.paste((number, 30, 30), (20, 10, 40, 30))
        picture.save(tmp_path / f"{number:03}.png")
    undisturbed, disturbed = MemoryIndex(), MemoryIndex()
    ingest(tmp_path, undisturbed, decode_image)
    ended = threading.Event()

    def kill_some() -> None:
        while len(kills) < 12 and not ended.wait(random.uniform(0.01, 0.2)):
            pids = pool.pids
            if pids:
                with suppress(ProcessLookupError):
                    os.kill(random.choice(pids), signal.SIGKILL)
                    kills.append(1)

    killer = threading.Thread(target=kill_some)
    killer.start()
    report = ingest(tmp_path, disturbed, pool)
    ended.set()
    killer.join()

    assert len(kills) >= 2
    assert outcomes(report) == {f"{number:03}.png": "added" for number in range(count)}
    assert [replace(one, revision=0) for one in disturbed.scroll_images()] == [
        replace(one, revision=0) for one in undisturbed.scroll_images()
    ]
    assert list(disturbed.scroll_segments()) == list(undisturbed.scroll_segments())
    tried(len(kills), f"decoders killed in an ingest of {count} pictures")


def test_files_that_end_their_decoder_are_outcomes_and_the_run_goes_on(tmp_path: Path) -> None:
    pool = DecodePool(replace(LIMITS, cpu_s=1), start=partial(WorkerProcess, decode=MODULE))
    for name, text in {
        "a": "good picture of some bytes",
        "b": f"signal {signal.SIGSEGV.value}",
        "c": f"allocate {2 << 30}",
        "d": "another good one",
    }.items():
        (tmp_path / f"{name}.jpg").write_bytes(SIGNATURE + text.encode())
    report = ingest(tmp_path, MemoryIndex(), pool)
    pool.close()

    assert outcomes(report)["b.jpg"] == "unreadable"
    assert outcomes(report)["c.jpg"] == "too_large"
    assert {outcomes(report)[f"{name}.jpg"] for name in "ad"} <= {"added", "no_segments"}


def test_where_no_process_can_be_made_the_run_ends_with_one_line(tmp_path: Path) -> None:
    def refuse(_: DecodeLimits) -> WorkerProcess:
        raise DecodersUnavailableError("no process can be made")

    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    with pytest.raises(DecodersUnavailableError, match="no process can be made"):
        ingest(tmp_path, MemoryIndex(), DecodePool(LIMITS, start=refuse))
