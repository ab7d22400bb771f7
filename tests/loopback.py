"""The service over coloured boxes, listening on loopback as a real one does."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from tests.fakes.service import load
from tests.waiting import wait_until

from segdex.http.app import build_app
from segdex.http.keys import ApiKey
from segdex.http.state import Loaded, ServiceState
from segdex.wiring import build_settings


@dataclass(frozen=True, slots=True)
class Service:
    """Where it listens, and what is in it."""

    url: str
    app: FastAPI
    state: ServiceState

    @property
    def loaded(self) -> Loaded:
        return self.state.loaded()


Serve = Callable[..., Service]


@contextmanager
def serving(folder: Path, keys: tuple[ApiKey, ...] = (), **settings: object) -> Iterator[Service]:
    """Run a service whose pictures, uploads and jobs lie in a folder."""
    chosen = build_settings(**{"uploads": folder / "uploads", **settings})
    state = ServiceState(chosen, keys, lambda: load(folder / "set", settings=chosen))
    app = build_app(state)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), what="the service has started")
        assert thread.is_alive()
        state.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Service(f"http://127.0.0.1:{port}", app, state)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(name="serve")
def serve_here(tmp_path: Path) -> Iterator[Serve]:
    """Run services of other keys and settings; they end with the test."""
    with ExitStack() as running:
        yield lambda *keys, **settings: running.enter_context(serving(tmp_path, *keys, **settings))


@pytest.fixture(name="service")
def service_here(serve: Serve) -> Service:
    """A service without keys."""
    return serve()
