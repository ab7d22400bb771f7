"""What goes in and out over HTTP."""

from collections.abc import Callable
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segdex_core.errors import QueryError
from segdex_core.media.uris import canonical_uri, spellings
from segdex_core.records import RGBImage, SegmentFilter
from segdex_search.click import MAX_POINTS
from segdex_search.queries import (
    DEFAULT_AWAY_WEIGHT,
    DEFAULT_VIEW_WEIGHTS,
    MAX_LIMIT,
    MAX_PER_IMAGE,
    MAX_REFINED,
    ImageTerm,
    Level,
    SearchQuery,
    SegmentTerm,
    Term,
    TextTerm,
)

MAX_TERMS = 16
MAX_REGIONS = 4
"""Of one question: each reads and decodes a picture."""

Text = Annotated[str, Field(min_length=1, max_length=1_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0, le=100)]
Pixel = Annotated[int, Field(ge=0, le=1_000_000)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Where(_In):
    """Conditions that all must hold."""

    image_ids: Annotated[list[UUID], Field(max_length=1_000)] = []
    sources: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=4_096)]],
        Field(
            max_length=100, description="Folders or files on the service's machine, as paths or URIs; any."
        ),
    ] = []
    tags: Annotated[list[str], Field(max_length=100)] = []
    min_area: Share | None = None
    max_area: Share | None = None
    since_s: float | None = None
    until_s: float | None = None

    def to_filter(self) -> SegmentFilter:
        """Return the filter that the index knows.

        Raises:
            QueryError: If a source is neither an absolute path nor a URI.
        """
        return SegmentFilter(
            image_ids=tuple(self.image_ids),
            min_area_fraction=self.min_area,
            max_area_fraction=self.max_area,
            sources=tuple(uri for source in self.sources for uri in _source_uris(source)),
            tags=tuple(self.tags),
            captured_from_s=self.since_s,
            captured_until_s=self.until_s,
        )


def _source_uris(source: str) -> tuple[str, ...]:
    if "://" in source:
        return spellings(canonical_uri(source))
    if not source.startswith("/") or "\0" in source:
        raise QueryError(f"a source must be an absolute path or a URI, but is {source!r}")
    return spellings(canonical_uri(source))


class ViewWeights(_In):
    """Share of each view in a score; they need not add up to 1."""

    crop: Annotated[float, Field(ge=0, le=100)] = DEFAULT_VIEW_WEIGHTS["crop"]
    mask: Annotated[float, Field(ge=0, le=100)] = DEFAULT_VIEW_WEIGHTS["mask"]


class WeightedText(_In):
    """A text that counts more or less than the others."""

    text: Text
    weight: Weight


class WeightedSegment(_In):
    """A segment of the index that counts more or less than the other terms."""

    segment_id: UUID
    weight: Weight


class Region(_In):
    """A picture of the index, or a box in it, to look like."""

    image_id: UUID
    box_xyxy: Annotated[
        tuple[Pixel, Pixel, Pixel, Pixel] | None, Field(description="x2 and y2 exclusive; none: all of it.")
    ] = None
    weight: Weight = 1.0


class SearchOptions(_In):
    """What goes with a picture that is sent: everything of a question but the need of a term."""

    texts: Annotated[list[Text | WeightedText], Field(max_length=MAX_TERMS)] = []
    segments: Annotated[list[UUID | WeightedSegment], Field(max_length=MAX_TERMS)] = []
    regions: Annotated[list[Region], Field(max_length=MAX_REGIONS)] = []
    away: Annotated[
        list[Text | WeightedText],
        Field(max_length=MAX_TERMS, description=f"Plain texts weigh {DEFAULT_AWAY_WEIGHT}."),
    ] = []
    view_weights: ViewWeights = ViewWeights()
    where: Where = Where()
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 10
    per_image: Annotated[int, Field(ge=1, le=MAX_PER_IMAGE)] = 3
    min_score: float | None = None
    present: Annotated[bool, Field(description="Leave out pictures that do not show it.")] = False
    level: Annotated[
        Level, Field(description="Prefer whole objects a little, prefer them much, or find parts alone.")
    ] = "any"
    nested: bool = False
    exact: bool = False
    explain: Annotated[bool, Field(description="Say what each term alone scores.")] = False
    cursor: Annotated[
        str | None,
        Field(max_length=100, description="`next_cursor` of the page before, of the same question."),
    ] = None

    def to_query(self, pixels_of: Callable[[Region], RGBImage], *sent: ImageTerm, offset: int) -> SearchQuery:
        """Return the question as the search knows it.

        Args:
            pixels_of: Returns the pixels of a region.
            sent: Pictures that came with the question.
            offset: Where the page starts.

        Raises:
            QueryError: If a text is not allowed, or there is nothing to look for.
        """
        terms: list[Term] = [_text_term(text, 1.0) for text in self.texts]
        terms += sent
        terms += [ImageTerm(pixels_of(region), region.weight) for region in self.regions]
        terms += [
            SegmentTerm(one.segment_id, one.weight) if isinstance(one, WeightedSegment) else SegmentTerm(one)
            for one in self.segments
        ]
        terms += [_text_term(text, DEFAULT_AWAY_WEIGHT, sign=-1) for text in self.away]
        return SearchQuery(
            terms=tuple(terms),
            where=self.where.to_filter(),
            limit=self.limit,
            offset=offset,
            per_image=self.per_image,
            min_score=self.min_score,
            view_weights=self.view_weights.model_dump(),
            level=self.level,
            nested=self.nested,
            exact=self.exact,
        )


