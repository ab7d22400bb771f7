"""Ranking by several views at once, for an index that can fuse their scores itself."""

from collections.abc import Iterable, Mapping
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex.core.errors import SegmentIndexError
from segdex.core.index.schema import check_query
from segdex.core.records import IndexFingerprint, SegmentFilter, SegmentRecord, ViewedSegment

FUSED_FIELDS = ["image_id", "ancestor_ids"]
"""What is read of a payload to rank by: a whole payload costs more than the search that found it."""

ABSENT = -1e6
"""Score of a segment in a view that did not find it, where it is not looked up: behind all others."""

_PER_VIEW = 2  # so many segments of each view are fused for each one that is wanted
_PER_VIEW_AT_LEAST = 64
_PER_VIEW_OF_ONE = 4  # of one picture: 64 of its 100 segments for the best 12
_ALL_OF_ONE = 10_000  # segments; an ingest stores some hundred of a picture at most


def check_fused_query(
    vectors: Mapping[str, npt.NDArray[np.float32]],
    limit: int,
    fingerprint: IndexFingerprint,
    weights: Mapping[str, float],
) -> dict[str, float]:
    """Check a query, and return the weights of the views that have one, as shares of 1.

    Raises:
        ValueError: If a view is unknown, a weight is negative or none is positive, a vector has another shape
            or the limit is below 1.
    """
    total = sum(weights.values())
    if min(weights.values(), default=0) < 0 or total <= 0:
        raise ValueError(f"weights must be 0 or more, one above 0, but got {dict(weights)}")
    shares = {view: weight / total for view, weight in weights.items() if weight > 0}
    for view in shares:
        check_query(vectors[view], limit, fingerprint, view)
    return shares


def per_view(limit: int, where: SegmentFilter, *, exact: bool) -> tuple[int, bool]:
    """Return how many segments of each view to fuse for the best ``limit``, and whether to complete scores.

    Among many pictures, what one view finds is scored in the others as well. Of a single picture each view
    finds so large a part that the best of all are found by all, and that further look would cost more than
    the search; ``exact`` takes all of its segments.
    """
    if len(where.image_ids) != 1:
        return max(_PER_VIEW * limit, _PER_VIEW_AT_LEAST), True
    return (_ALL_OF_ONE if exact else max(_PER_VIEW_OF_ONE * limit, _PER_VIEW_AT_LEAST)), False


def scores_by_view(
    records: Iterable[SegmentRecord], scores: Mapping[str, Mapping[str, float]]
) -> dict[UUID, ViewedSegment]:
    """Return the segments that have a score in each view.

    Args:
        records: The segments.
        scores: By view, and by id as text.
    """
    viewed: dict[UUID, ViewedSegment] = {}
    for record in records:
        key = str(record.segment_id)
        if all(key in of_view for of_view in scores.values()):
            by_view = {view: of_view[key] for view, of_view in scores.items()}
            viewed[record.segment_id] = ViewedSegment(record, by_view)
    return viewed


def unreadable(point_id: object, place: str) -> SegmentIndexError:
    """Return the error that a point has no ``FUSED_FIELDS``."""
    return SegmentIndexError(
        f"segment {point_id} in {place} cannot be read, ingest into a new --index: it names no picture"
    )
