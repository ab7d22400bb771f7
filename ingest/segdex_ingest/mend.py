"""Mend what ``examine`` found, where that loses nothing."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from uuid import UUID

from segdex_core.errors import IndexConflictError
from segdex_core.ports.index import SegmentIndex
from segdex_core.wire.doctor import FindingKind
from segdex_ingest.checks import unreadable_ids
from segdex_ingest.doctor import Finding
from segdex_ingest.marks import mark_segments


def mend(index: SegmentIndex, finding: Finding) -> bool:
    """Mend a finding that is fixable, and return whether it is mended.

    Damaged pictures are deleted from the index, so that the next ingest makes them anew: their files are
    there. Everything may be repeated.

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
    return _MEND_PICTURES.get(finding.kind, _delete)(index, finding.image_id)


def _delete(index: SegmentIndex, image_id: UUID) -> bool:
    index.delete_image(image_id)
    return True


def _delete_orphans(index: SegmentIndex, image_id: UUID) -> bool:
    index.delete_segments(image_id)
    return True


def _copy_fields(index: SegmentIndex, image_id: UUID) -> bool:
    for record in index.get_images([image_id]):
        with suppress(IndexConflictError):  # who changed it wrote the fields of its segments
            index.update_image(record)
    return True


def _mark(index: SegmentIndex, image_id: UUID) -> bool:
    if unreadable_ids(list(index.examination().segments([image_id]))):
        return False  # it is deleted for that reason, or has labels
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
    "copied_fields": _copy_fields,
    "marks": _mark,
}
_MEND_OTHERS: Mapping[FindingKind, Callable[[SegmentIndex, str], bool]] = {
    "unreadable_segment": _remove_segment,
    "object_score": _remove_segment,
    "members_without_set": _remove_members,
    "leftover_collection": _drop,
}
