"""The commands by name; the module of a command is imported only when the command is called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_group

from segdex.cli.help import HelpContext, with_notes


@dataclass(frozen=True, slots=True)
class Listed:
    """A command, or a group of commands, as ``segdex --help`` lists it.

    Attributes:
        module: Module whose ``register`` adds the command to an application.
        help: First line of the help of the command.
    """

    module: str
    help: str


COMMANDS: Mapping[str, Listed] = {
    "ingest": Listed(
        "segdex.cli.ingest",
        "Bring the index up to date: segment, embed and store new and changed pictures.",
    ),
    "search": Listed(
        "segdex.cli.search", "Find the segments that match a text, a picture or another segment."
    ),
    "segment": Listed(
        "segdex.cli.segment", "Segment an object from points, a box, an earlier mask or a text."
    ),
    "show": Listed("segdex.cli.show", "Write a segment as mask PNG, cut-out PNG with alpha, and polygon."),
    "label": Listed(
        "segdex.cli.label",
        "Label all segments of the index with words, so that searches can filter by them.",
    ),
    "set": Listed("segdex.cli.sets", "Named sets of segments and pictures."),
    "concept": Listed("segdex.cli.concepts", "Saved concepts: learn from right and wrong hits."),
    "stats": Listed("segdex.cli.manage", "Print what an index holds and which models filled it."),
    "delete": Listed(
        "segdex.cli.manage",
        "Delete pictures and all that was made of them from the index; your files stay, uploads are deleted.",
    ),
    "sync": Listed(
        "segdex.cli.manage",
        "Remove pictures whose files are missing, and leftovers of an interrupted ingest.",
    ),
    "doctor": Listed("segdex.cli.doctor", "Examine an index for damage, and mend what loses nothing."),
    "reembed": Listed(
        "segdex.cli.reembed",
        "Change the embedder or the views of an index without segmenting again.",
    ),
    "export": Listed(
        "segdex.cli.export",
        "Write segments with their masks for another tool, or the whole index as a backup.",
    ),
    "import": Listed(
        "segdex.cli.import_labels",
        "Take annotations back that were corrected in another tool, as labels of segments.",
    ),
    "restore": Listed("segdex.cli.backup", "Restore a backup into a new index."),
    "jobs": Listed("segdex.cli.jobs", "Manage ingests of folders on the machine of a service."),
    "models": Listed("segdex.cli.models", "List and download models."),
    "eval": Listed("segdex.cli.evaluate", "Measure segdex on labeled pictures."),
    "calibrate": Listed(
        "segdex.cli.calibrate",
        "Calibrate the scores of an embedder on labeled pictures, and save the result for later searches.",
    ),
    "serve": Listed("segdex.cli.serve", "Start the HTTP service: a REST API under /v1 and a page at /."),
    "keys": Listed(
        "segdex.cli.serve",
        "Create an API key: it is shown once, and its line belongs in the file of SEGDEX_API_KEYS.",
    ),
    "worker": Listed(
        "segdex.cli.worker",
        "Run the jobs that a service with SEGDEX_JOBS_BY=worker queues, until SIGTERM or Ctrl-C.",
    ),
    "demo": Listed(
        "segdex.cli.demo",
        "Ingest eight photographs, run four queries, and write a contact sheet of the answers.",
    ),
}


def load_command(name: str, ctx: Any) -> TyperCommand | TyperGroup:
    """Import the module of a command, and return the command.

    Args:
        name: Name of the command in ``COMMANDS``.
        ctx: Context of the group that holds the command.
    """
    app = typer.Typer(rich_markup_mode=None)
    import_module(COMMANDS[name].module).register(app)
    command = cast("TyperCommand | TyperGroup", get_group(app).commands[name])
    leave_unchecked(command.get_params(ctx))
    command.context_class = HelpContext
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            leave_unchecked(each.get_params(ctx))
            each.context_class = HelpContext
            each.short_help = (each.help or "").partition("\n")[0]  # typer would truncate it
    return command


class LazyGroup(TyperGroup):
    """The commands of ``COMMANDS``; a command is imported only when it is called or its help is shown."""

    context_class = HelpContext

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, listed in COMMANDS.items():
            self.add_command(TyperCommand(name, short_help=listed.help))

    def resolve_command(
        self, ctx: Any, args: list[str]
    ) -> tuple[str | None, TyperCommand | TyperGroup | None, list[str]]:
        """Return the name and the command at the start of the arguments, and the other arguments."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load_command(name, ctx), rest

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, including the options that typer adds."""
        parameters = super().get_params(ctx)
        leave_unchecked(parameters)
        return parameters


def _has_nothing_to_check(parameter: TyperOption | TyperArgument, ctx: Any, value: Any) -> bool:
    """Return whether a word is being completed, or the value was not given.

    typer also validates such values, with pydantic, whose import takes longer than all other imports for the
    help.
    """
    return bool(ctx.resilient_parsing) or (value is None and not parameter.required)


class _Option(TyperOption):
    def get_help_record(self, ctx: Any) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return None if record is None else (record[0], with_notes(self))

    def process_value(self, ctx: Any, value: Any) -> Any:
        return value if _has_nothing_to_check(self, ctx, value) else super().process_value(ctx, value)


class _Argument(TyperArgument):
    def process_value(self, ctx: Any, value: Any) -> Any:
        return value if _has_nothing_to_check(self, ctx, value) else super().process_value(ctx, value)


def leave_unchecked(parameters: Sequence[object]) -> None:
    """Let the parameters of a command validate only values that were given."""
    for parameter in parameters:
        if type(parameter) is TyperOption:
            parameter.__class__ = _Option  # typer cannot be told the class of an option
        elif type(parameter) is TyperArgument:
            parameter.__class__ = _Argument
