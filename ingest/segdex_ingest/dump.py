"""Read the whole content of an index, and restore it into another one."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from segdex_core.dump import DumpCounts, DumpedImages, IndexDump
from segdex_core.errors import IndexConflictError, SegmentIndexError
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import EmbeddedSegments, ImageRecord, IndexCounts, SegmentFilter
from segdex_core.sets import sets_by_member, sets_of
from segdex_core.wording import count_of

_IMAGES_AT_ONCE = 32
_LOOKS = 5
_WAIT_S = 0.05  # more before each look: another process needs as long to write an image


def dump_index(index: SegmentIndex) -> IndexDump:
    """Return the content of an index. Other processes may write to the index meanwhile.

    Each image is consistent: it has as many segments as its record says. An image that is ingested or deleted
    while the dump is read, or whose ingest or deletion was interrupted, is missing. Segments without a record
    are left out.

    Raises:
        SegmentIndexError: If there is no index, or, while ``images`` is read, if an image never has the
            segments that its record says.
    """
    fingerprint = index.fingerprint()
    if fingerprint is None:
        raise SegmentIndexError(f"there is nothing to back up: {index.location} was not filled yet")
    sets = index.sets()
    return IndexDump(
        fingerprint=fingerprint,
        recipes=index.recipes(),
        images=_images(index, fingerprint.views, fingerprint.dim),
        sets=sets,
        members=[member for one in sets for member in index.set_members(one.set_id)],
        concepts=index.concepts(),
    )


def restore_into(
    index: SegmentIndex, dump: IndexDump, *, on_image: Callable[[ImageRecord], None] = lambda _: None
) -> DumpCounts:
    """Write the content of a dump into a new index, or continue a restoration that was stopped.

    Sets and concepts are written first, and an image after its segments. An image that the index has already
    is left as it is, so a second call changes nothing. The call changes no other image of the index.

    Args:
        index: Index to fill; see ``check_restorable``.
        dump: Content to write.
        on_image: Called after each image.

    Raises:
        IndexMismatchError: If another embedder filled the index.
        IndexConflictError: If the index has another concept of the same name.
        SegmentIndexError: If the index does not hold the whole dump at the end.
    """
    index.ensure(dump.fingerprint)
    for recipe, made in dump.recipes.items():
        index.note_recipe(recipe, made)
    for one in dump.sets:
        index.put_set(one)
    index.add_members(dump.members)
    for concept in dump.concepts:
        index.put_concept(replace(concept, revision=0))
    images = segments = 0
    for batch in dump.images:
        _restore(index, batch)
        images, segments = images + len(batch.records), segments + len(batch.segments.records)
        for record in batch.records:
            on_image(record)
    counts = DumpCounts(IndexCounts(images, segments), len(dump.sets), len(dump.concepts))
    if index.counts() != counts.stored:
        raise SegmentIndexError(
            f"{index.location} does not hold what the backup holds: {index.counts()}, not {counts.stored}; "
            "restore into a new index"
        )
    return counts


def check_restorable(index: SegmentIndex, records: Iterator[ImageRecord]) -> int:
    """Check that every image of an index is one of ``records``, and return how many it has already.

    Args:
        index: Index to restore into.
        records: Images of the backup.

    Raises:
        IndexConflictError: If the index holds another image, or an image with another record.
    """
    if index.fingerprint() is None:
        return 0
    held = {record.image_id: record for record in index.scroll_images()}
    count = len(held)
    for record in records:
        if held.get(record.image_id) == record:
            del held[record.image_id]
    if held:
        raise IndexConflictError(
            f"{index.location} holds {count_of(len(held), 'picture')} that the backup does not have or has "
            "in another state; restore into a new index"
        )
    return count


def _images(index: SegmentIndex, views: Sequence[str], dim: int) -> Iterator[DumpedImages]:
    records = (one for one in index.scroll_images() if one.is_shown)
    while some := list(islice(records, _IMAGES_AT_ONCE)):
        batch = _consistent(index, some, views, dim)
        if batch.records:
            yield batch


def _consistent(
    index: SegmentIndex, records: Sequence[ImageRecord], views: Sequence[str], dim: int
) -> DumpedImages:
    """Return images with their segments, read again as long as another process changes them."""
    ids = [record.image_id for record in records]
    for look in range(_LOOKS):
        time.sleep(look * _WAIT_S)
        vectors = index.get_image_vectors(ids)
        batches = list(index.scroll_vectors(SegmentFilter(image_ids=tuple(ids))))
        after = [one for one in index.get_images(ids) if one.is_shown]
        segments = _by_image(batches, after, views, dim)
        unchanged = [(one.image_id, one.revision) for one in after] == [
            (one.image_id, one.revision) for one in records
        ]
        if unchanged and _complete(after, segments) and all(one.image_id in vectors for one in after):
            rows = [vectors[record.image_id] for record in after]
            return DumpedImages(after, np.stack(rows) if rows else np.zeros((0, dim), np.float32), segments)
        records = after
    raise SegmentIndexError(
        f"{index.location} changes while it is backed up, or pictures lack segments: wait until no ingest "
        "runs, run `segdex sync` and ingest again, then back up"
    )


def _by_image(
    batches: Sequence[EmbeddedSegments], images: Sequence[ImageRecord], views: Sequence[str], dim: int
) -> EmbeddedSegments:
    place = {record.image_id: position for position, record in enumerate(images)}
    records = [record for batch in batches for record in batch.records]
    order = sorted(
        (position for position, record in enumerate(records) if record.image_id in place),
        key=lambda position: (place[records[position].image_id], records[position].segment_id),
    )
    rows = {
        view: np.concatenate([batch.vectors[view] for batch in batches])[order]
        if order
        else np.zeros((0, dim), np.float32)
        for view in views
    }
    return EmbeddedSegments([records[position] for position in order], rows)


def _complete(images: Sequence[ImageRecord], segments: EmbeddedSegments) -> bool:
    counts = dict.fromkeys((record.image_id for record in images), 0)
    for segment in segments.records:
        counts[segment.image_id] += 1
    return all(
        record.pending is None and counts[record.image_id] == record.segment_count for record in images
    )


def _restore(index: SegmentIndex, batch: DumpedImages) -> None:
    """Write the images of a batch that the index lacks."""
    here = {record.image_id for record in index.get_images([record.image_id for record in batch.records])}
    lacking = [record.image_id not in here for record in batch.records]
    wanted = [record.image_id for record, lacks in zip(batch.records, lacking, strict=True) if lacks]
    if not wanted:
        return
    marks = sets_by_member(index.members_of_images(wanted))
    keep = [place for place, one in enumerate(batch.segments.records) if one.image_id not in here]
    records = [
        replace(one, sets=sets_of(one, marks)) for one in (batch.segments.records[place] for place in keep)
    ]
    rows = {view: vectors[keep] for view, vectors in batch.segments.vectors.items()}
    index.upsert_segments(EmbeddedSegments(records, rows))
    for record, row, lacks in zip(batch.records, batch.vectors, lacking, strict=True):
        if lacks:
            index.upsert_image(replace(record, revision=0), row[None])
