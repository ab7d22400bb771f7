"""The commands and programs of a page of the documentation."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

from tests.fakes.parts import parts
from tests.needs import ROOT

from segdex.cli.main import run
from segdex.parts import Parts
from segdex_core.settings import Settings

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """Return the segdex commands of a page in order, as lists of words without `segdex`."""
    blocks = [text for kind, text in _BLOCK.findall(_text(page)) if kind == "bash"]
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("segdex ")]


def programs(page: str) -> list[str]:
    """Return the Python programs of a page in order."""
    return [text for kind, text in _BLOCK.findall(_text(page)) if kind == "python"]


def over_one_index(folder: Path) -> Parts:
    """Return fakes that always open the same index of two pictures."""
    fakes = parts(folder)
    index = fakes.open_index(Settings(), create=True)
    return replace(fakes, open_index=lambda *_, **__: index)


def done(command: list[str], kept: Parts) -> None:
    """Run a command that succeeds."""
    assert run(command, parts=kept) == 0, command


def _text(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")
