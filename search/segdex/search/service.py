"""Answer a query: embed, ask the index, rank."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex.core.errors import IndexMismatchError, IndexMissingError
from segdex.core.protocols import Embedder, SegmentIndex
from segdex.core.records import IndexFingerprint, SegmentRecord
from segdex.search.embed import embed_query
from segdex.search.fusing import FusesViews, fused_hits
from segdex.search.queries import SearchQuery
from segdex.search.rank import SearchHit, drop_nested, fuse_views, group_by_image

_FETCH_PER_IMAGE = 4
"""Segments fetched for each one shown of a picture: nested ones are dropped afterwards."""

_FETCH_IMAGES = 3
"""Pictures fetched from each view for each one shown: the fused order is not that of one view."""

_FETCH_AT_LEAST = 12

_UNFINISHED = 8
"""So many more pictures are ranked than shown, in place of those whose ingest is not finished."""


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What a query found.

    Attributes:
        hits: Pictures, best first.
        timings_ms: Wall milliseconds of each stage: embed, query, rank.
        embedder: Name of the model that scored.
    """

    hits: tuple[SearchHit, ...]
    timings_ms: Mapping[str, float]
    embedder: str


def require_filled(index: SegmentIndex) -> IndexFingerprint:
    """Return what filled an index.

    Raises:
        IndexMissingError: If nothing was ingested yet.
    """
    found = index.fingerprint()
    if found is None:
        raise IndexMissingError(f"{index.location} is empty; fill it with: segdex ingest FOLDER")
    return found


def check_embedder(index: SegmentIndex, embedder: Embedder) -> None:
    """Raise unless the index was filled by this embedder.

    Raises:
        IndexMissingError: If nothing was ingested yet.
        IndexMismatchError: If another embedder filled it.
    """
    found = require_filled(index)
    if found.embedder != embedder.fingerprint:
        raise IndexMismatchError(
            f"{index.location} was filled by {found.embedder!r} (profile {found.profile}), but the query "
            f"would be embedded by {embedder.fingerprint!r}; choose its profile with --profile, another "
            f"--index, or ingest again into a new index"
        )


def search(query: SearchQuery, *, index: SegmentIndex, embedder: Embedder) -> SearchAnswer:
    """Return the pictures with the segments that answer a query best.

    Each view is asked for more pictures than wanted, the union is scored in all views and fused, nested
    segments are dropped, and the rest is grouped by picture.

    Raises:
        QueryError: If a term cannot be embedded.
        IndexMismatchError: If another embedder filled the index.
    """
    clock = _Stopwatch()
    weights = {view: weight for view, weight in query.view_weights.items() if weight > 0}
    check_embedder(index, embedder)
    with clock.stage("embed"):
        vectors = embed_query(query.terms, views=tuple(weights), embedder=embedder, index=index)
    if isinstance(index, FusesViews):
        with clock.stage("query"):
            hits = fused_hits(query, vectors, weights=weights, fuse=index, index=index)
    else:
        hits = _united_hits(query, vectors, weights, index=index, clock=clock)
    return SearchAnswer(hits=hits, timings_ms=clock.timings_ms, embedder=embedder.name)


def _united_hits(
    query: SearchQuery,
    vectors: Mapping[str, npt.NDArray[np.float32]],
    weights: Mapping[str, float],
    *,
    index: SegmentIndex,
    clock: "_Stopwatch",
) -> tuple[SearchHit, ...]:
    with clock.stage("query"):
        candidates = _candidates(query, vectors, index)
        stored = index.get_vectors(list(candidates))
    with clock.stage("rank"):
        hits = fuse_views(candidates.values(), stored, vectors, weights=weights)
        if query.min_score is not None:
            hits = [hit for hit in hits if hit.score >= query.min_score]
        if not query.nested:
            hits = drop_nested(hits)
        groups = group_by_image(hits, limit=query.limit + _UNFINISHED, per_image=query.per_image)
        image_ids = [segments[0].image_id for segments in groups]
        images = {image.image_id: image for image in index.get_images(image_ids)}
        return tuple(
            SearchHit(image=images[segments[0].image_id], segments=tuple(segments))
            for segments in groups
            # without a line in the ledger the picture is being written, or an ingest was stopped in it
            if segments[0].image_id in images
        )[: query.limit]


def _candidates(
    query: SearchQuery, vectors: Mapping[str, npt.NDArray[np.float32]], index: SegmentIndex
) -> dict[UUID, SegmentRecord]:
    candidates: dict[UUID, SegmentRecord] = {}
    for view, vector in vectors.items():
        groups = index.query_groups(
            vector,
            view=view,
            limit=max(query.limit * _FETCH_IMAGES, _FETCH_AT_LEAST),
            group_size=max(query.per_image * _FETCH_PER_IMAGE, _FETCH_AT_LEAST),
            where=query.where,
            exact=query.exact,
        )
        candidates.update((found.record.segment_id, found.record) for group in groups for found in group)
    return candidates


class _Stopwatch:
    """Wall milliseconds by stage."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.timings_ms[name] = round((time.perf_counter() - started) * 1000, 2)
