"""``segdex export`` and ``segdex restore``: backups of an index."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    """Add the commands."""
    app.command("export")(export_command)
    app.command("restore")(restore_command)


def export_command(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it must not exist.")],
    format_name: Annotated[
        Literal["parquet"],
        typer.Option(
            "--format", help="parquet: a backup of the whole index, for `segdex restore` and for other tools."
        ),
    ] = "parquet",
    as_json: JsonOption = False,
    index: IndexOption = None,
) -> int:
    """Write the index to files that other programs read: a backup.

    A backup has the masks, vectors, labels, sets and concepts of the index. It has no picture files, and no
    models. The index may be used and filled meanwhile.
    """
    del format_name  # there is one so far
    from segdex.cli.progress import shown_progress

    settings = settings_from(context, index=index)
    with opened_here(context, settings) as library, shown_progress() as progress:
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
    with opened_here(context, settings) as library, shown_progress() as progress:
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
