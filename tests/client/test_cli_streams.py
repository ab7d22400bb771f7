"""Commands end well however their streams end: no traceback, no exit code of a bug, and the work is done."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Tried

LISTS = ["models", "list"]
FAILS = ["segment", "absent.png"]
CASES: list[tuple[list[str], str, str, int]] = [
    (LISTS, "unread", "noted", 0),  # as `| head -1`
    ([*LISTS, "--json"], "unread", "noted", 0),
    (["--help"], "unread", "noted", 0),
    (["search", "--help"], "unread", "noted", 0),
    (["--version"], "unread", "unread", 0),
    (LISTS, "closed", "noted", 0),
    ([*LISTS, "--json"], "closed", "closed", 0),
    (["--help"], "closed", "closed", 0),
    (LISTS, "full", "noted", 1),
    ([*LISTS, "--json"], "full", "full", 1),
    (["--help"], "full", "closed", 1),
    (FAILS, "noted", "closed", 2),
    (FAILS, "noted", "full", 2),
    (FAILS, "closed", "unread", 2),
]


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.promise("Search", "A command ends well when the reader of its output ends, or its disk is full.")
def test_a_command_ends_well_however_its_streams_end(tmp_path: Path, tried: Tried) -> None:
    child = [sys.executable, str(Path(__file__).with_name("ending_streams.py"))]
    cases = json.dumps([case[:3] for case in CASES])
    done = subprocess.run([*child, cases], capture_output=True, text=True, check=True, cwd=tmp_path)
    ended = json.loads(done.stdout)

    tried(len(CASES), "commands whose streams end")
    for (arguments, out, err, code), (got, printed, said) in zip(CASES, ended, strict=True):
        assert got == code, (arguments, out, err, said)
        assert "Traceback" not in said
        assert "Exception ignored" not in said
        if err == "noted":
            lines = said.splitlines()
            assert lines == (
                ["segdex: standard output cannot be written: No space left on device"]
                if out == "full"
                else []
            )
        assert out != "noted" or printed == ""


def test_a_file_of_the_index_never_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from segdex.cli.streams import guard_streams\n"
        "[os.close(number) for number in range(3)]\n"
        "guard_streams()\n"
        f"descriptor = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_RDWR)\n"
        "os._exit(descriptor)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ)).returncode > 2
