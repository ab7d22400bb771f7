"""A picture that ends the process of an ingest is left out after the second time; others are ingested."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import Tried
from tests.e2e.dying_ingest import CRASHES, KILLS, WAITS
from tests.needs import ROOT

Colour = tuple[int, int, int]


def write(folder: Path, colours: Mapping[str, Colour]) -> None:
    """Write a picture of a box for each name."""
    folder.mkdir(exist_ok=True)
    for number, (name, colour) in enumerate(colours.items()):
        picture = Image.new("RGB", (60, 40), (20 + number, 20, 20))
        picture.paste(colour, (20, 10, 40, 30))
        picture.save(folder / name)


def start(folder: Path, *, threads: int) -> "subprocess.Popen[str]":
    """Start an ingest of ``p`` below a folder."""
    places = [str(folder / name) for name in ("p", "index", "journal")]
    arguments = [sys.executable, "-W", "ignore", "-m", "tests.e2e.dying_ingest", *places, str(threads)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def run(folder: Path, *, threads: int) -> tuple[int, dict[str, str]]:
    """Ingest, and return the exit code and the outcomes by name."""
    child = start(folder, threads=threads)
    said, _ = child.communicate()
    return child.returncode, dict(line.split() for line in said.splitlines())


GREEN = (30, 160, 60)


@pytest.mark.promise("Ingest", "A picture that ends the process twice is left out, named, and no other is.")
@pytest.mark.parametrize(
    ("colour", "number"),
    [
        (KILLS, signal.SIGKILL),
        pytest.param(CRASHES, signal.SIGSEGV, marks=pytest.mark.slow),
    ],
)
def test_a_picture_that_ends_the_process_is_left_out_after_the_second_time(
    colour: Colour, number: int, tmp_path: Path, tried: Tried
) -> None:
    write(tmp_path / "p", {"a.png": GREEN, "b.png": colour, "c.png": GREEN, "d.png": GREEN})
    codes = [run(tmp_path, threads=3)[0] for _ in range(2)]
    code, outcomes = run(tmp_path, threads=3)

    assert codes == [-number, -number]
    assert code == 0
    assert outcomes.pop("b.png") == "crashed"
    assert set(outcomes) == {"a.png", "c.png", "d.png"}
    assert set(outcomes.values()) <= {"added", "unchanged"}
    write(tmp_path / "p", {"b.png": (200, 10, 10)})
    assert run(tmp_path, threads=3)[1]["b.png"] == "added"
    tried(2, f"deaths by {signal.Signals(number).name} with three pictures open", lost=0)


@pytest.mark.slow
@pytest.mark.promise("Ingest", "Several pictures that end the process are left out one by one.")
def test_several_pictures_that_end_the_process_are_all_left_out(tmp_path: Path, tried: Tried) -> None:
    bad = {"b.png": KILLS, "e.png": CRASHES, "f.png": KILLS}
    write(tmp_path / "p", {name: bad.get(name, GREEN) for name in ("a.png", *bad, "c.png", "d.png", "g.png")})
    runs = 0
    while True:
        code, outcomes = run(tmp_path, threads=3)
        runs += 1
        if code == 0:
            break
        assert runs < 10

    assert {name for name, outcome in outcomes.items() if outcome == "crashed"} == set(bad)
    assert len(outcomes) == 7
    tried(runs - 1, "deaths")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_leaves_no_suspect(number: int, tmp_path: Path) -> None:
    write(tmp_path / "p", {"a.png": GREEN, "b.png": WAITS, "c.png": GREEN})
    for _ in range(3):
        child = start(tmp_path, threads=2)
        assert child.stdout is not None
        while child.stdout.readline() != "waits\n":
            pass
        child.send_signal(number)
        if number == signal.SIGINT:  # it waits for the open picture, until somebody loses patience
            while list((tmp_path / "journal").glob("*.open")):
                pass
            child.kill()
        child.communicate()
    write(tmp_path / "p", {"a.png": GREEN, "b.png": GREEN, "c.png": GREEN})

    assert not (tmp_path / "journal" / "crashed.json").exists()
    assert "crashed" not in run(tmp_path, threads=2)[1].values()
