"""Questions, answers and refinements as they cross HTTP."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segdex_core.wire.images import ImageOut
from segdex_core.wire.limits import (
    DEFAULT_AWAY_WEIGHT,
    DEFAULT_VIEW_WEIGHTS,
    MAX_LIMIT,
    MAX_PER_IMAGE,
    MAX_REGIONS,
    MAX_TERMS,
    Level,
    Pixel,
    Share,
    StrictRequest,
    Text,
    ViewWeight,
    Weight,
)
from segdex_core.wire.segments import Rle, SegmentOut


class Where(StrictRequest):
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


class ViewWeights(StrictRequest):
    """Share of each view in a score; they need not add up to 1."""

    crop: ViewWeight = DEFAULT_VIEW_WEIGHTS["crop"]
    mask: ViewWeight = DEFAULT_VIEW_WEIGHTS["mask"]


class WeightedText(StrictRequest):
    """A text that counts more or less than the others."""

    text: Text
    weight: Weight


class WeightedSegment(StrictRequest):
    """A segment of the index that counts more or less than the other terms."""

    segment_id: UUID
    weight: Weight


class Region(StrictRequest):
    """A picture of the index, or a box in it, to look like."""

    image_id: UUID
    box_xyxy: Annotated[
        tuple[Pixel, Pixel, Pixel, Pixel] | None, Field(description="x2 and y2 exclusive; none: all of it.")
    ] = None
    weight: Weight = 1.0


class SearchOptions(StrictRequest):
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
