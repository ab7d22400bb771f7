"""Rank scored segments for a page of hits: pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from segdex_core.records import FusedSegment, ImageRecord, SegmentRecord, ViewedSegment
from segdex_search.colours import ColourBonus


@dataclass(frozen=True, slots=True)
class HitSegment:
    """A segment that a query found.

    Attributes:
        record: The stored segment.
        score: Weighted mean of ``view_scores`` plus the object score times its weight, plus the colour bonus;
            higher is better.
        view_scores: Dot product of the query with the segment's vector, by view.
        related_id: ID of the other object, if the query names a position relative to it.
    """

    record: SegmentRecord
    score: float
    view_scores: Mapping[str, float]
    related_id: UUID | None = None

    @property
    def segment_id(self) -> UUID:
        """Id of the segment."""
        return self.record.segment_id

    @property
    def image_id(self) -> UUID:
        """Id of the image."""
        return self.record.image_id


@dataclass(frozen=True, slots=True)
class SearchHit:
    """An image with the segments that a query found, best first.

    Attributes:
        image: Record of the image.
        segments: Segments, at least one.
        presence: Presence score of the image, see ``PresenceJudge``; None if it was not judged.
        is_match: False if the presence score is below the threshold.
        count: Estimated number of objects in the image, if the query asks for a number.
        near_duplicates: IDs of images that were collapsed into this one, best first.
    """

    image: ImageRecord
    segments: tuple[HitSegment, ...]
    presence: float | None = None
    is_match: bool = True
    count: int | None = None
    near_duplicates: tuple[UUID, ...] = ()

    @property
    def score(self) -> float:
        """Score of the best segment."""
        return self.segments[0].score


def fuse_views(
    viewed: Iterable[ViewedSegment],
    *,
    weights: Mapping[str, float],
    object_weight: float = 0.0,
    bonus: ColourBonus | None = None,
) -> list[HitSegment]:
    """Fuse the view scores by weighted mean, add object score and colour bonus; best first, ties by id.

    Args:
        viewed: Segments with the score of each view.
        weights: Weight of each view, 0 or more, not all 0.
        object_weight: Weight of the object score, added to the mean.
        bonus: What segments in some colours score more; None for nothing.
    """
    total = sum(weights.values())
    hits = [
        HitSegment(
            record=one.record,
            score=sum(weights[view] * one.view_scores[view] for view in weights) / total
            + object_weight * one.record.object_score
            + (0.0 if bonus is None else bonus.of(one.record.colours)),
            view_scores=one.view_scores,
        )
        for one in viewed
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.segment_id))


def drop_nested(hits: Sequence[FusedSegment]) -> list[FusedSegment]:
    """Drop every hit that lies inside, or around, a better hit of the same image.

    Each branch of the mask tree keeps only its best-scored level, so that an object, its parts and its
    surroundings do not fill the page.

    Args:
        hits: Segments, best first.
    """
    kept: list[FusedSegment] = []
    kept_keys: set[str] = set()
    covered_keys: set[str] = set()  # ancestors of kept hits
    for hit in hits:
        if hit.segment_key in covered_keys or not kept_keys.isdisjoint(hit.ancestor_keys):
            continue
        kept.append(hit)
        kept_keys.add(hit.segment_key)
        covered_keys.update(hit.ancestor_keys)
    return kept
