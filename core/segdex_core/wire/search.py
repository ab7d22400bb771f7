"""Questions, answers and refinements as they cross HTTP."""

from typing import Annotated, Literal, Self, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segdex_core.wire.document import Document, Moment, known_values
from segdex_core.wire.fields import (
    Colour,
    Limit,
    PerImage,
    Pixel,
    Share,
    SignedWeight,
    StrictRequest,
    Text,
    ViewWeight,
    Weight,
)
from segdex_core.wire.images import ImageOut
from segdex_core.wire.labels import LabelName
from segdex_core.wire.limits import (
    DEFAULT_NEGATIVE_WEIGHT,
    DEFAULT_VIEW_WEIGHTS,
    MAX_REFINED,
    MAX_REGIONS,
    MAX_TERMS,
    Combine,
    Level,
)
from segdex_core.wire.segments import Rle, SegmentOut
from segdex_core.wire.sets import SetName

_INSTEAD = "Instead of `{}`: ISO 8601 date or time; UTC where it names no zone."


NOTHING_BELOW = "no object of the index lies below"
"""Start of the hint about a folder of a filter that the index does not know."""


class Filter(StrictRequest):
    """Conditions that all must hold."""

    image_ids: Annotated[list[UUID], Field(max_length=1_000)] = []
    sources: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=16_384)]],
        Field(
            max_length=100, description="Folders or files on the service's machine, as paths or URIs; any."
        ),
    ] = []
    tags: Annotated[list[str], Field(max_length=100)] = []
    colors: Annotated[
        list[Colour],
        Field(
            max_length=11,
            description="Each covers at least a quarter of the segment, as measured in its mask.",
        ),
    ] = []
    labels: Annotated[
        list[LabelName],
        Field(max_length=100, description="Labels that `segdex label` gave; any of them."),
    ] = []
    sets: Annotated[
        list[SetName],
        Field(max_length=100, description="Names of sets, see `/v1/sets`; in any of them."),
    ] = []
    min_area: Share | None = None
    max_area: Share | None = None
    captured_from_s: Annotated[float | None, Field(description="Seconds since 1970 UTC, inclusive.")] = None
    captured_until_s: Annotated[float | None, Field(description="Seconds since 1970 UTC, exclusive.")] = None
    captured_from_at: Annotated[Moment | None, Field(description=_INSTEAD.format("captured_from_s"))] = None
    captured_until_at: Annotated[Moment | None, Field(description=_INSTEAD.format("captured_until_s"))] = None

    @model_validator(mode="after")
    def _has_one_form_of_each_bound(self) -> Self:
        for bound in ("captured_from", "captured_until"):
            if getattr(self, f"{bound}_s") is not None and getattr(self, f"{bound}_at") is not None:
                raise ValueError(f"give {bound}_s or {bound}_at, not both")
        return self

    def captured_range_s(self) -> tuple[float | None, float | None]:
        """Return both bounds in seconds since 1970 UTC, whichever form they were given in."""
        return (
            self.captured_from_s if self.captured_from_at is None else self.captured_from_at.timestamp(),
            self.captured_until_s if self.captured_until_at is None else self.captured_until_at.timestamp(),
        )


class ViewWeights(StrictRequest):
    """Share of each view in a score; they need not add up to 1."""

    crop: ViewWeight = DEFAULT_VIEW_WEIGHTS["crop"]
    mask: ViewWeight = DEFAULT_VIEW_WEIGHTS["mask"]

    @model_validator(mode="after")
    def _has_a_view(self) -> Self:
        if not (self.crop or self.mask):
            raise ValueError("must have a weight above 0")
        return self


class WeightedText(StrictRequest):
    """A text that counts more or less than the others."""

    text: Text
    weight: Weight


class WeightedSegment(StrictRequest):
    """A segment of the index that counts more or less than the other terms."""

    segment_id: UUID
    weight: SignedWeight


class Region(StrictRequest):
    """A picture of the index, or a box in it, to look like."""

    image_id: UUID
    box_xyxy: Annotated[
        tuple[Pixel, Pixel, Pixel, Pixel] | None, Field(description="x2 and y2 exclusive; none: all of it.")
    ] = None
    weight: SignedWeight = 1.0


