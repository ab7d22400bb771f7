"""``segdex set``: named sets of segments and pictures."""

from typing import TYPE_CHECKING, Annotated

import typer

from segdex.cli.common import (
    IndexOption,
    JsonOption,
    ServerOption,
    console_out,
    opened,
    print_json,
    settings_from,
)
from segdex_core.wording import count_of

if TYPE_CHECKING:
    from uuid import UUID

    from segdex.client import Client
    from segdex.library import Library
    from segdex_core.wire.sets import SetChanged, SetOut, SetSummary

NameArgument = Annotated[str, typer.Argument(help="Name of the set.")]
IdsArgument = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Ids of segments or pictures, or their starts.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    sets = typer.Typer(help="Named sets of segments and pictures.", no_args_is_help=True)
    sets.command("list")(list_command)
    sets.command("show")(show_command)
    sets.command("create")(create_command)
    sets.command("add")(add_command)
    sets.command("remove")(remove_command)
    sets.command("rename")(rename_command)
    sets.command("delete")(delete_command)
    app.add_typer(sets, name="set")


def list_command(
    context: typer.Context,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """List the sets and how much is in them."""
    with opened(context, settings_from(context, index=index, server=server)) as library:
        found = library.sets()
    if as_json:
        print_json(found)
        return 0
    for one in found.sets:
        _print_set(one)
    if not found.sets:
        console_out().print("no sets")
    return 0


def show_command(
    context: typer.Context,
    name: NameArgument,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """List the members of a set."""
    with opened(context, settings_from(context, index=index, server=server)) as library:
        found = library.show_set(name)
    if as_json:
        print_json(found)
        return 0
    _print_set(found)
    for one in found.members:
        kind = "picture" if one.kind == "image" else one.kind
        absent = "" if one.is_present else "  not in the index now"
        console_out().print(f"{kind:<8} {one.id}  added {one.added_at}{absent}", markup=False)
    return 0


def create_command(
    context: typer.Context,
    name: NameArgument,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Make an empty set."""
    with opened(context, settings_from(context, index=index, server=server)) as library:
        made = library.create_set(name)
    return _print_done(made, f"made the set {made.name!r}", as_json=as_json)


def add_command(
    context: typer.Context,
    name: NameArgument,
    ids: IdsArgument,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Add segments and pictures to a set, which is made if there is none of the name."""
    from segdex.cli.ids import member_ids

    with opened(context, settings_from(context, index=index, server=server)) as library:
        changed = library.add_to_set(name, *member_ids(library, ids))
    return _print_done(changed, f"added {changed.changed:,} to {changed.name!r}", as_json=as_json)


def remove_command(
    context: typer.Context,
    name: NameArgument,
    ids: IdsArgument,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Remove segments and pictures from a set."""
    with opened(context, settings_from(context, index=index, server=server)) as library:
        changed = library.remove_from_set(name, *_members_named(library, name, ids))
    return _print_done(changed, f"removed {changed.changed:,} from {changed.name!r}", as_json=as_json)


def _members_named(library: "Library | Client", name: str, ids: list[str]) -> "list[UUID]":
    """Return the ids of members, which need not be in the index; the set is read if one is not whole."""
    from segdex.cli.ids import ids_among, is_whole

    known = [] if all(map(is_whole, ids)) else [one.id for one in library.show_set(name).members]
    return ids_among(known, ids, where=f"the set {name!r}")


def rename_command(
    context: typer.Context,
    name: NameArgument,
    new_name: Annotated[str, typer.Argument(help="Its new name.")],
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Give a set another name."""
    with opened(context, settings_from(context, index=index, server=server)) as library:
        renamed = library.rename_set(name, new_name)
    return _print_done(renamed, f"renamed {name!r} to {renamed.name!r}", as_json=as_json)


def delete_command(
    context: typer.Context,
    name: NameArgument,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Delete a set; its segments and pictures stay."""
    with opened(context, settings_from(context, index=index, server=server)) as library:
        deleted = library.delete_set(name)
    return _print_done(deleted, f"deleted the set {deleted.name!r}", as_json=as_json)


def _print_done(result: "SetOut | SetChanged", line: str, *, as_json: bool) -> int:
    if as_json:
        print_json(result)
    else:
        _print_counts(line, result)
    return 0


def _print_set(one: "SetSummary") -> None:
    _print_counts(one.name, one)


def _print_counts(start: str, one: "SetOut | SetChanged | SetSummary") -> None:
    segments, pictures = count_of(one.segments, "segment"), count_of(one.images, "picture")
    console_out().print(f"{start}: {segments}, {pictures}", markup=False)
