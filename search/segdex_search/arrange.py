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
from segdex_core.records import FusedSegment, ImageRecord, SegmentFilter, SegmentRecord
from segdex_search.queries import SearchQuery
from segdex_search.rank import SearchHit
from segdex_search.retrieve import (
    fill_pictures,
    find_pictures,
    make_ask,
    read_segments,
    where_of,
)
from segdex_search.scoring import Scoring

MAX_ARRANGED = 512
"""Images that one query looks through, the best ones."""


NEAR_COSINE, NEAR_LAYOUT = 0.8, 0.44
"""Least cosine of the whole-image vectors of near-duplicates, and their least ``layout_agreement``; measured
in docs/research/search.md."""

LAYOUT_SEGMENTS, LAYOUT_MIN_AREA, LAYOUT_IOU = 20, 0.01, 0.5
"""The layout of an image is the boxes of its largest segments above a share of its area; boxes of two images
with such an IoU are counterparts."""

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
    scoring: Scoring,
    index: IndexReader,
) -> ArrangedHits:
    """Return a page of the images of a query that asks for diversity, or to collapse near-duplicates.

    Args:
        query: Query to answer.
        scoring: How segments score.
        index: Index to search.
    """
    query = replace(query, where=where_of(query))
    ask = make_ask(query, scoring, index)
    # an index with fewer images is not asked for all its segments in search of more images
    reach = min(MAX_ARRANGED + 1, max(index.counts().images, 1))
    images, found, complete = find_pictures(ask, index, query.where, reach=reach)
    ranked = list(images)[:MAX_ARRANGED]
    groups = [[image_id] for image_id in ranked]
    if query.collapse_duplicates:
        groups = _collapsed([images[image_id] for image_id in ranked], index)
    if query.diversity:
        order = _diverse(
            [first for first, *_ in groups], found, query.diversity, weights=scoring.weights, index=index
        )
        groups = [groups[place] for place in order]
    page = groups[query.offset : query.offset + query.limit]
    shown = fill_pictures(ask, found, [first for first, *_ in page], complete=complete, query=query)
    segments = read_segments([hit.segment_id for some in shown for hit in some], scoring, index)
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


def joined_views(
    stored: Sequence[Mapping[str, npt.NDArray[np.float32]]], weights: Mapping[str, float]
) -> npt.NDArray[np.float64]:
    """Return one unit row for each segment, whose dot product is the weighted mean of the views' cosines.

    Args:
        stored: (dim,) unit vector by view of each segment; at least one segment.
        weights: Weight of each view.
    """
    total = sum(weights.values())
    return np.array(
        [
            np.concatenate([np.sqrt(weight / total) * views[view] for view, weight in weights.items()])
            for views in stored
        ],
        np.float64,
    )


def _collapsed(images: Sequence[ImageRecord], index: IndexReader) -> list[list[UUID]]:
    """Return groups of near-duplicates, each with its best image first, the best group first.

    An image belongs to the first group whose best image it is a near-duplicate of.

    Args:
        images: Images, best first.
        index: Index with the vectors of the images and the boxes of the segments.
    """
    stored = index.get_image_vectors([image.image_id for image in images])
    images = [image for image in images if image.image_id in stored]  # else it was just deleted
    if not images:
        return []
    rows = np.array([stored[image.image_id] for image in images])
    is_like = rows @ rows.T >= NEAR_COSINE
    boxes = layouts([image for image, like in zip(images, is_like, strict=True) if like.sum() > 1], index)
    groups: list[list[int]] = []
    for place, image in enumerate(images):
        for group in groups:
            first = group[0]
            if (
                is_like[place, first]
                and layout_agreement(boxes[images[first].image_id], boxes[image.image_id]) >= NEAR_LAYOUT
            ):
                group.append(place)
                break
        else:
            groups.append([place])
    return [[images[place].image_id for place in group] for group in groups]


def layouts(images: Sequence[ImageRecord], index: IndexReader) -> dict[UUID, Boxes]:
    """Return the layout of each image: the boxes of its largest segments, largest first.

    Args:
        images: Images of the index, each once.
        index: Index with their segments.

    Returns:
        Image id to (n, 4) boxes x1, y1, x2, y2 as shares of the width and height of the image; n is at most
        ``LAYOUT_SEGMENTS``.
    """
    if not images:
        return {}
    where = SegmentFilter(
        image_ids=tuple(image.image_id for image in images), min_area_fraction=LAYOUT_MIN_AREA
    )
    of_image: dict[UUID, list[SegmentRecord]] = {image.image_id: [] for image in images}
    for record in index.scroll_segments(where):
        of_image[record.image_id].append(record)
    return {
        image.image_id: np.array(
            [
                np.divide(one.box, (image.width, image.height) * 2)
                for one in sorted(
                    of_image[image.image_id], key=lambda one: (-one.area_fraction, one.segment_id)
                )[:LAYOUT_SEGMENTS]
            ]
        ).reshape(-1, 4)
        for image in images
    }


def layout_agreement(a: Boxes, b: Boxes) -> float:
    """Return the share of boxes that have a counterpart in the other image, 0 to 1, as a mean of both images.

    Args:
        a: (n, 4) boxes x1, y1, x2, y2 of one image, as shares of its width and height.
        b: (m, 4) those of the other image.
    """
    if not len(a) or not len(b):
        return 0.0
    inside = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.prod(np.maximum(inside, 0), axis=2)
    area_a, area_b = (np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (a, b))
    is_same = shared / (area_a[:, None] + area_b[None] - shared) >= LAYOUT_IOU
    return float(is_same.any(axis=1).mean() + is_same.any(axis=0).mean()) / 2


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
    rows = joined_views([stored[chosen[place].segment_id] for place in kept], weights)
    scores = np.array([chosen[place].score for place in kept])
    # scores of different embedders and queries have different ranges
    relevance = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-12)
    return [kept[place] for place in diverse_order(relevance, rows, diversity)]
