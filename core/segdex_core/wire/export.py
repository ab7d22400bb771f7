"""Exports as they cross HTTP: what to export in which format, and what was exported."""

from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from segdex_core.wire.document import Document
from segdex_core.wire.fields import StrictRequest, names_range
from segdex_core.wire.images import MissingPicture
from segdex_core.wire.limits import (
    MAX_CATEGORY_CHARS,
    MAX_EXPORTED_IDS,
    MAX_REFINED,
    MAX_TOLERANCE_PX,
    ExportFormatName,
    PicturesChoice,
)
from segdex_core.wire.search import Filter, SearchOptions
from segdex_core.wire.segments import Rle

RECORD_FILE = "segdex-export.json"
"""Name of the file in an export that holds its ``Exported``."""


def check_category(name: str) -> str:
    """Return the name of a category, without spaces around it.

    Raises:
        ValueError: If it is empty, too long or not printable.
    """
    clean = name.strip()
    if not 0 < len(clean) <= MAX_CATEGORY_CHARS or not clean.isprintable():
        raise ValueError(f"must be 1 to {MAX_CATEGORY_CHARS} printable characters, but got {name[:100]!r}")
    return clean


class ExportOptions(SearchOptions):
    """What to export, and how; a picture that is sent may be the question."""

    format: ExportFormatName
    everything: Annotated[
        bool,
        Field(description="Every segment that meets the filter, and not the hits of a question."),
    ] = False
    segment_ids: Annotated[
        list[UUID], Field(max_length=MAX_EXPORTED_IDS, description="These segments, instead of a question.")
    ] = []
    category: Annotated[
        Annotated[str, AfterValidator(check_category)] | None,
        Field(description="Name of the one category; none: by labels, else by the question, else `object`."),
    ] = None
    pictures: Annotated[
        PicturesChoice | None,
        Field(description="Whether pictures are copied, upright; none: as the format needs them."),
    ] = None
    tolerance_px: Annotated[
        Annotated[float, Field(ge=0, le=MAX_TOLERANCE_PX), names_range(f"between 0 and {MAX_TOLERANCE_PX}")]
        | None,
        Field(description="Largest distance of a polygon from the mask; up to 0.5 readers get equal masks."),
    ] = None
    url_prefix: Annotated[
        str | None,
        Field(max_length=1_000, description="Before the file name of each picture, for Label Studio."),
    ] = None
    refine: Annotated[
        Annotated[int, Field(ge=1, le=MAX_REFINED), names_range(f"between 1 and {MAX_REFINED}")] | None,
        Field(description="Re-decode the masks of this many hits of the question."),
    ] = None

    def has_question(self) -> bool:
        """Return whether there are terms to look for, pictures that are sent aside."""
        return bool(self.texts or self.segments or self.regions)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        chosen = [name for name in ("everything", "segment_ids") if getattr(self, name)]
        chosen += ["a question"] * self.has_question()
        if len(chosen) > 1:
            raise ValueError(f"give only one of everything, segment_ids and a question, not {len(chosen)}")
        if self.segment_ids and self.filter != Filter():
            raise ValueError("a filter cannot go with segment_ids")
        if self.cursor is not None:
            raise ValueError("an export has no cursor: raise its limit instead")
        if self.refine is not None and (self.everything or self.segment_ids):
            raise ValueError("refine needs a question: masks are re-decoded for its texts")
        return self


class ExportRequest(ExportOptions):
    """What to export, and how: the hits of a question, given segments, or every segment."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"texts": ["red umbrella"], "limit": 100, "format": "coco"},
                {"everything": True, "filter": {"sets": ["training"]}, "format": "yolo"},
            ]
        }
    )

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if not (self.everything or self.segment_ids or self.has_question()):
            raise ValueError("give a question, segment_ids, or everything")
        return self


class MaskExportRequest(StrictRequest):
    """A mask of a picture of the index, such as one that was decoded for a prompt."""

    rle: Rle
    predicted_iou: Annotated[
        float, Field(description="Estimate of its IoU, as the answer with the mask has it.")
    ]
    segment_id: Annotated[
        UUID | None, Field(description="Segment whose stored mask it replaces, with the labels of it.")
    ] = None


class ExportLoss(BaseModel):
    """What polygons lose, compared with the stored masks."""

    segments: int
    mean_iou: Annotated[float, Field(description="Of stored masks with those that a reader makes; 1: equal.")]
    lowest_iou: float
    lowest_segment_id: UUID | None
    lost_holes: Annotated[int, Field(description="Holes that are filled.")]
    joined_parts: Annotated[int, Field(description="Segments whose parts are joined to one outline.")]
    left_out: Annotated[int, Field(description="Segments that the format cannot hold.")]


class Exported(Document):
    """What an export holds."""

    path: Annotated[str, Field(description="File or folder; empty inside of it.")] = ""
    format: str
    root: Annotated[str, Field(description="Folder that the file names of pictures are relative to.")]
    images: int
    segments: int
    categories: Annotated[dict[str, int], Field(description="How many segments each has, sorted by name.")]
    pictures: Annotated[int, Field(description="Pictures that were copied.")]
    missing: Annotated[
        list[MissingPicture],
        Field(description="Pictures that could not be copied or cut out; their masks are exported."),
    ] = []
    renamed: Annotated[
        dict[str, str], Field(description="Path of each picture whose file name here is another one.")
    ] = {}
    loss: Annotated[ExportLoss | None, Field(description="Of polygons; null where all masks are kept.")] = (
        None
    )
