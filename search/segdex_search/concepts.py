"""Saved concepts: what is learnt from marked segments, and what a query text with a concept means.

The marks of a concept give a direction in each view: from all segments towards the right ones, and away from
the wrong ones, divided by the covariance of all segments with shrinkage (linear discriminant analysis). A
query adds the direction to the text of the concept, and is then an ordinary query. The direction is learnt
anew for each query from the vectors that the index has now, so that a re-embedding needs nothing but the
marks. docs/research/search.md has the figures.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.concepts import Concept, Mark
from segdex_core.errors import QueryError
from segdex_core.masks import rle_iou
from segdex_core.ports.index import IndexReader
from segdex_core.records import SegmentFilter, SegmentRecord, Vectors
from segdex_core.slices import slices
from segdex_core.wire.limits import MAX_TERMS
from segdex_search.embed import Vector
from segdex_search.grammar import ParsedText, parse_text
from segdex_search.queries import ConceptTerm, Related, WrittenTerm

SAMPLE = 2_048
"""Segments that tell how all segments of an index are spread: the first ones by id, and ids are random."""

_SAME_IOU = 0.5
"""Least IoU of masks that show the same object, where a picture was segmented again."""

_IMAGES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How much is learnt from marks; chosen by ``tests.quality.concepts --fit``.

    Attributes:
        shrinkage: Share of the identity in the covariance, above 0 to 1.
        right: Weight of right marks beside a text of weight 1, if there are many.
        wrong: The same of wrong marks.
        half: Marks of a kind that have half of that weight.
    """

    shrinkage: float = 0.01
    right: float = 1.5
    wrong: float = 0.2
    half: float = 2.0


SETTINGS = FitSettings()


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How the segments of an index are spread in one view.

    Attributes:
        mean: (dim,) float64.
        covariance: (dim, dim) float64, positive definite.
    """

    mean: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: Vectors, *, shrinkage: float = SETTINGS.shrinkage) -> "Spread":
        """Return the spread of a sample; without two rows that are not zero, that of a sphere.

        Args:
            rows: (n, dim) unit rows. Zero rows, in which the embedder recognised nothing, are left out.
            shrinkage: See ``FitSettings``.
        """
        known = rows[rows.any(axis=1)].astype(np.float64)
        dim = rows.shape[1]
        if len(known) < 2:
            return cls(np.zeros(dim), np.eye(dim))
        mean = known.mean(axis=0)
        covariance = (known - mean).T @ (known - mean) / len(known)
        level = max(float(np.trace(covariance)) / dim, 1e-9)
        return cls(mean, (1 - shrinkage) * covariance + shrinkage * level * np.eye(dim))

    def towards(self, rows: Vectors) -> npt.NDArray[np.float64]:
        """Return the (dim,) direction from all segments to some: of length 1, or 0 where they do not differ.

        Args:
            rows: (n, dim) rows; there may be none.
        """
        if not len(rows):
            return np.zeros(len(self.mean))
        # sorted, so that the order of the marks does not change the last digits of the mean
        mean = rows[np.lexsort(rows.T)].mean(axis=0, dtype=np.float64)
        found: npt.NDArray[np.float64] = np.linalg.solve(self.covariance, mean - self.mean)
        length = float(np.linalg.norm(found))
        return found / length if length > 1e-9 else np.zeros(len(self.mean))


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """What marks say to look for.

    Attributes:
        vectors: (dim,) vector by view, of length 1, or 0 where the marks say nothing.
        weight: Weight beside a text of weight 1, above 0.
    """

    vectors: Mapping[str, Vector]
    weight: float


def fit(
    right: Mapping[str, Vectors],
    wrong: Mapping[str, Vectors],
    spreads: Mapping[str, Spread],
    *,
    settings: FitSettings = SETTINGS,
) -> Direction | None:
    """Return what marks say to look for; None if there are none, or they say nothing.

    Args:
        right: (r, dim) vectors of the segments that are right, by view.
        wrong: (w, dim) vectors of the segments that are wrong, by view.
        spreads: Spread of all segments, by view.
        settings: How much is learnt.
    """
    vectors: dict[str, Vector] = {}
    gains = [
        gain * count / (count + settings.half)
        for gain, count in (
            (settings.right, max(map(len, right.values()), default=0)),
            (settings.wrong, max(map(len, wrong.values()), default=0)),
        )
    ]
    for view, spread in spreads.items():
        found = gains[0] * spread.towards(right[view]) - gains[1] * spread.towards(wrong[view])
        length = float(np.linalg.norm(found))
        vectors[view] = (found / length if length > 1e-9 else np.zeros(len(found))).astype(np.float32)
    if not any(vector.any() for vector in vectors.values()):
        return None
    return Direction(vectors, math.hypot(*gains))


def spreads_of(index: IndexReader, *, settings: FitSettings = SETTINGS) -> dict[str, Spread]:
    """Return the spread of the segments of an index by view, from a sample of them."""
    sample: dict[str, list[Vectors]] = {}
    count = 0
    for batch in index.scroll_vectors():
        for view, rows in batch.vectors.items():
            sample.setdefault(view, []).append(rows[: SAMPLE - count])
        count += len(batch.records)
        if count >= SAMPLE:
            break
    return {
        view: Spread.of(np.concatenate(rows), shrinkage=settings.shrinkage) for view, rows in sample.items()
    }


class KnownSpreads:
    """The spreads of an index, read again when its vectors or its number of segments change.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._known: tuple[object, dict[str, Spread]] | None = None

    def of(self, index: IndexReader) -> Mapping[str, Spread]:
        """Return the spreads of an index; see ``spreads_of``."""
        found = index.fingerprint()
        key = (
            index.location,
            None if found is None else (found.embedder, found.views),
            index.counts().segments,
        )
        known = self._known
        if known is None or known[0] != key:
            self._known = known = (key, spreads_of(index))
        return known[1]


