"""A backup restores an index point for point, or says what is damaged."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest
from pyarrow import parquet
from tests.backends.index.stored_indexes import edge_content, server_content
from tests.backends.index.stored_samples import DIM, FINGERPRINT, VIEWS, make_picture
from tests.conftest import Tried
from tests.qdrant_server import QdrantServer

from segdex_backends.backup import columns
from segdex_backends.backup.parquet import ParquetFormat
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.concepts import Concept, Mark
from segdex_core.dump import IndexDump
from segdex_core.errors import BackupInvalidError, BackupStorageError, IndexConflictError, UsageError
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import (
    EmbeddedSegments,
    ImageFile,
    ImageRecord,
    MaskRecipe,
    SegmentLabel,
    SegmentRecord,
)
from segdex_core.sets import SegmentSet, SetMember
from segdex_ingest.dump import check_restorable, dump_index, restore_into

FORMAT = ParquetFormat()
PICTURES = [make_picture(number, count) for number, count in enumerate((70, 0, 3, 40, *(2,) * 40))]


def fill(index: SegmentIndex) -> None:
    """Fill an index with pictures, labels, a set, a concept, and a picture that has two places."""
    index.ensure(replace(FINGERPRINT, quality="best"))
    index.note_recipe("recipe-1", MaskRecipe("fake-segmenter-1", "grid 32", "ranker 3"))
    for picture in PICTURES:
        written = [replace(one, write=one.segment_id.hex) for one in picture.segments.records]
        index.upsert_segments(replace(picture.segments, records=written))
        index.upsert_image(picture.record, picture.vector)
    record = PICTURES[3].record
    here = index.get_images([record.image_id])[0]
    twice = (*record.files, ImageFile("file:///\u00fc/n\u0308%20%0A.jpg", 2**62))
    index.update_image(replace(here, files=twice))
    first, second = PICTURES[0].segments.records[:2]
    index.set_labels(
        {
            first.segment_id: (
                SegmentLabel("cup", "model:a/1", 0.123456, 1.5),
                SegmentLabel("\u732b", "person:me", None, 2.0),
            )
        }
    )
    kept = SegmentSet(UUID(int=7), "kept \u2603", 3.25)
    index.put_set(kept)
    index.add_members(
        [
            SetMember.of_segment(first, set_id=kept.set_id, added_s=4.0),
            SetMember.of_image(record, set_id=kept.set_id, added_s=5.0),
            SetMember(kept.set_id, UUID(int=8), "segment", UUID(int=9), 6.0),  # its picture was deleted
        ]
    )
    marked = [segment.segment_id for segment in PICTURES[3].segments.records]
    index.set_marks({key: [kept.set_id] for key in (first.segment_id, *marked)})
    index.put_concept(
        Concept("red cup", "a red cup", (Mark.of(first, is_right=True), Mark.of(second, is_right=False)), 9.0)
    )
    index.put_concept(Concept("no text", None, (Mark.of(first, is_right=True),), 9.5))


def back_up(index: SegmentIndex, path: Path) -> Path:
    FORMAT.write(dump_index(index), path)
    return path


def content(index: SegmentIndex) -> dict[str, object]:
    """Everything that the ports read of an index."""
    segments = {
        record.segment_id: (record, {view: rows[place].tolist() for view, rows in batch.vectors.items()})
        for batch in index.scroll_vectors()
        for place, record in enumerate(batch.records)
    }
    images = {record.image_id: record for record in index.scroll_images()}
    vectors = {key: row.tolist() for key, row in index.get_image_vectors(list(images)).items()}
    members = {one.set_id: sorted(index.set_members(one.set_id), key=repr) for one in index.sets()}
    return {
        "fingerprint": index.fingerprint(),
        "recipes": index.recipes(),
        "segments": segments,
        "images": images,
        "vectors": vectors,
        "sets": index.sets(),
        "members": members,
        "concepts": index.concepts(),
    }


def without_revisions(found: dict[str, object]) -> dict[str, object]:
    """Return stored content without the numbers of writes, which a restoration begins anew."""
    points = found["points"]
    assert isinstance(points, dict)
    for collection in points.values():
        for payload, _ in collection.values():
            payload.pop("revision", None)
    return found


@pytest.fixture(scope="module")
def filled() -> MemoryIndex:
    index = MemoryIndex()
    fill(index)
    return index


@pytest.fixture(scope="module")
def backup(filled: MemoryIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return back_up(filled, tmp_path_factory.mktemp("backup") / "index.parquet")


def edge(path: Path) -> QdrantIndex:
    return QdrantIndex(EdgeStore(path, create=True))


@pytest.mark.promise("Backup", "A backup restores every picture, segment, vector, label, set and concept.")
def test_a_backup_restores_the_same_content(filled: MemoryIndex, backup: Path, tried: Tried) -> None:
    restored = MemoryIndex()

    restore_into(restored, FORMAT.open(backup).dump())

    assert content(restored) == content(filled)
    tried(len(PICTURES), "pictures", lost=0)


@pytest.mark.pipeline
@pytest.mark.promise("Backup", "An embedded index that is moved by a backup is equal point for point.")
def test_an_embedded_index_is_restored_point_for_point(
    filled: MemoryIndex, fast_folder: Path, tried: Tried
) -> None:
    home = fast_folder / str(uuid4())
    with closing(edge(home / "one")) as index:
        fill(index)
        back_up(index, home / "backup")
    with closing(edge(home / "two")) as index:
        restore_into(index, FORMAT.open(home / "backup").dump())
        assert content(index) == content(filled)

    one, two = (without_revisions(edge_content(home / name)) for name in ("one", "two"))
    assert one == two
    tried(sum(picture.record.segment_count for picture in PICTURES), "segments", lost=0)


@pytest.mark.qdrant
@pytest.mark.promise("Backup", "An index moves from a folder to a Qdrant server and back, point for point.")
def test_an_index_moves_to_a_server_and_back(
    qdrant_server: QdrantServer, fast_folder: Path, tried: Tried
) -> None:
    from segdex_backends.index.server_connection import ServerConnection
    from segdex_backends.index.server_store import ServerStore

    home, prefix = fast_folder / str(uuid4()), f"test-{uuid4()}"
    with closing(edge(home / "one")) as index:
        fill(index)
        back_up(index, home / "first")
    connection = ServerConnection(qdrant_server.url, timeout_s=20)
    with closing(QdrantIndex(ServerStore(connection, create=True, collection_prefix=prefix))) as index:
        restore_into(index, FORMAT.open(home / "first").dump())
        back_up(index, home / "second")
    with closing(edge(home / "two")) as index:
        restore_into(index, FORMAT.open(home / "second").dump())

    one, two = (without_revisions(edge_content(home / name)) for name in ("one", "two"))
    served = without_revisions(server_content(qdrant_server.url, prefix))
    assert one == two
    assert _rounded(served["points"]) == _rounded(one["points"])
    tried(3 * len(PICTURES), "pictures", lost=0)


def _rounded(points: object) -> object:
    """Points with vectors as lists of float32: a server sends other decimal digits of the same number."""
    assert isinstance(points, dict)
    return {
        name: {
            key: (payload, {vector: np.float32(row).tolist() for vector, row in rows.items()})
            for key, (payload, rows) in collection.items()
        }
        for name, collection in points.items()
    }


class StoppedError(Exception):
    """The process ended."""


class StoppingIndex:
    """An index whose ``n``-th write fails, before it was carried out or after."""

    _WRITES = (
        "ensure", "note_recipe", "put_set", "add_members", "put_concept", "upsert_segments", "upsert_image",
    )  # fmt: skip

    def __init__(self, index: SegmentIndex, number: int, *, after: bool) -> None:
        self._index, self._left, self._after = index, number, after

    def __getattr__(self, name: str) -> object:
        found = getattr(self._index, name)
        if name not in self._WRITES:
            return found

        def write(*given: object) -> object:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise StoppedError
            done = found(*given)
            if self._left == 0:
                raise StoppedError
            return done

        return write


@pytest.mark.promise("Backup", "A restoration that is stopped at any write goes on, and loses nothing.")
def test_a_restoration_goes_on_wherever_it_was_stopped(
    filled: MemoryIndex, backup: Path, tried: Tried
) -> None:
    wanted, stops = content(filled), 0
    for after in (False, True):
        for number in range(1, 200):
            index = MemoryIndex()
            stopping = StoppingIndex(index, number, after=after)
            try:
                restore_into(stopping, FORMAT.open(backup).dump())  # type: ignore[arg-type]
            except StoppedError:
                stops += 1
            else:
                break
            check_restorable(index, FORMAT.open(backup).records())
            restore_into(index, FORMAT.open(backup).dump())
            assert content(index) == wanted
        else:
            raise AssertionError("more writes than expected")
    assert stops > 80
    tried(stops, "kills", lost=0)


def test_a_second_restoration_changes_nothing(backup: Path) -> None:
    index = MemoryIndex()
    restore_into(index, FORMAT.open(backup).dump())
    labelled = PICTURES[0].segments.records[5].segment_id
    index.set_labels({labelled: (SegmentLabel("new", "person:me", None, 9.0),)})
    before = content(index)

    restore_into(index, FORMAT.open(backup).dump())

    assert content(index) == before


def test_an_index_with_other_pictures_is_refused_and_left_as_it_is(backup: Path) -> None:
    index = MemoryIndex()
    index.ensure(FINGERPRINT)
    other = make_picture(5, 2, seed=9)
    index.upsert_segments(other.segments)
    index.upsert_image(other.record, other.vector)

    with pytest.raises(IndexConflictError, match=r"1 picture that the backup does not have.* new index"):
        check_restorable(index, FORMAT.open(backup).records())


def test_a_picture_in_another_state_is_refused(backup: Path) -> None:
    index = MemoryIndex()
    restore_into(index, FORMAT.open(backup).dump())
    record = index.get_images([PICTURES[3].image_id])[0]
    index.update_image(replace(record, tags=("other",)))

    with pytest.raises(IndexConflictError, match="in another state"):
        check_restorable(index, FORMAT.open(backup).records())


def damages(data: bytes) -> Iterator[bytes | None]:
    """Yield damaged contents of a file, and None for a missing one."""
    yield None
    yield b""
    for share in (0.1, 0.5, 0.99):
        yield data[: int(len(data) * share)]
        place = int(len(data) * share)
        yield data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
    yield data + b"\0"


@pytest.mark.promise("Backup", "A damaged backup is refused before anything is restored.")
def test_a_damaged_backup_is_refused(backup: Path, tmp_path: Path, tried: Tried) -> None:
    copy, count = tmp_path / "copy", 0
    shutil.copytree(backup, copy)
    for file in sorted(copy.iterdir()):
        if file.name == "index.json":
            continue
        data = file.read_bytes()
        for damaged in damages(data):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            with pytest.raises(
                BackupInvalidError, match=rf"damaged: .*{file.name}.*; restore another backup"
            ):
                FORMAT.open(copy)
            count += 1
        file.write_bytes(data)
    FORMAT.open(copy)
    tried(count, "damaged copies")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda found: found | {"format": "other"}, "not the description of a backup"),
        (lambda found: found | {"format_version": 2}, "reads format 1"),
        (lambda found: found | {"schema_version": 4}, "schema 4"),
        (lambda found: found | {"fingerprint": {}}, "damaged"),
        (lambda found: found | {"files": {}}, "damaged"),
        (lambda found: found | {"recipes": {"a": {"no": "field"}}}, "damaged"),
        (lambda _: [], "not the description of a backup"),
    ],
)
def test_a_foreign_description_is_refused(
    change: Callable[[Mapping[str, object]], object], reason: str, backup: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(backup, copy)
    found = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps(change(found)))

    with pytest.raises(BackupInvalidError, match=reason):
        FORMAT.open(copy)


def test_a_folder_that_is_no_backup_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupInvalidError, match=r"is no backup of segdex.*segdex export"):
        FORMAT.open(tmp_path)


def test_an_existing_place_is_not_overwritten(filled: MemoryIndex, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")

    with pytest.raises(UsageError, match=r"taken exists"):
        back_up(filled, tmp_path / "taken")

    assert (tmp_path / "taken").read_text() == "mine"


def test_a_backup_that_fails_leaves_nothing(filled: MemoryIndex, tmp_path: Path) -> None:
    def failing(dump: IndexDump) -> IndexDump:
        def images() -> Iterator[object]:
            yield from list(dump.images)[:1]
            raise OSError(28, "No space left on device")

        return replace(dump, images=images())  # type: ignore[arg-type]

    with pytest.raises(BackupStorageError, match=r"No space left on device; make room"):
        FORMAT.write(failing(dump_index(filled)), tmp_path / "backup")

    assert list(tmp_path.iterdir()) == []


def test_every_field_of_a_record_has_its_column() -> None:
    images = set(columns.image_schema(DIM).names)
    segments = set(columns.segment_schema(DIM, VIEWS).names)
    in_parts = {"place_lat_lon", "mask", "box", "revision", "pending"}  # of finished images only

    assert {one.name for one in fields(ImageRecord)} - images <= in_parts
    assert {one.name for one in fields(SegmentRecord)} - segments <= in_parts


def test_other_programs_read_the_tables(backup: Path) -> None:
    table = parquet.read_table(backup / "segments.parquet")

    assert table.num_rows == sum(picture.record.segment_count for picture in PICTURES)
    row = table.slice(0, 1).to_pylist()[0]
    assert len(row["vector_crop"]) == DIM
    assert (row["height"], row["width"]) == (480, 640)


def test_pictures_that_change_meanwhile_are_read_again(filled: MemoryIndex) -> None:
    """Another process writes a picture between the reads of its record and of its segments."""
    index = MemoryIndex()
    restore_into(index, dump_index(filled))
    changed: list[UUID] = []

    class Busy:
        def __getattr__(self, name: str) -> object:
            if name == "scroll_vectors" and not changed:
                picture = PICTURES[0]
                changed.append(picture.image_id)
                record = index.get_images([picture.image_id])[0]
                fewer = picture.segments.records[:5]
                rows = {view: some[:5] for view, some in picture.segments.vectors.items()}
                index.delete_image(picture.image_id)
                index.upsert_segments(EmbeddedSegments(fewer, rows))
                index.upsert_image(replace(record, segment_count=5, revision=0), picture.vector)
            return getattr(index, name)

    found = {record.image_id: record for batch in dump_index(Busy()).images for record in batch.records}  # type: ignore[arg-type]

    assert found[changed[0]].segment_count == 5
