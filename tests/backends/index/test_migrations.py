"""An index of an older schema becomes the one that a fresh ingest makes, wherever it is interrupted."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from tests.backends.index import migrating_child
from tests.backends.index.schema_3 import (
    edge_content,
    server_content,
    stored_pictures,
    unpack_edge,
    upload_server,
)
from tests.backends.index.stored_samples import DIM, FINGERPRINT, VIEWS
from tests.needs import ROOT
from tests.qdrant_server import QdrantServer

from segdex_backends.index import migrations
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.layout import image_vector, segment_vector
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.index.server_connection import ServerConnection
from segdex_backends.index.server_store import ServerStore
from segdex_core.errors import IndexUnavailableError
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import FusedSegment


def fill(index: SegmentIndex) -> None:
    index.ensure(FINGERPRINT)
    for picture in stored_pictures():
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)


def found_in(index: SegmentIndex) -> list[FusedSegment]:
    """What a few queries find."""
    rng = np.random.default_rng(0)
    found: list[FusedSegment] = []
    for object_weight in (0.0, 0.2):
        queries = {view: rng.normal(size=DIM).astype(np.float32) for view in VIEWS}
        found += index.query_fused(
            queries, weights={"crop": 0.4, "mask": 0.6}, object_weight=object_weight, limit=20
        )
    return found


@pytest.fixture
def home(fast_folder: Path) -> Path:
    """A folder with an index of schema 3."""
    home = fast_folder / str(uuid4())
    unpack_edge(home)
    return home


@pytest.fixture(scope="module")
def fresh(fast_folder: Path) -> Path:
    """A folder with the same content, written by this segdex."""
    home = fast_folder / "fresh"
    index = QdrantIndex(EdgeStore(home, create=True))
    fill(index)
    index.close()
    return home


def test_an_embedded_index_becomes_a_fresh_one_point_for_point(
    home: Path, fresh: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        index = QdrantIndex(EdgeStore(home, create=False))

    assert [one.getMessage() for one in caplog.records] == [f"migrating edge:{home} from schema 3 to 4"]
    assert index.fingerprint() == FINGERPRINT
    other = QdrantIndex(EdgeStore(fresh, create=False))
    assert found_in(index) == found_in(other)
    assert list(index.scroll_images()) == list(other.scroll_images())
    for one in (index, other):
        one.close()
    assert edge_content(home) == edge_content(fresh)


def test_a_migrated_index_is_written_to_as_any_other(home: Path, fresh: Path) -> None:
    index = QdrantIndex(EdgeStore(home, create=True))
    before = index.counts()

    fill(index)  # the same again

    assert index.counts() == before
    index.close()
    assert edge_content(home) == edge_content(fresh)


def test_a_migration_that_is_killed_anywhere_goes_on_when_the_index_is_opened_again(
    home: Path, fresh: Path
) -> None:
    wanted = edge_content(fresh)
    steps = 0
    while True:
        steps += 1
        broken = home.with_suffix(f".{steps}")
        shutil.copytree(home, broken)
        child = [sys.executable, "-m", migrating_child.__name__, str(broken), str(steps)]
        ended = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, check=False)
        QdrantIndex(EdgeStore(broken, create=False)).close()
        assert edge_content(broken) == wanted, f"killed at step {steps}"
        shutil.rmtree(broken)
        if ended.stdout == "whole\n":
            break
        assert ended.returncode == 9, ended.stderr
    assert steps > 9  # two shards made, three pages written, the description replaced, two shards removed


def test_a_removal_that_was_stopped_half_way_is_finished(home: Path, fresh: Path) -> None:
    QdrantIndex(EdgeStore(home, create=False)).close()
    old = home.with_suffix(".old")
    unpack_edge(old)
    (old / "segments").rename(home / "segments")
    (home / "segments" / "edge_config.json").unlink()
    (home / "notes").mkdir()  # of somebody else

    QdrantIndex(EdgeStore(home, create=False)).close()

    assert (home / "notes").exists()
    (home / "notes").rmdir()
    assert edge_content(home) == edge_content(fresh)


def test_vectors_are_named_by_embedder_and_views() -> None:
    assert segment_vector(FINGERPRINT) == "98eb9f58d1f3-crop+mask"
    assert image_vector(FINGERPRINT) == "98eb9f58d1f3-image"


def opened(server: QdrantServer, prefix: str, *, create: bool = False) -> QdrantIndex:
    return QdrantIndex(ServerStore(server.url, timeout_s=20, create=create, collection_prefix=prefix))


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


@pytest.mark.qdrant
def test_an_index_on_a_server_becomes_a_fresh_one_point_for_point(
    qdrant_server: QdrantServer, fresh_on_server: str, old_on_server: Callable[[], str]
) -> None:
    prefix = old_on_server()

    index, other = opened(qdrant_server, prefix), opened(qdrant_server, fresh_on_server)

    assert found_in(index) == found_in(other)
    for one in (index, other):
        one.close()
    assert server_content(qdrant_server.url, prefix) == server_content(qdrant_server.url, fresh_on_server)


@pytest.mark.qdrant
def test_a_migration_on_a_server_that_stops_anywhere_goes_on_when_the_index_is_opened_again(
    qdrant_server: QdrantServer,
    fresh_on_server: str,
    old_on_server: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = server_content(qdrant_server.url, fresh_on_server)
    monkeypatch.setattr(migrations, "PAGE", migrating_child.PAGE)
    write = ServerConnection.write
    last = steps = 0

    def stopping(connection: ServerConnection, call: Callable[[], object]) -> None:
        nonlocal steps
        steps += 1
        if steps > last:
            raise IndexUnavailableError("stopped")
        write(connection, call)

    whole = False
    while not whole:
        prefix, steps = old_on_server(), 0
        with monkeypatch.context() as patched:
            patched.setattr(ServerConnection, "write", stopping)
            try:
                opened(qdrant_server, prefix).close()
                whole = True
            except IndexUnavailableError:
                pass
        opened(qdrant_server, prefix).close()
        assert server_content(qdrant_server.url, prefix) == wanted, f"stopped after {last} writes"
        last += 1
    assert last > 12


@pytest.mark.qdrant
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
