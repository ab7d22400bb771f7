"""Answer a query: embed it, search the index, judge, explain, and page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from uuid import UUID

from segdex.render.results import hit_out
from segdex.usecases.cursors import make_cursor, read_cursor
from segdex.usecases.images import ImageReader
from segdex.usecases.models import Models
from segdex.usecases.sets import find_set
from segdex_core.colours import FILTER_SHARE, ColourAtLeast, ColourName
from segdex_core.errors import QueryError
from segdex_core.geometry import BoxXYXY
from segdex_core.media.uris import canonical_uri, display_path, spellings
from segdex_core.ports.index import IndexReader, SegmentIndex
from segdex_core.records import RGBImage, SegmentFilter
from segdex_core.wire.limits import DEFAULT_NEGATIVE_WEIGHT, MAX_LIMIT
from segdex_core.wire.search import (
    NOTHING_BELOW,
    Filter,
    Question,
    Region,
    SearchOptions,
    SearchResponse,
    TermScore,
    WeightedSegment,
    WeightedText,
)
from segdex_search.answer import SearchAnswer, require_filled, search
from segdex_search.concepts import Learnt, look_up
from segdex_search.embed import reading_hints
from segdex_search.explain import term_scores
from segdex_search.grammar import ParsedText, parse_text
from segdex_search.queries import (
    ConceptTerm,
    Condition,
    ImageTerm,
    SearchQuery,
    SegmentTerm,
    Term,
    TextTerm,
    clean_labels,
    has_text,
)

_ASKED_FOR_COLOURS = 64
"""Segments that are looked at for colors that were not measured."""


@dataclass(frozen=True, slots=True, eq=False)
class SentImage:
    """An image that was sent with a query.

    Attributes:
        pixels: Pixels, (H, W, 3) uint8.
        box_xyxy: Box of the object: x1, y1, x2, y2 in pixels, x2 and y2 exclusive; None for the whole image.
        weight: Weight relative to the other terms of the query.
    """

    pixels: RGBImage
    box_xyxy: tuple[int, int, int, int] | None = None
    weight: float = 1.0

    def term(self) -> ImageTerm:
        """Return the image as a term of a query.

        Raises:
            QueryError: If the box does not overlap the image.
        """
        return ImageTerm(part_of(self.pixels, self.box_xyxy), self.weight)


def answer_search(
    options: SearchOptions,
    sent: Sequence[SentImage],
    *,
    index: SegmentIndex,
    models: Models,
    images: ImageReader,
    learnt: Callable[[str], Learnt],
    index_key: str,
) -> SearchResponse:
    """Return the images with the segments that match a query, best first.

    Args:
        options: Query and search options.
        sent: Images that were sent with the query.
        index: Index to search.
        models: Models that filled the index.
        images: Reads the images of regions.
        learnt: Returns the concept of a name.
        index_key: Key of the index; a cursor of one index is refused for another index.

    Raises:
        QueryError: If the query is empty, or a value is out of range.
        IndexMismatchError: If another embedder filled the index.
    """
    asked = _identity(options, sent, index_key)
    offset = read_cursor(options.cursor, asked)
    found = require_filled(index)
    asked_for = read_question(options, sent, images, learnt)
    where = to_filter(options.filter, index)
    query = SearchQuery(
        terms=asked_for.terms,
        where=replace(where, colours=(*where.colours, *_at_least(asked_for.colors))),
        limit=min(options.limit, MAX_LIMIT - offset),
        offset=offset,
        per_image=options.per_image,
        min_score=options.min_score,
        view_weights=options.view_weights.model_dump(),
        level=options.level,
        nms=options.nms,
        exact=options.exact,
        condition=asked_for.condition,
        combine=options.combine,
        diversity=options.diversity,
        collapse_duplicates=options.collapse_duplicates,
    )
    is_judged = options.matches_only or has_text(query)
    answer = search(
        query,
        index=index,
        embedder=models.embedder,
        judge=models.judge if is_judged else None,
        keep_weak=not options.matches_only,
    )
    explained = _explained(query, answer, index=index, models=models) if options.explain else {}
    return SearchResponse(
        answer="found" if any(hit.is_match for hit in answer.hits) else "not_there",
        embedder=answer.embedder,
        segmenter=found.segmenter,
        profile=models.profile,
        timings_ms=dict(answer.timings_ms),
        hits=[
            hit_out(hit, rank=rank, terms=explained) for rank, hit in enumerate(answer.hits, start=offset + 1)
        ],
        next_cursor=make_cursor(offset, options.limit, asked) if answer.more else None,
        # nested hits cannot be kept with what the hints of a text propose
        hints=[
            *(asked_for.hints if options.nms else ()),
            *reading_hints(query.terms, models.embedder),
            *answer.hints,
            *_colour_hints(query, answer, index),
            *_source_hints(options.filter.sources, answer, index),
        ],
    )


def _colour_hints(query: SearchQuery, answer: SearchAnswer, index: IndexReader) -> tuple[str, ...]:
    """Return why a filter by color found nothing, where an earlier version ingested the pictures."""
    if answer.hits or not query.where.colours:
        return ()
    best = index.query_fused(
        answer.query_vectors,
        weights={view: query.view_weights[view] for view in answer.query_vectors},
        limit=_ASKED_FOR_COLOURS,
        where=replace(query.where, colours=()),
    )
    records = index.get_segments([UUID(one.segment_key) for one in best])
    without = sum(one.colours is None for one in records)
    if not without:
        return ()
    hint = (
        f"of the {len(records)} best segments in any color, {without} have no measured colors: an earlier "
        "version ingested them; measure them with `segdex reembed`"
    )
    return (hint,)


def _source_hints(sources: Sequence[str], answer: SearchAnswer, index: IndexReader) -> list[str]:
    """Return a line for each folder of the filter below which the index has nothing."""
    with_hits = {uri for hit in answer.hits for uri in hit.image.sources} if sources else set()
    hints = []
    for source in sources:
        uris = _source_uris(source)
        if with_hits.isdisjoint(uris) and not index.counts(SegmentFilter(sources=uris)).segments:
            shown = display_path(uris[0]) if uris[0].startswith("file:") else uris[0]
            hints.append(f"{NOTHING_BELOW} {shown}; name a folder or file as `segdex ingest` takes it")
    return hints


@dataclass(frozen=True, slots=True)
class ReadQuestion:
    """A question whose texts were parsed.

    Attributes:
        terms: Texts, pictures and segments, with negative weights for what hits should be unlike.
        condition: The position or number that a text names; None for neither.
        hints: Lines that say how to write what a text seems to mean.
        colors: Colours that hits must have.
    """

    terms: tuple[Term, ...]
    condition: Condition | None
    hints: tuple[str, ...]
    colors: tuple[ColourName, ...]


def read_question(
    question: Question, sent: Sequence[SentImage], images: ImageReader, learnt: Callable[[str], Learnt]
) -> ReadQuestion:
    """Return the terms of a question; see ``segdex_search.grammar`` for its texts.

    Raises:
        QueryError: If a text is not allowed, or a box does not overlap its image.
        NotFoundError: If there is no concept of a name.
        ImageError: If the file of a region's image is missing or has changed.
    """
    parsed = [_parse(text, learnt) for text in question.texts]
    conditions = [one.condition for one in parsed if one.condition is not None]
    if conditions and len(parsed) > 1:
        raise QueryError(
            f"a text with a position or a number must be the only text, but there are {len(parsed)}; "
            "put them into one"
        )

    def region_term(region: Region) -> ImageTerm:
        return ImageTerm(part_of(images.pixels(region.image_id), region.box_xyxy), region.weight)

    terms: tuple[Term, ...] = (
        *(term for one in parsed for term in one.terms),
        *(one.term() for one in sent),
        *map(region_term, question.regions),
        *(
            SegmentTerm(one.segment_id, one.weight) if isinstance(one, WeightedSegment) else SegmentTerm(one)
            for one in question.segments
        ),
        *map(_negative_term, question.negative),
    )
    # a text with a position or a number would be refused beside others
    hints = tuple(one.hint for one in parsed if one.hint is not None and len(parsed) == 1)
    colors = tuple(dict.fromkeys(name for one in parsed for name in one.colors))
    return ReadQuestion(terms, conditions[0] if conditions else None, hints, colors)


def to_filter(conditions: Filter, index: SegmentIndex) -> SegmentFilter:
    """Return the conditions of a request as a filter of the index.

    Args:
        conditions: What hits must meet.
        index: Knows the sets that are named.

    Raises:
        NotFoundError: If there is no set of a name.
        QueryError: If a source is neither an absolute path nor a URI.
    """
    captured_from_s, captured_until_s = conditions.captured_range_s()
    return SegmentFilter(
        image_ids=tuple(conditions.image_ids),
        min_area_fraction=conditions.min_area,
        max_area_fraction=conditions.max_area,
        sources=tuple(uri for source in conditions.sources for uri in _source_uris(source)),
        tags=tuple(conditions.tags),
        labels=tuple(clean_labels(conditions.labels)),
        sets=tuple(find_set(index, name).set_id for name in conditions.sets),
        captured_from_s=captured_from_s,
        captured_until_s=captured_until_s,
        colours=_at_least(conditions.colors),
    )


def part_of(pixels: RGBImage, box_xyxy: tuple[int, int, int, int] | None) -> RGBImage:
    """Return the pixels in a box; all pixels if the box is None.

    Raises:
        QueryError: If the box does not overlap the image.
    """
    if box_xyxy is None:
        return pixels
    box = BoxXYXY(*box_xyxy)
    part = pixels[box.y1 : box.y2, box.x1 : box.x2]
    if not part.size:
        shown, size = ",".join(map(str, box)), f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise QueryError(f"the box {shown} has no pixel of the picture, which is {size}")
    return part


def _identity(options: SearchOptions, sent: Sequence[SentImage], index_key: str) -> str:
    """Return a text that identifies a query and its index."""
    asked = options.model_dump_json(exclude={"cursor", "limit", "explain"})
    for one in sent:
        asked += f" {sha256(one.pixels.tobytes()).hexdigest()} {one.pixels.shape} {one.box_xyxy} {one.weight}"
    return asked + index_key


def _explained(
    query: SearchQuery, answer: SearchAnswer, *, index: IndexReader, models: Models
) -> dict[UUID, list[TermScore]]:
    found = term_scores(query, answer.hits, embedder=models.embedder, index=index)
    return {
        segment_id: [
            TermScore(term=_name(term), weight=term.weight, score=score)
            for term, score in zip(query.terms, scores, strict=True)
        ]
        for segment_id, scores in found.items()
    }


def _at_least(colors: Sequence[ColourName]) -> tuple[ColourAtLeast, ...]:
    return tuple(ColourAtLeast(name, FILTER_SHARE) for name in colors)


def _name(term: Term) -> str:
    if isinstance(term, TextTerm | ConceptTerm):
        return term.text
    return f"segment {term.segment_id}" if isinstance(term, SegmentTerm) else "picture"


def _parse(given: str | WeightedText, learnt: Callable[[str], Learnt]) -> ParsedText:
    if isinstance(given, str):
        return look_up(parse_text(given), learnt)
    parsed = look_up(parse_text(given.text), learnt)
    return replace(
        parsed, terms=tuple(replace(one, weight=one.weight * given.weight) for one in parsed.terms)
    )


def _negative_term(given: str | WeightedText) -> TextTerm:
    """Return the term of a negative text, which is taken literally."""
    text, weight = (given, DEFAULT_NEGATIVE_WEIGHT) if isinstance(given, str) else (given.text, given.weight)
    return TextTerm(text, -weight)


def _source_uris(source: str) -> tuple[str, ...]:
    problem = None if source.startswith(("/", "file:/")) or "://" in source else "a relative path"
    try:
        uri = canonical_uri(source) if problem is None else ""
    except ValueError as error:  # a null byte, or another machine
        problem = str(error)
    if problem is not None:
        raise QueryError(f"a source must be an absolute path or a URI, but is {source!r}: {problem}")
    return spellings(uri)
