"""Backups of an index: what ``segdex export --format parquet`` writes, and ``segdex restore``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdex.cli.common import (
    IndexOption,
    JsonOption,
    console_out,
    opened_here,
    print_json,
    settings_from,
)
from segdex_core.wording import count_of

if TYPE_CHECKING:
    from segdex_core.wire.images import BackedUp


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restore")(restore_command)


def write_backup(context: typer.Context, out: Path, *, index: str | None, as_json: bool) -> int:
    """Back up an index into a folder, and print what it holds."""
    from segdex.cli.progress import shown_progress

    settings = settings_from(context, index=index)
    with opened_here(context, settings) as library, shown_progress(done="written") as progress:
        done = library.back_up(out, progress=progress)
    if as_json:
        print_json(done)
    else:
        console_out().print(f"wrote {_sizes(done)} to {done.path}", markup=False)
    return 0


def restore_command(
    context: typer.Context,
    backup: Annotated[Path, typer.Argument(help="Folder that `segdex export` wrote.")],
    as_json: JsonOption = False,
    index: IndexOption = None,
) -> int:
    """Restore a backup into a new index.

    The index has the content of the backup afterwards, whether it is a folder or on a Qdrant server. After an
    interruption, run the same command again.
    """
    from segdex.cli.progress import shown_progress

    settings = settings_from(context, index=index)
    with opened_here(context, settings) as library, shown_progress(done="written") as progress:
        done = library.restore(backup, progress=progress)
        location = library.location
    if as_json:
        print_json(done)
        return 0
    before = f"; {done.present:,} of them were there before" if done.present else ""
    console_out().print(f"restored {_sizes(done)} into {location}{before}", markup=False)
    return 0


def _sizes(done: "BackedUp") -> str:
    return (
        f"{count_of(done.images, 'picture')}, {count_of(done.segments, 'segment')}, "
        f"{count_of(done.sets, 'set')} and {count_of(done.concepts, 'concept')}"
    )