def segments_of_marks(marks: Sequence[Mark], index: IndexReader) -> dict[UUID, UUID]:
    """Return the segment of the index that each mark is learnt from, by the id of the marked segment.

    It is the marked segment itself, or else the segment of its picture whose mask has the largest IoU with
    that of the mark, at least .5. Marks without such a segment are left out.
    """
    ids = [mark.segment_id for mark in marks]
    used = {one.segment_id: one.segment_id for one in index.get_segments(ids)}
    lost = sorted(
        (mark for mark in marks if mark.segment_id not in used),
        key=lambda mark: (mark.image_id, mark.segment_id),
    )
    by_image = {image_id: list(some) for image_id, some in groupby(lost, key=lambda mark: mark.image_id)}
    for some in slices(list(by_image), _IMAGES_AT_ONCE):
        held: dict[UUID, list[SegmentRecord]] = {}
        for record in index.scroll_segments(SegmentFilter(image_ids=tuple(some))):
            held.setdefault(record.image_id, []).append(record)
        for image_id, records in held.items():
            iou = rle_iou([mark.mask for mark in by_image[image_id]], [record.mask for record in records])
            for mark, row in zip(by_image[image_id], iou, strict=True):
                if row.max() >= _SAME_IOU:
                    used[mark.segment_id] = records[int(row.argmax())].segment_id
    return used


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A concept as a query uses it.

    Attributes:
        name: Its name.
        text: Its text; None if it has none.
        direction: What its marks say; None without marks.
    """

    name: str
    text: ParsedText | None
    direction: Direction | None


def learn(concept: Concept, index: IndexReader, spreads: KnownSpreads) -> Learnt:
    """Return what a concept means with the vectors that the index has now.

    Raises:
        QueryError: If it has no text, and none of its right segments is in the index.
    """
    text = None if concept.text is None else parse_text(concept.text)
    used = segments_of_marks(concept.marks, index)
    direction = None
    if used:
        of_views = spreads.of(index)
        stored = index.get_vectors(list(used.values()))
        marked = {
            is_right: [
                stored[used[mark.segment_id]]
                for mark in concept.marks
                if mark.is_right is is_right and used.get(mark.segment_id) in stored
            ]
            for is_right in (True, False)
        }
        right, wrong = ({view: _rows(some, view) for view in of_views} for some in marked.values())
        if text is not None or marked[True]:
            direction = fit(right, wrong, of_views)
    if text is None and direction is None:
        raise QueryError(
            f"the concept {concept.name!r} has no text, and none of the segments that are right for it is in "
            f"{index.location} now; ingest their pictures again, or mark others"
        )
    return Learnt(concept.name, text, direction)


def check_concept_text(text: str) -> None:
    """Raise an error unless a text may be that of a concept: any query text that names no concept.

    Raises:
        QueryError: If it may not.
    """
    parsed = parse_text(text)
    others = parsed.condition.terms if isinstance(parsed.condition, Related) else ()
    for term in (*parsed.terms, *others):
        if isinstance(term, ConceptTerm):
            raise QueryError(f"the text of a concept cannot name another one, but names {term.name!r}")


def look_up(parsed: ParsedText, learnt: Callable[[str], Learnt]) -> ParsedText:
    """Return a query text with its concepts replaced by their texts and by what was learnt.

    A text that is only a concept without marks becomes the text of the concept. Otherwise a concept weighs as
    much as a phrase in its place would.

    Args:
        parsed: The query text.
        learnt: Returns the concept of a name.

    Raises:
        QueryError: If a concept whose text has a condition or a filter is not the whole text, or there are
            too many terms.
    """
    colors, condition, hint = parsed.colors, parsed.condition, parsed.hint
    if isinstance(condition, Related):
        others = tuple(
            written
            for term in condition.terms
            for written in (_part(term, learnt) if isinstance(term, ConceptTerm) else (term,))
        )
        condition = replace(condition, terms=others)
    if len(parsed.terms) == 1 and isinstance(parsed.terms[0], ConceptTerm) and parsed.terms[0].weight == 1:
        found = learnt(parsed.terms[0].name)
        terms = _written(found, 1.0)
        if found.text is not None:
            if found.text.condition is not None and condition is not None:
                raise _not_whole(found.name)
            condition = condition or found.text.condition
            colors = tuple(dict.fromkeys((*colors, *found.text.colors)))
            hint = hint or found.text.hint
    else:
        terms = tuple(
            written
            for term in parsed.terms
            for written in (_part(term, learnt) if isinstance(term, ConceptTerm) else (term,))
        )
    if len(terms) > MAX_TERMS:
        raise QueryError(
            f"a query text has {MAX_TERMS} terms at most, but this one has {len(terms)} with those of its "
            "concepts"
        )
    return ParsedText(terms, condition=condition, hint=hint, colors=colors)


def _part(term: ConceptTerm, learnt: Callable[[str], Learnt]) -> tuple[WrittenTerm, ...]:
    """Return the terms of a concept that is not the whole text."""
    found = learnt(term.name)
    if found.text is not None and (found.text.condition is not None or found.text.colors):
        raise _not_whole(found.name)
    return _written(found, term.weight)


def _written(found: Learnt, weight: float) -> tuple[WrittenTerm, ...]:
    own = () if found.text is None else found.text.terms
    if found.direction is None and weight == 1:
        return own
    whole = sum(term.weight for term in own if term.weight > 0)
    gain = 0.0 if found.direction is None else found.direction.weight
    share = 1 / (1 + gain)  # of the text
    terms: list[WrittenTerm] = [
        replace(term, weight=weight * (term.weight * share / whole if term.weight > 0 else term.weight))
        for term in own
    ]
    if found.direction is not None:
        learnt_share = 1 - share if whole else 1.0
        terms.append(ConceptTerm(found.name, weight * learnt_share, found.direction.vectors))
    return tuple(terms)


def _not_whole(name: str) -> QueryError:
    return QueryError(
        f"the text of the concept {name!r} has a position, a number or a color: it must be the whole query "
        "text"
    )


def _rows(marked: Sequence[Mapping[str, Vector]], view: str) -> Vectors:
    """Return the (n, dim) vectors of marked segments in a view, zero ones left out."""
    rows = [vectors[view] for vectors in marked if vectors[view].any()]
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)
