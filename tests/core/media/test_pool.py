"""Files that break a limit, crash or hang their decoder end only themselves."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from tests.conftest import Tried
from tests.fakes.hostile_decoder import MODULE
from tests.needs import ROOT
from tests.waiting import wait_until

from segdex_core.errors import (
    DecodersUnavailableError,
    ImageError,
    ImageTooLargeError,
    ImageUnreadableError,
    NotAnImageError,
)
from segdex_core.media.decode import decode_image
from segdex_core.media.pool import DecodePool
from segdex_core.media.worker_messages import receive_answer, send_answer
from segdex_core.media.worker_process import DecodeLimits, WorkerProcess

LIMITS = DecodeLimits(processes=1, cpu_s=1, memory_mib=600, wall_s=120.0)


@pytest.fixture
def hostile() -> Iterator[DecodePool]:
    """A pool of one process, where each file says what its decoder does."""
    pool = DecodePool(LIMITS, start=partial(WorkerProcess, decode=MODULE))
    yield pool
    pool.close()


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    """A pool of two processes that decode real files."""
    pool = DecodePool(DecodeLimits(processes=2, cpu_s=60, memory_mib=1_024, wall_s=120.0))
    yield pool
    pool.close()


def ask(pool: DecodePool, text: str) -> int:
    """Return the id of the process that decoded a text."""
    image = pool(text.encode("latin-1"), name="f.x", max_pixels=10**9)
    assert bytes(image.pixels[0, :, 0]).decode("latin-1") == text
    assert image.captured_s is not None
    return int(image.captured_s)


@pytest.mark.promise("Pictures", "A picture that crashes, stops or overfills its decoder ends only itself.")
def test_a_file_that_ends_its_decoder_ends_only_itself(hostile: DecodePool, tried: Tried) -> None:
    bad = {
        f"signal {signal.SIGSEGV.value}": (ImageUnreadableError, "f.x: ended its decoder (SIGSEGV)"),
        f"signal {signal.SIGABRT.value}": (ImageUnreadableError, "f.x: ended its decoder (SIGABRT)"),
        f"signal {signal.SIGKILL.value}": (ImageUnreadableError, "f.x: ended its decoder (SIGKILL)"),
        "spin": (
            ImageUnreadableError,
            "f.x: took more than the 1 s of CPU time that SEGDEX_DECODE_CPU_S allows",
        ),
        f"allocate {1 << 30}": (
            ImageTooLargeError,
            "f.x: needs more than the 600 MiB of memory that SEGDEX_DECODE_MEMORY_MIB allows",
        ),
        "library": (
            ImageTooLargeError,
            "f.x: needs more than the 600 MiB of memory that SEGDEX_DECODE_MEMORY_MIB allows",
        ),
        "unreadable": (ImageUnreadableError, "f.x: "),
    }

    for text, (kind, message) in bad.items():
        with pytest.raises(kind) as refused:
            ask(hostile, text)
        assert type(refused.value) is kind
        assert str(refused.value) == message
        ask(hostile, "the next file")

    tried(len(bad), "ways to end a decoder")


@pytest.mark.parametrize("text", [f"signal {signal.SIGSEGV.value}", f"allocate {1 << 30}", "raise y"])
def test_a_name_that_cannot_be_printed_is_in_no_message(hostile: DecodePool, text: str) -> None:
    with pytest.raises(ImageError) as refused:
        hostile(text.encode("latin-1"), name="f\n\udcff.x", max_pixels=10**9)

    assert str(refused.value).startswith("f\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.x: ")


def test_a_hanging_decoder_is_ended_by_the_clock() -> None:
    limits = DecodeLimits(processes=1, cpu_s=60, memory_mib=600, wall_s=1.0)
    pool = DecodePool(limits, start=partial(WorkerProcess, decode=MODULE))

    with pytest.raises(ImageUnreadableError, match=r"f\.x: took more than the 1 s that SEGDEX_DECODE_WALL_S"):
        ask(pool, "hang")

    ask(pool, "the next file")
    pool.close()


def test_one_process_is_used_for_many_files(hostile: DecodePool) -> None:
    workers = {ask(hostile, f"{'x' * number}") for number in range(1, 20)}
    with pytest.raises(ImageUnreadableError):
        ask(hostile, "unreadable")

    assert workers == {ask(hostile, "x")} == set(hostile.pids)


def test_the_cpu_seconds_of_earlier_files_do_not_count(hostile: DecodePool) -> None:
    workers = {ask(hostile, f"burn {0.6 * LIMITS.cpu_s}") for _ in range(4)}

    assert len(workers) == 1


@pytest.mark.promise("Pictures", "A decoder that is killed from outside loses no picture.")
def test_a_file_whose_decoder_was_killed_is_decoded_by_another(
    hostile: DecodePool, tmp_path: Path, tried: Tried
) -> None:
    first = ask(hostile, "x")
    os.kill(first, signal.SIGKILL)
    psutil.Process(first).wait()
    second = ask(hostile, "idle when it was killed")
    ask(hostile, f"first {tmp_path / 'killed'}")

    assert len({first, second, ask(hostile, "x")}) == 3
    tried(2, "killed decoders")


def test_an_error_that_no_decoder_should_raise_is_the_outcome_of_one_file(hostile: DecodePool) -> None:
    with pytest.raises(ImageUnreadableError, match=r"does not know: KeyError: 'y'"):
        ask(hostile, "raise y")

    ask(hostile, "the next file")


def test_the_answers_are_those_of_the_decoder_itself(pool: DecodePool, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "2020:02:03 04:05:06"
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0), 3: "W", 4: (4.0, 5.0, 6.0)})
    rows = np.arange(50 * 70 * 3, dtype=np.uint8).reshape(50, 70, 3)
    Image.fromarray(rows).save(path, exif=exif)
    here = decode_image(path.read_bytes(), name="a", max_pixels=5_000)
    there = pool(path.read_bytes(), name="a", max_pixels=5_000)

    assert here.captured_s is not None
    assert here.place_lat_lon is not None
    assert np.array_equal(here.pixels, there.pixels)
    assert there.pixels.flags.writeable
    assert there.pixels.flags.c_contiguous
    others = ("format_name", "captured_s", "place_lat_lon")
    assert [getattr(there, one) for one in others] == [getattr(here, one) for one in others]
    for data, limit in (
        (b"", 10),
        (b"no picture", 10),
        (path.read_bytes()[:-900], 5_000),
        (path.read_bytes(), 9),
    ):
        with pytest.raises(Exception) as expected:  # noqa: PT011 - compared below
            decode_image(data, name="a\n\udcff", max_pixels=limit)
        with pytest.raises(type(expected.value)) as found:
            pool(data, name="a\n\udcff", max_pixels=limit)
        assert str(found.value) == str(expected.value)


def test_threads_share_the_processes_and_get_their_own_pixels(pool: DecodePool, tmp_path: Path) -> None:
    files = []
    for number in range(24):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (10 + 5 * (number % 7), 20), (number, 0, 255 - number)).save(path)
        files.append(path.read_bytes())
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda data: pool(data, name="n", max_pixels=10**6).pixels, files))

    for number, pixels in enumerate(found):
        assert pixels.shape == (20, 10 + 5 * (number % 7), 3)
        assert (pixels == (number, 0, 255 - number)).all()
    assert 1 <= len(pool.pids) <= 2


def test_a_large_picture_and_then_small_ones_are_right(pool: DecodePool, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (6_000, 4_000), 7).save(path, compress_level=1)
    for _ in range(2):
        assert (pool(path.read_bytes(), name="n", max_pixels=10**8).pixels == 7).all()
        with pytest.raises(NotAnImageError) as refusal:
            pool(b"small", name="n", max_pixels=10)
        assert refusal.value.kind is None
        with pytest.raises(NotAnImageError) as refusal:
            pool(b"%PDF-1.7", name="n", max_pixels=10)
        assert refusal.value.kind == "pdf"


def test_closing_ends_every_process_and_calls_after_it_fail(pool: DecodePool) -> None:
    with pytest.raises(NotAnImageError):
        pool(b"x", name="n", max_pixels=1)
    [pid] = pool.pids
    pool.close()
    pool.close()

    assert not psutil.pid_exists(pid)
    with pytest.raises(DecodersUnavailableError, match="were closed"):
        pool(b"x", name="n", max_pixels=1)


def test_closing_ends_a_call_that_runs(hostile: DecodePool) -> None:
    outcomes: list[BaseException] = []

    def run() -> None:
        try:
            ask(hostile, "hang")
        except BaseException as error:  # noqa: BLE001 - compared below
            outcomes.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: len(hostile.pids) == 1, what="a process runs")
    hostile.close()
    thread.join()

    assert [type(one) for one in outcomes] == [DecodersUnavailableError]


def test_where_no_process_can_be_made_one_line_says_what_to_do() -> None:
    def refuse(_: DecodeLimits) -> WorkerProcess:
        raise DecodersUnavailableError("no")

    with pytest.raises(DecodersUnavailableError):
        DecodePool(LIMITS, start=refuse)(b"x", name="n", max_pixels=1)

    with pytest.raises(DecodersUnavailableError) as refused:
        WorkerProcess(LIMITS, decode="tests.no_such_module:decode")
    assert "SEGDEX_DECODE_PROCESSES=0" in str(refused.value)
    assert "exit code 1" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_where_no_python_can_be_started_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(DecodersUnavailableError, match="No such file or directory"):
        WorkerProcess(LIMITS)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 3",)


def test_an_answer_of_a_worker_cannot_run_code() -> None:
    here, there = socket.socketpair()
    with here, there:
        send_answer(there, ("decoded", _Code()))
        with pytest.raises(pickle.UnpicklingError, match="is not allowed"):
            receive_answer(here)
        send_answer(there, ("decoded", ((1, 2, 3), {"captured_s": None, "place_lat_lon": (1.0, 2.0)})))
        assert receive_answer(here)[0] == "decoded"


def test_where_no_further_process_can_be_made_the_others_go_on() -> None:
    started = threading.Event()

    def once(limits: DecodeLimits) -> WorkerProcess:
        if started.is_set():
            raise DecodersUnavailableError("no")
        started.set()
        return WorkerProcess(limits, decode=MODULE)

    pool = DecodePool(DecodeLimits(processes=4, cpu_s=60, memory_mib=600, wall_s=120.0), start=once)
    with ThreadPoolExecutor(4) as threads:
        workers = list(threads.map(lambda number: ask(pool, "x" * number), range(1, 20)))
    pool.close()

    assert len(set(workers)) == 1


@pytest.mark.promise(
    "Pictures", "No decoder outlives the process that it works for, even when that is killed."
)
@pytest.mark.parametrize("busy", ["spin", "hang", "x"])
def test_workers_end_with_a_killed_parent(busy: str, tried: Tried) -> None:
    code = (
        "import sys, threading; from functools import partial; from tests.core.media.test_pool import *\n"
        "limits = DecodeLimits(processes=1, cpu_s=600, memory_mib=600, wall_s=600.0)\n"
        "pool = DecodePool(limits, start=partial(WorkerProcess, decode=MODULE))\n"
        "ask(pool, 'x'); print(pool.pids[0], flush=True)\n"
        f"ask(pool, {busy!r}); threading.Event().wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()

    wait_until(
        lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE,
        what="the decoder has ended",
    )
    tried(1, f"killed process with a decoder that does: {busy}")
