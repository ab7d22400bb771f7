"""From a query to hits: few and small requests to the index, and masks of what is shown alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.ports.index import IndexReader
from segdex_core.records import FusedSegment, ImageRecord, SegmentFilter
from segdex_search.queries import SearchQuery
from segdex_search.rank import HitSegment, SearchHit, drop_nested, fuse_views

_SEGMENTS_PER_IMAGE = 4
"""Segments fetched to find a picture: the best of a query often lie in the same one."""

_FILL_PER_SEGMENT = 6
"""Segments fetched of a picture for each one shown, when it lacks some: nested ones are dropped."""

_GROWTH = 4
"""Each further fetch is so much larger."""


_Ask = Callable[[SegmentFilter, int], Sequence[FusedSegment]]
"""Return the best segments that match, best first, at most so many."""


def fused_hits(
    query: SearchQuery,
    vectors: Mapping[str, npt.NDArray[np.float32]],
    *,
    weights: Mapping[str, float],
    object_weight: float = 0.0,
    index: IndexReader,
) -> tuple[tuple[SearchHit, ...], bool]:
    """Return the answer to a query, and whether there are more pictures.

    First its pictures are found, then their segments, then the masks of those.

    Args:
        query: The question.
        vectors: (dim,) vector by view.
        weights: Share of each view.
        object_weight: What the object score counts beside them.
        index: Whom to ask.
    """
    query = replace(query, where=_where_of(query))

    def ask(where: SegmentFilter, limit: int) -> Sequence[FusedSegment]:
        found = index.query_fused(
            vectors,
            weights=weights,
            object_weight=object_weight,
            limit=limit,
            where=where,
            exact=query.exact,
        )
        least = query.min_score
        return found if least is None else [hit for hit in found if hit.score >= least]

    reach = query.offset + query.limit
    images, hits, complete = _find_pictures(ask, index, query.where, reach=reach + 1)
    page = list(images)[query.offset : reach]
    shown = _fill_pictures(ask, hits, page, complete=complete, query=query)
    viewed = index.view_segments([hit.segment_id for found in shown for hit in found], vectors)
    groups: dict[UUID, list[HitSegment]] = {}
    for hit in fuse_views(viewed.values(), weights=weights, object_weight=object_weight):
        groups.setdefault(hit.image_id, []).append(hit)
    found = tuple(SearchHit(images[image_id], tuple(group)) for image_id, group in groups.items())
    return found, len(images) > reach


def _where_of(query: SearchQuery) -> SegmentFilter:
    """Return the conditions of a question, with those of its level."""
    if query.level != "part":
        return query.where
    return replace(query.where, min_depth=max(query.where.min_depth or 0, 1))


def _find_pictures(
    ask: _Ask, index: IndexReader, where: SegmentFilter, *, reach: int
) -> tuple[dict[UUID, ImageRecord], Sequence[FusedSegment], bool]:
    """Return the ``reach`` best pictures, best first, what was fetched, and whether that is all.

    Pictures that are not in the ledger are left out: they are being written, or an ingest was stopped there.
    """
    fetch = reach * _SEGMENTS_PER_IMAGE
    while True:
        hits = ask(where, fetch)
        order = list(dict.fromkeys(hit.image_key for hit in hits))
        images: list[ImageRecord] = []
        for start in range(0, len(order), reach):
            images += index.get_images([UUID(key) for key in order[start : start + reach]])
            if len(images) >= reach:
                break
        complete = len(hits) < fetch
        if complete or len(images) >= reach:
            return {image.image_id: image for image in images[:reach]}, hits, complete
        fetch *= _GROWTH


def _fill_pictures(
    ask: _Ask, hits: Sequence[FusedSegment], image_ids: Sequence[UUID], *, complete: bool, query: SearchQuery
) -> list[Sequence[FusedSegment]]:
    """Return the segments to show of each picture.

    Hits come best first, so that those of a picture are final as soon as there are enough of them: a further
    one is worse. The pictures that lack some are asked for again, all together.

    Args:
        ask: Returns the best segments.
        hits: What was fetched already, best first.
        image_ids: The pictures, best first.
        complete: Whether ``hits`` are all there are.
        query: How many segments of a picture, under which filter, and whether nested ones are kept.
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
