"""Progress: what is said of a run by a clock that the test sets."""

import io
import re
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from rich.console import Console
from tests.conftest import Tried

from segdex.cli.progress import Reporter, counted, shown_progress, waiting
from segdex.pace import Pace
from segdex_core.wire.images import IngestedFile


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def lines_of(err: str) -> list[str]:
    return err.strip().splitlines()


def test_the_rate_is_that_of_segmented_pictures_and_the_rest_that_of_the_plan() -> None:
    clock = Clock()
    pace = Pace(now_s=clock)
    new = [f"file:///new/{number}" for number in range(100)]
    pace.plan(new)
    pace.start(10_100)
    for number in range(10_000):
        clock.now_s += 0.001
        pace.count(is_work=False, uri=f"file:///old/{number}")
    before = pace.words()
    for uri in new[:10]:
        clock.now_s += 5
        pace.count(is_work=True, uri=uri)

    assert before == "10,000 of 10,100 files, 0 segmented, time left not known yet"
    assert pace.per_s == pytest.approx(10 / 60)
    assert pace.left_s == pytest.approx(90 * 6)
    assert pace.words() == "10,010 of 10,100 files, 10 segmented, 6.0 s a picture, about 9 min left"


def test_without_a_plan_the_rest_may_all_be_pictures() -> None:
    clock = Clock()
    pace = Pace(now_s=clock)
    pace.start(10_100)
    for _ in range(10_000):
        pace.count(is_work=False)
    clock.now_s += 10
    pace.count(is_work=True)

    assert pace.left_s == pytest.approx(99 * 10)


def test_files_that_turn_out_to_be_copies_or_no_pictures_are_no_work() -> None:
    clock = Clock()
    pace = Pace(now_s=clock)
    pace.plan(["a", "b", "c", "d"])
    pace.start(4)
    clock.now_s += 3
    pace.count(is_work=True, uri="a")
    pace.count(is_work=False, uri="b")

    assert pace.per_s == pytest.approx(1 / 3)
    assert pace.left_s == pytest.approx(6)


def test_a_limit_ends_the_rest() -> None:
    clock = Clock()
    pace = Pace(now_s=clock, limit=3)
    pace.start(1_000)
    clock.now_s += 10
    pace.count(is_work=True)

    assert pace.rest == 2
    assert pace.left_s == pytest.approx(20)


@pytest.mark.promise(
    "Ingest", "Without a terminal a run writes a line at its start and one every half minute."
)
def test_without_a_terminal_there_is_a_line_at_the_start_and_one_in_each_interval(
    capsys: pytest.CaptureFixture[str], tried: Tried
) -> None:
    clock = Clock()
    with Reporter(Console(stderr=True), Pace(now_s=clock), every_s=30, now_s=clock) as reporter:
        reporter.note("loading the models")
        clock.now_s += 31
        reporter.tick()
        reporter.note("")
        reporter.begin(12)
        for second in range(1, 241):
            clock.now_s += 1
            reporter.tick()
            if second % 100 == 0:
                reporter.done("a.jpg: added", is_work=True)
        reporter.note("building the search graph")
        clock.now_s += 30
        reporter.tick()
    written = capsys.readouterr()

    said = lines_of(written.err)
    tried(240, "seconds of a run without a terminal")
    assert written.out == ""
    assert said[0] == "loading the models for 31 s"
    assert said[1] == "0 of 12 files, time left not known yet"
    assert len(said) == 2 + 240 // 30 + 2
    assert said[4] == "0 of 12 files, time left not known yet"
    assert said[5] == "1 of 12 files, 120.0 s a picture, about 22 min left"
    assert said[-2].endswith("; building the search graph for 30 s")


def test_a_run_of_minutes_without_an_outcome_is_heard_of(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(Console(stderr=True), Pace(), every_s=0.01) as reporter:
        reporter.begin(1)
        said = ""
        while len(lines_of(said)) < 3:  # its thread writes them
            said += capsys.readouterr().err


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_at_a_terminal_the_bar_is_one_line_of_its_width(width: int, variables: dict[str, str]) -> None:
    clock = Clock()
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, width=width, _environ={"TERM": "xterm-256color", **variables}
    )
    reporter = Reporter(console, Pace(now_s=clock), now_s=clock)
    reporter.begin(12_000)
    clock.now_s += 7
    reporter.done("a-very-long-name-of-a-picture-" * 5 + ": added", is_work=True)
    with console.capture() as captured:
        console.print(reporter.bar)

    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", captured.get())
    [line] = lines_of(shown)
    assert len(line) <= width
    assert ("1 of 12,000" if width >= 80 else "1/12,000") in shown
    assert width < 80 or "7.0 s a picture" in shown
    assert width != 40 or "7.0 s each  23.3 h left" in shown
    if variables:
        assert "\x1b[3" not in captured.get()


def test_a_dumb_terminal_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(stderr=True, force_terminal=True, _environ={"TERM": "dumb"})
    with Reporter(console, Pace()) as reporter:
        reporter.begin(3)

    err = capsys.readouterr().err
    assert err.startswith("0 of 3 files")
    assert "\x1b" not in err


def test_names_in_the_progress_do_not_drive_the_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, _environ={"TERM": "xterm"})
    reporter = Reporter(console, Pace())
    reporter.begin(1)
    reporter.done("\x1b]0;title\x07\x9b31m", is_work=True)
    console.print(reporter.bar)

    assert "\x1b]0" not in out.getvalue()
    assert "\x9b" not in out.getvalue()


def test_nothing_of_the_progress_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(limit=2) as progress:
        progress.on_note("loading the models")
        progress.on_plan(["file:///a"])
        progress.on_start(2)
        for name, outcome in (("a", "added"), ("b", "unchanged")):
            progress.on_file(
                IngestedFile(
                    uri=f"file:///{name}",
                    path=f"/{name}",
                    outcome=outcome,
                    detail="",
                    image_id=uuid4(),
                    segments=0,
                )
            )
    with counted("queries", 2, one="query") as advance:
        advance()
    with waiting("fetching and loading"), waiting("looking for files", is_slow=False):
        pass
    written = capsys.readouterr()

    assert written.out == ""
    assert "2 of 2 files, 1 segmented" in written.err
    assert re.search(r"1 of 2 queries, .*(quer|s a query)", written.err)
    assert lines_of(written.err)[-1] == "fetching and loading"


def test_after_a_kill_the_log_says_how_far_it_came(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from segdex.cli.progress import shown_progress\n"
        "from segdex_core.wire.images import IngestedFile\n"
        "with shown_progress(every_s=0.01) as progress:\n"
        "    progress.on_start(12)\n"
        "    names = {'uri': 'file:///a', 'path': '/a', 'image_id': None}\n"
        "    progress.on_file(IngestedFile(**names, outcome='added', detail='', segments=1))\n"
        "    while '1 of 12' not in open('err').read():\n"
        "        pass\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with (tmp_path / "err").open("w") as err:
        done = subprocess.run(
            [sys.executable, "-c", code], stderr=err, stdout=subprocess.PIPE, cwd=tmp_path, check=False
        )

    lines = lines_of((tmp_path / "err").read_text())
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""
    assert lines[0] == "0 of 12 files, time left not known yet"
    assert lines[-1].startswith("1 of 12 files, ")
    assert lines[-1].endswith(" left")