class SearchRequest(SearchOptions):
    """A question: positive texts, segments and regions, negative texts, and conditions."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"texts": ["red umbrella"], "limit": 5},
                {"texts": ["umbrella"], "away": ["red"], "where": {"min_area": 0.02}, "present": True},
                {"texts": [{"text": "cup", "weight": 2}, "wooden table"], "explain": True},
            ]
        }
    )

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if not self.texts and not self.segments and not self.regions:
            raise ValueError("give at least one of texts, segments and regions")
        return self


def _text_term(given: str | WeightedText, weight: float, *, sign: int = 1) -> TextTerm:
    text, weight = (given, weight) if isinstance(given, str) else (given.text, given.weight)
    return TextTerm(text, sign * weight)


class Rle(BaseModel):
    """A mask as COCO's compressed run-length code; the size is height and width."""

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    counts: Annotated[str, Field(max_length=10_000_000)]


class SegmentOut(BaseModel):
    """A segment of the index."""

    segment_id: UUID
    image_id: UUID
    box_xyxy: tuple[int, int, int, int]
    area_px: int
    area_fraction: float
    predicted_iou: float
    stability: float
    object_score: Annotated[float, Field(description="How likely it is one whole object, 0 to 1.")]
    touches_border: bool
    parent_id: UUID | None
    depth: int
    rle: Rle


class TermScore(BaseModel):
    """What a term alone says of a segment: the cosine, from -1 to 1, before its weight."""

    term: str
    weight: float
    score: float


class HitSegmentOut(SegmentOut):
    """A segment that answers a question."""

    score: float
    view_scores: dict[str, float]
    terms: Annotated[list[TermScore] | None, Field(description="Where `explain` asks for them.")] = None


class ImageOut(BaseModel):
    """A picture of the index."""

    image_id: UUID
    path: str
    uris: Annotated[list[str], Field(description="Every file that holds it.")]
    segment_count: int
    width: int
    height: int
    captured_s: float
    place_lat_lon: tuple[float, float] | None
    tags: list[str]


class HitOut(BaseModel):
    """A picture with the segments that answer a question, best first."""

    rank: int
    score: float
    presence: float | None
    is_match: Annotated[
        bool, Field(description="False where the picture does not seem to show what was asked for.")
    ]
    image: ImageOut
    segments: list[HitSegmentOut]


class SearchResponse(BaseModel):
    """The answer; its id is good for refinements for a while."""

    id: str
    answer: Literal["found", "not there"]
    embedder: str
    segmenter: Annotated[str, Field(description="What cut the pictures.")]
    profile: str
    timings_ms: dict[str, float]
    hits: list[HitOut]
    next_cursor: Annotated[str | None, Field(description="Asks for the next page; none on the last one.")] = (
        None
    )


class RefinementOut(BaseModel):
    """What became of a hit: a new mask where the gate let it pass, else why the stored one stays."""

    segment_id: UUID
    answer: Literal["refined", "kept"]
    reason: str
    made_by: Literal["outline", "relevance", "evf"]
    iou_with_stored: float
    gain: Annotated[float, Field(description="In predicted IoU.")]
    agreement: Annotated[float, Field(description="With the map of what was asked for.")]
    predicted_iou: float
    box_xyxy: tuple[int, int, int, int]
    area_px: int
    rle: Rle
    timings_ms: dict[str, float]


class Refinements(BaseModel):
    """The refinements of the first hits, best first."""

    refinements: list[RefinementOut]


First = Annotated[int, Field(ge=1, le=MAX_REFINED)]


class PointIn(_In):
    """A point in pixels of the picture; 1 is on the thing, 0 off it."""

    x: Annotated[float, Field(ge=0, le=1e6)]
    y: Annotated[float, Field(ge=0, le=1e6)]
    label: Literal[0, 1] = 1


class PromptOptions(_In):
    """What is said about one object in a picture."""

    points: Annotated[list[PointIn], Field(max_length=MAX_POINTS)] = []
    box_xyxy: tuple[float, float, float, float] | None = None
    mask: Annotated[
        Rle | None,
        Field(description="An earlier mask to improve, of the picture's size; with points or a box."),
    ] = None
    text: Text | None = None
    masks: Literal[1, 3] = 1


class SegmentRequest(PromptOptions):
    """What is said about one object in a picture of the index."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"image_id": "6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11", "points": [{"x": 320, "y": 240}]}
            ]
        }
    )

    image_id: UUID


class MaskOut(BaseModel):
    """A mask that answers a prompt."""

    predicted_iou: float
    box_xyxy: tuple[int, int, int, int]
    area_px: int
    rle: Rle


class PolygonOut(BaseModel):
    """A GeoJSON MultiPolygon in pixels, x right and y down."""

    type: Literal["MultiPolygon"]
    coordinates: list[list[list[tuple[int, int]]]]


class MasksOut(BaseModel):
    """Masks, best predicted IoU first."""

    masks: list[MaskOut]
    timings_ms: dict[str, float]


class Ingested(BaseModel):
    """What became of an upload; one that waits as a job has the outcome `queued`."""

    outcome: str
    detail: str
    image_id: UUID | None
    segments: int = 0
    job_id: str | None = None


class Stats(BaseModel):
    """How much the index holds."""

    images: int
    segments: int
    profile: str
    embedder: str
    segmenter: str
    dimensions: int
    views: list[str]
    schema_version: int


class Health(BaseModel):
    """Whether the service answers."""

    status: Literal["ok"]
