"""``segdex stats``, ``delete`` and ``sync``: inspect and clean up an index."""

import shlex
from typing import Annotated

import typer

from segdex.cli.common import (
    IndexOption,
    JsonOption,
    ServerOption,
    console_out,
    in_words,
    opened,
    opened_here,
    print_json,
    settings_from,
)
from segdex_core.wording import count_of

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("stats")(stats_command)
    app.command("delete")(delete_command)
    app.command("sync")(sync_command)


def stats_command(
    context: typer.Context,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Print what an index holds and which models filled it."""
    settings = settings_from(context, index=index, server=server)
    with opened(context, settings) as library:
        location, stats = library.location, library.stats()
    if as_json:
        print_json(stats)
        return 0
    console = console_out()
    for name, value in {"index": location, **stats.model_dump(exclude={"schema_version"})}.items():
        if value is not None:
            console.print(f"{in_words(name):<23} {_shown(value)}", markup=False)
    return 0


def delete_command(
    context: typer.Context,
    pictures: Annotated[
        list[str], typer.Argument(help="Files, folders, picture ids, or the first 8 or more digits of one.")
    ],
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Delete pictures and all that was made of them from the index; your files stay, uploads are deleted.

    An id names a picture with all its copies. A file or folder names only itself: a picture that also lies
    elsewhere keeps its other files.
    """
    from segdex.cli.ids import targets_to_delete

    settings = settings_from(context, index=index, server=server)
    with opened(context, settings) as library:
        deleted = library.delete(*targets_to_delete(library, pictures))
    if as_json:
        print_json(deleted)
    else:
        images, segments = count_of(len(deleted.images), "picture"), count_of(deleted.segments, "segment")
        places = count_of(deleted.places, "place")
        console = console_out()
        console.print(f"deleted {images} with {segments} from the index, {places} in all; your files stay")
        for one in deleted.kept[:_SHOWN]:
            console.print(f"kept {one.id}: it also lies at {one.path}", markup=False)
        if len(deleted.kept) > _SHOWN:
            console.print(f"... and {len(deleted.kept) - _SHOWN:,} more are kept; --json lists all")
    return 0


def sync_command(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Forget also what may be on a disk that is not mounted.")
    ] = False,
    as_json: JsonOption = False,
    index: IndexOption = None,
) -> int:
    """Remove pictures whose files are missing, and leftovers of an interrupted ingest.

    What went with its whole folder stays, as its disk may not be mounted; the exit code is 1 then.
    """
    from segdex.cli.progress import waiting

    settings = settings_from(context, index=index)
    with (
        opened_here(context, settings) as library,
        waiting("looking for the files of the index", is_slow=False),
    ):
        found = library.sync(dry_run=dry_run, force=force)
    if as_json:
        print_json(found)
    else:
        verb = "would remove" if dry_run else "removed"
        console_out().print(
            f"{verb} {len(found.gone):,} of {count_of(found.images, 'picture')}; {found.moved:,} lost some "
            f"of their files; {count_of(found.orphans, 'leftover')} of interrupted ingests"
        )
        if found.unfinished:
            console_out().print(
                f"ingest again {count_of(found.unfinished, 'picture')}, whose segments a stopped run "
                "replaced in part"
            )
        for held in found.held:
            console_out().print(
                f"kept {count_of(held.images, 'picture')} below {held.path}: {held.reason}; mount its disk, "
                f"forget them with `segdex delete {shlex.quote(held.path)}`, or everything with --force",
                markup=False,
            )
        for unknown in found.unreachable:
            console_out().print(
                f"kept {count_of(unknown.files, 'file')}, the first {unknown.path}: {unknown.reason}",
                markup=False,
            )
    return 0 if found.is_complete else 1


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
