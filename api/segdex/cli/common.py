"""Options, consoles, and access to the index and the models, for all commands."""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdex.cli import complete
from segdex_core.choices import Device, ProfileName, Quality, Selection, ViewMode
from segdex_core.errors import ArgumentError, UsageError
from segdex_core.wording import UNPRINTABLE

if TYPE_CHECKING:
    from rich.console import Console

    from segdex.client import Client
    from segdex.library import Library
    from segdex.parts import Parts
    from segdex_core.settings import Settings

ProfileOption = Annotated[
    ProfileName | None,
    typer.Option(
        "--profile",
        help="Profile of the models: default (SAM 2.1 and SigLIP 2 from the hub), or offline.",
    ),
]
IndexOption = Annotated[
    str | None,
    typer.Option("--index", metavar="LOCATION", help="Index: a folder, or http(s)://HOST:PORT."),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Use a segdex service, with the API key in SEGDEX_SERVER_KEY.",
    ),
]
DeviceOption = Annotated[
    Device | None,
    typer.Option("--device", help="Device of the models."),
]
SegmenterOption = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        autocompletion=complete.segmenters,
        help="Another segmenter: a name in `models list`, a hub name, a folder or a .pt file of Meta.",
    ),
]
EmbedderOption = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        autocompletion=complete.embedders,
        help="Another embedder: a name in `models list`, or MODEL:PRETRAINED of open_clip, where "
        "PRETRAINED is a tag or a file.",
    ),
]
RefinerOption = Annotated[
    str | None,
    typer.Option(
        "--refiner",
        autocompletion=complete.refiners,
        help="EVF-SAM2 for --refine and --text: a name in `models list`, a hub name or a folder. Without it "
        "the embedder prompts SAM 2.",
    ),
]
SelectOption = Annotated[
    Selection,
    typer.Option("--select", help="Keep the best masks up to a budget, or apply Meta's fixed thresholds."),
]
QualityOption = Annotated[
    Quality,
    typer.Option("--quality", help="Trade-off between recall and cost; docs/costs.md has a table."),
]
IngestQualityOption = Annotated[
    Quality | None,
    typer.Option(
        "--quality",
        help="Trade-off between recall and cost; docs/costs.md has a table.",
        show_default="quality of the index, or balanced",
    ),
]
BudgetOption = Annotated[
    int | None,
    typer.Option(
        "--segments-per-image", help="Maximum segments per picture (ranked).", show_default="by --quality"
    ),
]
GridOption = Annotated[
    int | None,
    typer.Option(
        "--points-per-side", help="Prompt points along each side.", show_default="by --quality; meta: 32"
    ),
]
CropLayersOption = Annotated[
    int | None,
    typer.Option(
        "--crop-layers",
        help="Layers of windows that are also searched for small objects, 0 to 3.",
        show_default="by --quality; meta: 0",
    ),
]
ViewsOption = Annotated[
    ViewMode | None,
    typer.Option(
        "--views",
        help="Embed two crops of each segment, or pool one pass over the picture: faster, less accurate.",
    ),
]
YesOption = Annotated[
    bool,
    typer.Option("--yes", help="Re-segment pictures of other models or settings without asking."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def console_out() -> "Console":
    """Return the console for answers, which never cuts lines at 80 columns if it is not a terminal."""
    from segdex.cli.consoles import SafeConsole

    return SafeConsole(soft_wrap=True, highlight=False)


def console_err() -> "Console":
    """Return the console for progress and notes, on standard error."""
    from segdex.cli.consoles import SafeConsole

    return SafeConsole(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print one JSON document to standard output: JSON values, or a JSON record."""
    from pydantic import BaseModel

    values = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    sys.stdout.write(json_text(values, indent=2, encoding=sys.stdout.encoding or "utf-8") + "\n")


def json_text(value: object, *, indent: int | None = None, encoding: str = "utf-8") -> str:
    r"""Return JSON values as a document that every reader takes, wherever it is written.

    Lone surrogates, which stand for bytes that are not UTF-8, become the replacement character: strict
    readers refuse them. What would drive a terminal is escaped, and in an encoding other than UTF-8 all but
    ASCII.

    Args:
        value: JSON values.
        indent: Spaces for each level; None for one line.
        encoding: Encoding of the stream.

    Example:
        >>> json_text(["caf\udce9", "\x9b31m"])
        '["caf\ufffd", "\\u009b31m"]'
    """
    text = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", json.dumps(value, indent=indent, ensure_ascii=False))
    escaped = UNPRINTABLE if _is_utf8(encoding) else _NOT_ASCII
    return escaped.sub(lambda found: found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1], text)


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")


_SURROGATES = re.compile("[\ud800-\udfff]")
_NOT_ASCII = re.compile("[^\x00-\x7e]")


def is_there(path: str | Path) -> bool:
    """Return whether a file or folder exists; a name that is too long names none."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises for such a name


def in_words(value: str) -> str:
    """Return a JSON value or name as words.

    Example:
        >>> in_words("not_an_image")
        'not an image'
    """
    return value.replace("_", " ")


_OPTIONS = {
    "box_xyxy": "box",
    "captured_from_s": "since",
    "captured_until_s": "until",
    "colors": "color",
    "everything": "all",
    "authors": "author",
    "labels": "label",
    "first": "refine",
    "negative_points": "not-point",
    "points": "point",
    "segments": "segment",
    "sets": "set",
    "sources": "source",
    "tags": "tag",
    "texts": "also",
    "tolerance_px": "tolerance",
    "view_weights": "view",
}
"""Options whose name differs from the argument that they set."""


def as_option(error: ArgumentError) -> str:
    """Return the message of an argument error, with the name of the option.

    Example:
        >>> as_option(ArgumentError("filter.min_area", "must be between 0 and 1, but got 7"))
        '--min-area must be between 0 and 1, but got 7'
    """
    if error.argument.partition(".")[0] == "labels":  # the words of `segdex label`
        return f"WORD {error.problem}"
    name = error.argument.removeprefix("filter.").partition(".")[0]
    return f"--{_OPTIONS.get(name, name).replace('_', '-')} {error.problem}"


@dataclass(frozen=True, slots=True)
class Session:
    """State that all commands of a call share; typer passes it as the object of the context.

    Attributes:
        given_parts: Functions that open the index and load the models; None for the real ones.
        options: Options before the name of the command.
    """

    given_parts: "Parts | None" = None
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def parts(self) -> "Parts":
        """Functions that open the index and load the models."""
        if self.given_parts is not None:
            return self.given_parts
        from segdex.wiring import REAL

        return REAL

    @classmethod
    def of(cls, context: typer.Context) -> "Session":
        """Return the session of a command."""
        return context.obj if isinstance(context.obj, cls) else cls()


def settings_from(context: typer.Context, **given: object) -> "Settings":
    """Return the settings of a command; its own options override options before its name and the environment.

    Only a command with a ``server`` option can use a service; for other commands ``server`` is unset.

    Raises:
        UsageError: If a value is not allowed, or both an index and a service are named.
    """
    from segdex.wiring import build_settings

    chosen: dict[str, object] = dict(Session.of(context).options)
    chosen.update({name: value for name, value in given.items() if value is not None})
    if "server" in chosen and "index" in chosen:
        raise UsageError("--index and --server cannot go together: name the index here, or the service")
    settings = build_settings(**chosen)
    if "server" not in given or "index" in chosen:
        return settings.model_copy(update={"server": None})
    if settings.server is not None and "server" not in chosen and "index" in settings.model_fields_set:
        raise UsageError("SEGDEX_INDEX and SEGDEX_SERVER are both set: unset one, or say --index or --server")
    return settings


OF_MODELS = ("profile", "device", "segmenter", "embedder", "refiner")
"""Options that choose models; a service refuses them."""


@contextmanager
def opened(
    context: typer.Context, settings: "Settings", *, has_index: bool = True
) -> "Iterator[Library | Client]":
    """Yield the library of a command, local or behind a service, and close it at the end.

    Args:
        context: Context of the command.
        settings: Settings; ``server`` is the address of the service, or None for a local library.
        has_index: False for a command that needs no index.

    Raises:
        UsageError: If the address of the service is invalid.
    """
    if settings.server is None:
        with opened_here(context, settings, has_index=has_index) as library:
            yield library
        return
    with client_of(settings.server, settings) as client:
        yield client


def client_of(server: str, settings: "Settings") -> "Client":
    """Return the client of a service with the key of the settings; the caller closes it.

    Raises:
        UsageError: If the address is invalid.
    """
    from segdex.client import Client  # a local index needs no HTTP
    from segdex.wiring import cache_folder

    key = settings.server_key
    return Client(
        server,
        api_key=None if key is None else key.get_secret_value(),
        cache_dir=cache_folder(settings),
    )


@contextmanager
def opened_here(
    context: typer.Context, settings: "Settings", *, has_index: bool = True
) -> "Iterator[Library]":
    """Yield the local library of a command, and close it at the end."""
    from segdex.wiring import open_library

    with open_library(settings, Session.of(context).parts, has_index=has_index) as library:
        yield library


def refuse_options(context: typer.Context, *names: str) -> None:
    """Raise if one of these options was given, here or before the command: a service has its own.

    Raises:
        UsageError: If options were given; the message lists them.
    """
    contexts = [context] if context.parent is None else [context, context.parent]
    given = [
        f"--{name.replace('_', '-')}"
        for name in names
        if any(
            (source := one.get_parameter_source(name)) and source.name == "COMMANDLINE" for one in contexts
        )
    ]
    if given:
        raise UsageError(
            f"{', '.join(given)} cannot go with --server: the service has models and settings of its own"
        )


def parse_time(text: str | None, *, option: str) -> float | None:
    """Return the seconds since 1970 of an ISO 8601 date or time; UTC if it has no time zone.

    Raises:
        UsageError: If the text is not a date or time.
    """
    if text is None:
        return None
    from segdex_core.wire.document import parse_moment

    try:
        return parse_moment(text).timestamp()
    except ValueError as error:
        raise UsageError(f"{option} {error}") from error
