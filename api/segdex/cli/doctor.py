"""``segdex doctor``: examine an index for damage, and mend what loses nothing."""

from collections import Counter
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from segdex.cli.common import (
    IndexOption,
    JsonOption,
    ServerOption,
    console_out,
    in_words,
    opened,
    print_json,
    settings_from,
)
from segdex_core.wording import count_of

if TYPE_CHECKING:
    from segdex_core.wire.doctor import Examined, FindingOut

_SHOWN = 3
"""Findings of a kind that are printed; --json has all."""

_WIDTH = 80


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor_command)


def doctor_command(
    context: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without loss.")] = False,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Examine an index for damage, and mend what loses nothing.

    Exit codes: 0 nothing was found, or all of it is mended; 1 something is left; 3 the index is not usable.
    """
    from segdex.cli.progress import waiting

    settings = settings_from(context, index=index, server=server)
    with opened(context, settings) as library, waiting("examining the index", is_slow=False):
        found = library.doctor(fix=fix)
    if as_json:
        print_json(found)
    else:
        console = console_out()
        for line in report_lines(found):
            console.print(line, markup=False)
    return 1 if found.left else 0


def report_lines(found: "Examined") -> list[str]:
    """Return the report: the number of findings of each kind, the first few, and what mends them."""
    examined = f"{count_of(found.images, 'picture')} and {count_of(found.segments, 'segment')} examined"
    if not found.findings:
        return [f"{examined}: nothing is damaged"]
    lines = [f"{examined}: {count_of(len(found.findings), 'finding')}, {found.left:,} left"]
    counts = Counter(one.kind for one in found.findings)
    for kind, count in counts.items():
        some = [one for one in found.findings if one.kind == kind]
        fixed = sum(one.fixed for one in some)
        lines += ["", f"{in_words(kind)}: {count:,}{f', {fixed:,} mended' if fixed else ''}"]
        lines += _first(some)
    return lines


def _first(some: "Sequence[FindingOut]") -> list[str]:
    lines: list[str] = []
    for one in some[:_SHOWN]:
        lines.append(f"  {one.path or one.what}")
        lines += _wrapped(one.detail)
        if not one.fixed:
            lines += _wrapped(f"mend: {one.mend}")
    if len(some) > _SHOWN:
        lines.append(f"  and {len(some) - _SHOWN:,} more: --json lists all")
    return lines


def _wrapped(text: str) -> list[str]:
    """Return the lines of a text; a path or an id is never cut."""
    indent = " " * 4
    return wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
