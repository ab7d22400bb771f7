"""Segments, masks and prompts as they cross HTTP."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from segdex_core.wire.document import Document
from segdex_core.wire.fields import StrictRequest, Text, names_range
from segdex_core.wire.labels import LabelOut
from segdex_core.wire.limits import MAX_POINTS


class Rle(BaseModel):
    """A mask as COCO's compressed run-length code; the size is height and width."""

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    counts: Annotated[str, Field(max_length=10_000_000)]


class SegmentOut(BaseModel):
    """A segment of the index."""

    id: UUID
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
    labels: list[LabelOut] = []
    rle: Rle
    colors: Annotated[
        dict[str, float] | None,
        Field(
            description="Share of each colour inside the mask, above 0, largest first; null where an earlier "
            "segdex stored the segment."
        ),
    ] = None


class PointIn(StrictRequest):
    """A point in pixels of the picture; 1 is on the object, 0 off it."""

    x: Annotated[float, Field(ge=0, le=1e6), names_range("between 0 and 1,000,000")]
    y: Annotated[float, Field(ge=0, le=1e6), names_range("between 0 and 1,000,000")]
    label: Literal[0, 1] = 1


class PromptOptions(StrictRequest):
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


class MasksOut(Document):
    """Masks, best predicted IoU first."""

    masks: list[MaskOut]
    timings_ms: dict[str, float]


class PolygonOut(BaseModel):
    """Polygons with holes in pixels, x right and y down; no GeoJSON, whose numbers are degrees."""

    type: Literal["MultiPolygon"]
    coordinates: list[list[list[tuple[int, int]]]]
