"""An index of an older schema on a server becomes the one that a fresh ingest makes, wherever it stops."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from qdrant_client import QdrantClient
from tests.backends.index import migrating_child
from tests.backends.index.stored_indexes import (
    fill,
    found_in,
    server_collections,
    server_content,
    upload_server,
)
from tests.qdrant_server import QdrantServer

from segdex_backends.index.migrations import migrate
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.index.server_connection import ServerConnection
from segdex_backends.index.server_store import ServerStore
from segdex_core.errors import IndexUnavailableError


def opened(server: QdrantServer, prefix: str, *, create: bool = False) -> QdrantIndex:
    return QdrantIndex(
        ServerStore(ServerConnection(server.url, timeout_s=20), create=create, collection_prefix=prefix)
    )


@pytest.fixture(scope="module")
def fresh_on_server(qdrant_server: QdrantServer) -> str:
    """The prefix of an index that this segdex wrote."""
    prefix = f"test-{uuid4()}"
    index = opened(qdrant_server, prefix, create=True)
    fill(index)
    index.close()
    return prefix


@pytest.fixture
def old_on_server(qdrant_server: QdrantServer, fast_folder: Path) -> Callable[[], str]:
    """Makes an index of schema 3, and returns its prefix."""

    def make() -> str:
        prefix = f"test-{uuid4()}"
        upload_server(qdrant_server.url, prefix, fast_folder / prefix)
        return prefix

    return make


def test_an_index_on_a_server_becomes_a_fresh_one_point_for_point(
    qdrant_server: QdrantServer, fresh_on_server: str, old_on_server: Callable[[], str]
) -> None:
    prefix = old_on_server()

    index, other = opened(qdrant_server, prefix), opened(qdrant_server, fresh_on_server)

    assert found_in(index) == found_in(other)
    for one in (index, other):
        one.close()
    assert server_content(qdrant_server.url, prefix) == server_content(qdrant_server.url, fresh_on_server)


WRITES = frozenset({
    "create_collection", "create_payload_index", "delete_collection", "update_collection",
    "update_collection_aliases", "upsert",
})  # fmt: skip
"""Methods of a client by which a migration writes."""


class StoppingClient:
    """A client of a process that ends before a write: from then on, no call comes through.

    Args:
        client: The client of a server.
        methods: Methods that are counted.
        calls: Number of calls of these methods that come through.
    """

    def __init__(self, client: QdrantClient, *, methods: frozenset[str], calls: int) -> None:
        self._client = client
        self._methods = methods
        self._left = calls
        self._has_ended = False

    def close(self) -> None:
        self._client.close()

    def __getattr__(self, name: str) -> object:
        if name in self._methods:
            self._has_ended = self._has_ended or not self._left
            self._left -= 1
        if self._has_ended:
            raise IndexUnavailableError("stopped")
        found: object = getattr(self._client, name)
        return found


class StoppingConnection(ServerConnection):
    """A connection with a ``StoppingClient``."""

    def __init__(self, url: str, *, methods: frozenset[str], calls: int) -> None:
        super().__init__(url, timeout_s=20)
        self.client = StoppingClient(self.client, methods=methods, calls=calls)  # type: ignore[assignment]


def migrated_with(server: QdrantServer, prefix: str, *, calls: int, methods: frozenset[str] = WRITES) -> bool:
    """Migrate in a process that ends after some calls of some methods; return whether they were enough."""
    connection = StoppingConnection(server.url, methods=methods, calls=calls)
    store = ServerStore(connection, create=False, collection_prefix=prefix)
    try:
        migrate(store, page=migrating_child.PAGE)
        QdrantIndex(store)
    except IndexUnavailableError:
        return False
    finally:
        store.close()
    return True


@pytest.mark.parametrize(
    ("method", "calls", "left"),
    [
        pytest.param(
            "upsert",
            1,
            {"images": 5, "segments": 48, "segments-4": migrating_child.PAGE},
            id="one of two pages is copied",
        ),
        pytest.param(
            "update_collection",
            0,
            {"images": 5, "images-4": 5, "segments": 48, "segments-4": 48},
            id="all is copied, the description is the old one",
        ),
        pytest.param(
            "update_collection_aliases",
            0,
            {"images": 5, "images-4": 5, "segments": 48, "segments-4": 48},
            id="the description is new, the old collections are still there",
        ),
        pytest.param(
            "update_collection_aliases",
            1,
            {"images": 5, "images-4": 5, "segments-4": 48},
            id="the old segments are removed, and no alias names the new ones",
        ),
        pytest.param(
            "update_collection",
            1,
            {"images-4": 5, "segments-4": 48, "sets-5": 0},
            id="there is a collection for sets, the description is of schema 4",
        ),
    ],
)
def test_a_migration_on_a_server_that_stops_goes_on_when_the_index_is_opened_again(
    qdrant_server: QdrantServer,
    fresh_on_server: str,
    old_on_server: Callable[[], str],
    *,
    method: str,
    calls: int,
    left: dict[str, int],
) -> None:
    prefix = old_on_server()

    assert not migrated_with(qdrant_server, prefix, calls=calls, methods=frozenset({method}))
    assert server_collections(qdrant_server.url, prefix) == left
    opened(qdrant_server, prefix).close()

    assert server_content(qdrant_server.url, prefix) == server_content(qdrant_server.url, fresh_on_server)


def test_a_migration_makes_no_payload_index_of_collections_that_it_removes(
    qdrant_server: QdrantServer, old_on_server: Callable[[], str]
) -> None:
    prefix = old_on_server()

    assert not migrated_with(qdrant_server, prefix, calls=0, methods=frozenset({"create_collection"}))

    client = QdrantClient(qdrant_server.url, check_compatibility=False)
    assert client.get_collection(f"{prefix}-segments").payload_schema == {}
    client.close()


@pytest.mark.slow
def test_a_migration_on_a_server_may_stop_after_any_write(
    qdrant_server: QdrantServer, fresh_on_server: str, old_on_server: Callable[[], str]
) -> None:
    wanted = server_content(qdrant_server.url, fresh_on_server)
    writes, whole = 0, False
    while not whole:
        prefix = old_on_server()
        whole = migrated_with(qdrant_server, prefix, calls=writes)
        opened(qdrant_server, prefix).close()
        assert server_content(qdrant_server.url, prefix) == wanted, f"stopped after {writes} writes"
        writes += 1
    assert writes > 12


def test_many_processes_may_migrate_an_index_at_once(
    qdrant_server: QdrantServer, fresh_on_server: str, old_on_server: Callable[[], str]
) -> None:
    wanted = server_content(qdrant_server.url, fresh_on_server)
    for _ in range(3):
        prefix = old_on_server()

        with ThreadPoolExecutor(4) as pool:
            for index in pool.map(lambda _, prefix=prefix: opened(qdrant_server, prefix), range(4)):
                index.close()

        assert server_content(qdrant_server.url, prefix) == wanted
