"""JSON Lines: each record on a line of its own as soon as it is there, for the verbs that take long."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segdex.cli.common import json_text
from segdex_core.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

Form = Literal["text", "json", "lines"]
"""Of an answer: text for people, one JSON document, or JSON Lines."""

JsonLinesOption = Annotated[
    bool,
    typer.Option("--json-lines", help="Print each record as a line of JSON as soon as it is there."),
]


def json_form(*, as_json: bool, as_lines: bool) -> Form:
    """Return the form of the answer.

    Raises:
        UsageError: If both forms of JSON are asked for.
    """
    if as_json and as_lines:
        raise UsageError("--json and --json-lines cannot go together: leave one of them out")
    return "lines" if as_lines else "json" if as_json else "text"


def print_line(record: "BaseModel") -> None:
    """Print a record as one line of ASCII, and send it on its way."""
    # a progress bar on a terminal takes standard output over, and would print the line as its own
    out = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    out.write(json_text(record.model_dump(mode="json"), encoding="ascii") + "\n")
    out.flush()
