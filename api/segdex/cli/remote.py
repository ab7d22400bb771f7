"""How commands ask a service instead of an index here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from segdex_core.errors import UsageError
from segdex_core.settings import Settings

if TYPE_CHECKING:
    from segdex.client import Client

OF_MODELS = ("profile", "device", "segmenter", "embedder", "refiner")
"""Options that choose models, which a service has chosen."""


@contextmanager
def connected(settings: Settings, server: str) -> Iterator["Client"]:
    """Return the client of a service, and close it at the end, whatever happens.

    Args:
        settings: With the key.
        server: Its address.

    Raises:
        UsageError: If it is none.
    """
    from segdex.client import Client  # what works on an index here needs no HTTP

    key = settings.server_key
    with Client(server, api_key=None if key is None else key.get_secret_value()) as client:
        yield client


def refuse_options(context: typer.Context, *names: str) -> None:
    """Raise if one of these options was given, here or before the verb: a service has its own.

    Raises:
        UsageError: With all that were.
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
