"""Queries with a condition: a position of two objects, or a number of objects, in one picture.

The pictures are looked through from the best one on, a few at a time, until enough of them meet the
condition. Their order does not depend on the page that is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader
from segdex_core.records import FusedSegment, ImageRecord, SegmentFilter, SegmentRecord
from segdex_search.calibrate import object_weight as object_weight_of
from segdex_search.colours import colour_bonus
from segdex_search.counting import (
    MAX_CANDIDATES,
    Candidates,
    distinct,
    estimated_count,
    object_probabilities,
)
from segdex_search.embed import embed_query
from segdex_search.presence import PresenceJudge
from segdex_search.queries import Condition, Counted, Related, SearchQuery
from segdex_search.rank import HitSegment, SearchHit, drop_nested
from segdex_search.relations import Shape, holds
from segdex_search.retrieve import Ask, find_pictures, make_ask, read_segments, where_of
from segdex_search.scoring import Scoring

MAX_PICTURES = 512
"""Pictures that one query looks through, the best ones."""

_FIRST_PICTURES, _GROWTH = 32, 4
_BATCH = 16
"""Pictures whose segments are fetched at once."""

_FETCHED_PER_PICTURE = 64
"""Segments fetched for each picture of a batch: nested ones are dropped."""

RELATED_CANDIDATES = 3
"""Segments of a picture that may be each of two objects."""

_PLAUSIBLE = 1.0
"""Presence, in standard deviations, by which such a segment may be below the best one of its picture."""


@dataclass(frozen=True, slots=True)
class ConditionedHits:
    """Pictures that meet a condition.

    Attributes:
        hits: One page of them.
        more: Whether there are further ones.
        other_presence: Presence of the other object of each, see ``PresenceJudge``; None for a number.
        is_cut: Whether pictures were left out because only the best ``MAX_PICTURES`` are looked through.
    """

    hits: tuple[SearchHit, ...]
    more: bool
    other_presence: tuple[float, ...] | None
    is_cut: bool


def conditioned_hits(
    query: SearchQuery,
    condition: Condition,
    subject: Scoring,
    *,
    index: IndexReader,
    embedder: Embedder,
    judge: PresenceJudge,
) -> ConditionedHits:
    """Return a page of the pictures that meet the condition of a query.

    Args:
        query: The query.
        condition: Its condition.
        subject: How segments score as what the hits are.
        index: The index that is queried.
        embedder: What filled it.
        judge: Compares the texts with other words.

    Raises:
        QueryError: If a term cannot be embedded.
    """
    looking = _Looking(index, judge, query, replace(query, min_score=None))
    wanted = query.offset + query.limit + 1
    presence: tuple[float, ...] | None = None
    if isinstance(condition, Related):
        terms = embed_query(condition.terms, views=tuple(subject.weights), embedder=embedder, index=index)
        other = Scoring(
            terms,
            subject.weights,
            # its own: the level and the pictures of the query are for the subject
            object_weight_of(SearchQuery(condition.terms), judge.calibration),
            colour_bonus(condition.terms, judge.calibration.colour_weight),
        )
        found, is_cut = _scan(
            lambda reach: looking.rank_by_both(subject, other, reach),
            lambda images: looking.related(condition, subject, other, images),
            wanted=wanted,
        )
        page = found[query.offset : query.offset + query.limit]
        beside = [second for _, second in page if second is not None]
        presence = tuple(judge.scores(beside, other.vectors, index=index, weights=other.weights))
    else:
        found, is_cut = _scan(
            lambda reach: looking.rank(subject, reach),
            lambda images: looking.counted(condition, subject, images),
            wanted=wanted,
        )
        page = found[query.offset : query.offset + query.limit]
    return ConditionedHits(tuple(hit for hit, _ in page), len(found) >= wanted, presence, is_cut)


_Found = tuple[SearchHit, SearchHit | None]


def _scan(
    rank: Callable[[int], tuple[Sequence[ImageRecord], bool]],
    evaluate: Callable[[Sequence[ImageRecord]], list[_Found]],
    *,
    wanted: int,
) -> tuple[list[_Found], bool]:
    """Return pictures that meet a condition, and whether pictures were left out.

    Args:
        rank: Returns the best pictures, at most so many, and whether these are all.
        evaluate: Returns those of some pictures that meet the condition.
        wanted: Number of pictures that is enough.
    """
    found: list[_Found] = []
    seen: set[UUID] = set()
    reach = _FIRST_PICTURES
    while True:
        ranked, is_whole = rank(reach)
        new = [image for image in ranked if image.image_id not in seen]
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            seen.update(image.image_id for image in batch)
            found += evaluate(batch)
            if len(found) >= wanted:
                return found, False
        if is_whole or reach >= MAX_PICTURES:
            return found, not is_whole
        reach = min(reach * _GROWTH, MAX_PICTURES)


@dataclass(frozen=True, slots=True, eq=False)
class _Looking:
    """The index, as a query with a condition looks into it.

    Attributes:
        index: The index.
        judge: Compares texts with other words.
        query: The query.
        anything: The query without its lowest score: the other object may score less.
        shapes: Shapes of segments that were compared already.
    """

    index: IndexReader
    judge: PresenceJudge
    query: SearchQuery
    anything: SearchQuery
    shapes: dict[UUID, Shape] = field(default_factory=dict)

    def ask(self, side: Scoring, query: SearchQuery) -> Ask:
        return make_ask(query, side, self.index)

    def rank(self, side: Scoring, reach: int) -> tuple[Sequence[ImageRecord], bool]:
        """Return the best pictures of the subject, and whether these are all."""
        where = where_of(self.query)
        images, _, is_whole = find_pictures(self.ask(side, self.query), self.index, where, reach=reach)
        return list(images.values()), is_whole and len(images) < reach

    def rank_by_both(
        self, subject: Scoring, other: Scoring, reach: int
    ) -> tuple[Sequence[ImageRecord], bool]:
        """Return the pictures that are best for two objects together, and whether these are all."""
        ask_subject, ask_other = self.ask(subject, self.query), self.ask(other, self.anything)
        around = _context_of(self.query)
        images, first, is_whole = find_pictures(ask_subject, self.index, where_of(self.query), reach=reach)
        if not images:
            return [], is_whole
        second = ask_other(replace(around, image_ids=tuple(images)), len(images) * _FETCHED_PER_PICTURE)
        scores = [_standing(first), _standing(second)]
        order = sorted(
            images,
            key=lambda image_id: (-sum(one.get(str(image_id), -3.0) for one in scores), image_id),
        )
        return [images[image_id] for image_id in order], is_whole and len(images) < reach

    def candidates(
        self,
        side: Scoring,
        query: SearchQuery,
        where: SegmentFilter,
        images: Sequence[ImageRecord],
        most: int,
    ) -> dict[UUID, list[HitSegment]]:
        """Return the best segments of each picture, nested ones dropped, best first."""
        image_ids = tuple(image.image_id for image in images)
        found = self.ask(side, query)(
            replace(where, image_ids=image_ids), len(image_ids) * _FETCHED_PER_PICTURE
        )
        groups: dict[str, list[FusedSegment]] = {}
        for hit in found:
            groups.setdefault(hit.image_key, []).append(hit)
        chosen = [hit.segment_id for group in groups.values() for hit in drop_nested(group)[:most]]
        return read_segments(chosen, side, self.index)

    def vectors(
        self, *found: Mapping[UUID, Sequence[HitSegment]]
    ) -> Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]]:
        """Return the vectors of the segments that were not deleted in the meantime."""
        ids = dict.fromkeys(one.segment_id for each in found for group in each.values() for one in group)
        return self.index.get_vectors(list(ids))

    def related(
        self, condition: Related, subject: Scoring, other: Scoring, images: Sequence[ImageRecord]
    ) -> list[_Found]:
        """Return the pictures in which the subject lies so to the other object."""
        firsts = self.candidates(subject, self.query, where_of(self.query), images, RELATED_CANDIDATES)
        around = _context_of(self.query)
        seconds = self.candidates(other, self.anything, around, images, RELATED_CANDIDATES)
        stored = self.vectors(firsts, seconds)
        as_first, as_second = (
            self.judge.segment_scores(stored, side.vectors, weights=side.weights) for side in (subject, other)
        )
        firsts = _plausible(firsts, as_first, not_as=as_second)
        seconds = _plausible(seconds, as_second, not_as=as_first)
        found: list[_Found] = []
        for image in images:
            pairs = [
                (a, b)
                for a in firsts.get(image.image_id, [])
                for b in seconds.get(image.image_id, [])
                if a.segment_id != b.segment_id
                and holds(condition.name, self.shape(a.record), self.shape(b.record))
            ]
            pairs.sort(key=lambda pair: (-pair[0].score - pair[1].score, pair[0].segment_id))
            # each subject once, with the best object beside it
            beside: dict[UUID, tuple[HitSegment, HitSegment]] = {}
            for a, b in pairs:
                beside.setdefault(a.segment_id, (a, b))
            shown = list(beside.values())[: self.query.per_image]
            if shown:
                subjects = tuple(replace(a, related_id=b.segment_id) for a, b in shown)
                objects = tuple({b.segment_id: b for _, b in shown}.values())
                found.append((SearchHit(image, subjects), SearchHit(image, objects)))
        return found

    def counted(self, condition: Counted, subject: Scoring, images: Sequence[ImageRecord]) -> list[_Found]:
        """Return the pictures with such a number of objects, each with that number."""
        by_image = self.candidates(subject, self.query, where_of(self.query), images, MAX_CANDIDATES)
        stored = self.vectors(by_image)
        presence = self.judge.segment_scores(stored, subject.vectors, weights=subject.weights)
        found: list[_Found] = []
        for image in images:
            group = [one for one in by_image.get(image.image_id, []) if one.segment_id in stored]
            group = [group[position] for position in distinct([one.record.mask for one in group])]
            if not group:
                continue
            probabilities = object_probabilities(
                candidates_of(group, presence, stored, weights=subject.weights)
            )
            count = estimated_count(probabilities)
            if condition.holds(count):
                likely = sorted(np.argsort(-probabilities, kind="stable")[:count].tolist())
                shown = tuple(group[position] for position in likely)[: self.query.per_image]
                found.append((SearchHit(image, shown, count=count), None))
        return found

    def shape(self, record: SegmentRecord) -> Shape:
        """Return the shape of a segment."""
        if record.segment_id not in self.shapes:
            self.shapes[record.segment_id] = Shape.of(record.mask)
        return self.shapes[record.segment_id]


def candidates_of(
    found: Sequence[HitSegment],
    presence: Mapping[UUID, float],
    stored: Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]],
    *,
    weights: Mapping[str, float],
) -> Candidates:
    """Return what tells how many of the segments of a picture are objects of the kind asked for.

    Args:
        found: Distinct segments of one picture, best first, at least one.
        presence: Presence score of each.
        stored: (dim,) vectors of each by view.
        weights: Share of each view.
    """
    return Candidates(
        masks=[one.record.mask for one in found],
        presence=np.array([presence[one.segment_id] for one in found]),
        vectors=np.stack([_look(stored[one.segment_id], weights) for one in found]),
        object_scores=np.array([one.record.object_score for one in found]),
        area_fractions=np.array([one.record.area_fraction for one in found]),
    )


def _context_of(query: SearchQuery) -> SegmentFilter:
    """Return the conditions on the picture: those on the segment are for the subject alone."""
    return replace(
        query.where,
        min_area_fraction=None,
        max_area_fraction=None,
        min_depth=None,
        colours=(),
        labels=(),
        sets=(),
    )


def _standing(hits: Sequence[FusedSegment]) -> dict[str, float]:
    """Return by picture how many standard deviations its best segment is above the mean of all hits."""
    if not hits:
        return {}
    scores = np.array([hit.score for hit in hits])
    mean, spread = float(scores.mean()), max(float(scores.std()), 1e-6)
    best: dict[str, float] = {}
    for hit in hits:
        best.setdefault(hit.image_key, (hit.score - mean) / spread)
    return best


def _plausible(
    found: Mapping[UUID, Sequence[HitSegment]],
    presence: Mapping[UUID, float],
    *,
    not_as: Mapping[UUID, float],
) -> dict[UUID, list[HitSegment]]:
    """Return of each picture the segments that are not much less likely than the best one.

    Args:
        found: Segments by picture, best first.
        presence: Presence score of each as one of the two objects.
        not_as: Presence score of each as the other one; a segment is what it is more likely to be.
    """
    kept: dict[UUID, list[HitSegment]] = {}
    for image_id, group in found.items():
        known = [
            one
            for one in group
            if one.segment_id in presence and presence[one.segment_id] >= not_as[one.segment_id]
        ]
        if known:
            least = presence[known[0].segment_id] - _PLAUSIBLE
            kept[image_id] = [one for one in known if presence[one.segment_id] >= least]
    return kept


def _look(
    vectors: Mapping[str, npt.NDArray[np.float32]], weights: Mapping[str, float]
) -> npt.NDArray[np.float32]:
    """Return the views of a segment as one unit row: dot products of rows are weighted means of cosines."""
    total = sum(weights.values())
    rows = [
        np.sqrt(weight / total) * vectors[view] / max(float(np.linalg.norm(vectors[view])), 1e-9)
        for view, weight in weights.items()
    ]
    return np.concatenate(rows).astype(np.float32)
