"""Exports are written whole or not at all, and archives are made while they are read."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Tried

from segdex.saving import archive_of
from segdex_core.formats.export import OutFile

_WRITES = """
import sys, time
from pathlib import Path
from segdex.saving import Target, save
from segdex_core.formats.export import OutFile

def chunks():
    yield b"half" * 100_000
    print("writing", flush=True)
    time.sleep(600)

path = Path(sys.argv[1])
target = Target(path, document="a.json" if path.suffix == ".json" else None, is_archive=path.suffix == ".zip")
save(iter([OutFile("a.json", chunks())]), target)
"""


@pytest.mark.promise("Pictures", "A killed export leaves no file or folder that looks like a whole one.")
def test_a_killed_export_leaves_nothing_that_looks_whole(tmp_path: Path, tried: Tried) -> None:
    names = ["folder", "file.json", "archive.zip"]
    for name in names:
        with subprocess.Popen(
            [sys.executable, "-c", _WRITES, str(tmp_path / name)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"writing\n"
            process.send_signal(signal.SIGKILL)
        assert not (tmp_path / name).exists()
    assert all(path.name.startswith(".") and path.name.endswith(".part") for path in tmp_path.iterdir())
    tried(len(names), "killed exports")


def test_an_archive_is_sent_before_its_last_file_is_made() -> None:
    made: list[int] = []

    def files() -> Iterator[OutFile]:
        for number in range(50):
            made.append(number)
            yield OutFile(f"{number}.png", (bytes(100_000) for _ in range(2)))

    chunks = archive_of(files())
    next(chunks)

    assert len(made) == 1
    assert max(map(len, chunks)) < 200_000
    assert len(made) == 50
