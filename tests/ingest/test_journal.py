"""Which pictures are suspects after a death, and what a run does with them."""

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from tests.needs import ROOT

from segdex_core.errors import ImageCrashedError
from segdex_ingest.journal import Journal

RECIPE = "0" * 16


def die_at(folder: Path, *ids: UUID, stops: bool = False, recipe: str = RECIPE) -> None:
    """Let another process be killed while it is at some pictures."""
    code = (
        "import os; from contextlib import ExitStack; from pathlib import Path; from uuid import UUID\n"
        "from segdex_ingest.journal import Journal\n"
        f"journal = Journal(lambda: Path({str(folder)!r}))\n"
        f"with journal.run({recipe!r}) as run, ExitStack() as stack:\n"
        f"    for one in {[str(one) for one in ids]!r}: stack.enter_context(run.at(UUID(one), one))\n"
        f"    {'journal.stopping()' if stops else 'pass'}\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    died = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL


def left_out(folder: Path, *ids: UUID, recipe: str = RECIPE) -> list[bool]:
    """Return for each picture whether a run leaves it out; it is interrupted at the others."""
    found = []
    for one in ids:
        try:
            with Journal(lambda: folder).run(recipe) as run, run.at(one, "x.jpg"):
                run.stop()
                found.append(False)
        except ImageCrashedError:
            found.append(True)
    return found


def test_a_picture_is_left_out_after_the_second_death_only(tmp_path: Path) -> None:
    one, other = uuid4(), uuid4()
    die_at(tmp_path, one)
    assert left_out(tmp_path, one, other) == [False, False]
    die_at(tmp_path, one)

    assert left_out(tmp_path, one, other) == [True, False]
    assert left_out(tmp_path, one, recipe="1" * 16) == [False]
    with (
        Journal(lambda: tmp_path).run(RECIPE) as run,
        pytest.raises(ImageCrashedError) as refused,
        run.at(one, "x.jpg"),
    ):
        pass
    said = str(refused.value)
    assert said.startswith("x.jpg: segdex ended 2 times while it was at this picture")
    assert str(tmp_path / "crashed.json") in said
    (tmp_path / "crashed.json").unlink()
    assert left_out(tmp_path, one) == [False]


def test_a_suspect_that_is_analysed_or_refused_is_one_no_more(tmp_path: Path) -> None:
    one, other = uuid4(), uuid4()
    die_at(tmp_path, one, other)
    with Journal(lambda: tmp_path).run(RECIPE) as run:
        with run.at(one, "one"):
            pass
        with pytest.raises(ValueError, match="no picture"), run.at(other, "other"):
            raise ValueError("no picture")
    die_at(tmp_path, one)

    assert left_out(tmp_path, one, other) == [False, False]


def test_a_suspect_runs_alone(tmp_path: Path) -> None:
    suspects = {uuid4(), uuid4()}
    for suspect in suspects:
        die_at(tmp_path, suspect)
    inside: set[UUID] = set()
    lock = threading.Lock()

    with Journal(lambda: tmp_path).run(RECIPE) as run:

        def analyse(one: UUID) -> list[int]:
            with run.at(one, "x"):
                with lock:
                    inside.add(one)
                counts = []
                for _ in range(5):
                    time.sleep(0.001)
                    counts.append(len(inside))
                with lock:
                    inside.remove(one)
            return counts

        ids = [uuid4() for _ in range(20)]
        ids[5:5] = suspects
        with ThreadPoolExecutor(6) as threads:
            counts = dict(zip(ids, threads.map(analyse, ids), strict=True))

    assert all(counts[one] == [1] * 5 for one in suspects)
    assert max(max(one) for one in counts.values()) > 1


def test_a_stopped_or_ended_or_running_run_leaves_no_suspect(tmp_path: Path) -> None:
    one = uuid4()
    die_at(tmp_path, one, stops=True)
    die_at(tmp_path, one, stops=True)
    for _ in range(2):
        with (
            pytest.raises(KeyboardInterrupt),
            Journal(lambda: tmp_path).run(RECIPE) as run,
            run.at(one, "x"),
        ):
            raise KeyboardInterrupt
    with Journal(lambda: tmp_path).run(RECIPE) as running, running.at(one, "x"):
        for _ in range(2):
            with Journal(lambda: tmp_path).run(RECIPE):  # which sees the file of the other
                pass

    assert left_out(tmp_path, one) == [False]
    assert not list(tmp_path.glob("*.open"))


def test_a_restart_of_the_machine_is_no_death(tmp_path: Path) -> None:
    one = uuid4()
    for number in range(2):
        (tmp_path / f"{number}.open").write_text(
            f'{{"boot": "another", "open": {{"{one} {RECIPE}": "x"}}}}\n'
        )

    assert left_out(tmp_path, one) == [False]
    assert not list(tmp_path.glob("*.open"))


@pytest.mark.parametrize("damaged", [b"", b"\xff{", b'{"by_key": 3}', b"[]"])
def test_a_damaged_journal_stops_nothing(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "crashed.json").write_bytes(damaged)
    (tmp_path / "1.open").write_bytes(damaged)

    assert left_out(tmp_path, uuid4()) == [False]


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert left_out(tmp_path / "file" / "below", uuid4()) == [False]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
