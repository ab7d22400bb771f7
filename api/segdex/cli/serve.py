"""``segdex serve`` and ``segdex keys``."""

import gc
import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from segdex.cli.common import (
    DeviceOption,
    EmbedderOption,
    IndexOption,
    ProfileOption,
    RefinerOption,
    SegmenterOption,
    Session,
    console_out,
    settings_from,
)
from segdex.roles import Role
from segdex_core.errors import UsageError

_log = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("serve")(serve_command)
    app.command("keys")(keys_command)


def serve_command(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 8600,
    api_keys: Annotated[
        Path | None,
        typer.Option("--api-keys", help="File of API keys; required unless --host is loopback."),
    ] = None,
    uploads: Annotated[Path | None, typer.Option("--uploads", help="Folder for uploaded pictures.")] = None,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    refiner: RefinerOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    device: DeviceOption = None,
) -> int:
    """Start the HTTP service: a REST API under /v1 and a page at /."""
    import uvicorn

    from segdex.http.app import build_app
    from segdex.http.keys import check_exposure, read_keys
    from segdex.http.logs import start_logging
    from segdex.http.state import Loaded, ServiceState
    from segdex.http.tracing import start_tracing
    from segdex.wiring import load_service

    settings = settings_from(
        context,
        profile=profile,
        index=index,
        device=device,
        segmenter=segmenter,
        embedder=embedder,
        refiner=refiner,
        api_keys=api_keys,
        uploads=uploads,
    )
    if not 1 <= port <= 65535:
        raise UsageError(f"--port must be between 1 and 65,535, but got {port}")
    keys = () if settings.api_keys is None else read_keys(settings.api_keys)
    check_exposure(host, keys)
    parts = Session.of(context).parts
    # a service that listens on all addresses answers on this one too
    reached_at = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104

    def load() -> Loaded:
        loaded = load_service(settings, parts, address=f"http://{reached_at}:{port}")
        # Objects of libraries and models are never freed. Each full collection would traverse them, and one
        # search in twenty would take longer: p95 of 16 clients 520 ms, frozen 310 ms (tests/benchmarks).
        gc.collect()
        gc.freeze()
        return loaded

    state = ServiceState(settings, keys, load)
    start_logging(settings.log_format)
    tracing = start_tracing(os.environ)
    _log.info("segdex at http://%s:%d (the models are being loaded)", host, port)
    app = build_app(state, tracing=tracing)
    # records of uvicorn use our handler; the access log is our own
    uvicorn.run(app, host=host, port=port, log_config=None, access_log=False, server_header=False)
    return 0


def keys_command(
    name: Annotated[str, typer.Argument(help="Name of the user of the key.")],
    role: Annotated[Role, typer.Option("--role", help="Role of the key.")] = "read",
) -> int:
    """Create an API key: it is shown once, and its line belongs in the file of SEGDEX_API_KEYS."""
    from segdex.http.keys import make_key

    if not name.strip() or not name.isprintable():
        raise UsageError(f"the name of a key must be printable text, but is {name!r}")
    key, kept = make_key(name.strip(), role)
    console_out().print(f"key   {key}\nline  {kept.to_line()}", markup=False)
    return 0
