"""Arrange the images of an answer: near-duplicates collapsed into one, different images first.

Both look at the same best images whatever page is asked for, so that pages never overlap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.ports.index import IndexReader
from segdex_core.records import FusedSegment, ImageRecord
from segdex_search.colours import ColourBonus
from segdex_search.queries import SearchQuery
from segdex_search.rank import SearchHit, drop_nested
from segdex_search.retrieve import (
    Examples,
    fill_pictures,
    find_pictures,
    make_ask,
    read_segments,
    where_of,
)

MAX_ARRANGED = 512
"""Images that one query looks through, the best ones."""


NEAR_COSINE = 0.8
"""Least cosine of the whole-image vectors of near-duplicates."""

NEAR_SEGMENTS, NEAR_MATCHES, NEAR_IOU = 4, 3, 0.7
"""Of the best segments of near-duplicates, so many of so many have boxes of such an IoU."""

Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArrangedHits:
    """A page of arranged images.

    Attributes:
        hits: Images, in the order in which to show them.
        more: Whether there are further ones.
        is_cut: Whether images were left out because only the best ``MAX_ARRANGED`` are looked through.
    """

    hits: tuple[SearchHit, ...]
    more: bool
    is_cut: bool


def arranged_hits(
    query: SearchQuery,
    vectors: Mapping[str, npt.NDArray[np.float32]],
    *,
    weights: Mapping[str, float],
    object_weight: float,
    bonus: ColourBonus | None,
    examples: Examples | None,
    index: IndexReader,
) -> ArrangedHits:
    """Return a page of the images of a query that asks for diversity, or to collapse near-duplicates.

    Args:
        query: Query to answer.
        vectors: (dim,) query vector by view.
        weights: Weight of each view.
        object_weight: Weight of the object score, added to the mean of the views.
        bonus: What segments in some colours score more; None for nothing.
        examples: What hits should be like any of, in place of ``vectors``; None for ``vectors``.
        index: Index to search.
    """
    query = replace(query, where=where_of(query))
    ask = make_ask(
        query,
        vectors,
        weights=weights,
        object_weight=object_weight,
        bonus=bonus,
        examples=examples,
        index=index,
    )
    # an index with fewer images is not asked for all its segments in search of more images
    reach = min(MAX_ARRANGED + 1, max(index.counts().images, 1))
    images, found, complete = find_pictures(ask, index, query.where, reach=reach)
    ranked = list(images)[:MAX_ARRANGED]
    groups = [[image_id] for image_id in ranked]
    if query.collapse_duplicates:
        groups = _collapsed([images[image_id] for image_id in ranked], found, index)
    if query.diversity:
        order = _diverse(
            [first for first, *_ in groups], found, query.diversity, weights=weights, index=index
        )
        groups = [groups[place] for place in order]
    page = groups[query.offset : query.offset + query.limit]
    shown = fill_pictures(ask, found, [first for first, *_ in page], complete=complete, query=query)
    segments = read_segments(
        shown,
        vectors,
        weights=weights,
        object_weight=object_weight,
        bonus=bonus,
        examples=examples,
        index=index,
    )
    hits = tuple(
        SearchHit(images[first], tuple(segments[first]), near_duplicates=tuple(others))
        for first, *others in page
        if first in segments  # else it was deleted in the meantime
    )
    return ArrangedHits(
        hits, more=len(groups) > query.offset + query.limit, is_cut=len(images) > MAX_ARRANGED
    )


def diverse_order(
    relevance: npt.ArrayLike, rows: npt.NDArray[np.floating[Any]], diversity: float
) -> list[int]:
    """Return the order of maximal marginal relevance, greedily (Carbonell and Goldstein, SIGIR 1998).

    Each step takes the candidate with the largest ``(1 - diversity) r - diversity s``: r is its relevance,
    and s its largest dot product with one that was taken before, 0 for the first. The first of equal
    candidates is taken. Every start of the order is the order of fewer steps.

    Args:
        relevance: (n,) relevance of each candidate.
        rows: (n, d) unit vector of each candidate.
        diversity: 0, where relevance alone counts, to 1.
    """
    gain = (1 - diversity) * np.asarray(relevance, np.float64)
    nearest = np.full(len(gain), -np.inf)
    order: list[int] = []
    for _ in range(len(gain)):
        value = gain - diversity * nearest if order else gain.copy()
        value[order] = -np.inf
        order.append(int(value.argmax()))
        np.maximum(nearest, rows @ rows[order[-1]], out=nearest)
    return order


def _collapsed(
    images: Sequence[ImageRecord], found: Sequence[FusedSegment], index: IndexReader
) -> list[list[UUID]]:
    """Return groups of near-duplicates, each with its best image first, the best group first.

    An image belongs to the first group whose best image it is a near-duplicate of.

    Args:
        images: Images, best first.
        found: Segments of these and other images, best first.
        index: Index with the vectors of the images and the boxes of the segments.
    """
    stored = index.get_image_vectors([image.image_id for image in images])
    images = [image for image in images if image.image_id in stored]  # else it was just deleted
    rows = np.array([stored[image.image_id] for image in images])
    if not len(rows):
        return []
    is_like = rows @ rows.T >= NEAR_COSINE
    of_image: dict[str, list[FusedSegment]] = {}
    for hit in found:
        of_image.setdefault(hit.image_key, []).append(hit)
    asked = {
        image.image_id: [hit.segment_id for hit in drop_nested(of_image[str(image.image_id)])[:NEAR_SEGMENTS]]
        for image, others in zip(images, is_like, strict=True)
        if others.sum() > 1
    }
    records = {
        one.segment_id: one for one in index.get_segments([key for ids in asked.values() for key in ids])
    }
    boxes = {
        image.image_id: np.array(
            [
                np.divide(records[key].box, (image.width, image.height) * 2)
                for key in asked.get(image.image_id, ())
                if key in records
            ]
        )
        for image in images
    }
    groups: list[list[int]] = []
    for place, image in enumerate(images):
        for group in groups:
            first = group[0]
            if is_like[place, first] and same_layout(boxes[images[first].image_id], boxes[image.image_id]):
                group.append(place)
                break
        else:
            groups.append([place])
    return [[images[place].image_id for place in group] for group in groups]


def same_layout(a: Boxes, b: Boxes) -> bool:
    """Return whether the best segments of two images lie in the same places.

    Args:
        a: (n, 4) boxes x1, y1, x2, y2 as shares of the width and the height of the image, best first.
        b: (m, 4) those of the other image.
    """
    if not len(a) or not len(b):
        return False
    inside = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.prod(np.maximum(inside, 0), axis=2)
    area_a, area_b = (np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (a, b))
    iou = shared / (area_a[:, None] + area_b[None] - shared)
    matched = min(int((iou.max(axis=1) >= NEAR_IOU).sum()), int((iou.max(axis=0) >= NEAR_IOU).sum()))
    return matched >= min(NEAR_MATCHES, max(len(a), len(b)))


def _diverse(
    image_ids: Sequence[UUID],
    found: Sequence[FusedSegment],
    diversity: float,
    *,
    weights: Mapping[str, float],
    index: IndexReader,
) -> list[int]:
    """Return the order in which to show images, by their best segments.

    Args:
        image_ids: Images, best first.
        found: Segments of these and other images, best first.
        diversity: Above 0, to 1.
        weights: Weight of each view.
        index: Index with the vectors of the segments.
    """
    best: dict[str, FusedSegment] = {}
    for hit in found:
        best.setdefault(hit.image_key, hit)
    chosen = [best[str(image_id)] for image_id in image_ids]
    stored = index.get_vectors([hit.segment_id for hit in chosen])
    kept = [place for place, hit in enumerate(chosen) if hit.segment_id in stored]  # else just deleted
    if not kept:
        return []
    total = sum(weights.values())
    # the dot product of two rows is the weighted mean of the cosines of the views
    rows = np.array(
        [
            np.concatenate(
                [
                    np.sqrt(weight / total) * stored[chosen[place].segment_id][view]
                    for view, weight in weights.items()
                ]
            )
            for place in kept
        ],
        np.float64,
    )
    scores = np.array([chosen[place].score for place in kept])
    # scores of different embedders and queries have different ranges
    relevance = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-12)
    return [kept[place] for place in diverse_order(relevance, rows, diversity)]
