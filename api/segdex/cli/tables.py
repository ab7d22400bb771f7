"""Tables as lines: never cut, whole where they go into a file, and folded where a terminal is narrow."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.console import Console

_GAP = "  "
_INDENT = 4  # of what does not fit into the first line of a row


def print_table(
    console: "Console",
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
) -> None:
    """Print a table, its heads dim.

    Args:
        console: Console of answers, which wraps no line itself.
        heads: Names of the columns.
        rows: Cells of each row, as many as ``heads``; the last column may be of any length.
        right: Columns that are aligned at the right.
    """
    from rich.text import Text

    width = console.width if console.is_terminal else None
    for number, lines in enumerate(folded([heads, *rows], width=width, right=right)):
        for line in lines:
            console.print(Text(line, style="" if number else "dim"), no_wrap=True)


def folded(
    rows: Sequence[Sequence[str]], *, width: int | None, right: Collection[int] = ()
) -> list[list[str]]:
    """Return the lines of each row: one, or several where the columns are wider than ``width``.

    Columns stand below each other, and a cell is never broken: one that is wider than all stays whole.

    Example:
        >>> folded([("a", "file"), ("12", "beach.jpg")], width=None, right=[0])
        [[' a  file'], ['12  beach.jpg']]
        >>> folded([("a", "file"), ("12", "beach.jpg")], width=10)
        [['a', '    file'], ['12', '    beach.jpg']]
    """
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        [
            line
            for number, columns in enumerate(_groups(widths, width))
            if (line := _line(row, columns, widths, right, indent=_INDENT if number else 0)).strip()
        ]
        for row in rows
    ]


def _groups(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Return which columns share a line."""
    groups: list[list[int]] = [[]]
    used = 0
    for column, needed in enumerate(widths):
        if groups[-1] and width is not None and used + len(_GAP) + needed > width:
            groups.append([])
            used = _INDENT
        used += needed + (len(_GAP) if groups[-1] else 0)
        groups[-1].append(column)
    return groups


def _line(
    row: Sequence[str],
    columns: Sequence[int],
    widths: Sequence[int],
    right: Collection[int],
    *,
    indent: int,
) -> str:
    cells = []
    for column in columns:
        space = " " * (widths[column] - cell_len(row[column]))
        cells.append(space + row[column] if column in right else row[column] + space)
    return " " * indent + _GAP.join(cells).rstrip()
