"""What the commands share: options, consoles, and how they reach the index and the models."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from segdex.wiring import REAL, Parts, build_settings
from segdex_core.errors import UsageError
from segdex_core.ports.index import SegmentIndex
from segdex_core.settings import Settings

ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="default|offline",
        help="Models to use; unset: those that filled the index, else default. [env: SEGDEX_PROFILE]",
    ),
]
IndexOption = Annotated[
    str | None,
    typer.Option("--index", metavar="LOCATION", help="edge:PATH or http(s)://HOST:PORT. [env: SEGDEX_INDEX]"),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Ask a segdex service instead; its key is in SEGDEX_SERVER_KEY. [env: SEGDEX_SERVER]",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", metavar="auto|cpu|cuda", help="Where the models run. [env: SEGDEX_DEVICE]"),
]
SegmenterOption = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        help="Instead of the profile's: a name of `models list`, a hub name, a folder or Meta's .pt file. "
        "[env: SEGDEX_SEGMENTER]",
    ),
]
EmbedderOption = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="Instead of the profile's: a name of `models list`, or MODEL:PRETRAINED of open_clip, where "
        "PRETRAINED is a tag or a file. [env: SEGDEX_EMBEDDER]",
    ),
]
RefinerOption = Annotated[
    str | None,
    typer.Option(
        "--refiner",
        help="EVF-SAM2 for --refine and --text: a name of `models list`, a hub name or a folder; unset: the "
        "embedder prompts SAM 2. [env: SEGDEX_REFINER]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the answer as JSON to standard output.")]


def console_out() -> Console:
    """Return the console for answers: never cut to 80 columns when it is no terminal."""
    return Console(soft_wrap=True, highlight=False)


def console_err() -> Console:
    """Return the console for progress and notes, on standard error."""
    return Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Write one JSON document to standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


@dataclass(frozen=True, slots=True)
class Session:
    """What every command of a call shares: typer hands it on as the object of the context.

    Attributes:
        parts: What opens the index and loads the models.
        options: Those that stand before the name of the command.
    """

    parts: Parts = REAL
    options: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, context: typer.Context) -> "Session":
        """Return the session of a command."""
        return context.obj if isinstance(context.obj, cls) else cls()


def settings_from(context: typer.Context, **given: object) -> Settings:
    """Return the settings of a command: its own options, else those before its name, else the environment.

    Only a command that names ``server`` among its options can ask a service; for the others it is unset.

    Raises:
        UsageError: If a value is not allowed, or both an index and a service are named.
    """
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


def check_limit(limit: int | None) -> None:
    """Raise unless ``--limit`` was left out or is a number of pictures.

    Raises:
        UsageError: If it is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be 1 or more, but got {limit}")


@contextmanager
def opened(parts: Parts, settings: Settings, *, create: bool = False) -> Iterator[SegmentIndex]:
    """Open the index of the settings and close it at the end, whatever happens."""
    index = parts.open_index(settings, create=create)
    try:
        yield index
    finally:
        index.close()


def parse_time(text: str | None, *, option: str) -> float | None:
    """Return the seconds since 1970 of an ISO 8601 date or time; UTC where it names no zone.

    Raises:
        UsageError: If it is none.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{option} must be a date such as 2026-11-23 or 2026-11-23T18:30, but is {text!r}"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
