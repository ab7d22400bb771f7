"""Turn a query into hits with few, small index requests; only returned segments are read with their masks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.ports.index import IndexReader
from segdex_core.records import FusedSegment, ImageRecord, SegmentFilter, ViewedSegment
from segdex_search.colours import ColourBonus
from segdex_search.queries import SearchQuery
from segdex_search.rank import HitSegment, SearchHit, drop_nested, fuse_views
from segdex_search.scoring import Examples, Scoring

_SEGMENTS_PER_IMAGE = 4
"""Segments fetched per image to find: the best segments of a query often lie in one image."""

_FILL_PER_SEGMENT = 6
"""Segments fetched per requested segment if an image has too few, because nested segments are dropped."""

_GROWTH = 4
"""Growth factor of each further fetch."""


Ask = Callable[[SegmentFilter, int], Sequence[FusedSegment]]
"""Returns the best matching segments, best first, up to a limit."""


def fused_hits(
    query: SearchQuery,
    scoring: Scoring,
    index: IndexReader,
) -> tuple[tuple[SearchHit, ...], bool]:
    """Return the hits of a query, and whether there are more images.

    The images are found first, then their segments, then the masks of the returned segments.

    Args:
        query: Query to answer.
        scoring: How segments score.
        index: Index to search.
    """
    query = replace(query, where=where_of(query))
    ask = make_ask(query, scoring, index)
    reach = query.offset + query.limit
    images, hits, complete = find_pictures(ask, index, query.where, reach=reach + 1)
    page = list(images)[query.offset : reach]
    shown = fill_pictures(ask, hits, page, complete=complete, query=query)
    groups = read_segments([hit.segment_id for found in shown for hit in found], scoring, index)
    found = tuple(SearchHit(images[image_id], tuple(group)) for image_id, group in groups.items())
    return found, len(images) > reach


def read_segments(
    ids: Sequence[UUID],
    scoring: Scoring,
    index: IndexReader,
) -> dict[UUID, list[HitSegment]]:
    """Return segments with their records and exact scores by image, best first, the best image first.

    Args:
        ids: The segments.
        scoring: How segments score.
        index: Index with the segments.
    """
    viewed = index.view_segments(ids, scoring.vectors)
    if scoring.examples is not None:
        viewed = _by_nearest(viewed, index.get_vectors(ids), scoring.examples, scoring.weights)
    groups: dict[UUID, list[HitSegment]] = {}
    for hit in fuse_views(
        viewed.values(),
        weights=scoring.weights,
        object_weight=scoring.object_weight,
        bonus=scoring.bonus,
    ):
        groups.setdefault(hit.image_id, []).append(hit)
    return groups


def _by_nearest(
    viewed: Mapping[UUID, ViewedSegment],
    stored: Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]],
    examples: Examples,
    weights: Mapping[str, float],
) -> dict[UUID, ViewedSegment]:
    """Return segments with the view scores of the example that each is most like."""
    found: dict[UUID, ViewedSegment] = {}
    for key in viewed.keys() & stored.keys():
        each = [{view: float(stored[key][view] @ one[view]) for view in weights} for one in examples.towards]
        best = max(each, key=lambda scores: sum(weights[view] * scores[view] for view in weights))
        found[key] = replace(viewed[key], view_scores=best)
    return found


def make_ask(
    query: SearchQuery,
    scoring: Scoring,
    index: IndexReader,
) -> Ask:
    """Return what fetches the best segments of a query, those below its lowest score left out.

    Args:
        query: Its lowest score, and whether it is exact.
        scoring: How segments score.
        index: The index that is queried.
    """

    def plain(where: SegmentFilter, limit: int) -> Sequence[FusedSegment]:
        if scoring.examples is not None:
            return index.query_best(
                scoring.examples.towards,
                scoring.examples.away,
                weights=scoring.weights,
                limit=limit,
                where=where,
                exact=query.exact,
            )
        return index.query_fused(
            scoring.vectors,
            weights=scoring.weights,
            object_weight=scoring.object_weight,
            limit=limit,
            where=where,
            exact=query.exact,
        )

    def ask(where: SegmentFilter, limit: int) -> Sequence[FusedSegment]:
        bonus = scoring.bonus
        found = plain(where, limit) if bonus is None else _best_with_bonus(plain, bonus, where, limit)
        least = query.min_score
        return found if least is None else [hit for hit in found if hit.score >= least]

    return ask


def _best_with_bonus(
    plain: Ask, bonus: ColourBonus, where: SegmentFilter, limit: int
) -> Sequence[FusedSegment]:
    """Return the best segments of a filter, best first, ties by id, with the bonus in their scores.

    All segments of a step score the same more, so none that is not among the best of its step can be among
    the best of all. The order therefore does not depend on the limit.
    """
    best = {hit.segment_key: hit for hit in plain(where, limit)}
    for conditions, extra in bonus.steps():
        for hit in plain(replace(where, colours=(*where.colours, *conditions)), limit):
            best[hit.segment_key] = replace(hit, score=hit.score + extra)  # a higher step comes later
    return sorted(best.values(), key=lambda hit: (-hit.score, hit.segment_key))[:limit]


def where_of(query: SearchQuery) -> SegmentFilter:
    """Return the filter of a query, including the condition of its level."""
    if query.level != "part":
        return query.where
    return replace(query.where, min_depth=max(query.where.min_depth or 0, 1))


def find_pictures(
    ask: Ask, index: IndexReader, where: SegmentFilter, *, reach: int
) -> tuple[dict[UUID, ImageRecord], Sequence[FusedSegment], bool]:
    """Return the ``reach`` best images, best first, all fetched segments, and whether the fetch is complete.

    Images that are not shown are left out: they are being written for the first time or deleted, or a run
    that did so was interrupted.
    """
    fetch = reach * _SEGMENTS_PER_IMAGE
    while True:
        hits = ask(where, fetch)
        order = list(dict.fromkeys(hit.image_key for hit in hits))
        images: list[ImageRecord] = []
        for start in range(0, len(order), reach):
            some = index.get_images([UUID(key) for key in order[start : start + reach]])
            images += [image for image in some if image.is_shown]
            if len(images) >= reach:
                break
        complete = len(hits) < fetch
        if complete or len(images) >= reach:
            return {image.image_id: image for image in images[:reach]}, hits, complete
        fetch *= _GROWTH


def fill_pictures(
    ask: Ask, hits: Sequence[FusedSegment], image_ids: Sequence[UUID], *, complete: bool, query: SearchQuery
) -> list[Sequence[FusedSegment]]:
    """Return the segments to show for each image.

    Hits come best first, so the segments of an image are final once there are enough of them. Images with too
    few segments are queried again, all in one request.

    Args:
        ask: Returns the best segments.
        hits: Segments fetched so far, best first.
        image_ids: Images to show, best first.
        complete: Whether ``hits`` contains all matching segments.
        query: Query with the filter, the number of segments per image, and whether to drop nested segments.
    """
    keys = {str(image_id): image_id for image_id in image_ids}

    def choose_each(found: Sequence[FusedSegment]) -> dict[str, Sequence[FusedSegment]]:
        groups: dict[str, list[FusedSegment]] = {}
        for hit in found:
            if hit.image_key in keys:
                groups.setdefault(hit.image_key, []).append(hit)
        return {
            key: (drop_nested(group) if query.nms else group)[: query.per_image]
            for key, group in groups.items()
        }

    shown = choose_each(hits)
    per_lacking = query.per_image * _FILL_PER_SEGMENT
    while not complete:
        lacking = [image_id for key, image_id in keys.items() if len(shown[key]) < query.per_image]
        if not lacking:
            break
        where = replace(query.where, image_ids=tuple(lacking))
        found = ask(where, len(lacking) * per_lacking)
        shown.update(choose_each(found))
        complete = len(found) < len(lacking) * per_lacking
        per_lacking *= _GROWTH
    return [shown[key] for key in keys]
