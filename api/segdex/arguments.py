"""Arguments that the methods of ``Library``, ``Client`` and ``AsyncClient`` share."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, TypeVar, cast, get_args
from uuid import UUID

from pydantic import BaseModel, ValidationError

from segdex.faults import fault
from segdex.pictures import Picture
from segdex_core.errors import ArgumentError, QueryError, UsageError
from segdex_core.wire.concepts import ConceptRequest, MarkRequest, check_concept_name
from segdex_core.wire.export import ExportOptions, ExportRequest
from segdex_core.wire.fields import Pixel, SignedWeight, StrictRequest
from segdex_core.wire.ids import id_prefix
from segdex_core.wire.images import IngestedFile
from segdex_core.wire.imports import ImportRequest
from segdex_core.wire.jobs import JobRequest
from segdex_core.wire.labels import LabelRequest
from segdex_core.wire.limits import (
    MAX_IDEMPOTENCY_KEY_CHARS,
    MAX_REGIONS,
    MAX_SIDE_PX,
    MIN_SIDE_PX,
    Combine,
    LabelAuthor,
    Level,
    PicturesChoice,
)
from segdex_core.wire.search import (
    Filter,
    RefineRequest,
    Region,
    SearchOptions,
    SearchRequest,
    ViewWeights,
    WeightedSegment,
    WeightedText,
)
from segdex_core.wire.segments import PromptOptions, Rle
from segdex_core.wire.sets import SetMembersRequest, SetRequest, check_set_name

if TYPE_CHECKING:
    from segdex_core.masks import BoolMask

Id = UUID | str
"""A UUID, or its text form."""

SomeIds = Id | list[Id] | tuple[Id, ...]
"""One id, or several of them."""

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True, eq=False)
class QueryImage:
    """An image to search with.

    Attributes:
        image: Query image.
        box_xyxy: Box of the object in the image: x1, y1, x2, y2 in pixels, x2 and y2 exclusive; None for the
            whole image.
        weight: Weight relative to the other terms of the query; a negative weight lowers the scores of
            similar segments.
    """

    image: Picture
    box_xyxy: tuple[int, int, int, int] | None = None
    weight: float = 1.0


ImageArgument = Picture | QueryImage | list[Picture | QueryImage] | tuple[Picture | QueryImage, ...] | None
"""One query image, several of them, or None."""


class QuestionFields(TypedDict, total=False):
    """View weights, and terms other than texts and images; see ``segdex_core.wire.search.Question``."""

    segments: Sequence[Id | WeightedSegment]
    regions: Sequence[Region]
    negative: Sequence[str | WeightedText]
    view_weights: ViewWeights


class SearchFields(QuestionFields, total=False):
    """Arguments of a search other than texts and images; see ``segdex_core.wire.search.SearchOptions``."""

    filter: Filter
    limit: int
    per_image: int
    min_score: float | None
    matches_only: bool
    level: Level
    nms: bool
    exact: bool
    combine: Combine
    diversity: float
    collapse_duplicates: bool
    explain: bool
    cursor: str | None


class PromptFields(TypedDict, total=False):
    """A prompt for one object in an image.

    ``points`` and ``negative_points`` are (x, y) in pixels, on and off the object. ``box`` is x1, y1, x2, y2
    in pixels, x2 and y2 exclusive. ``mask`` is an earlier mask to improve, (H, W) bool. ``text`` is given
    alone or with a box. ``masks`` is the number of masks to return: 1, or 3 for all masks of an ambiguous
    point.
    """

    points: Sequence[tuple[float, float]]
    negative_points: Sequence[tuple[float, float]]
    box: tuple[float, float, float, float] | None
    mask: "BoolMask | None"
    text: str | None
    masks: Literal[1, 3]


@dataclass(frozen=True, slots=True)
class MaskChoices:
    """How an ingest segments images; None takes the value of the quality.

    Attributes:
        quality: ``fast``, ``balanced`` or ``best``; None for the quality of the index, or ``balanced`` for a
            new one.
        select: ``ranked`` for the best masks up to a budget, ``meta`` for Meta's fixed thresholds.
        segments_per_image: Maximum number of segments in an image (``ranked``).
        points_per_side: Number of prompt points along each side of the grid.
        crop_layers: Number of layers of windows that are also searched for small objects, 0 to 3.
    """

    quality: str | None = None
    select: str = "ranked"
    segments_per_image: int | None = None
    points_per_side: int | None = None
    crop_layers: int | None = None


def _nobody(_: object) -> None:
    return


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """Callbacks that report the progress of an ingest; by default nothing is reported.

    Attributes:
        on_start: Called with the number of files before the first file is read.
        on_file: Called with the outcome of each file.
        on_note: Called with a slow step, such as "loading the models", and with "" at its end.
        confirm: Called with a one-line question before images are segmented again. Without it such an ingest
            is refused unless ``redo_outdated`` is set.
        on_plan: Called before ``on_start`` with the URIs of the files that may have to be segmented: new,
            changed and moved files. A service does not know them before it gets the files.
    """

    on_start: Callable[[int], None] = _nobody
    on_file: Callable[[IngestedFile], None] = _nobody
    on_note: Callable[[str], None] = _nobody
    confirm: Callable[[str], bool] | None = None
    on_plan: Callable[[Collection[str]], None] = _nobody


def check_limit(limit: int | None) -> int | None:
    """Return ``limit`` if it is allowed: 1 or more, or None for no limit.

    Raises:
        ArgumentError: If ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise ArgumentError("limit", f"must be 1 or more, but got {limit}")
    return limit


