"""An index of an older schema on a server becomes the one that a fresh ingest makes, wherever it stops."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from tests.backends.index import migrating_child
from tests.backends.index.stored_indexes import fill, found_in, server_content, upload_server
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


class StoppingConnection(ServerConnection):
    """Refuses all writes after some."""

    def __init__(self, url: str, *, writes: int) -> None:
        super().__init__(url, timeout_s=20)
        self._left = writes

    def write(self, call: Callable[[], object]) -> None:
        if not self._left:
            raise IndexUnavailableError("stopped")
        self._left -= 1
        super().write(call)


def migrated_with(server: QdrantServer, prefix: str, *, writes: int) -> bool:
    """Migrate on a connection that stops after some writes; return whether they were enough."""
    store = ServerStore(StoppingConnection(server.url, writes=writes), create=False, collection_prefix=prefix)
    try:
        migrate(store, page=migrating_child.PAGE)
        QdrantIndex(store)
    except IndexUnavailableError:
        return False
    finally:
        store.close()
    return True


@pytest.mark.parametrize("writes", [14, 19])
def test_a_migration_on_a_server_that_stops_goes_on_when_the_index_is_opened_again(
    qdrant_server: QdrantServer, fresh_on_server: str, old_on_server: Callable[[], str], writes: int
) -> None:
    """After 14 writes one of two pages is there; after 19 the description is new and no old point is gone."""
    prefix = old_on_server()

    assert not migrated_with(qdrant_server, prefix, writes=writes)
    opened(qdrant_server, prefix).close()

    assert server_content(qdrant_server.url, prefix) == server_content(qdrant_server.url, fresh_on_server)


@pytest.mark.slow
def test_a_migration_on_a_server_may_stop_after_any_write(
    qdrant_server: QdrantServer, fresh_on_server: str, old_on_server: Callable[[], str]
) -> None:
    wanted = server_content(qdrant_server.url, fresh_on_server)
    writes, whole = 0, False
    while not whole:
        prefix = old_on_server()
        whole = migrated_with(qdrant_server, prefix, writes=writes)
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
