"""``segdex export`` and ``segdex restore``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.api.one_index import Ask, asking
from tests.environment import no_variables
from tests.fakes.parts import parts

from segdex.cli.main import run
from segdex.parts import Parts
from segdex_backends.index.memory import MemoryIndex

__all__ = ["asking", "no_variables"]

pytestmark = pytest.mark.pipeline


class Other:
    """The command line on another index, new at first."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.index = MemoryIndex()
        self._parts: Parts = replace(parts(folder), open_index=lambda *_, **__: self.index)
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = run([*arguments], parts=self._parts)
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def ask(self, *arguments: str) -> Any:
        code, out, err = self.run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Other:
    return Other(tmp_path / "other", capsys)


def test_a_restored_index_answers_as_the_one_that_was_exported(
    ask: Ask, other: Other, tmp_path: Path
) -> None:
    found = ask("search", "red")["hits"][0]["segments"][0]["id"]
    ask("set", "add", "kept", found)
    ask("concept", "mark", "box", "--right", found)

    done = ask("export", "--format", "parquet", "--out", str(tmp_path / "backup"))
    restored = other.ask("restore", str(tmp_path / "backup"))

    assert {name: done[name] for name in ("images", "segments", "sets", "concepts")} == {
        "images": 2, "segments": restored["segments"], "sets": 1, "concepts": 1,
    }  # fmt: skip
    assert restored["present"] == 0
    for question in (["search", "red"], ["search", "blue", "--set", "kept"], ["set", "show", "kept"]):
        assert other.ask(*question).get("hits") == ask(*question).get("hits")
    assert other.ask("restore", str(tmp_path / "backup"))["present"] == 2


def test_what_was_done_is_said_in_one_line(ask: Ask, other: Other, tmp_path: Path) -> None:
    out = tmp_path / "backup"

    wrote = ask("export", "--out", str(out), text=True)
    code, printed, _ = other.run("restore", str(out))

    assert wrote.startswith("wrote 2 pictures, ")
    assert code == 0
    assert printed.startswith("restored 2 pictures, ")


def test_a_folder_that_is_no_backup_ends_with_one_line(other: Other, tmp_path: Path) -> None:
    code, _, err = other.run("restore", str(tmp_path))

    assert code == 3
    assert "is no backup of segdex" in err
    assert other.index.fingerprint() is None


def test_an_index_that_was_not_filled_cannot_be_exported(other: Other, tmp_path: Path) -> None:
    code, _, err = other.run("export", "--out", str(tmp_path / "backup"))

    assert code == 3
    assert "segdex ingest" in err
    assert not (tmp_path / "backup").exists()
