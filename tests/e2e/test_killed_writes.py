"""Kills at the writes of operations, as in ``tests/ingest/test_killed.py``, with the files of Qdrant."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from tests.conftest import Tried
from tests.e2e.embedded import Run, copy_tree, run_at
from tests.fakes.point_store import Killed, KilledStore, Stored
from tests.ingest.consistent import assert_consistent, points_of
from tests.ingest.operations import (
    OPERATIONS,
    Folder,
    Operation,
    dump_of,
    ingest,
    ingest_as_it_is,
    make_deterministic,
    opened,
    sync,
)
from tests.qdrant_server import QdrantServer

from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.point_store import PointStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.index.server_connection import ServerConnection
from segdex_backends.index.server_store import ServerStore
from segdex_ingest.dump import restore_into

pytestmark = pytest.mark.slow

_OF_A_FOLDER = (
    "new",
    "replaced",
    "renamed",
    "redone",
    "tagged",
    "deleted",
    "synced",
    "set deleted",
    "restored",
)
_OF_A_SERVER = ("replaced", "redone", "deleted")


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    make_deterministic(monkeypatch)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def ordinary(index: QdrantIndex, folder: Folder) -> None:
    ingest_as_it_is(index, folder)
    sync(index)


def killed_at(base: Path, operation: Operation, folder: Folder, *, step: int) -> Iterator[Path]:
    """Yield what a process leaves that dies right before a write; one folder for every ``step``-th write."""
    for last in itertools.count(1, step):
        home, left = (base.with_name(uuid4().hex) for _ in range(2))
        copy_tree(base, home)
        store = EdgeStore(home, create=True)
        try:
            operation.run(QdrantIndex(cast("PointStore", KilledStore(store, last=last))), folder)
            return
        except Killed:
            copy_tree(home, left)  # the files as they are, while nothing was flushed or closed
        finally:
            store.close()
            shutil.rmtree(home)
        yield left
        shutil.rmtree(left)


@pytest.mark.promise("Index", "An embedded index that was killed at any write is whole after the next run.")
@pytest.mark.parametrize("name", _OF_A_FOLDER)
def test_an_embedded_index_is_repaired(
    folder: Folder, fast_folder: Path, name: str, tried: Tried, as_promised: bool
) -> None:
    operation = OPERATIONS[name]
    base, whole, repaired = (fast_folder / uuid4().hex for _ in range(3))
    base.mkdir()
    if not operation.starts_empty:
        run_at(base, folder, ingest)
        with closing(QdrantIndex(EdgeStore(base, create=False))) as index:
            operation.before(index, folder)
    for home in (whole, repaired):
        copy_tree(base, home)
    expected = run_at(whole, folder, operation.run)
    expected_after = run_at(repaired, folder, operation.run, ordinary)
    kills = 0

    for kills, left in enumerate(killed_at(base, operation, folder, step=1 if as_promised else 2), 1):
        other = left.with_name(uuid4().hex)
        copy_tree(left, other)
        assert run_at(left, folder, operation.run) == expected, f"at kill {kills}"
        found = run_at(other, folder, ordinary)
        if operation.repairs:
            assert found == expected_after, f"at kill {kills}"
        shutil.rmtree(other)

    assert kills > 1
    tried(kills, "kills")


@pytest.mark.qdrant
@pytest.mark.promise("Index", "What a process left on a server at any write is whole after the next run.")
@pytest.mark.parametrize("name", _OF_A_SERVER)
def test_an_index_on_a_server_is_repaired(
    folder: Folder, qdrant_server: QdrantServer, name: str, tried: Tried
) -> None:
    operation, dump = OPERATIONS[name], dump_of(folder)
    operation.before(opened(Stored()), folder)

    def run_on(prefix: str, *runs: Run, last: int | None = None) -> object:
        server = ServerConnection(qdrant_server.url, timeout_s=60)
        with closing(ServerStore(server, create=True, collection_prefix=prefix)) as store:
            index = QdrantIndex(cast("PointStore", KilledStore(store, last=last)))
            for run in runs:
                run(index, folder)
            assert_consistent(index)
            return points_of(store)

    def filled() -> str:
        """Return the prefix of another index as it is before the operation."""
        prefix = f"test-{uuid4()}"
        run_on(prefix, lambda index, _: restore_into(index, dump))
        return prefix

    expected = run_on(filled(), operation.run)
    count, is_killed = 0, True
    while is_killed:
        prefix = filled()
        try:
            run_on(prefix, operation.run, last=count + 1)
            is_killed = False
        except Killed:
            count += 1
            assert run_on(prefix, operation.run) == expected, f"killed before write {count}"

    assert count > 1
    tried(count, "kills")