class Question(StrictRequest):
    """The terms of a question: what hits should be like and unlike."""

    texts: Annotated[
        list[Text | WeightedText],
        Field(
            max_length=MAX_TERMS,
            description='Such as `umbrella -red`, `"cup"^2 plate`, `person LEFT OF bicycle`, `dog >= 2`.',
        ),
    ] = []
    segments: Annotated[list[UUID | WeightedSegment], Field(max_length=MAX_TERMS)] = []
    regions: Annotated[list[Region], Field(max_length=MAX_REGIONS)] = []
    negative: Annotated[
        list[Text | WeightedText],
        Field(
            max_length=MAX_TERMS,
            description="What hits should be unlike, taken literally; "
            f"plain texts weigh {DEFAULT_NEGATIVE_WEIGHT}.",
        ),
    ] = []
    view_weights: ViewWeights = ViewWeights()


class SearchOptions(Question):
    """What goes with a picture that is sent: everything of a search but the need of a term."""

    filter: Filter = Filter()
    limit: Limit = 10
    per_image: PerImage = 3
    min_score: float | None = None
    matches_only: Annotated[
        bool, Field(description="Leave out pictures that do not show what was asked for.")
    ] = False
    level: Annotated[
        Level, Field(description="Prefer whole objects a little, prefer them much, or find parts alone.")
    ] = "any"
    nms: Annotated[
        bool,
        Field(description="Non-maximum suppression: leave out parts and surroundings of better hits."),
    ] = True
    exact: bool = False
    combine: Annotated[
        Combine,
        Field(
            description="`mean`: like the weighted mean of all terms. `best`, for pictures and segments "
            "without texts: like any of them, and nearer to one than to any that has a negative weight; of a "
            "weight only the sign counts."
        ),
    ] = "mean"
    diversity: Annotated[
        Share,
        Field(description="How much different pictures come first: 0, by score alone, to 1."),
    ] = 0.0
    collapse_duplicates: Annotated[
        bool, Field(description="Return one picture of each group of near-duplicates, such as a burst.")
    ] = False
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
                {
                    "texts": ["umbrella"],
                    "negative": ["red"],
                    "filter": {"min_area": 0.02},
                    "matches_only": True,
                },
                {"texts": [{"text": "cup", "weight": 2}, "wooden table"], "explain": True},
            ]
        }
    )

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if not self.texts and not self.segments and not self.regions:
            raise ValueError("give at least one of texts, segments and regions")
        return self


class RefineRequest(Question):
    """Segments whose masks are to be re-decoded for a question."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"texts": ["red umbrella"], "segment_ids": ["6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11"]}]
        }
    )

    segment_ids: Annotated[
        list[UUID],
        Field(min_length=1, max_length=MAX_REFINED, description="Of any answer or none; each is done once."),
    ]


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
    related_id: Annotated[
        UUID | None, Field(description="The other object, if the text names a position relative to it.")
    ] = None


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
    count: Annotated[
        int | None, Field(description="Estimated number of objects, if the text asks for a number.")
    ] = None
    near_duplicates: Annotated[
        list[UUID], Field(description="Pictures that were collapsed into this one, best first.")
    ] = []


Answer = Literal["found", "not_there"]


class SearchResponse(Document):
    """The pictures with the segments that answer a question, best first."""

    answer: Annotated[str, known_values(*get_args(Answer))]
    embedder: str
    segmenter: Annotated[str, Field(description="What cut the pictures.")]
    profile: str
    timings_ms: dict[str, float]
    hits: list[HitOut]
    next_cursor: Annotated[str | None, Field(description="Asks for the next page; none on the last one.")] = (
        None
    )
    hints: Annotated[
        list[str], Field(description="Lines for people, such as how to require a position that a text names.")
    ] = []


RefinementAnswer = Literal["refined", "kept"]
MaskSource = Literal["outline", "relevance", "evf"]


class RefinementOut(BaseModel):
    """What became of a hit: a new mask where the gate let it pass, else why the stored one stays."""

    segment_id: UUID
    answer: Annotated[str, known_values(*get_args(RefinementAnswer))]
    reason: str
    made_by: Annotated[str, known_values(*get_args(MaskSource))]
    iou_with_stored: float
    gain: Annotated[float, Field(description="In predicted IoU.")]
    agreement: Annotated[float, Field(description="With the map of what was asked for.")]
    predicted_iou: float
    box_xyxy: tuple[int, int, int, int]
    area_px: int
    rle: Rle
    timings_ms: dict[str, float]


class RefinementsOut(Document):
    """The refinements of the first hits, best first."""

    refinements: list[RefinementOut]
