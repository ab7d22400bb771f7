"""Writers of two processes that meet in one picture lose nothing of each other's."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from uuid import UUID, uuid4

import numpy as np
import pytest
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex_backends.index.memory import MemoryIndex
from segdex_core.geometry import BoxXYXY
from segdex_core.ids import make_image_id
from segdex_core.masks import encode_mask
from segdex_core.records import (
    EmbeddedSegments,
    ImageFile,
    ImageRecord,
    PendingChange,
    Segment,
    SegmentLabel,
    Vectors,
)
from segdex_core.sets import SetMember
from segdex_core.wire.limits import CapturedFrom
from segdex_ingest.analyse import AnalysedImage, Recipe
from segdex_ingest.places import KnownFiles
from segdex_ingest.run import prepare_index
from segdex_ingest.write import PictureWriter

RECIPE = Recipe(FloodSegmenter(), ColourEmbedder())
HERE, THERE, OLD = (ImageFile(f"file:///p/{name}.png", 7) for name in ("here", "there", "old"))


def analysed(recipe: str = "recipe") -> AnalysedImage:
    """Return a picture with two segments."""
    dim = RECIPE.embedder.dim
    unit = np.eye(1, dim, dtype=np.float32)
    segments = []
    for side in (3, 6):
        mask = np.zeros((8, 8), dtype=bool)
        mask[:side, :side] = True
        segments.append(
            Segment(
                box=BoxXYXY(0, 0, side, side),
                mask=encode_mask(mask),
                area_px=side * side,
                predicted_iou=0.9,
                stability=0.9,
                score=0.5,
            )
        )
    return AnalysedImage(
        sha256="ab" * 32,
        size_bytes=3,
        size_hw=(8, 8),
        captured_s=1.0,
        place_lat_lon=None,
        recipe=recipe,
        segments=segments,
        segment_vectors={view: np.repeat(unit, 2, axis=0) for view in ("crop", "mask")},
        image_vector=unit,
    )


def test_labels_stay_on_masks_that_another_recipe_finds_again(index: "MeetingIndex") -> None:
    store(index, HERE)
    small, large = sorted(index.scroll_segments(), key=lambda one: one.area_px)
    label = SegmentLabel("cat", "person:me", None, 1.0)
    index.set_labels({small.segment_id: [label], large.segment_id: [label]})
    again = analysed("another")
    vectors = {view: rows[:1] for view, rows in again.segment_vectors.items()}
    fewer = replace(again, segments=again.segments[:1], segment_vectors=vectors)

    writer(index).store(fewer, THERE, ())

    [stored] = index.scroll_segments()
    assert (stored.segment_id, stored.labels) == (small.segment_id, (label,))
    writer(index).store(analysed("third"), THERE, ())
    assert {one.segment_id: one.labels for one in index.scroll_segments()} == {
        small.segment_id: (label,),
        large.segment_id: (),
    }


def test_segments_are_written_with_the_sets_that_they_and_their_picture_are_in(index: "MeetingIndex") -> None:
    store(index, HERE)
    [image] = index.scroll_images()
    small, large = sorted(index.scroll_segments(), key=lambda one: one.area_px)
    first, second = sorted(uuid4() for _ in range(2))
    index.add_members(
        [
            SetMember.of_segment(small, set_id=first, added_s=1),
            SetMember.of_image(image, set_id=second, added_s=1),
        ]
    )
    index.delete_image(image.image_id)

    store(index, THERE)

    assert {one.segment_id: one.sets for one in index.scroll_segments()} == {
        small.segment_id: (first, second),
        large.segment_id: (second,),
    }


def test_a_set_that_changes_while_a_picture_is_written_marks_its_segments(index: "MeetingIndex") -> None:
    image_id = make_image_id(analysed().sha256)
    set_id = uuid4()
    member = SetMember(set_id, image_id, "image", image_id, 1.0)
    index.meanwhile = lambda: index.add_members([member])

    store(index, HERE)

    assert [one.sets for one in index.scroll_segments()] == [(set_id,), (set_id,)]


class MeetingIndex(MemoryIndex):
    """Lets another process act once, right before a write of segments or of the ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] | None = None

    def _meet(self) -> None:
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()

    def upsert_segments(self, segments: EmbeddedSegments) -> None:
        self._meet()
        super().upsert_segments(segments)

    def upsert_image(self, record: ImageRecord, vector: Vectors) -> ImageRecord:
        self._meet()
        return super().upsert_image(record, vector)

    def update_image(self, record: ImageRecord) -> ImageRecord:
        self._meet()
        return super().update_image(record)

    def delete_image(self, image_id: UUID, *, revision: int | None = None) -> None:
        self._meet()
        super().delete_image(image_id, revision=revision)


@pytest.fixture(name="index")
def _index() -> MeetingIndex:
    index = MeetingIndex()
    prepare_index(index, RECIPE, profile="test")
    return index


def writer(index: MeetingIndex) -> PictureWriter:
    """Return the writer of another process: it shares no lock."""
    return PictureWriter(index, exists=lambda _: True)


def store(index: MeetingIndex, file: ImageFile, *tags: str) -> None:
    writer(index).store(analysed(), file, tags)


