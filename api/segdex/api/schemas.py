"""What goes in and out over HTTP."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segdex.core.records import SegmentFilter
from segdex.search.prompting import MAX_POINTS
from segdex.search.queries import (
    DEFAULT_AWAY_WEIGHT,
    DEFAULT_VIEW_WEIGHTS,
    MAX_LIMIT,
    MAX_PER_IMAGE,
    SearchQuery,
    SegmentTerm,
    Term,
    TextTerm,
)
from segdex.search.refine.service import MAX_REFINED

MAX_TERMS = 16

Text = Annotated[str, Field(min_length=1, max_length=1_000)]
Share = Annotated[float, Field(ge=0, le=1)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Where(_In):
    """Conditions that all must hold."""

    image_ids: Annotated[list[UUID], Field(max_length=1_000)] = []
    sources: Annotated[list[str], Field(max_length=100)] = []
    tags: Annotated[list[str], Field(max_length=100)] = []
    min_area: Share | None = None
    max_area: Share | None = None
    since_s: float | None = None
    until_s: float | None = None

    def to_filter(self) -> SegmentFilter:
        """Return the filter that the index knows."""
        return SegmentFilter(
            image_ids=tuple(self.image_ids),
            min_area_fraction=self.min_area,
            max_area_fraction=self.max_area,
            sources=tuple(self.sources),
            tags=tuple(self.tags),
            captured_from_s=self.since_s,
            captured_until_s=self.until_s,
        )


class ViewWeights(_In):
    """Share of each view in a score; they need not add up to 1."""

    crop: Annotated[float, Field(ge=0, le=100)] = DEFAULT_VIEW_WEIGHTS["crop"]
    context: Annotated[float, Field(ge=0, le=100)] = DEFAULT_VIEW_WEIGHTS["context"]


class SearchRequest(_In):
    """A question: texts and segments to be near to, texts to be away from, and conditions."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"texts": ["red umbrella"], "limit": 5},
                {"texts": ["umbrella"], "away": ["red"], "where": {"min_area": 0.02}, "present": True},
            ]
        }
    )

    texts: Annotated[list[Text], Field(max_length=MAX_TERMS)] = []
    segment_ids: Annotated[list[UUID], Field(max_length=MAX_TERMS)] = []
    away: Annotated[list[Text], Field(max_length=MAX_TERMS)] = []
    away_weight: Annotated[float, Field(gt=0, le=100)] = DEFAULT_AWAY_WEIGHT
    view_weights: ViewWeights = ViewWeights()
    where: Where = Where()
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 10
    per_image: Annotated[int, Field(ge=1, le=MAX_PER_IMAGE)] = 3
    min_score: float | None = None
    present: Annotated[bool, Field(description="Leave out pictures that do not show it.")] = False
    nested: bool = False
    exact: bool = False

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if not self.texts and not self.segment_ids:
            raise ValueError("give at least one of texts and segment_ids")
        return self

    def to_query(self) -> SearchQuery:
        """Return the question as the search knows it.

        Raises:
            QueryError: If a text is not allowed.
        """
        terms: list[Term] = [TextTerm(text) for text in self.texts]
        terms += [SegmentTerm(segment_id) for segment_id in self.segment_ids]
        terms += [TextTerm(text, -self.away_weight) for text in self.away]
        return SearchQuery(
            terms=tuple(terms),
            where=self.where.to_filter(),
            limit=self.limit,
            per_image=self.per_image,
            min_score=self.min_score,
            view_weights=self.view_weights.model_dump(),
            nested=self.nested,
            exact=self.exact,
        )


class Rle(BaseModel):
    """A mask as COCO's compressed run-length code."""

    size: tuple[int, int]
    counts: str


class SegmentOut(BaseModel):
    """A segment of the index."""

    segment_id: UUID
    image_id: UUID
    box_xyxy: tuple[int, int, int, int]
    area_px: int
    area_fraction: float
    predicted_iou: float
    stability: float
    touches_border: bool
    parent_id: UUID | None
    depth: int
    rle: Rle


class HitSegmentOut(SegmentOut):
    """A segment that answers a question."""

    score: float
    view_scores: dict[str, float]


class ImageOut(BaseModel):
    """A picture of the index."""

    image_id: UUID
    path: str
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
    image: ImageOut
    segments: list[HitSegmentOut]


class SearchResponse(BaseModel):
    """The answer; its id is good for refinements for a while."""

    id: str
    answer: Literal["found", "not there"]
    embedder: str
    profile: str
    timings_ms: dict[str, float]
    hits: list[HitOut]


class RefinementOut(BaseModel):
    """What became of a hit: a new mask where the gate let it pass, else why the stored one stays."""

    segment_id: UUID
    answer: Literal["refined", "kept"]
    reason: str
    made_by: Literal["outline", "relevance", "evf"]
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


class SegmentRequest(_In):
    """What is said about one thing in a picture of the index."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"image_id": "6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11", "points": [{"x": 320, "y": 240}]}
            ]
        }
    )

    image_id: UUID
    points: Annotated[list[PointIn], Field(max_length=MAX_POINTS)] = []
    box_xyxy: tuple[float, float, float, float] | None = None
    text: Text | None = None
    masks: Literal[1, 3] = 1


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
    """What became of an upload."""

    outcome: str
    detail: str
    image_id: UUID | None


class Stats(BaseModel):
    """How much the index holds."""

    images: int
    segments: int
    profile: str
    embedder: str


class Health(BaseModel):
    """Whether the service answers."""

    status: Literal["ok"]
