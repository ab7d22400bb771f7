"""Grouping of hits by picture, for an index that can only rank segments."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from uuid import UUID

from segdex.core.records import ScoredSegment, SegmentFilter

Rank = Callable[[SegmentFilter, int], list[ScoredSegment]]
"""Return the best segments that match a filter, best first, at most so many."""

_GROWTH = 4  # each further fetch is so much larger: few fetches, and at most 4 times too many hits


def group_by_image(
    hits: Iterable[ScoredSegment], *, limit: int, group_size: int
) -> dict[UUID, list[ScoredSegment]]:
    """Return the first ``group_size`` hits of each of the first ``limit`` pictures, in the given order."""
    groups: dict[UUID, list[ScoredSegment]] = {}
    for hit in hits:
        image_id = hit.record.image_id
        if image_id not in groups and len(groups) == limit:
            continue
        group = groups.setdefault(image_id, [])
        if len(group) < group_size:
            group.append(hit)
    return groups


def rank_groups(
    rank: Rank, where: SegmentFilter, *, limit: int, group_size: int
) -> list[list[ScoredSegment]]:
    """Return the best ``group_size`` segments of each of the best ``limit`` pictures.

    It fetches more and more segments until enough pictures are among them or there are no more, then asks
    once for each picture that may have further segments. As exact as ``rank`` is.
    """
    fetch = limit * group_size
    while True:
        hits = rank(where, fetch)
        groups = group_by_image(hits, limit=limit, group_size=group_size)
        exhausted = len(hits) < fetch
        if exhausted or len(groups) == limit:
            break
        fetch *= _GROWTH
    if exhausted:
        return list(groups.values())
    return [
        group if len(group) == group_size else rank(replace(where, image_ids=(image_id,)), group_size)
        for image_id, group in groups.items()
    ]