def note(index: MeetingIndex, file: ImageFile, *tags: str) -> ImageRecord | None:
    [known] = index.scroll_images()
    files = KnownFiles(known, lambda _: True)
    files.note(file, tags)
    return writer(index).change_files(known.image_id, files, recipe=known.recipe)


def leave(index: MeetingIndex, file: ImageFile, *_: str) -> None:
    [known] = index.get_images([analysed().image_id])
    files = KnownFiles(known, lambda _: True)
    files.leave(file.uri)
    writer(index).change_files(known.image_id, files, recipe=None)


def assert_consistent(index: MeetingIndex) -> ImageRecord:
    [record] = index.scroll_images()
    segments = list(index.scroll_segments())
    assert len(segments) == record.segment_count == 2
    for segment in segments:
        assert set(segment.tags) == set(record.tags)
        assert set(segment.sources) == set(record.sources)
    return record


@pytest.mark.parametrize(("mine", "theirs"), list(product([store, note], [store, note])))
def test_files_and_tags_of_both_stay(
    index: MeetingIndex,
    mine: Callable[..., None],
    theirs: Callable[..., None],
) -> None:
    if note in (mine, theirs):
        store(index, OLD, "old")
    index.meanwhile = lambda: theirs(index, THERE, "theirs")

    mine(index, HERE, "mine")

    record = assert_consistent(index)
    assert {HERE, THERE} <= set(record.files)
    assert {"mine", "theirs"} <= set(record.tags)
    assert (OLD in record.files) == (note in (mine, theirs))


@pytest.mark.parametrize("theirs", [store, note])
def test_a_picture_that_gets_a_file_while_its_last_one_is_left_stays(
    index: MeetingIndex, theirs: Callable[..., None]
) -> None:
    store(index, OLD, "old")
    index.meanwhile = lambda: theirs(index, THERE, "theirs")

    leave(index, OLD)

    record = assert_consistent(index)
    assert record.files == (THERE,)
    assert record.tags == ("old", "theirs")


def test_a_picture_that_is_deleted_while_it_is_noted_is_for_the_caller_to_store_again(
    index: MeetingIndex,
) -> None:
    store(index, OLD, "old")
    index.meanwhile = lambda: leave(index, OLD)

    assert note(index, HERE, "mine") is None
    assert index.counts().images == 0


def test_a_picture_that_is_being_deleted_is_stored_without_its_former_files_tags_and_labels(
    index: MeetingIndex,
) -> None:
    store(index, HERE, "old")
    [image] = index.scroll_images()
    first = next(index.scroll_segments())
    index.set_labels({first.segment_id: [SegmentLabel("cat", "person:me", None, 1.0)]})
    # the first write of a deletion, which another process makes or was killed at
    index.update_image(replace(image, pending=PendingChange("delete")))

    store(index, THERE, "new")

    record = assert_consistent(index)
    assert (record.files, record.tags) == ((THERE,), ("new",))
    assert [one.labels for one in index.scroll_segments()] == [(), ()]


def test_another_recipe_replaces_the_segments_and_keeps_files_and_tags(index: MeetingIndex) -> None:
    store(index, OLD, "old")
    index.meanwhile = lambda: note(index, THERE, "theirs")

    written = writer(index).store(analysed("newer"), HERE, ("mine",))

    record = assert_consistent(index)
    assert record == written.record
    assert record.recipe == "newer"
    assert set(record.files) == {HERE, OLD, THERE}
    assert record.tags == ("mine", "old", "theirs")


def test_what_the_index_has_already_is_not_written_again(index: MeetingIndex) -> None:
    store(index, HERE, "tag")
    [known] = index.scroll_images()

    noted = note(index, HERE, "tag")

    assert noted == known
    assert noted.revision == known.revision


@pytest.mark.parametrize(
    ("found", "uploads", "expected"),
    [
        ((5.0, "exif"), None, (5.0, "exif")),
        ((5.0, "xmp"), "file:///p", (5.0, "xmp")),
        ((None, None), None, (7e-9, "file")),
        ((None, None), "file:///elsewhere", (7e-9, "file")),
        ((None, None), "file:///p", (7e-9, "upload")),
    ],
)
def test_the_index_knows_what_the_date_of_a_picture_is_from(
    index: "MeetingIndex",
    found: tuple[float | None, CapturedFrom | None],
    uploads: str | None,
    expected: tuple[float, str],
) -> None:
    picture = replace(analysed(), captured_s=found[0], captured_from=found[1])
    written = PictureWriter(index, exists=lambda _: True, uploads=uploads).store(picture, HERE, ())

    for record in (written.record, *index.scroll_images()):
        assert (record.captured_s, record.captured_from) == expected


def test_a_picture_keeps_its_date_and_where_it_is_from_if_another_recipe_makes_it_again(
    index: "MeetingIndex",
) -> None:
    undated = replace(analysed(), captured_s=None)
    first = PictureWriter(index, exists=lambda _: True, uploads="file:///p").store(undated, HERE, ()).record
    again = writer(index).store(replace(undated, recipe="another"), THERE, ()).record

    assert (again.captured_s, again.captured_from) == (first.captured_s, "upload")
