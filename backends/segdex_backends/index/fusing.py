"""Ranking by several views and the object score at once, with one stored vector per segment.

A weighted sum of dot products is one dot product: ``sum of w_v (q_v . x_v) = concat(w_v q_v) . concat(x_v)``.
The stored vector has one more element for the object score, and the query has one more for its weight. One
search of one graph therefore finds the best segments, for any weights. With a graph for each view, the
results of each graph would have to be scored in the others and fused.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from segdex_backends.index.payloads import check_query
from segdex_core.errors import SegmentIndexError
from segdex_core.records import (
    EmbeddedSegments,
    FusedSegment,
    IndexFingerprint,
    Vectors,
)

FUSED_FIELDS = ["image_id", "ancestor_ids"]
"""Payload fields that ranking reads. Reading a whole payload costs more than the search."""

SEARCH_EF = 200
"""Candidates that a search of the HNSW graph keeps. A server finds 99 % of the best of 100,000 segments, and
97 % with a filter that one in ten passes. Qdrant's default of 100 finds 97 % and 90 %, a millisecond
faster."""


OBJECT_SCALE = 0.25
"""Factor of the stored object score, which makes it about as large as the other elements: a server quantizes
all elements to 8 bits over one range."""


def joined_size(fingerprint: IndexFingerprint) -> int:
    """Return the length of a stored vector: the concatenated views and the object score."""
    return len(fingerprint.views) * fingerprint.dim + 1


def join_rows(segments: EmbeddedSegments, views: Sequence[str]) -> Vectors:
    """Return the concatenated rows of the views and the object scores, (n, views * dim + 1) float32."""
    scores = np.array([[record.object_score * OBJECT_SCALE] for record in segments.records], np.float32)
    rows = [segments.vectors[view] for view in views]
    return np.concatenate([*rows, scores.reshape(-1, 1)], axis=1).astype(np.float32)


def split_row(row: npt.NDArray[np.float32], views: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the vector of each view from a stored vector."""
    return dict(zip(views, np.split(row[:-1], len(views)), strict=True))


def split_rows(rows: Vectors, views: Sequence[str]) -> dict[str, Vectors]:
    """Return the (n, dim) rows of each view of n stored vectors."""
    return dict(zip(views, np.split(rows[:, :-1], len(views), axis=1), strict=True))


def join_query(
    vectors: Mapping[str, npt.NDArray[np.float32]],
    weights: Mapping[str, float],
    views: Sequence[str],
    *,
    object_weight: float = 0.0,
) -> npt.NDArray[np.float32]:
    """Return the query whose dot product with a stored vector is the weighted sum of views and object score.

    Args:
        vectors: Query vector (dim,) of each view that has a weight.
        weights: Weight of each view; a missing view has weight 0.
        views: All views of the index, in order.
        object_weight: Weight of the object score.
    """
    [dim] = {len(vectors[view]) for view in weights}
    parts = [weights[view] * vectors[view] if view in weights else np.zeros(dim) for view in views]
    return np.concatenate([*parts, [object_weight / OBJECT_SCALE]]).astype(np.float32)


def check_fused_query(
    vectors: Mapping[str, npt.NDArray[np.float32]],
    limit: int,
    fingerprint: IndexFingerprint,
    weights: Mapping[str, float],
    object_weight: float,
) -> dict[str, float]:
    """Check a query, and return the positive weights of the views, normalised to a sum of 1.

    Raises:
        ValueError: If a view is unknown, a weight is negative, no view has a positive weight, a vector has a
            wrong shape, or the limit is below 1.
    """
    if not (math.isfinite(object_weight) and object_weight >= 0):
        raise ValueError(f"object_weight must be 0 or more, but got {object_weight}")
    total = sum(weights.values())
    if min(weights.values(), default=0) < 0 or total <= 0:
        raise ValueError(f"weights must be 0 or more, one above 0, but got {dict(weights)}")
    shares = {view: weight / total for view, weight in weights.items() if weight > 0}
    for view in shares:
        check_query(vectors[view], fingerprint, view)
    if limit < 1:
        raise ValueError(f"limit must be at least 1, but got {limit}")
    return shares


def check_examples(towards: Sequence[object]) -> None:
    """Raise unless there is an example to look like.

    Raises:
        ValueError: If there is none.
    """
    if not towards:
        raise ValueError("there must be an example to look like")


def best_scores(found: Sequence[FusedSegment]) -> list[FusedSegment]:
    """Return what Qdrant's ``best_score`` found, with its dot products as scores, without excluded segments.

    Qdrant gives a segment ``(s / (1 + |s|) + 1) / 2``, where s is the largest dot product with a positive
    example; or, if a negative example has a larger one, minus this value of that one.
    """
    kept: list[FusedSegment] = []
    for hit in found:
        if hit.score > 0:
            bounded = 2 * hit.score - 1
            kept.append(replace(hit, score=bounded / (1 - abs(bounded))))
    return kept


def unreadable(point_id: object, place: str) -> SegmentIndexError:
    """Return the error for a point without ``FUSED_FIELDS``."""
    return SegmentIndexError(
        f"segment {point_id} in {place} cannot be read, ingest into a new --index: it names no picture"
    )