MAX_TAG_CHARS = 100


def clean_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags stripped, sorted and without duplicates.

    Raises:
        ArgumentError: If a tag is empty, too long, or not printable.
    """
    for tag in tags:
        if not tag.strip() or len(tag) > MAX_TAG_CHARS or not tag.isprintable():
            problem = f"must be 1 to {MAX_TAG_CHARS} printable characters each, but got {tag!r}"
            raise ArgumentError("tags", problem)
    return tuple(sorted({tag.strip() for tag in tags}))


def query_images(image: ImageArgument) -> list[QueryImage]:
    """Return the query images, in order.

    Raises:
        QueryError: If there are too many images, or a box or weight is not allowed.
    """
    if image is None:
        return []
    several = image if isinstance(image, list | tuple) else (image,)
    if len(several) > MAX_REGIONS:
        raise ArgumentError("image", f"must be {MAX_REGIONS} pictures at most, but got {len(several)}")
    images = [one if isinstance(one, QueryImage) else QueryImage(one) for one in several]
    for one in images:
        parse_request(_ImagePart, {"box_xyxy": one.box_xyxy, "weight": one.weight}, "image")
    return images


class _ImagePart(StrictRequest):
    """Box and weight of a query image."""

    box_xyxy: tuple[Pixel, Pixel, Pixel, Pixel] | None
    weight: SignedWeight


class _Part(StrictRequest):
    box: tuple[Pixel, Pixel, Pixel, Pixel]


def as_box(box_xyxy: Sequence[int] | None) -> tuple[int, int, int, int] | None:
    """Return a validated box; None for the whole image.

    Raises:
        QueryError: If the box is not four pixel coordinates.
    """
    return None if box_xyxy is None else parse_request(_Part, {"box": box_xyxy}).box


def check_side(max_px: int) -> int:
    """Return ``max_px``, the maximum length of the longer side in pixels, if it is allowed.

    Raises:
        QueryError: If ``max_px`` is out of range.
    """
    if not MIN_SIDE_PX <= max_px <= MAX_SIDE_PX:
        raise QueryError(f"max_px must be between {MIN_SIDE_PX} and {MAX_SIDE_PX:,}, but got {max_px:,}")
    return max_px


def as_id(given: Id) -> UUID:
    """Return an id as a ``UUID``.

    Raises:
        QueryError: If ``given`` is not a valid id.
    """
    try:
        return given if isinstance(given, UUID) else UUID(given)
    except (AttributeError, ValueError) as error:
        raise QueryError(f"{given!r} is no id; search prints those of segments and pictures") from error


def clean_prefix(given: str) -> str:
    """Return the start of an id as its digits alone.

    Raises:
        QueryError: If it is too short or too long, or has other characters.
    """
    try:
        return id_prefix(given)
    except (AttributeError, ValueError) as error:
        raise QueryError(f"the start of an id {error}") from error


def prompt_options(prompt: PromptFields) -> PromptOptions:
    """Return a prompt as a JSON record.

    Raises:
        QueryError: If a value is not allowed.
    """
    unknown = prompt.keys() - PromptFields.__annotations__.keys()
    if unknown:
        raise QueryError(
            f"{', '.join(sorted(unknown))}: an object is named by {', '.join(PromptFields.__annotations__)}"
        )
    earlier = prompt.get("mask")
    points = [{"x": x, "y": y, "label": 1} for x, y in _pairs("points", prompt.get("points", ()))]
    points += [
        {"x": x, "y": y, "label": 0} for x, y in _pairs("negative_points", prompt.get("negative_points", ()))
    ]
    return parse_request(
        PromptOptions,
        {
            "points": points,
            "box_xyxy": prompt.get("box"),
            "mask": None if earlier is None else _rle_of(earlier),
            "text": prompt.get("text"),
            "masks": prompt.get("masks", 1),
        },
    )


def _pairs(name: str, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    try:
        return [(x, y) for x, y in points]
    except (TypeError, ValueError) as error:
        raise QueryError(f"{name}: must be a list of (x, y), but is {points!r}") from error


def segment_options(image: object, image_id: Id | None, prompt: PromptFields) -> PromptOptions:
    """Return a prompt as a JSON record, after a check that exactly one image is given.

    Raises:
        UsageError: If both or neither of ``image`` and ``image_id`` are given.
        QueryError: If a value of the prompt is not allowed.
    """
    if (image_id is None) is (image is None):
        raise UsageError("give either a picture, or the id of a picture of the index")
    return prompt_options(prompt)


def _rle_of(mask: "BoolMask") -> Rle:
    import numpy as np

    from segdex_core.masks import encode_mask

    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.any():
        raise QueryError(f"a mask must be (H, W) bool and not empty, but is {mask.shape} {mask.dtype}")
    encoded = encode_mask(mask)
    return Rle(size=encoded.size_hw, counts=encoded.counts)


def parse_request(kind: type[ModelT], values: object, name: str = "") -> ModelT:
    """Validate the arguments of a method, and return them as a request.

    Raises:
        ArgumentError: If a value is not allowed; the message names the argument.
        QueryError: If the values are not allowed together.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise fault(error.errors(include_url=False), name) from error


