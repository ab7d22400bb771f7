"""The service over coloured boxes, listening on loopback as a real one does."""

import threading
from collections.abc import Callable, Iterator
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


@pytest.fixture(name="serve")
def _serve(tmp_path: Path) -> Iterator[Serve]:
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def serve(keys: tuple[ApiKey, ...] = (), **settings: object) -> Service:
        chosen = build_settings(**{"uploads": tmp_path / "uploads", **settings})
        state = ServiceState(chosen, keys, lambda: load(tmp_path / "set", settings=chosen))
        app = build_app(state)
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        wait_until(lambda: server.started or not thread.is_alive(), what="the service has started")
        assert thread.is_alive()
        state.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        return Service(f"http://127.0.0.1:{port}", app, state)

    yield serve
    for server, thread in running:
        server.should_exit = True
        thread.join()


@pytest.fixture(name="service")
def _service(serve: Serve) -> Service:
    return serve()


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVER", "SERVER_KEY", "INDEX", "PROFILE"):
        monkeypatch.delenv(f"SEGDEX_{name}", raising=False)
