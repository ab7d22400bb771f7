"""The choice of an export from its request: a question, given segments, or everything."""

from collections.abc import Callable, Iterable

from segdex.usecases.export.annotate import Categories, Redrawn, asked_category
from segdex.usecases.export.choose import Choice, Hit, choose_all, choose_hits, hits_of_ids
from segdex.usecases.search import to_filter
from segdex_core.masks import MaskRLE
from segdex_core.ports.index import SegmentIndex
from segdex_core.wire.export import ExportOptions
from segdex_core.wire.search import RefinementOut, SearchResponse
from segdex_search.answer import require_filled

Search = Callable[[ExportOptions], SearchResponse]
"""Answers the question of an export."""

Refine = Callable[[ExportOptions, SearchResponse], Iterable[RefinementOut]]
"""Re-decodes the masks of the first hits of an answer."""


def choose(
    options: ExportOptions, index: SegmentIndex, *, is_question: bool, search: Search, refine: Refine
) -> Choice:
    """Return what an export holds.

    Args:
        options: What to export.
        index: Index to export from.
        is_question: Whether the hits of a question are exported.
        search: Answers the question.
        refine: Re-decodes the masks of the first hits, where the options ask for it.

    Raises:
        QueryError: If a value is not allowed.
        NotFoundError: If there is no set, concept or segment of a name.
    """
    require_filled(index)
    where = to_filter(options.filter, index)
    categories = Categories(options.category, frozenset(where.labels), asked_category(options.texts))
    if options.everything:
        return choose_all(index, where, level=options.level, categories=categories)
    if not is_question:
        return choose_hits(index, hits_of_ids(index, options.segment_ids), categories=categories)
    answer = search(options)
    redrawn = {
        one.segment_id: Redrawn(MaskRLE(one.rle.size, one.rle.counts), one.predicted_iou)
        for one in (refine(options, answer) if options.refine is not None else ())
        if one.answer == "refined"
    }
    hits = [
        Hit(one.id, group.image.id, one.score, redrawn.get(one.id))
        for group in answer.hits
        for one in group.segments
    ]
    return choose_hits(index, hits, categories=categories)
