"""What a request asks for, as the search knows it."""

from collections.abc import Callable

from segdex_core.errors import QueryError
from segdex_core.media.uris import canonical_uri, spellings
from segdex_core.records import RGBImage, SegmentFilter
from segdex_core.wire.limits import DEFAULT_AWAY_WEIGHT
from segdex_core.wire.search import Region, SearchOptions, WeightedSegment, WeightedText, Where
from segdex_search.queries import ImageTerm, SearchQuery, SegmentTerm, Term, TextTerm


def to_query(
    options: SearchOptions, pixels_of: Callable[[Region], RGBImage], *sent: ImageTerm, offset: int
) -> SearchQuery:
    """Return the query of a request.

    Args:
        options: The request.
        pixels_of: Returns the pixels of a region, (H, W, 3) uint8.
        sent: Pictures that came with the request.
        offset: How many pictures the earlier pages had.

    Raises:
        QueryError: If a text is not allowed, or there is nothing to look for.
    """
    terms: list[Term] = [_text_term(text, 1.0) for text in options.texts]
    terms += sent
    terms += [ImageTerm(pixels_of(region), region.weight) for region in options.regions]
    terms += [
        SegmentTerm(one.segment_id, one.weight) if isinstance(one, WeightedSegment) else SegmentTerm(one)
        for one in options.segments
    ]
    terms += [_text_term(text, DEFAULT_AWAY_WEIGHT, sign=-1) for text in options.away]
    return SearchQuery(
        terms=tuple(terms),
        where=to_filter(options.where),
        limit=options.limit,
        offset=offset,
        per_image=options.per_image,
        min_score=options.min_score,
        view_weights=options.view_weights.model_dump(),
        level=options.level,
        nested=options.nested,
        exact=options.exact,
    )


def to_filter(where: Where) -> SegmentFilter:
    """Return the conditions of a request as the index knows them.

    Raises:
        QueryError: If a source is neither an absolute path nor a URI.
    """
    return SegmentFilter(
        image_ids=tuple(where.image_ids),
        min_area_fraction=where.min_area,
        max_area_fraction=where.max_area,
        sources=tuple(uri for source in where.sources for uri in _source_uris(source)),
        tags=tuple(where.tags),
        captured_from_s=where.since_s,
        captured_until_s=where.until_s,
    )


def _source_uris(source: str) -> tuple[str, ...]:
    if "://" not in source and (not source.startswith("/") or "\0" in source):
        raise QueryError(f"a source must be an absolute path or a URI, but is {source!r}")
    return spellings(canonical_uri(source))


def _text_term(given: str | WeightedText, weight: float, *, sign: int = 1) -> TextTerm:
    text, weight = (given, weight) if isinstance(given, str) else (given.text, given.weight)
    return TextTerm(text, sign * weight)
