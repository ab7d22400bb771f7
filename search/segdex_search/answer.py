"""Answer a query: embed its terms, query the index, and rank the hits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segdex_core.errors import ArgumentError, IndexMismatchError, IndexMissingError
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader
from segdex_core.records import EVERYTHING, IndexFingerprint, SegmentFilter
from segdex_search.arrange import MAX_ARRANGED, arranged_hits
from segdex_search.calibrate import Calibration, object_weight, shipped_calibration
from segdex_search.colours import colour_bonus
from segdex_search.embed import Vector, mixed, term_vectors
from segdex_search.presence import PresenceJudge
from segdex_search.queries import SearchQuery
from segdex_search.rank import SearchHit
from segdex_search.retrieve import fused_hits
from segdex_search.scoring import Examples, Scoring
from segdex_search.timing import Stopwatch


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The result of a query.

    Attributes:
        hits: Images, best first.
        more: Whether a larger ``offset`` returns more images.
        timings_ms: Wall milliseconds of each stage: embed, query, and presence if it was judged.
        embedder: Name of the embedder.
        query_vectors: (dim,) query vector by view.
        hints: Lines to show with the answer, such as that images were left out.
    """

    hits: tuple[SearchHit, ...]
    more: bool
    timings_ms: Mapping[str, float]
    embedder: str
    query_vectors: Mapping[str, Vector]
    hints: tuple[str, ...] = ()

    @property
    def question(self) -> Vector:
        """(dim,) sum of the query vectors of all views."""
        whole: Vector = np.sum(list(self.query_vectors.values()), axis=0)
        return whole


def require_filled(index: IndexReader) -> IndexFingerprint:
    """Return the fingerprint of an index.

    Raises:
        IndexMissingError: If nothing was ingested yet.
    """
    found = index.fingerprint()
    if found is None:
        raise IndexMissingError(f"{index.location} is empty; fill it with: segdex ingest FOLDER")
    return found


def check_embedder(index: IndexReader, embedder: Embedder) -> None:
    """Raise an error unless this embedder filled the index.

    Raises:
        IndexMissingError: If nothing was ingested yet.
        IndexMismatchError: If another embedder filled the index.
    """
    found = require_filled(index)
    if found.embedder != embedder.fingerprint:
        raise IndexMismatchError(
            f"{index.location} was filled by {found.embedder!r} (profile {found.profile}), but the query "
            f"would be embedded by {embedder.fingerprint!r}; name its --embedder or --profile, another "
            "--index, or change its vectors with `segdex reembed`"
        )


def search(
    query: SearchQuery,
    *,
    index: IndexReader,
    embedder: Embedder,
    judge: PresenceJudge | None = None,
    keep_weak: bool = False,
    calibration: Calibration | None = None,
) -> SearchAnswer:
    """Return the best images and segments for a query.

    The index fuses the views. Nested segments are dropped, and the other segments are grouped by image.

    Args:
        query: Query to answer.
        index: Index to search.
        embedder: Embedder that filled the index.
        judge: Decides which images match the query; None returns the nearest images without a decision.
        keep_weak: Whether to keep images that do not match, marked by ``SearchHit.is_match``.
        calibration: Calibration to use without a judge; None for the shipped calibration.

    Raises:
        QueryError: If a term cannot be embedded.
        IndexMismatchError: If another embedder filled the index.
    """
    clock = Stopwatch()
    weights = {view: weight for view, weight in query.view_weights.items() if weight > 0}
    check_embedder(index, embedder)
    if judge is not None:
        calibration = judge.calibration
    elif calibration is None:
        calibration = shipped_calibration(embedder.fingerprint)
    with clock.stage("embed"):
        of_terms = term_vectors(query.terms, views=tuple(weights), embedder=embedder, index=index)
        vectors = mixed(query.terms, of_terms, views=tuple(weights))
    scoring = Scoring(
        vectors,
        weights,
        object_weight(query, calibration),
        bonus=colour_bonus(query.terms, calibration.colour_weight),
        examples=Examples.of(query.terms, of_terms) if query.combine == "best" else None,
    )
    _check_reachable(query, scoring)
    hints: tuple[str, ...] = ()
    other_presence: Sequence[float] | None = None
    with clock.stage("query"):
        if query.is_arranged:
            arranged = arranged_hits(query, scoring, index)
            hits, more = arranged.hits, arranged.more
            if arranged.is_cut:
                hints = (_cut_hint(MAX_ARRANGED),)
        elif query.condition is None:
            hits, more = fused_hits(query, scoring, index)
        else:
            # scipy and pycocotools, which most searches do not need
            from segdex_search.conditions import MAX_PICTURES, conditioned_hits

            found = conditioned_hits(
                query,
                query.condition,
                scoring,
                index=index,
                embedder=embedder,
                judge=judge or PresenceJudge.of(embedder, calibration),
            )
            hits, more, other_presence = found.hits, found.more, found.other_presence
            if found.is_cut:
                hints = (_cut_hint(MAX_PICTURES),)
    if judge is not None:
        with clock.stage("presence"):
            scores = judge.scores(hits, vectors, index=index, weights=weights)
            if other_presence is not None:  # a picture shows both objects, or it is no match
                scores = list(map(min, scores, other_presence))
            hits = _judged(hits, scores, index=index, judge=judge, where=query.where)
        if not keep_weak:
            hits = tuple(hit for hit in hits if hit.is_match)
    return SearchAnswer(
        hits=hits,
        more=more,
        timings_ms=clock.timings_ms,
        embedder=embedder.name,
        query_vectors=vectors,
        hints=hints,
    )


def _check_reachable(query: SearchQuery, scoring: Scoring) -> None:
    """Raise an error if no segment can have the minimum score, which would look as if nothing were there."""
    if query.min_score is not None and query.min_score > scoring.highest:
        most = math.floor(100 * scoring.highest) / 100
        problem = (
            f"must be at most {most:.2f}, the most that this query can score, but got {query.min_score:g}"
        )
        raise ArgumentError("min_score", problem)


def _cut_hint(pictures: int) -> str:
    return f"only the {pictures} best pictures were looked through; narrow the query"


def _judged(
    hits: tuple[SearchHit, ...],
    scores: Sequence[float],
    *,
    index: IndexReader,
    judge: PresenceJudge,
    where: SegmentFilter,
) -> tuple[SearchHit, ...]:
    """Return the hits with their presence scores and whether they match."""
    threshold = judge.calibration.threshold_of(_pictures_of(where, index))
    return tuple(
        replace(hit, presence=presence, is_match=presence >= threshold)
        for hit, presence in zip(hits, scores, strict=True)
    )


def _pictures_of(where: SegmentFilter, index: IndexReader) -> int:
    """Return the approximate number of images that a query searches."""
    if where.image_ids:
        return len(where.image_ids)
    counts = index.counts(where)
    if where == EVERYTHING:
        return counts.images
    # scaled by the share of matching segments: the index does not count images by segment conditions
    everything = index.counts()
    return max(round(everything.images * counts.segments / max(everything.segments, 1)), 1)
