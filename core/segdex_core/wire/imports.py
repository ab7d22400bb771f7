"""Labels that come back from another tool, as they cross HTTP."""

from typing import Annotated

from pydantic import BaseModel, Field

from segdex_core.wire.document import Document
from segdex_core.wire.fields import StrictRequest, names_range
from segdex_core.wire.limits import DEFAULT_MIN_IOU, ImportFormat


class ImportRequest(StrictRequest):
    """How annotations of another tool become labels."""

    format: ImportFormat
    by: Annotated[
        str, Field(min_length=1, max_length=100, description="Name of the person whose labels these become.")
    ] = "me"
    min_iou: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Lowest IoU of an annotation and a segment that it was not exported from.",
        ),
        names_range("above 0 and at most 1"),
    ] = DEFAULT_MIN_IOU
    overrule: Annotated[
        bool,
        Field(description="Remove a label that was changed or removed there whoever gave it, also a model."),
    ] = False
    remove_missing: Annotated[
        bool,
        Field(description="Remove this person's labels from segments of these pictures without annotation."),
    ] = False
    dry_run: Annotated[bool, Field(description="Match and count, and write nothing.")] = False


class ImportProblem(BaseModel):
    """An annotation, or a picture with its annotations, that labels no segment."""

    image: Annotated[str, Field(description="Its file name, as the document has it.")]
    annotation: Annotated[str | None, Field(description="None: all annotations of the picture.")]
    annotations: Annotated[int, Field(description="Number of annotations that are concerned.")]
    reason: str


class ImportReport(Document):
    """What became of the annotations of a document."""

    format: str
    author: str
    images: Annotated[int, Field(description="Pictures of the document that are in the index.")]
    unknown_images: Annotated[int, Field(description="Pictures of the document that are not, or not surely.")]
    skipped_images: Annotated[int, Field(description="Pictures that nobody answered in the other tool.")]
    annotations: Annotated[int, Field(description="All: matched, unmatched and of unknown pictures.")]
    matched: int
    matched_by_id: Annotated[int, Field(description="By the segment that they were exported from.")]
    matched_by_mask: Annotated[int, Field(description="By the IoU of the masks.")]
    matched_by_box: Annotated[int, Field(description="By the IoU of the boxes: these have no mask.")]
    unmatched: Annotated[int, Field(description="Of pictures in the index, and like no segment.")]
    of_unknown_images: int
    segments_changed: Annotated[int, Field(description="Segments whose labels changed.")]
    segments_unchanged: Annotated[int, Field(description="Matched segments that had these labels.")]
    labels_added: int
    labels_removed: int
    counts: Annotated[dict[str, int], Field(description="Matched segments by label.")]
    problems: Annotated[list[ImportProblem], Field(description="Everything that labels no segment.")]
    dry_run: bool
    elapsed_s: float
