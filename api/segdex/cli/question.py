"""The query of ``segdex search``, made from its options; error messages name the option."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from segdex.arguments import QueryImage, SearchFields, parse_request, query_images
from segdex.cli.common import is_there, parse_time
from segdex.pictures import Picture
from segdex_core.errors import UsageError
from segdex_core.media.uris import canonical_uri
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS, MAX_WEIGHT, Combine, Level
from segdex_core.wire.search import Filter, SearchOptions, ViewWeights, WeightedSegment, WeightedText
from segdex_search.grammar import parse_text
from segdex_search.queries import clean_text

AUTO = "auto"
"""Value of ``--min-score`` that hides images that do not show what the query describes."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a query, with weights."""

    texts: list[str | WeightedText]
    images: list[Picture | QueryImage]
    segments: list[WeightedSegment]
    negative: list[WeightedText]


def weigh_terms(
    *,
    texts: Sequence[str],
    images: Sequence[Path],
    segments: Sequence[str],
    weights: Sequence[float],
    negative: Sequence[str],
    unlike: Sequence[str],
    negative_weight: float,
) -> Terms:
    """Assign the weights to texts, images and segments, in this order; further terms weigh 1.

    A text with a negative weight becomes a negative text. What hits should be unlike is a segment if it is an
    id, and otherwise the file of an image. Ids are whole (see ``segdex.cli.ids``).

    Raises:
        UsageError: If a term or weight is not allowed, or the query is empty.
    """
    for text in texts:
        parse_text(text)
    for text in negative:
        clean_text(text)
    for path in images:
        if not is_there(path):
            raise UsageError(f"--image {path}: there is no such file")
    count = len(texts) + len(images) + len(segments)
    _check_weights(weights, negative_weight, count)
    shares = iter([*weights, *[1.0] * (count - len(weights))])
    weighed = [(text, next(shares)) for text in texts]
    terms = Terms(
        texts=[
            text if share == 1 else WeightedText(text=text, weight=share)
            for text, share in weighed
            if share > 0
        ],
        images=[QueryImage(path, weight=next(shares)) for path in images],
        segments=[WeightedSegment(segment_id=UUID(given), weight=next(shares)) for given in segments],
        negative=[
            *(WeightedText(text=text, weight=-share) for text, share in weighed if share < 0),
            *(WeightedText(text=text, weight=negative_weight) for text in negative),
        ],
    )
    if not (terms.texts or terms.images or terms.segments):
        raise UsageError("the query needs a text, a picture or a segment to look for")
    for given in unlike:
        if _is_id(given):
            terms.segments.append(WeightedSegment(segment_id=UUID(given), weight=-negative_weight))
        elif is_there(given):
            terms.images.append(QueryImage(Path(given), weight=-negative_weight))
        else:
            raise UsageError(f"--unlike {given}: is neither the id of a segment nor a file")
    return terms


def search_fields(
    terms: Terms,
    *,
    conditions: Filter,
    view: Sequence[str],
    limit: int,
    per_image: int,
    min_score: str | None,
    level: Level,
    nms: bool,
    exact: bool,
    combine: Combine,
    diversity: float,
    collapse_duplicates: bool,
) -> SearchFields:
    """Return the arguments of a search, after a check that the query is allowed.

    Raises:
        ArgumentError: If a value is not allowed.
    """
    fields = SearchFields(
        segments=terms.segments,
        negative=terms.negative,
        view_weights=parse_view_weights(view),
        filter=conditions,
        limit=limit,
        per_image=per_image,
        min_score=parse_min_score(min_score),
        matches_only=min_score == AUTO,
        level=level,
        nms=nms,
        exact=exact,
        combine=combine,
        diversity=diversity,
        collapse_duplicates=collapse_duplicates,
    )
    check_question(terms, fields)
    return fields


def check_question(terms: Terms, fields: SearchFields) -> None:
    """Raise if a query is not allowed, before an index is opened or a service is called.

    Raises:
        ArgumentError: If a value is not allowed.
    """
    query_images(terms.images)
    parse_request(SearchOptions, {"texts": terms.texts, **fields})


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def make_filter(
    *,
    min_area: float | None,
    max_area: float | None,
    sources: Sequence[str],
    tags: Sequence[str],
    colors: Sequence[str],
    labels: Sequence[str],
    sets: Sequence[str],
    since: str | None,
    until: str | None,
) -> Filter:
    """Return the filter of the options.

    Raises:
        UsageError: If a value is not allowed.
    """
    return parse_request(
        Filter,
        {
            "min_area": min_area,
            "max_area": max_area,
            "sources": [_source_uri(place) for place in sources],
            "tags": list(tags),
            "colors": list(colors),
            "labels": list(labels),
            "sets": list(sets),
            "captured_from_s": parse_time(since, option="--since"),
            "captured_until_s": parse_time(until, option="--until"),
        },
    )


def _source_uri(place: str) -> str:
    try:
        return canonical_uri(place)
    except ValueError as error:  # a null byte, or another machine
        raise UsageError(f"--source {place!r} is not a path: {error}") from error


def parse_min_score(given: str | None) -> float | None:
    """Return the minimum score; None for no minimum, and for ``auto``.

    Raises:
        UsageError: If the value is neither a number nor ``auto``.
    """
    if given is None or given == AUTO:
        return None
    try:
        return float(given)
    except ValueError as error:
        raise UsageError(f"--min-score must be a number or auto, but got {given!r}") from error


def parse_view_weights(given: Sequence[str]) -> ViewWeights:
    """Return the weights of ``--view NAME=WEIGHT``; views that are not named weigh 0.

    Raises:
        UsageError: If a name or a weight is not allowed.
    """
    if not given:
        return ViewWeights()
    weights = dict.fromkeys(DEFAULT_VIEW_WEIGHTS, 0.0)
    for text in given:
        name, _, share = text.partition("=")
        if name not in weights:
            raise UsageError(f"--view must be one of {', '.join(DEFAULT_VIEW_WEIGHTS)}, but got {name!r}")
        try:
            weights[name] = float(share) if share else 1.0
        except ValueError as error:
            raise UsageError(f"--view must be NAME=WEIGHT, such as crop=0.7, but got {text!r}") from error
        if not 0 <= weights[name] <= MAX_WEIGHT:
            raise UsageError(f"--view {name} must be between 0 and {MAX_WEIGHT}, but got {weights[name]:g}")
    if not any(weights.values()):
        raise UsageError("--view must give a view a weight above 0")
    return ViewWeights(**weights)


def _check_weights(weights: Sequence[float], negative_weight: float, count: int) -> None:
    if len(weights) > count:
        raise UsageError(
            f"--weight was given {len(weights)} times, but there are only {count} terms to weigh"
        )
    for share in weights:
        if share == 0 or not -MAX_WEIGHT <= share <= MAX_WEIGHT:
            allowed = f"between -{MAX_WEIGHT} and {MAX_WEIGHT} and not 0"
            raise UsageError(f"--weight must be {allowed}, but got {share:g}")
    if not 0 < negative_weight <= MAX_WEIGHT:
        allowed = f"above 0 and at most {MAX_WEIGHT}"
        raise UsageError(f"--negative-weight must be {allowed}, but got {negative_weight:g}")
