"""``sync`` forgets what was deleted, and nothing that is merely out of reach."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Tried
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex.usecases.manage import sync_index
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import UsageError
from segdex_core.ids import make_image_id, sha256_hex
from segdex_core.media.uris import canonical_uri, path_to_uri
from segdex_core.records import ImageFile, ImageRecord
from segdex_core.wire.images import Synced
from segdex_ingest.analyse import Recipe
from segdex_ingest.run import prepare_index

RECIPE = Recipe(FloodSegmenter(), ColourEmbedder())


class Collection:
    """Files, and an index that knows them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = MemoryIndex()
        prepare_index(self.index, RECIPE, profile="test")

    def add(self, *names: str) -> None:
        """Write files with one content, which are one picture."""
        for name in names:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(b"x")
        digest = sha256_hex(names[0].encode())
        record = ImageRecord(
            image_id=make_image_id(digest),
            sha256=digest,
            size_bytes=1,
            files=tuple(ImageFile(canonical_uri(self.root / name), 0) for name in sorted(names)),
            width=1,
            height=1,
            captured_s=0.0,
            place_lat_lon=None,
            tags=(),
            status="no_segments",
            segment_count=0,
            recipe="any",
        )
        self.index.upsert_image(record, np.zeros((1, RECIPE.embedder.dim), np.float32))

    def sync(self, *, dry_run: bool = False, force: bool = False) -> Synced:
        return sync_index(self.index, source=FileSource(), dry_run=dry_run, force=force)

    def known(self) -> set[str]:
        return {
            os.fsdecode(uri.removeprefix(path_to_uri(self.root) + "/"))
            for record in self.index.scroll_images()
            for uri in (file.uri for file in record.files)
        }


@pytest.fixture(name="collection")
def _collection(tmp_path: Path) -> Collection:
    collection = Collection(tmp_path)
    for number in range(4):
        collection.add(f"disk/{number}.jpg")
    for number in range(3):
        collection.add(f"usb/photos/{number}.jpg")
    collection.add("disk/both.jpg", "usb/photos/both.jpg")
    return collection


def unmounted(root: Path) -> None:
    """The folder of a mount point stays, and is empty."""
    shutil.rmtree(root / "usb")
    (root / "usb").mkdir()


def ejected(root: Path) -> None:
    """Some systems remove the mount point."""
    shutil.rmtree(root / "usb")


@pytest.mark.promise("Index", "`sync` forgets nothing of a disk that is merely not mounted.")
@pytest.mark.parametrize("away", [unmounted, ejected])
def test_what_went_with_its_folder_is_kept_and_the_rest_is_synchronized(
    collection: Collection, away: object, tried: Tried
) -> None:
    assert callable(away)
    away(collection.root)
    (collection.root / "disk" / "0.jpg").unlink()
    before = collection.known()

    would = collection.sync(dry_run=True)
    assert collection.known() == before
    synced = collection.sync()

    for one in (would, synced):
        assert one.gone == [str(collection.root / "disk" / "0.jpg")]
        [held] = one.held
        assert (held.path, held.images) == (str(collection.root / "usb"), 4)
        assert not one.is_complete
    assert collection.known() == before - {"disk/0.jpg"}
    tried(4, "pictures on a disk that is away")


def test_force_forgets_what_is_out_of_reach_too(collection: Collection) -> None:
    ejected(collection.root)

    synced = collection.sync(force=True)

    assert len(synced.gone) == 3
    assert synced.moved == 1
    assert synced.is_complete
    assert {name.partition("/")[0] for name in collection.known()} == {"disk"}


def test_single_files_are_forgotten_without_a_question(collection: Collection) -> None:
    for name in ("disk/1.jpg", "disk/2.jpg", "usb/photos/0.jpg", "usb/photos/both.jpg"):
        (collection.root / name).unlink()

    synced = collection.sync()

    assert (len(synced.gone), synced.moved, synced.held) == (3, 1, [])
    assert synced.is_complete
    assert collection.sync().gone == []


def test_everything_missing_is_refused_by_the_names_of_the_folders(collection: Collection) -> None:
    (collection.root / "other").mkdir()
    shutil.rmtree(collection.root / "disk")
    ejected(collection.root)
    before = collection.known()

    with pytest.raises(UsageError) as raised:
        collection.sync()
    for words in ("all 8 pictures", f"{collection.root}/disk (", "is a disk not mounted?", "--force"):
        assert words in str(raised.value)
    assert collection.known() == before
    assert collection.sync(dry_run=True).gone == []


def files(folder: str, count: int) -> Sequence[str]:
    return [f"{folder}/{number}.jpg" for number in range(count)]


def test_many_files_of_one_folder_or_of_the_index_are_not_forgotten_at_once(tmp_path: Path) -> None:
    collection = Collection(tmp_path)
    for name in (*files("a/x", 20), *files("b", 60), *files("c", 19)):
        collection.add(name)
    (tmp_path / "a" / "x" / "NOT MOUNTED").write_bytes(b"")
    for name in (*files("a/x", 20), *files("c", 10)):
        (tmp_path / name).unlink()

    synced = collection.sync()

    [held] = synced.held
    assert (held.path, held.images) == (str(tmp_path / "a"), 20)
    assert len(synced.gone) == 10
    for name in files("b", 30):
        (tmp_path / name).unlink()
    shares = collection.sync().held
    assert [one.images for one in shares] == [30, 20]
    assert "50 of 89 pictures are missing at once" in shares[0].reason


@pytest.mark.promise("Index", "A file that cannot be looked at is not forgotten.")
@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), PermissionError(13, "Permission denied")]
)
def test_a_file_that_cannot_be_looked_at_is_kept_and_named(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    real_stat, usb = os.stat, str(collection.root / "usb")

    def stat(path: str, **options: bool) -> os.stat_result:
        if str(path).startswith(usb):
            raise error
        return real_stat(path, **options)

    (collection.root / "disk" / "0.jpg").unlink()
    monkeypatch.setattr("os.stat", stat)
    synced = collection.sync()
    monkeypatch.undo()

    assert synced.gone == [str(collection.root / "disk" / "0.jpg")]
    [unknown] = synced.unreachable
    assert (unknown.files, unknown.reason) == (4, error.strerror)
    assert len(collection.known()) == 8
