"""``segdex concept``: saved concepts, which learn from right and wrong hits."""

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
from segdex.cli.query_command import TextOptionCommand

if TYPE_CHECKING:
    from uuid import UUID

    from segdex.client import Client
    from segdex.library import Library
    from segdex_core.wire.concepts import ConceptOut, ConceptSummary

NameArgument = Annotated[
    str, typer.Argument(help="Name of the concept; a query text has it as concept:NAME.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    concepts = typer.Typer(help="Saved concepts: learn from right and wrong hits.", no_args_is_help=True)
    concepts.command("list")(list_command)
    concepts.command("show")(show_command)
    concepts.command("mark", cls=TextOptionCommand)(mark_command)
    concepts.command("rename")(rename_command)
    concepts.command("delete")(delete_command)
    app.add_typer(concepts, name="concept")


def list_command(
    context: typer.Context,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """List the concepts and how many marks they have."""
    with opened(context, settings_from(context, index=index, server=server)) as library:
        found = library.concepts()
    if as_json:
        print_json(found)
        return 0
    for one in found.concepts:
        console_out().print(_line(one), markup=False)
    if not found.concepts:
        console_out().print("no concepts")
    return 0


def show_command(
    context: typer.Context,
    name: NameArgument,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """List the marks of a concept."""
    with opened(context, settings_from(context, index=index, server=server)) as library:
        found = library.show_concept(name)
    if as_json:
        print_json(found)
        return 0
    console_out().print(_line(found), markup=False)
    for one in found.marks:
        note = ""
        if one.used_id is None:
            note = "  not in the index now"
        elif one.used_id != one.segment_id:
            note = f"  now {one.used_id}"
        word = "right" if one.is_right else "wrong"
        console_out().print(f"{word}  {one.segment_id}{note}", markup=False)
    return 0


def mark_command(
    context: typer.Context,
    name: NameArgument,
    right: Annotated[
        list[str] | None, typer.Option("--right", metavar="ID", help="A segment that shows it; repeatable.")
    ] = None,
    wrong: Annotated[
        list[str] | None, typer.Option("--wrong", metavar="ID", help="A segment that does not; repeatable.")
    ] = None,
    neither: Annotated[
        list[str] | None,
        typer.Option("--neither", metavar="ID", help="A segment whose mark is removed; repeatable."),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="Query text that it starts from.", show_default="as it is")
    ] = None,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Mark segments as right or wrong for a concept, which is made if there is none of the name."""
    from segdex.cli.ids import segment_ids

    with opened(context, settings_from(context, index=index, server=server)) as library:
        marked = library.mark(
            name,
            right=segment_ids(library, right or []),
            wrong=segment_ids(library, wrong or []),
            neither=_marked_ids(library, name, neither or []),
            text=text,
        )
    return _print_done(marked, _line(marked), as_json=as_json)


def _marked_ids(library: "Library | Client", name: str, ids: list[str]) -> "list[UUID]":
    """Return the ids of marked segments, which need not be in the index."""
    from segdex.cli.ids import ids_among, is_whole

    known = [] if all(map(is_whole, ids)) else [one.segment_id for one in library.show_concept(name).marks]
    return ids_among(known, ids, where=f"the concept {name!r}")


def rename_command(
    context: typer.Context,
    name: NameArgument,
    new_name: Annotated[str, typer.Argument(help="Its new name.")],
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Give a concept another name."""
    with opened(context, settings_from(context, index=index, server=server)) as library:
        renamed = library.rename_concept(name, new_name)
    return _print_done(renamed, f"renamed {name!r} to {renamed.name!r}", as_json=as_json)


def delete_command(
    context: typer.Context,
    name: NameArgument,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Delete a concept; segments stay."""
    with opened(context, settings_from(context, index=index, server=server)) as library:
        deleted = library.delete_concept(name)
    return _print_done(deleted, f"deleted the concept {deleted.name!r}", as_json=as_json)


def _print_done(result: "ConceptOut", line: str, *, as_json: bool) -> int:
    if as_json:
        print_json(result)
    else:
        console_out().print(line, markup=False)
    return 0


def _line(one: "ConceptSummary") -> str:
    text = "" if one.text is None else f", from the text {one.text!r}"
    return f"{one.name}: {one.right:,} right, {one.wrong:,} wrong{text}"
