"""The examination finds each kind of damage exactly, and nothing in a sound index; mending loses nothing."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Tried
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.tiny import RECIPE, SOURCE, draw, ingest_tiny
from tests.qdrant_server import QdrantServer

from segdex.usecases.sets import Sets
from segdex_backends.index.conditions import HasId
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.layout import (
    IMAGES,
    REAL_NAMES,
    SEGMENTS,
    SETS,
    collections,
    segment_vector,
)
from segdex_backends.index.memory import Held, MemoryIndex
from segdex_backends.index.payloads import image_to_payload
from segdex_backends.index.point_store import PointStore, StoredPoint
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.sources.files import FileSource
from segdex_core.concepts import Concept, Mark
from segdex_core.masks import MaskRLE
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import FileVersion
from segdex_core.records import (
    EmbeddedSegments,
    ImageRecord,
    IndexFingerprint,
    PendingChange,
    SegmentFilter,
    SegmentLabel,
    SegmentRecord,
)
from segdex_core.sets import SegmentSet, SetMember
from segdex_ingest.analyse import Embedding
from segdex_ingest.doctor import Finding, examine
from segdex_ingest.mend import mend
from segdex_ingest.reembed import ReembedOptions, reembed_index
from segdex_ingest.sync import apply_sync, plan_sync

PICTURES = {"a.png": "red", "b.png": "green", "c.png": "blue"}


@dataclass
class Patient:
    """An index of three pictures, and the ways to damage it.

    Attributes:
        folder: Where the pictures are.
        index: The index.
        store: Its points; None in memory.
        held: What it holds in memory; None elsewhere.
    """

    folder: Path
    index: SegmentIndex
    store: PointStore | None = None
    held: Held | None = None

    @property
    def fingerprint(self) -> IndexFingerprint:
        found = self.index.fingerprint()
        assert found is not None
        return found

    @property
    def image(self) -> ImageRecord:
        """The picture that is damaged."""
        return next(one for one in self.index.scroll_images() if one.files[0].uri.endswith("/b.png"))

    @property
    def segments(self) -> list[SegmentRecord]:
        return list(self.index.scroll_segments(SegmentFilter(image_ids=(self.image.image_id,))))

    @property
    def leaf(self) -> SegmentRecord:
        """A segment that contains no other one."""
        parents = {key for one in self.segments for key in one.ancestor_ids}
        return next(one for one in self.segments if one.segment_id not in parents)

    @property
    def inner(self) -> SegmentRecord:
        """A segment that another one contains."""
        return next(one for one in self.segments if one.ancestor_ids)

    def ingest(self) -> None:
        ingest_tiny(self.index, self.folder)

    def examine(self) -> list[Finding]:
        return list(examine(self.index, source=SOURCE))

    def kinds(self) -> Counter[str]:
        return Counter(one.kind for one in self.examine())

    def forget_record(self) -> None:
        if self.held is not None:
            del self.held.images[self.image.image_id]
        else:
            self.points.delete(REAL_NAMES[IMAGES], (HasId((self.image.image_id,)),))

    def forget(self, segment: SegmentRecord) -> None:
        if self.held is not None:
            del self.held.segments[segment.segment_id]
        else:
            self.points.delete(REAL_NAMES[SEGMENTS], (HasId((segment.segment_id,)),))

    def write(self, record: SegmentRecord, *, scale: float = 1.0) -> None:
        """Write a segment with the vectors of the first one, times a factor."""
        rows = self.index.get_vectors([self.segments[0].segment_id])[self.segments[0].segment_id]
        vectors = {view: (row * np.float32(scale))[None] for view, row in rows.items()}
        self.index.upsert_segments(EmbeddedSegments([record], vectors))

    @property
    def points(self) -> PointStore:
        assert self.store is not None
        return self.store

    def overwrite(self, name: str, key: UUID, fields: Mapping[str, object]) -> None:
        """Overwrite fields of the payload of a point."""
        self.points.set_payload(REAL_NAMES[name], dict(fields), (HasId((key,)),))


Fault = Callable[[Patient], object]


def after(*steps: Fault) -> Fault:
    """Return a fault that comes after others."""

    def all_of_them(at: Patient) -> None:
        for step in steps:
            step(at)

    return all_of_them


def opened(kind: str, folder: Path, request: pytest.FixtureRequest) -> Patient:
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for name, colour in PICTURES.items():
        draw(pictures / name, colour)
    if kind == "memory":
        held = Held()
        return Patient(pictures, MemoryIndex(held), held=held)
    if kind == "edge":
        store: PointStore = EdgeStore(folder / "index", create=True)
    else:
        from segdex_backends.index.server_connection import ServerConnection
        from segdex_backends.index.server_store import ServerStore

        server: QdrantServer = request.getfixturevalue("qdrant_server")
        connection = ServerConnection(server.url, timeout_s=60)
        store = ServerStore(connection, create=True, collection_prefix=f"t{uuid4().hex[:8]}")
    return Patient(pictures, QdrantIndex(store), store=store)


SERVER = pytest.param("server", marks=[pytest.mark.qdrant, pytest.mark.slow])
KINDS = ["memory", "edge", SERVER]


@pytest.fixture(name="patient", params=KINDS)
def _patient(request: pytest.FixtureRequest, fast_folder: Path) -> Iterator[Patient]:
    patient = opened(request.param, fast_folder / str(uuid4()), request)
    patient.ingest()
    yield patient
    patient.index.close()


def labelled(index: SegmentIndex, author: str = "person:me") -> None:
    some = next(index.scroll_segments())
    index.set_labels({some.segment_id: [SegmentLabel("box", author, None, 1.0)]})


def in_sets(index: SegmentIndex) -> None:
    sets = Sets(index, nullcontext())
    images, segments = list(index.scroll_images()), list(index.scroll_segments())
    sets.add("some", [images[0].image_id, segments[-1].segment_id])
    sets.add("others", [segments[0].segment_id])
    sets.create("none")


def with_concept(index: SegmentIndex) -> None:
    mark = Mark.of(next(index.scroll_segments()), is_right=True)
    index.put_concept(Concept("boxes", "box", (mark,), 1.0))


def all_of_one_picture(at: Patient, changed: Callable[[SegmentRecord], SegmentRecord]) -> None:
    record = at.inner
    rows = at.index.get_vectors([record.segment_id])[record.segment_id]
    at.index.upsert_segments(
        EmbeddedSegments([changed(record)], {view: row[None] for view, row in rows.items()})
    )


def one_more(at: Patient) -> None:
    foreign = next(one for one in at.index.scroll_segments() if one.image_id != at.image.image_id)
    image = at.image
    moved = replace(foreign, image_id=image.image_id, ancestor_ids=(), segment_id=uuid4())
    at.write(replace(moved, sources=image.sources, tags=image.tags, captured_s=image.captured_s))


def replaced(at: Patient, colour: str = "black") -> Path:
    return draw(at.folder / "b.png", colour, mtime_s=2000)


def same_name(at: Patient) -> None:
    in_sets(at.index)
    at.index.put_set(SegmentSet(uuid4(), "some", 5.0))


def member_without_set(at: Patient) -> None:
    in_sets(at.index)
    lost = at.segments[0]
    at.index.add_members([SetMember.of_segment(lost, set_id=uuid4(), added_s=1.0)])


def pending(at: Patient, kind: Literal["write", "copy", "delete"]) -> None:
    """Kill a process after its first write of a change."""
    record = replace(at.image, pending=PendingChange(kind))
    if at.held is not None:
        at.held.images[record.image_id] = replace(at.held.images[record.image_id], record=record)
    else:
        at.overwrite(IMAGES, record.image_id, {"pending": image_to_payload(record)["pending"]})


MASK = MaskRLE((40, 48), "0")

EVERYWHERE: Mapping[str, tuple[Fault, list[str]]] = {
    "a record is missing": (Patient.forget_record, ["orphans"]),
    "a segment is missing": (lambda at: at.forget(at.leaf), ["missing_segments"]),
    "all segments are missing": (
        lambda at: at.index.delete_segments(at.image.image_id),
        ["missing_segments"],
    ),
    "a segment of another picture": (one_more, ["extra_segments", "wrong_id"]),
    "a mask is cut": (
        lambda at: all_of_one_picture(at, lambda one: replace(one, mask=MASK)),
        ["damaged_mask", "wrong_id"],
    ),
    "a mask is of another size": (
        lambda at: all_of_one_picture(at, lambda one: replace(one, mask=replace(one.mask, size_hw=(48, 40)))),
        ["damaged_mask", "wrong_id"],
    ),
    "an area is wrong": (
        lambda at: all_of_one_picture(at, lambda one: replace(one, area_px=one.area_px + 1)),
        ["damaged_mask"],
    ),
    "a share of the area is wrong": (
        lambda at: all_of_one_picture(at, lambda one: replace(one, area_fraction=one.area_fraction / 2)),
        ["damaged_mask"],
    ),
    "a box is wrong": (
        lambda at: all_of_one_picture(at, lambda one: replace(one, box=one.box._replace(x1=one.box.x1 + 1))),
        ["damaged_mask"],
    ),
    "a vector is too long": (lambda at: at.write(at.segments[0], scale=1.1), ["damaged_vector"]),
    "a vector of a picture is too long": (
        lambda at: at.index.upsert_image(at.image, np.full((1, 16), 0.5, np.float32)),
        ["damaged_vector"],
    ),
    "an ancestor does not exist": (
        lambda at: all_of_one_picture(at, lambda one: replace(one, ancestor_ids=(uuid4(),))),
        ["ancestors"],
    ),
    "a segment is its own ancestor": (
        lambda at: all_of_one_picture(at, lambda one: replace(one, ancestor_ids=(one.segment_id,))),
        ["ancestors"],
    ),
    "the tags of a segment are old": (
        lambda at: all_of_one_picture(at, lambda one: replace(one, tags=("old",))),
        ["copied_fields"],
    ),
    "an area is wrong, and the tags of the segment are old": (
        lambda at: all_of_one_picture(at, lambda one: replace(one, area_px=one.area_px + 1, tags=("old",))),
        ["copied_fields", "damaged_mask"],
    ),
    "copies of fields are not finished": (
        lambda at: pending(at, "copy"),
        ["unfinished_picture"],
    ),
    "a deletion is not finished": (lambda at: pending(at, "delete"), ["unfinished_picture"]),
    "a mark of a set that does not exist": (
        lambda at: at.index.set_marks({at.segments[0].segment_id: [uuid4()]}),
        ["marks"],
    ),
    "a mark is missing": (
        after(
            lambda at: Sets(at.index, nullcontext()).add("s", [at.image.image_id]),
            lambda at: at.index.set_marks({at.segments[0].segment_id: []}),
        ),
        ["marks"],
    ),
    "a member of no set": (member_without_set, ["members_without_set", "marks"]),
    "two sets of one name": (same_name, ["same_name"]),
    "a concept has a damaged mask": (
        lambda at: at.index.put_concept(
            Concept("c", None, (Mark(uuid4(), uuid4(), MASK, is_right=True),), 1.0)
        ),
        ["unreadable_set"],
    ),
    "a file is gone": (lambda at: (at.folder / "b.png").unlink(), ["missing_file"]),
    "a file is replaced": (replaced, ["replaced_file"]),
    "a file is replaced by one of the same size": (
        lambda at: at.folder.joinpath("b.png").write_bytes(
            bytes(reversed(at.folder.joinpath("b.png").read_bytes()))
        ),
        ["replaced_file"],
    ),
    "a re-embedding was begun": (
        lambda at: at.index.vector_copy(
            replace(at.fingerprint, embedder="other"), key="abcdef012345", update=lambda record: record
        ),
        ["unfinished_reembedding"],
    ),
    "vectors of another embedder": (
        after(
            lambda at: at.index.note_recipe("r", RECIPE.masks),
            lambda at: at.index.update_image(replace(at.image, recipe="r")),
        ),
        ["other_embedder"],
    ),
}
"""Faults that every kind of index can have, and the kinds of damage that are found."""


def without_vector(at: Patient) -> None:
    one = at.segments[0]
    [point] = at.points.retrieve(REAL_NAMES[SEGMENTS], [one.segment_id]).values()
    at.points.upsert(REAL_NAMES[SEGMENTS], [StoredPoint(point.id, point.payload)], vector="")


def with_row(at: Patient, value: float, *, place: int = -1) -> None:
    one = at.segments[0]
    name = segment_vector(at.fingerprint)
    [point] = at.points.retrieve(REAL_NAMES[SEGMENTS], [one.segment_id]).values()
    [with_row] = at.points.retrieve(REAL_NAMES[SEGMENTS], [one.segment_id], vector=name).values()
    assert with_row.row is not None
    row = with_row.row.copy()
    row[place] = value
    at.points.upsert(REAL_NAMES[SEGMENTS], [StoredPoint(point.id, point.payload, row)], vector=name)


ON_POINTS: Mapping[str, tuple[Fault, list[str]]] = {
    "a segment lost a field": (
        lambda at: at.overwrite(SEGMENTS, at.segments[0].segment_id, {"rle_counts": None}),
        ["unreadable_segment"],
    ),
    "a segment names no picture": (
        lambda at: at.overwrite(SEGMENTS, at.leaf.segment_id, {"image_id": "x"}),
        ["missing_segments", "unreadable_segment"],
    ),
    "an object score is above 1": (
        lambda at: at.overwrite(
            SEGMENTS, at.segments[0].segment_id, {"object_score": 1.5, "object_score_text": "1.5"}
        ),
        ["object_score"],
    ),
    "an object score of a vector differs": (lambda at: with_row(at, 0.2), ["object_score"]),
    "a vector is missing": (without_vector, ["damaged_vector"]),
    "a number of a vector is not finite": (
        lambda at: with_row(at, float("nan"), place=0),
        ["damaged_vector"],
    ),
    "a record lost a field": (
        lambda at: at.overwrite(IMAGES, at.image.image_id, {"files": "none"}),
        ["unreadable_picture"],
    ),
    "a record is of another picture": (
        lambda at: at.overwrite(IMAGES, at.image.image_id, {"sha256": "0" * 64}),
        ["wrong_id"],
    ),
    "a set cannot be read": (
        lambda at: at.points.upsert(
            REAL_NAMES[SETS], [StoredPoint(uuid4(), {"kind": "set", "name": 7})], vector=""
        ),
        ["unreadable_set"],
    ),
    "half of a re-embedding": (
        lambda at: at.points.create("images-4-abcdef012345", collections(at.fingerprint)[IMAGES]),
        ["leftover_collection"],
    ),
    "a fence is up": (
        lambda at: at.points.fence(REAL_NAMES[SEGMENTS], by="nobody"),
        ["unfinished_reembedding"],
    ),
}
"""Faults below the records, that an index of points can have."""

UNFIXABLE = {
    "same_name",
    "unreadable_set",
    "missing_file",
    "replaced_file",
    "unfinished_reembedding",
    "other_embedder",
}


def points_of(index: SegmentIndex) -> dict[UUID, Any]:
    """Return all that is stored, point for point, with the vectors, but without the sets."""
    found: dict[UUID, Any] = {}
    segments, images = list(index.scroll_segments()), list(index.scroll_images())
    vectors = index.get_vectors([one.segment_id for one in segments])
    for one in segments:
        rows = {view: row.tolist() for view, row in vectors[one.segment_id].items()}
        found[one.segment_id] = (replace(one, sets=()), rows)
    whole = index.get_image_vectors([one.image_id for one in images])
    return found | {one.image_id: (one, whole[one.image_id].tolist()) for one in images}


def check(at: Patient, fault: Fault, kinds: list[str]) -> None:
    before = points_of(at.index)
    assert at.examine() == []

    fault(at)

    found = at.examine()
    assert sorted(one.kind for one in found) == sorted(kinds)
    for one in found:
        assert one.fixable == (one.kind not in UNFIXABLE)
        assert one.detail
        assert "\n" not in one.detail
        assert one.mend
        assert mend(at.index, one) == one.fixable
    left = at.kinds()
    assert set(left) <= set(kinds) & UNFIXABLE | {"unfinished_picture"}
    assert not any(one.fixable for one in at.examine())

    if not left.keys() & UNFIXABLE:
        at.ingest()

        assert at.examine() == []
        assert points_of(at.index) == before


@pytest.mark.promise("Index", "segdex doctor finds each kind of damage, and nothing in a sound index.")
@pytest.mark.parametrize(
    "patient", ["memory", pytest.param("edge", marks=pytest.mark.slow), SERVER], indirect=True
)
@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_fault_is_found_exactly_and_mended_without_loss(patient: Patient, name: str, tried: Tried) -> None:
    check(patient, *EVERYWHERE[name])
    tried(1, "planted fault")


@pytest.mark.parametrize("patient", ["edge", SERVER], indirect=True)
@pytest.mark.parametrize("name", ON_POINTS)
def test_a_fault_of_a_point_is_found_exactly_and_mended_without_loss(patient: Patient, name: str) -> None:
    check(patient, *ON_POINTS[name])


def reembedded(at: Patient) -> None:
    """Embed the pictures anew; the former vectors stay."""
    report = reembed_index(
        at.index,
        Embedding(ColourEmbedder(samples_per_side=16)),
        source=SOURCE,
        profile="offline",
        options=ReembedOptions(max_pixels=10_000),
    )
    assert report.index is not None
    at.index = report.index


def deleted_but_in_a_set(at: Patient) -> None:
    """A picture stays in its sets, and is back in them when it is ingested again."""
    Sets(at.index, nullcontext()).add("kept", [at.image.image_id])
    at.index.delete_image(at.image.image_id)


def touched(at: Patient) -> None:
    replaced(at, PICTURES["b.png"])


SOUND: Mapping[str, Fault] = {
    "labels": lambda at: labelled(at.index),
    "sets": lambda at: in_sets(at.index),
    "a deleted set": after(
        lambda at: in_sets(at.index), lambda at: Sets(at.index, nullcontext()).delete("some")
    ),
    "a picture that is deleted, and in a set": deleted_but_in_a_set,
    "concepts": lambda at: with_concept(at.index),
    "tags": lambda at: ingest_tiny(at.index, at.folder, tags=("x",)),
    "a copy of a file": after(lambda at: draw(at.folder / "copy.png", PICTURES["b.png"]), Patient.ingest),
    "a replaced file": after(replaced, Patient.ingest),
    "a file with another time": touched,
    "new vectors": reembedded,
    "new vectors, and the old ones dropped": after(reembedded, lambda at: at.index.drop_unused()),
    "a picture without segments": after(
        lambda at: Image.fromarray(np.full((40, 48, 3), 255, np.uint8)).save(at.folder / "white.png"),
        lambda at: at.ingest(),
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_in_a_sound_index(patient: Patient, name: str) -> None:
    SOUND[name](patient)

    assert patient.examine() == []


def test_nothing_is_found_in_a_migrated_index(request: pytest.FixtureRequest, fast_folder: Path) -> None:
    home = fast_folder / str(uuid4())
    patient = opened("edge", home, request)
    patient.ingest()
    patient.index.close()
    file = home / "index" / "segdex.json"
    description = json.loads(file.read_text())
    del description["collections"][SETS]
    file.write_text(json.dumps({**description, "schema_version": 4}))
    shutil.rmtree(home / "index" / REAL_NAMES[SETS])
    for name in ("manifest.json", "written.json"):  # which an earlier version did not write
        (home / "index" / name).unlink(missing_ok=True)

    with closing(QdrantIndex(EdgeStore(home / "index", create=False))) as migrated:
        found = migrated.fingerprint()
        assert found is not None
        assert found.schema_version == 5
        assert list(examine(migrated, source=SOURCE)) == []


def test_the_labels_of_a_damaged_picture_outlive_its_mending(patient: Patient) -> None:
    first, *_ = (one for one in patient.segments if one != patient.leaf)
    patient.index.set_labels({first.segment_id: [SegmentLabel("box", "person:me", None, 1.0)]})
    before = points_of(patient.index)
    patient.forget(patient.leaf)

    [found] = patient.examine()
    assert mend(patient.index, found)
    [left] = patient.examine()
    assert (left.kind, left.fixable) == ("unfinished_picture", False)
    patient.ingest()
    assert patient.examine() == []
    assert points_of(patient.index) == before


@pytest.mark.parametrize("patient", ["edge", SERVER], indirect=True)
def test_a_picture_with_labels_that_nobody_can_read_is_named_and_not_mended(patient: Patient) -> None:
    first = patient.segments[0].segment_id
    patient.index.set_labels({first: [SegmentLabel("box", "person:me", None, 1.0)]})
    patient.overwrite(SEGMENTS, first, {"rle_counts": None})

    [found] = patient.examine()
    assert not found.fixable
    assert "labels" in found.mend
    assert not mend(patient.index, found)
    assert patient.index.label_counts() == {"box": 1}


def test_labels_of_segments_without_a_record_wait_for_the_ingest(patient: Patient) -> None:
    patient.index.set_labels({patient.leaf.segment_id: [SegmentLabel("box", "person:me", None, 1.0)]})
    before = points_of(patient.index)
    patient.forget_record()

    [found] = patient.examine()
    assert (found.kind, found.fixable) == ("orphans", False)
    assert "labels" in found.mend
    assert not mend(patient.index, found)
    patient.ingest()
    assert patient.examine() == []
    assert points_of(patient.index) == before


def test_a_picture_that_was_never_written_completely_is_left_to_the_next_ingest(patient: Patient) -> None:
    before = points_of(patient.index)
    pending(patient, "write")

    [found] = patient.examine()
    assert (found.kind, found.fixable, found.mend) == (
        "unfinished_picture",
        False,
        f"segdex ingest {patient.folder / 'b.png'}",
    )
    patient.ingest()
    assert patient.examine() == []
    assert points_of(patient.index) == before


def test_a_damaged_picture_whose_file_is_gone_is_not_deleted(patient: Patient) -> None:
    patient.forget(patient.leaf)
    (patient.folder / "b.png").unlink()

    assert [(one.kind, one.fixable) for one in patient.examine()] == [
        ("missing_segments", False),
        ("missing_file", False),
    ]


def test_what_another_process_mends_meanwhile_is_not_reported(patient: Patient) -> None:
    patient.forget_record()

    class Meanwhile(FileSource):
        """The other process is faster than the look at the first file."""

        def version(self, uri: str) -> FileVersion:
            patient.ingest()
            return super().version(uri)

    assert list(examine(patient.index, source=Meanwhile())) == []


@pytest.mark.parametrize("patient", ["edge", SERVER], indirect=True)
def test_a_segment_that_cannot_be_read_does_not_keep_sync_from_the_others(patient: Patient) -> None:
    patient.overwrite(SEGMENTS, patient.leaf.segment_id, {"rle_counts": None})
    (patient.folder / "a.png").unlink()

    apply_sync(plan_sync(patient.index, source=SOURCE, force=True), patient.index)

    assert patient.index.counts().images == len(PICTURES) - 1
    assert patient.kinds() == {"unreadable_segment": 1}