def search_request(
    texts: Sequence[str | WeightedText], fields: SearchFields, *, images: Sequence[QueryImage]
) -> SearchOptions:
    """Return a query as a JSON record; query images are sent separately.

    Raises:
        QueryError: If a value is not allowed, or the query is empty.
    """
    return parse_request(SearchOptions if images else SearchRequest, {"texts": texts, **fields})


class ExportFields(SearchFields, total=False):
    """How an export is made, and its question; see ``segdex_core.wire.export.ExportOptions``."""

    everything: bool
    segment_ids: Sequence[Id]
    category: str | None
    pictures: PicturesChoice | None
    tolerance_px: float | None
    url_prefix: str | None
    refine: int | None


def export_request(
    texts: Sequence[str | WeightedText],
    fields: ExportFields,
    *,
    format_name: str,
    images: Sequence[QueryImage],
) -> ExportOptions:
    """Return an export as a JSON record; query images are sent separately.

    Raises:
        QueryError: If a value is not allowed, or there is nothing to export.
    """
    values = {"texts": texts, "format": format_name, **fields}
    request = parse_request(ExportOptions if images else ExportRequest, values)
    if images and (request.everything or request.segment_ids):
        raise QueryError("give only one of everything, segment_ids and a question")
    return request


def refine_request(
    texts: Sequence[str | WeightedText], segment_ids: Sequence[Id], fields: QuestionFields
) -> RefineRequest:
    """Return the segments to refine, and the query, as a JSON record.

    Raises:
        QueryError: If a value is not allowed.
    """
    return parse_request(RefineRequest, {"texts": texts, "segment_ids": segment_ids, **fields})


