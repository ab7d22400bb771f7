"""Mend what ``examine`` found, where that loses nothing."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from segdex_core.errors import IndexConflictError
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import PendingChange
from segdex_core.wire.doctor import FindingKind
from segdex_ingest.doctor import Finding
from segdex_ingest.finish import finish_changes
from segdex_ingest.marks import mark_segments


def mend(index: SegmentIndex, finding: Finding) -> bool:
    """Mend a finding that is fixable, and return whether it is mended.

    Damaged pictures are marked as not written completely, so that the next ingest writes them again with
    their labels, tags and sets. What nobody can read is deleted. Everything may be repeated.

    Args:
        index: Index that was examined.
        finding: What was found.

    Raises:
        SegmentIndexError: If the index does not answer.
    """
    if not finding.fixable:
        return False
    if finding.image_id is None:
        return _MEND_OTHERS[finding.kind](index, finding.what)
    return _MEND_PICTURES.get(finding.kind, _write_again)(index, finding.image_id)


def _write_again(index: SegmentIndex, image_id: UUID) -> bool:
    """Let the next ingest write a picture again."""
    stored = index.examination()
    image = stored.image(image_id)
    unreadable = [one.point_id for one in stored.segments([image_id]) if one.record is None]
    stored.remove("segments", unreadable)
    if image is not None and image.record is None:
        index.delete_segments(image_id)
        stored.remove("images", [image_id])
    elif image is not None and image.record is not None and image.record.pending is None:
        try:
            index.update_image(replace(image.record, pending=PendingChange("write")))
        except IndexConflictError:
            return False  # another process has just changed it
    return True


def _delete_orphans(index: SegmentIndex, image_id: UUID) -> bool:
    stored = index.examination()
    found = list(stored.segments([image_id]))
    if stored.image(image_id) is not None:
        return True  # an ingest has begun with it meanwhile
    stored.remove("segments", [one.point_id for one in found if one.record is None])
    writes = {one.record.write for one in found if one.record is not None}
    index.delete_segments(image_id, writes=writes)
    return True


def _copy_fields(index: SegmentIndex, image_id: UUID) -> bool:
    for record in index.get_images([image_id]):
        if record.pending is not None:
            continue  # who finishes that writes the fields too; another pending change would hide it
        with suppress(IndexConflictError):  # who changed it wrote the fields of its segments
            index.update_image(replace(record, pending=PendingChange("copy")))
    return True


def _finish(index: SegmentIndex, image_id: UUID) -> bool:
    finish_changes(index, index.get_images([image_id]))
    return True


def _mark(index: SegmentIndex, image_id: UUID) -> bool:
    if any(one.record is None for one in index.examination().segments([image_id])):
        return False  # a later ingest does it
    mark_segments(index, [image_id])
    return True


def _remove_segment(index: SegmentIndex, segment_id: str) -> bool:
    index.examination().remove("segments", [UUID(segment_id)])
    return True


def _remove_members(index: SegmentIndex, set_id: str) -> bool:
    if any(str(one.set_id) == set_id for one in index.sets()):
        return True  # it is being made
    members = list(index.set_members(UUID(set_id)))
    index.remove_members(UUID(set_id), [one.member_id for one in members])
    mark_segments(index, {one.image_id for one in members})
    return True


def _drop(index: SegmentIndex, name: str) -> bool:
    index.examination().drop([name])
    return True


_MEND_PICTURES: Mapping[FindingKind, Callable[[SegmentIndex, UUID], bool]] = {
    "orphans": _delete_orphans,
    "unfinished_picture": _finish,
    "copied_fields": _copy_fields,
    "marks": _mark,
}
_MEND_OTHERS: Mapping[FindingKind, Callable[[SegmentIndex, str], bool]] = {
    "unreadable_segment": _remove_segment,
    "object_score": _remove_segment,
    "members_without_set": _remove_members,
    "leftover_collection": _drop,
}
