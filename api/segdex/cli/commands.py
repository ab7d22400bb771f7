"""The commands by name, without their modules: each is imported when it is called, and no other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_group


@dataclass(frozen=True, slots=True)
class Listed:
    """A command, or a group of them, as ``segdex --help`` lists it.

    Attributes:
        module: Its ``register`` adds it to an application.
        help: The first sentence of its own help.
    """

    module: str
    help: str


COMMANDS: Mapping[str, Listed] = {
    "ingest": Listed(
        "segdex.cli.ingest",
        "Bring the index up to date with pictures: segment, embed and store what is new or changed.",
    ),
    "search": Listed(
        "segdex.cli.search", "Find the segments that match a text, a picture or another segment."
    ),
    "segment": Listed(
        "segdex.cli.segment", "Segment an object from points, a box, an earlier mask or a text."
    ),
    "show": Listed("segdex.cli.show", "Write a segment as mask PNG, cut-out PNG with alpha, and polygon."),
    "stats": Listed("segdex.cli.manage", "Say what an index holds and what filled it."),
    "delete": Listed(
        "segdex.cli.manage", "Delete pictures and their segments from the index; the files stay."
    ),
    "sync": Listed(
        "segdex.cli.manage",
        "Remove pictures whose files are gone, and what an interrupted ingest left behind.",
    ),
    "jobs": Listed("segdex.cli.jobs", "Ingests of folders on a service's machine."),
    "models": Listed("segdex.cli.models", "List and fetch models."),
    "eval": Listed("segdex.cli.evaluate", "Measure segdex on labelled pictures."),
    "calibrate": Listed(
        "segdex.cli.calibrate",
        "Fit what the scores of an embedder mean, on labelled pictures, and keep it for every later search.",
    ),
    "serve": Listed("segdex.cli.serve", "Answer over HTTP: a REST API under /v1 and a page at /."),
    "keys": Listed(
        "segdex.cli.serve",
        "Make an API key: the key is shown once, its line goes into the file of SEGDEX_API_KEYS.",
    ),
    "worker": Listed(
        "segdex.cli.worker",
        "Carry out the jobs that a service with SEGDEX_JOBS_BY=worker queues; ends on SIGTERM or Ctrl-C.",
    ),
    "demo": Listed(
        "segdex.cli.demo",
        "Ingest eight photographs, ask four questions, and write a contact sheet of the answers.",
    ),
}


def load_command(name: str, ctx: Any) -> TyperCommand | TyperGroup:
    """Import the module of a command of ``COMMANDS``, and return the command.

    Args:
        name: Of the command.
        ctx: Of the group that holds it.
    """
    app = typer.Typer(rich_markup_mode=None)
    import_module(COMMANDS[name].module).register(app)
    command = cast("TyperCommand | TyperGroup", get_group(app).commands[name])
    leave_unchecked(command.get_params(ctx))
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            leave_unchecked(each.get_params(ctx))
            each.short_help = (each.help or "").partition("\n")[0]  # typer would cut it
    return command


class LazyGroup(TyperGroup):
    """The commands of ``COMMANDS``: only the one that is called, or asked for its help, is imported."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, listed in COMMANDS.items():
            self.add_command(TyperCommand(name, short_help=listed.help))

    def resolve_command(
        self, ctx: Any, args: list[str]
    ) -> tuple[str | None, TyperCommand | TyperGroup | None, list[str]]:
        """Return the name and the command that the arguments begin with, and the other arguments."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load_command(name, ctx), rest

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, with those that typer adds by itself."""
        parameters = super().get_params(ctx)
        leave_unchecked(parameters)
        return parameters


def _has_nothing_to_check(parameter: TyperOption | TyperArgument, ctx: Any, value: Any) -> bool:
    """Whether a word is being completed, or the value was not given.

    typer checks such values too, with pydantic, whose import takes longer than all else that help needs.
    """
    return bool(ctx.resilient_parsing) or (value is None and not parameter.required)


class _Option(TyperOption):
    def process_value(self, ctx: Any, value: Any) -> Any:
        return value if _has_nothing_to_check(self, ctx, value) else super().process_value(ctx, value)


class _Argument(TyperArgument):
    def process_value(self, ctx: Any, value: Any) -> Any:
        return value if _has_nothing_to_check(self, ctx, value) else super().process_value(ctx, value)


def leave_unchecked(parameters: Sequence[object]) -> None:
    """Have the parameters of a command check only what was given."""
    for parameter in parameters:
        if type(parameter) is TyperOption:
            parameter.__class__ = _Option  # typer has no way to name the class of an option
        elif type(parameter) is TyperArgument:
            parameter.__class__ = _Argument
