"""Annotated images: the values that every annotation format is written from, and read into."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from segdex_core.geometry import BoxXYXY
from segdex_core.masks import MaskRLE

NO_CATEGORY = "object"
"""Category of a segment that has no label and was found by no text."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One segment of an annotated image.

    Attributes:
        segment_id: Id of the segment in the index.
        category: The one name that formats with one category for each object write.
        labels: All labels of the segment, each once; empty if it has none.
        mask: Run-length encoding at the upright size of the image.
        box: Tight box of the mask in pixels; ``x2`` and ``y2`` are exclusive.
        area_px: Number of pixels in the mask.
        score: Score of the search that found the segment; None if it was not searched for.
        predicted_iou: The model's estimate of the mask's IoU.
        object_score: Estimate, from 0 to 1, of how likely the segment is one whole object.
    """

    segment_id: UUID
    category: str
    labels: tuple[str, ...]
    mask: MaskRLE
    box: BoxXYXY
    area_px: int
    score: float | None
    predicted_iou: float
    object_score: float


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image with the segments that are exported.

    Attributes:
        image_id: Id of the image in the index.
        sha256: SHA-256 of the file content, 64 hexadecimal digits.
        uri: ``file:`` URI of the file.
        file_name: Relative path with ``/``, unique in an export and without ``..``: where the picture lies
            below the folder of pictures of the export.
        width: Width in pixels after EXIF orientation.
        height: Height in pixels after EXIF orientation.
        captured_s: Capture time in seconds since 1970 UTC.
        annotations: Exported segments of the image.
    """

    image_id: UUID
    sha256: str
    uri: str
    file_name: str
    width: int
    height: int
    captured_s: float
    annotations: tuple[Annotation, ...]


def category_ids(categories: Sequence[str]) -> dict[str, int]:
    """Return the number of each category, from 1: several tools refuse or drop a category 0.

    Args:
        categories: Names in the order of their numbers, each once.
    """
    return {name: number for number, name in enumerate(categories, start=1)}
