"""The commands and programs of a page of the documentation."""

from dataclasses import replace
from pathlib import Path

from tests.docs.blocks import blocks_of
from tests.fakes.parts import parts

from segdex.cli.main import run
from segdex.parts import Parts
from segdex_core.settings import Settings


def commands(page: str) -> list[list[str]]:
    """Return the segdex commands of a page in order, as lists of words without ``segdex``."""
    words = [
        words
        for block in blocks_of(Path("docs", page))
        if block.language == "bash"
        for words in block.commands()
    ]
    return [rest for first, *rest in words if first == "segdex"]


def programs(page: str) -> list[str]:
    """Return the Python programs of a page in order."""
    return [block.text for block in blocks_of(Path("docs", page)) if block.language == "python"]


def over_one_index(folder: Path) -> Parts:
    """Return fakes that always open the same index of two pictures."""
    fakes = parts(folder)
    index = fakes.open_index(Settings(), create=True)
    return replace(fakes, open_index=lambda *_, **__: index)


def done(command: list[str], kept: Parts) -> None:
    """Run a command that succeeds."""
    assert run(command, parts=kept) == 0, command
