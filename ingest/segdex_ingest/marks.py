"""The marks of segments: the ids of the sets that a segment is in, for the filter of searches."""

from collections.abc import Collection
from uuid import UUID

from segdex_core.ports.index import SegmentIndex
from segdex_core.records import SegmentFilter
from segdex_core.sets import sets_by_member, sets_of
from segdex_core.slices import slices

_IMAGES_AT_ONCE = 64


def mark_segments(index: SegmentIndex, image_ids: Collection[UUID]) -> None:
    """Let the segments of some images carry exactly the sets that they are in.

    Other processes may change sets at the same time. They too write members before marks, so members that are
    the same after the marks were written as before have the marks that belong to them.

    Args:
        index: Holds the segments and the sets.
        image_ids: Images whose segments are marked.
    """
    for some in slices(sorted(image_ids), _IMAGES_AT_ONCE):
        after = sets_by_member(index.members_of_images(some))
        before = None
        while before != after:
            before = after
            marks = {
                one.segment_id: sets_of(one, before)
                for one in index.scroll_segments(SegmentFilter(image_ids=tuple(some)))
                if one.sets != sets_of(one, before)
            }
            if marks:
                index.set_marks(marks)
            after = sets_by_member(index.members_of_images(some))
