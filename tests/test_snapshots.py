"""``deploy/snapshots.py``: what it takes on a Qdrant server, it brings back."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from tests.backends.index.stored_indexes import server_collections, stored_pictures, upload_server
from tests.backends.index.stored_samples import FINGERPRINT, all_segments, make_picture
from tests.needs import ROOT
from tests.qdrant_server import QdrantServer

from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.records import ImageRecord, SegmentRecord
from segdex_core.sets import SegmentSet

pytestmark = pytest.mark.qdrant

PICTURE = make_picture(0, 30)
KEPT = SegmentSet(UUID(int=1), "kept", 1.5)
Content = tuple[list[ImageRecord], list[SegmentRecord], Sequence[SegmentSet]]


class Place:
    """An index on a server, and the script that takes its snapshots."""

    def __init__(self, server: QdrantServer, script: Path) -> None:
        self.prefix = f"deploy-{uuid4().hex}"
        self.url = server.url
        self._script = script

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        return subprocess.run(
            [sys.executable, self._script, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "SEGDEX_INDEX": self.url, "SEGDEX_INDEX_COLLECTION": self.prefix},
            check=False,
        )

    def take(self) -> list[str]:
        """Take snapshots, and return their names."""
        taken = self.run("take")
        assert taken.returncode == 0, taken.stderr
        return [json.loads(line)["name"] for line in taken.stdout.splitlines()]

    def recover(self, names: Sequence[str]) -> None:
        """Recover the index."""
        recovered = self.run("recover", *names)
        assert (recovered.returncode, recovered.stderr) == (0, "")

    def opened(self, *, create: bool = False) -> QdrantIndex:
        """Open the index."""
        from segdex_backends.index.server_connection import ServerConnection
        from segdex_backends.index.server_store import ServerStore

        server = ServerConnection(self.url)
        return QdrantIndex(ServerStore(server, create=create, collection_prefix=self.prefix))

    def fill(self) -> Content:
        """Make an index with a picture and a set, and return its content."""
        with closing(self.opened(create=True)) as index:
            index.ensure(FINGERPRINT)
            index.upsert_segments(PICTURE.segments)
            index.upsert_image(PICTURE.record, PICTURE.vector)
            index.put_set(KEPT)
        return self.content()

    def content(self) -> Content:
        """Return what the index holds."""
        with closing(self.opened()) as index:
            return list(index.scroll_images()), list(index.scroll_segments()), index.sets()

    def collections(self) -> dict[str, int]:
        """Return the number of points of each collection."""
        return server_collections(self.url, self.prefix)

    def lose(self) -> None:
        """Delete all collections."""
        from qdrant_client import QdrantClient

        with closing(QdrantClient(self.url, check_compatibility=False)) as client:
            for name in self.collections():
                client.delete_collection(f"{self.prefix}-{name}")


@pytest.fixture
def place(qdrant_server: QdrantServer, fast_root: Path, tmp_path: Path) -> Iterator[Place]:
    text = (ROOT / "deploy" / "snapshots.py").read_text()
    assert "file:///qdrant/snapshots/" in text
    script = tmp_path / "snapshots.py"
    script.write_text(text.replace("/qdrant/snapshots/", f"{fast_root}/qdrant/snapshots/"))
    place = Place(qdrant_server, script)
    yield place
    place.lose()


def test_snapshots_bring_back_all_collections(place: Place) -> None:
    expected = place.fill()
    names = place.take()
    place.lose()

    swapped = place.run("recover", *reversed(names))
    one = place.run("recover", names[0])
    without = place.run("recover", *names[:2])
    place.recover(names)

    for name, collection in zip(names, ("images", "segments", "sets"), strict=True):
        assert name.startswith(f"{place.prefix}-{collection}-")
    assert swapped.returncode == 1
    assert "pictures first" in swapped.stderr
    assert "usage" in one.stderr
    assert without.returncode == 1
    assert "this index has named sets: recover again" in without.stderr
    assert len(place.collections()) == 3
    assert place.content() == expected


def test_an_index_without_sets_has_two_snapshots_and_is_migrated_after_the_recovery(
    place: Place, fast_folder: Path
) -> None:
    upload_server(place.url, place.prefix, fast_folder / place.prefix, schema=4)
    before = place.collections()
    names = place.take()
    place.lose()

    place.recover(names)

    assert len(names) == 2
    assert place.collections() == before
    _, segments, sets = place.content()
    assert segments == all_segments(stored_pictures())
    assert sets == []
    assert place.collections() == {**before, "sets-5": 0}

    with closing(place.opened()) as index:
        index.put_set(KEPT)
    place.recover(names)  # into the migrated index
    assert place.content() == (_, segments, [KEPT])


def test_snapshots_from_before_and_after_a_re_embedding_bring_back_the_vectors_that_were_in_use(
    place: Place,
) -> None:
    expected = place.fill()
    before = place.take()
    wanted = replace(FINGERPRINT, embedder="another")
    with closing(place.opened()) as index:
        copy = index.vector_copy(wanted, key="0123456789ab", update=lambda record: record)
        copy.write(PICTURE.record, PICTURE.segments, PICTURE.vector)
        with copy.fenced():
            switched = copy.switch({})
        switched.drop_unused()
        after = place.take()
    place.lose()

    found = []
    for names in (before, after):
        place.recover(names)
        with closing(place.opened()) as index:
            found.append(index.fingerprint())
            index.upsert_segments(PICTURE.segments)  # no fence is left
        assert place.content() == expected

    assert any("segments-4-0123456789ab" in name for name in after)
    assert found == [FINGERPRINT, wanted]