def label_request(
    labels: Sequence[str],
    *,
    several: bool,
    min_score: float | None,
    segments: Sequence[Id],
    by: str,
    dry_run: bool,
) -> LabelRequest:
    """Return what is to be labelled as JSON has it.

    Raises:
        QueryError: If a value is not allowed.
    """
    values = {"labels": list(labels), "several": several, "min_score": min_score}
    return parse_request(LabelRequest, {**values, "segments": list(segments), "by": by, "dry_run": dry_run})


def import_request(
    *,
    format: str,  # noqa: A002 - the name that the command line and JSON have
    by: str,
    min_iou: float,
    overrule: bool,
    remove_missing: bool,
    dry_run: bool,
) -> ImportRequest:
    """Return how annotations become labels as JSON has it.

    Raises:
        QueryError: If a value is not allowed.
    """
    values = {"format": format, "by": by, "min_iou": min_iou, "overrule": overrule}
    return parse_request(ImportRequest, {**values, "remove_missing": remove_missing, "dry_run": dry_run})


def set_request(name: str) -> SetRequest:
    """Return the name of a set as JSON has it.

    Raises:
        QueryError: If it is not allowed.
    """
    try:
        return SetRequest(name=check_set_name(name))
    except (ValueError, AttributeError) as error:
        raise QueryError(f"the name of a set {error}") from error


def members_request(ids: Sequence[Id]) -> SetMembersRequest:
    """Return members of a set as JSON has them.

    Raises:
        QueryError: If there is none, there are too many, or one is no id.
    """
    return parse_request(SetMembersRequest, {"ids": [as_id(one) for one in ids]})


def concept_request(name: str) -> ConceptRequest:
    """Return the name of a concept as JSON has it.

    Raises:
        QueryError: If it is not allowed.
    """
    try:
        return ConceptRequest(name=check_concept_name(name))
    except (ValueError, TypeError) as error:
        raise QueryError(f"the name of a concept {error}") from error


def mark_request(
    *, right: Sequence[Id], wrong: Sequence[Id], neither: Sequence[Id], text: str | None
) -> MarkRequest:
    """Return what a concept is to learn as JSON has it.

    Raises:
        QueryError: If a value is not allowed.
    """
    marks = {"right": right, "wrong": wrong, "neither": neither}
    ids = {name: [as_id(one) for one in some] for name, some in marks.items()}
    return parse_request(MarkRequest, {**ids, "text": text})


def check_authors(authors: Sequence[str]) -> tuple[LabelAuthor, ...]:
    """Return kinds of authors of labels.

    Raises:
        ArgumentError: If one is not known, or there are none.
    """
    allowed = get_args(LabelAuthor)
    if not authors:
        raise ArgumentError("authors", f"must be some of {', '.join(allowed)}, but there are none")
    for author in authors:
        if author not in allowed:
            raise ArgumentError("authors", f"must be some of {', '.join(allowed)}, but got {author!r}")
    return tuple(cast("LabelAuthor", author) for author in authors)


def job_request(paths: Sequence[str | Path], tags: Sequence[str], *, redo_outdated: bool) -> JobRequest:
    """Return a job as a JSON record.

    Raises:
        QueryError: If a value is not allowed.
    """
    return parse_request(
        JobRequest,
        {
            "paths": [_job_path(str(path)) for path in paths],
            "tags": list(tags),
            "redo_outdated": redo_outdated,
        },
    )


def _job_path(path: str) -> str:
    """Return a path as JSON can hold it: as a URI if it is not UTF-8."""
    is_utf8 = path.encode(errors="replace").decode() == path
    return path if is_utf8 or not path.startswith("/") else Path(path).as_uri()


def check_idempotency_key(key: str | None) -> str | None:
    """Return an idempotency key.

    Raises:
        UsageError: If it is empty, too long, or not printable ASCII without spaces.
    """
    if key is not None and not (
        0 < len(key) <= MAX_IDEMPOTENCY_KEY_CHARS and all("!" <= char <= "~" for char in key)
    ):
        raise UsageError(
            f"an idempotency key must be 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters of printable ASCII, "
            "without spaces, such as a UUID"
        )
    return key
