"""A service over fakes, as its tests ask it: in this process, without a network."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.fakes.service import HERE, Make, load
from tests.queues import _clock, _quick_storage, _redis_url, _storage

from segdex.http.app import build_app
from segdex.http.keys import ApiKey
from segdex.http.state import ServiceState
from segdex.http.tracing import Tracing
from segdex.wiring import build_settings

__all__ = ["_clock", "_quick_storage", "_redis_url", "_storage"]


@pytest.fixture(name="make")
def _make(tmp_path: Path) -> Iterator[Make]:
    """Make services of other keys and settings; they end with the test."""
    clients: list[TestClient] = []

    def make(
        keys: tuple[ApiKey, ...] = (),
        *,
        tracing: Tracing | None = None,
        extend: Callable[[FastAPI], None] | None = None,
        **settings: object,
    ) -> TestClient:
        chosen = build_settings(**{"uploads": tmp_path / "uploads", **settings})
        state = ServiceState(chosen, keys, lambda: load(tmp_path / "set", settings=chosen))
        app = build_app(state, tracing=tracing)
        if extend is not None:
            extend(app)
        client = TestClient(app, base_url=HERE)
        client.__enter__()
        clients.append(client)
        state.wait()
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture(name="client")
def _client(make: Make) -> TestClient:
    return make()
