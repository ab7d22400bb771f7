"""``segdex``: the commands, and the only place where an error becomes a line and an exit code."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import Abort, Exit, TyperException

from segdex.cli.commands import LazyGroup
from segdex.cli.common import DeviceOption, IndexOption, ProfileOption, ServerOption, Session, as_option
from segdex.cli.streams import OutputError, escape_unencodable, guard_streams
from segdex.faults import full_disk
from segdex.loggers import TextFormatter, set_level
from segdex_core.errors import ArgumentError, SegdexError, UsageError
from segdex_core.wording import printable

if TYPE_CHECKING:
    from segdex.parts import Parts

EXIT_LOST = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h

_OF_A_SERVICE = (
    "search",
    "show",
    "stats",
    "delete",
    "segment",
    "ingest",
    "jobs",
    "label",
    "import",
    "set",
    "concept",
    "doctor",
    "export",
)
"""Commands that a service can answer."""


def build_app() -> typer.Typer:
    """Return the command line application."""
    app = typer.Typer(
        name="segdex",
        help="Find the objects in your pictures: SAM 2 segments, CLIP vectors, a Qdrant index, text queries.",
        epilog="Exit codes: 0 ok, 1 some files failed, 2 usage, 3 the index or a model is not usable.",
        cls=LazyGroup,
        no_args_is_help=True,
        rich_markup_mode=None,  # Rich takes text in square brackets for markup, and drops it
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    guard_streams()
    _quieten_libraries()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str], *, parts: "Parts | None" = None) -> int:
    """Run the command line and return its exit code; errors are one line on standard error.

    Args:
        arguments: Arguments without the name of the program.
        parts: Functions that open the index and load the models; None for the real ones.
    """
    escape_unencodable()
    try:
        code = _run(arguments, parts)
        sys.stdout.flush()
    except OutputError as error:
        # a reader such as `head` has what it wants; on a full disk something is lost
        return 0 if error.is_closed else _fail(str(error), EXIT_LOST)
    return code


def _run(arguments: Sequence[str], parts: "Parts | None") -> int:
    try:
        completed = with_refine_default(arguments)
        result = build_app()(args=completed, prog_name="segdex", standalone_mode=False, obj=Session(parts))
        code = result if isinstance(result, int) else 0
    except ArgumentError as error:
        code = _fail(as_option(error), error.exit_code)
    except SegdexError as error:
        code = _fail(str(error), error.exit_code)
    except TyperException as error:
        code = _fail(_explain(error), EXIT_USAGE)
    except Exit as error:
        code = error.exit_code
    except (KeyboardInterrupt, Abort):
        code = _fail("interrupted; what was finished is kept", EXIT_INTERRUPTED)
    except OutputError:
        raise
    except Exception as error:  # the process boundary: the user sees one line, the log the stack
        logging.getLogger(__name__).debug("unexpected error", exc_info=True)
        bug = (
            f"unexpected {type(error).__name__}: {' '.join(str(error).split())}; this is a bug of segdex, "
            "SEGDEX_LOG=debug shows where"
        )
        full = full_disk(error)
        code = _fail(bug, EXIT_BUG) if full is None else _fail(full, SegdexError.exit_code)
    return code


def with_refine_default(arguments: Sequence[str]) -> list[str]:
    """Return the arguments, with the default number after ``--refine`` where no number follows.

    Example:
        >>> with_refine_default(["search", "--refine", "a cat"])
        ['search', '--refine', '5', 'a cat']
    """
    if "--refine" not in arguments:
        return list(arguments)
    from segdex_core.wire.limits import DEFAULT_REFINED

    completed: list[str] = []
    for position, argument in enumerate(arguments):
        completed.append(argument)
        following = arguments[position + 1] if position + 1 < len(arguments) else ""
        if argument == "--refine" and not following.lstrip("-").isdigit():
            completed.append(str(DEFAULT_REFINED))
    return completed


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"segdex {version('segdex')}")
        raise Exit(0)


VersionOption = Annotated[
    bool,
    # without the callback, typer would first report a missing command
    typer.Option(
        "--version", "-V", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
]


def _global_options(
    context: typer.Context,
    profile: ProfileOption = None,
    index: IndexOption = None,
    server: ServerOption = None,
    device: DeviceOption = None,
    _version: VersionOption = False,
) -> None:
    verb = context.invoked_subcommand
    if server is not None and verb is not None and verb not in _OF_A_SERVICE:
        raise UsageError(_not_of_a_service(verb))
    given = {"profile": profile, "index": index, "server": server, "device": device}
    options = {name: value for name, value in given.items() if value is not None}
    context.obj = replace(Session.of(context), options=options)


def _explain(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    path = str(getattr(context, "command_path", "segdex"))
    if getattr(error, "option_name", None) == "--server":
        return _not_of_a_service(path.removeprefix("segdex "))
    message = error.format_message()
    if context is not None and message == context.get_help():  # no command was given
        typer.echo(message)
        return f"say what to do: {path} --help"
    # in the form of the messages about all other values
    message = re.sub(
        r"^Invalid value for '(--[\w-]+)': Value error, (.*) is not one of (.*)\.$",
        r"\1 must be one of \3, but got \2",
        message,
        flags=re.DOTALL,
    )
    return re.sub(r"^Invalid value for '(--[\w-]+)': Input should ", r"\1 must ", message)


def _not_of_a_service(verb: str) -> str:
    return (
        f"`{verb}` works on this machine alone: leave --server out, and name an index with --index where it "
        f"needs one; a service answers {', '.join(_OF_A_SERVICE)}"
    )


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"segdex: {printable(line)}\n")
    return code


def _quieten_libraries() -> None:
    """Hide warnings and logs of libraries; ``SEGDEX_LOG`` shows them."""
    given = os.environ.pop("SEGDEX_LOG", "").upper()
    level = given if given in logging.getLevelNamesMapping() else "ERROR"
    shown = logging.StreamHandler()
    shown.setFormatter(TextFormatter(logging.BASIC_FORMAT))
    logging.basicConfig(handlers=[shown], level=level)
    if not given:  # otherwise nobody would know why a command waits
        waits = logging.getLogger("segdex_backends.index.edge_lock")
        if not waits.handlers:
            waits.addHandler(_Notices())
        waits.propagate = False
    if given == level:
        set_level(level)  # only if it is set: `segdex serve` has its own default
    if level in {"ERROR", "CRITICAL"}:
        warnings.simplefilter("ignore")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class _Notices(logging.Handler):
    """Writes what a user has to know as lines of this command."""

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        sys.stderr.write(f"segdex: {printable(record.getMessage())}\n")


if __name__ == "__main__":
    main()
