"""Tables are never cut: a line a row in a file, and folded between columns on a narrow terminal."""

import io
from uuid import uuid4

import pytest
from rich.console import Console

from segdex.cli.tables import folded, print_table

LONG = "pictures/" + "夏の海/" * 20 + "a [red] cat.jpg"
ROWS = [("1", str(uuid4()), "running", LONG), ("10", str(uuid4()), "", "b.jpg"), ("7", "", "", "")]
HEADS = ("rank", "segment", "status", "picture")


def _console(width: int, *, is_terminal: bool) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        soft_wrap=True,
        highlight=False,
        force_terminal=is_terminal,
        color_system=None,
    )


def _printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 300])
def test_every_cell_is_whole_at_any_width(width: int) -> None:
    shown = _console(width, is_terminal=True)
    print_table(shown, HEADS, ROWS, right=[0])
    lines = _printed(shown).splitlines()

    for cell in {cell for row in (HEADS, *ROWS) for cell in row if cell}:
        assert any(cell in line for line in lines)
    unbroken = {cell for row in ROWS for cell in row if len(cell) > width - 8}
    assert all(len(line) <= width or any(cell in line for cell in unbroken) for line in lines)
    assert all(line.strip() for line in lines)


def test_a_table_in_a_file_has_a_line_a_row() -> None:
    shown = _console(20, is_terminal=False)
    print_table(shown, HEADS, ROWS, right=[0])

    assert [line.split()[0] for line in _printed(shown).splitlines()] == ["rank", "1", "10", "7"]
    assert LONG in _printed(shown)


def test_columns_stand_below_each_other_in_any_script() -> None:
    lines = folded([("日本", "x"), ("ab", "y"), ("c", "z")], width=None, right=[0])

    assert lines == [["日本  x"], ["  ab  y"], ["   c  z"]]
