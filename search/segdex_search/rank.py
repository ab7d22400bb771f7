"""From scored segments to a page of hits: pure functions."""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from uuid import UUID

from segdex_core.records import ImageRecord, SegmentRecord, ViewedSegment


class Candidate(Protocol):
    """A segment with a score: as much of it as ranking needs. Its ids may be of any kind, but all of one."""

    @property
    def segment_id(self) -> Hashable:
        """The segment."""
        ...

    @property
    def image_id(self) -> Hashable:
        """Its picture."""
        ...

    @property
    def ancestor_ids(self) -> Collection[Hashable]:
        """The segments that contain it."""
        ...

    @property
    def score(self) -> float:
        """Higher is better."""
        ...


CandidateT = TypeVar("CandidateT", bound=Candidate)


@dataclass(frozen=True, slots=True)
class HitSegment:
    """A segment that answers a query.

    Attributes:
        record: The stored segment.
        score: Weighted mean of ``view_scores`` plus the object score times its weight; higher is better.
        view_scores: Dot product of the query and each of the segment's vectors.
    """

    record: SegmentRecord
    score: float
    view_scores: Mapping[str, float]

    @property
    def segment_id(self) -> UUID:
        """See ``SegmentRecord``."""
        return self.record.segment_id

    @property
    def image_id(self) -> UUID:
        """See ``SegmentRecord``."""
        return self.record.image_id

    @property
    def ancestor_ids(self) -> tuple[UUID, ...]:
        """See ``SegmentRecord``."""
        return self.record.ancestor_ids


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A picture with the segments that answer a query, best first.

    Attributes:
        image: The picture.
        segments: At least one.
        presence: How far they stand out for the question, see ``PresenceJudge``; None where nobody judged.
        is_match: False where the picture was judged not to show what was asked for.
    """

    image: ImageRecord
    segments: tuple[HitSegment, ...]
    presence: float | None = None
    is_match: bool = True

    @property
    def score(self) -> float:
        """Score of the best segment."""
        return self.segments[0].score


def fuse_views(
    viewed: Iterable[ViewedSegment], *, weights: Mapping[str, float], object_weight: float = 0.0
) -> list[HitSegment]:
    """Fuse the scores of the views by weighted mean, and add the object score; best first, ties by id.

    Args:
        viewed: Segments with the score of each view.
        weights: Share of each view, 0 or more, not all 0.
        object_weight: What the object score counts beside that mean.
    """
    total = sum(weights.values())
    hits = [
        HitSegment(
            record=one.record,
            score=sum(weights[view] * one.view_scores[view] for view in weights) / total
            + object_weight * one.record.object_score,
            view_scores=one.view_scores,
        )
        for one in viewed
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.segment_id))


def drop_nested(hits: Sequence[CandidateT]) -> list[CandidateT]:
    """Drop every hit that lies inside, or around, a better hit of the same picture.

    So the parts of a thing, and the thing with its surroundings, do not fill the page: of each branch of the
    mask tree the best-scored level stays.

    Args:
        hits: Best first.
    """
    kept: list[CandidateT] = []
    kept_ids: set[Hashable] = set()
    covered_ids: set[Hashable] = set()  # ancestors of kept hits
    for hit in hits:
        if hit.segment_id in covered_ids or not kept_ids.isdisjoint(hit.ancestor_ids):
            continue
        kept.append(hit)
        kept_ids.add(hit.segment_id)
        covered_ids.update(hit.ancestor_ids)
    return kept


def group_by_image(hits: Sequence[CandidateT], *, limit: int, per_image: int) -> list[list[CandidateT]]:
    """Return the best ``per_image`` hits of each of the best ``limit`` pictures, both best first.

    Args:
        hits: Best first.
        limit: How many pictures.
        per_image: How many segments of each.
    """
    groups: dict[Hashable, list[CandidateT]] = {}
    for hit in hits:
        if hit.image_id in groups:
            if len(groups[hit.image_id]) < per_image:
                groups[hit.image_id].append(hit)
        elif len(groups) < limit:
            groups[hit.image_id] = [hit]
    return list(groups.values())
