"""What an earlier segdex wrote is what a fresh ingest makes, or becomes it, wherever it is interrupted."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from tests.backends.index import migrating_child
from tests.backends.index.stored_indexes import edge_content, fill, found_in, stored_pictures, unpack_edge
from tests.backends.index.stored_samples import FINGERPRINT, VIEWS, all_segments, all_vectors
from tests.needs import ROOT

from segdex_backends.index.conditions import Conditions
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.layout import image_vector, segment_vector
from segdex_backends.index.migrations import migrate
from segdex_backends.index.point_store import StoredPoint
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.errors import IndexStorageError


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

    assert [one.getMessage() for one in caplog.records] == [
        f"migrating edge:{home} from schema 3 to 4",
        f"migrating edge:{home} from schema 4 to 5",
    ]
    assert index.fingerprint() == FINGERPRINT
    other = QdrantIndex(EdgeStore(fresh, create=False))
    assert found_in(index) == found_in(other)
    assert list(index.scroll_images()) == list(other.scroll_images())
    for one in (index, other):
        one.close()
    assert edge_content(home) == edge_content(fresh)


def test_an_index_of_schema_4_gets_a_collection_for_sets_and_no_point_is_touched(
    fast_folder: Path, fresh: Path
) -> None:
    home = fast_folder / str(uuid4())
    hits = unpack_edge(home, schema=4)
    before = edge_content(home)
    files = segment_files(home)
    pictures = stored_pictures()

    with closing(QdrantIndex(EdgeStore(home, create=False))) as index:
        assert index.fingerprint() == replace(FINGERPRINT, quality="best")
        assert list(index.scroll_segments()) == all_segments(pictures)
        assert {one.image_id: replace(one, revision=0) for one in index.scroll_images()} == {
            picture.image_id: picture.record for picture in pictures
        }
        found = found_in(index)
        stored = index.get_vectors([key for picture in pictures for key in picture.segment_ids])

    assert [one.segment_key for one in found] == [key for key, _ in hits]
    assert [one.score for one in found] == pytest.approx([score for _, score in hits], abs=1e-6)
    for view in VIEWS:
        written = all_vectors(pictures, view)
        assert stored.keys() == written.keys()
        assert all(np.array_equal(stored[key][view], row) for key, row in written.items())
    assert files
    assert segment_files(home).items() >= files.items()
    after = edge_content(home)
    wanted = edge_content(fresh)
    assert after["points"] == {**before["points"], "sets": {}} == wanted["points"]  # type: ignore[dict-item]
    assert after["description"] == {**wanted["description"], "quality": "best"}  # type: ignore[dict-item]
    assert after["files"] == wanted["files"]


def segment_files(home: Path) -> dict[str, bytes]:
    """The stored vectors, file by file."""
    files = (home / "segments-4" / "segments").rglob("vector_storage*/**/*.mmap")
    return {str(path.relative_to(home)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_the_step_to_schema_5_may_be_killed_anywhere(fast_folder: Path, fresh: Path) -> None:
    old = fast_folder / str(uuid4())
    unpack_edge(old, schema=4)
    wanted = edge_content(fresh)["points"]
    changes = 0
    while True:
        changes += 1
        broken = old.with_suffix(f".{changes}")
        shutil.copytree(old, broken)
        child = [sys.executable, "-m", migrating_child.__name__, str(broken), str(changes)]
        ended = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, check=False)
        with closing(QdrantIndex(EdgeStore(broken, create=False))) as index:
            assert index.sets() == []
        assert edge_content(broken)["points"] == wanted, f"killed at change {changes}"
        shutil.rmtree(broken)
        if ended.stdout == "whole\n":
            break
        assert ended.returncode == 9, ended.stderr
    assert changes > 3  # a shard made, the description replaced


def test_a_migrated_index_is_written_to_as_any_other(home: Path, fresh: Path) -> None:
    index = QdrantIndex(EdgeStore(home, create=True))
    before = index.counts()

    fill(index)  # the same again

    assert index.counts() == before
    index.close()
    assert edge_content(home) == edge_content(fresh)


@pytest.mark.slow
def test_a_migration_that_is_killed_anywhere_goes_on_when_the_index_is_opened_again(
    home: Path, fresh: Path
) -> None:
    wanted = edge_content(fresh)
    changes = 0
    while True:
        changes += 1
        broken = home.with_suffix(f".{changes}")
        shutil.copytree(home, broken)
        child = [sys.executable, "-m", migrating_child.__name__, str(broken), str(changes)]
        ended = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, check=False)
        QdrantIndex(EdgeStore(broken, create=False)).close()
        assert edge_content(broken) == wanted, f"killed at change {changes}"
        shutil.rmtree(broken)
        if ended.stdout == "whole\n":
            break
        assert ended.returncode == 9, ended.stderr
    assert changes > 12  # two shards made, three pages written, the description replaced, two shards removed


class FullStore(EdgeStore):
    """Has no room for more than one page."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, create=False)
        self._has_room = True

    def upsert(self, name: str, points: Sequence[StoredPoint], *, vector: str, over: Conditions = ()) -> None:
        if not self._has_room:
            raise IndexStorageError("full")
        self._has_room = False
        super().upsert(name, points, vector=vector, over=over)


def test_a_migration_without_room_leaves_the_old_index_and_goes_on_when_there_is_room(
    home: Path, fresh: Path
) -> None:
    store = FullStore(home)

    with pytest.raises(IndexStorageError, match="full"):
        migrate(store, page=migrating_child.PAGE)
    store.close()
    description = json.loads((home / "segdex.json").read_text())
    QdrantIndex(EdgeStore(home, create=False)).close()

    assert description["schema_version"] == 3
    assert edge_content(home) == edge_content(fresh)


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
