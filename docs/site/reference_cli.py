"""The reference of the command line, from the help of the application itself."""

import re
from collections.abc import Iterator
from typing import Any

from docs.site.markdown import code, escaped, table
from typer.main import get_group

from segdex.cli.commands import COMMANDS, load_command
from segdex.cli.main import build_app


def cli_page() -> str:
    """Return the page: each command with its arguments, options, variables and defaults."""
    app = get_group(build_app())
    context: Any = app.context_class(app, info_name="segdex")
    lines = [
        "# Command line",
        "",
        "This page is generated from `segdex --help` and the help of each command.",
        "[The commands in short](../commands.md) has one line for each, and the exit codes.",
        "",
        "## segdex",
        "",
        "The options of `segdex` may stand before or after the command.",
        "",
        *_options(app, context),
    ]
    for name in COMMANDS:
        lines += _command(name, load_command(name, context), context)
    return "\n".join(lines)


def _command(name: str, command: Any, parent: Any) -> Iterator[str]:
    context = command.context_class(command, info_name=name, parent=parent)
    path = context.command_path
    yield from (f"## {path}" if path.count(" ") == 1 else f"### {path}", "")
    yield from _help(command.help or "")
    members = getattr(command, "commands", None)
    if members is None:
        usage = " ".join(command.collect_usage_pieces(context))
        yield from ("```text", f"{path} {usage}", "```", "")
        yield from _options(command, context)
    else:
        for member, each in members.items():
            yield from _command(member, each, context)


def _help(text: str) -> Iterator[str]:
    for paragraph in text.replace("\b", "").strip().split("\n\n"):
        yield from (escaped(paragraph), "")


def _options(command: Any, context: Any) -> list[str]:
    """Return a table of arguments and options as ``--help`` has them, without ``--help`` itself."""
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [
        (code(" ".join(names.split())), escaped(_shown(text)))
        for names, text in filter(None, records)
        if not re.search(r"--help\b|-completion\b", names)
    ]
    return table(("argument or option", "meaning"), rows) if rows else []


def _shown(text: str) -> str:
    """Return a help text with its variable and its default as code.

    Example:
        >>> _shown("Maximum. [env: A]  [default: 10]")
        'Maximum. Variable: `A`. Default: `10`.'
    """
    text = text.replace("\N{NO-BREAK SPACE}", " ")  # keeps a variable on one line of a terminal
    said = re.sub(r"\s*\[([^\[\]]*(?:env|default): [^\[\]]*)\]", lambda found: _facts(found.group(1)), text)
    return said.strip()


def _facts(text: str) -> str:
    words = {"env": "Variable", "default": "Default"}
    found = re.split(r";\s*(?=env:|default:)", text)
    named = [part.partition(": ") for part in found]
    return "".join(
        f" {words[name]}: {value if ' ' in value else code(value)}."
        for name, _, value in named
        if name in words
    )
