"""Annotations that another tool wrote, as values: what is read from a document before an index is asked.

A shape is turned into a mask only after the size of its picture is known from the index, so that a document
cannot ask for more memory than a picture has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from segdex_core.formats.annotations import NO_CATEGORY
from segdex_core.formats.brush import decode_brush
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import MaskRLE, check_runs, rle_runs_px
from segdex_core.runs import column_edges_mask, runs_edges

MAX_OUTLINE_PX = 4_000_000
"""Length of the polygons of one annotation: pycocotools needs 60 bytes for each pixel of it."""


@dataclass(frozen=True, slots=True)
class CompressedMask:
    """COCO's compressed run-length encoding; unchecked."""

    mask: MaskRLE


@dataclass(frozen=True, slots=True, eq=False)
class MaskRuns:
    """COCO's uncompressed run-length encoding: runs down the columns; unchecked."""

    size_hw: tuple[int, int]
    runs: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BrushMask:
    """Label Studio's brush code; unchecked."""

    size_hw: tuple[int, int]
    code: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Polygons:
    """Closed outlines whose union is the mask.

    Attributes:
        size_hw: Height and width of the picture in pixels, as the document says; None if it does not.
        parts: (n, 2) float64 corners x, y in pixels; each has 3 corners or more.
    """

    size_hw: tuple[int, int] | None
    parts: Sequence[npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Box:
    """A box without a mask.

    Attributes:
        size_hw: Height and width of the picture in pixels, as the document says; None if it does not.
        box_xyxy: x1, y1, x2, y2 in pixels; not rounded.
    """

    size_hw: tuple[int, int] | None
    box_xyxy: tuple[float, float, float, float]


Shape: TypeAlias = CompressedMask | MaskRuns | BrushMask | Polygons | Box


@dataclass(frozen=True, slots=True)
class ImportedAnnotation:
    """One annotation of a document.

    Attributes:
        name: What identifies it in messages, such as "annotation 17".
        shape: Where the object is; None if it cannot be read, and ``problem`` says why.
        labels: Names that it has now, each once.
        exported: Labels that the segment had when it was exported; None if the document does not say.
        segment_id: Segment that it was exported from; None if the document does not say.
        problem: Why it has no shape.
    """

    name: str
    shape: Shape | None
    labels: tuple[str, ...]
    exported: tuple[str, ...] | None = None
    segment_id: UUID | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """One picture of a document.

    Attributes:
        name: Its file name or path, as the document has it.
        annotations: Its annotations.
        size_hw: Height and width in pixels, as the document says; None if it does not.
        image_id: Its id in the index that exported it; None if the document does not say.
        sha256: SHA-256 of its file; None if the document does not say.
        uri: URI of its file; None if the document does not say.
    """

    name: str
    annotations: tuple[ImportedAnnotation, ...]
    size_hw: tuple[int, int] | None = None
    image_id: UUID | None = None
    sha256: str | None = None
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class ImportedDocument:
    """What a document says.

    Attributes:
        images: Its pictures.
        skipped: Number of pictures that nobody answered in the other tool, by the reason.
    """

    images: tuple[ImportedImage, ...]
    skipped: dict[str, int]


def labels_now(
    names: Sequence[str], *, category: str | None, labels: Sequence[str] | None, has_all: bool
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Return the labels of an annotation now, and those that it was exported with.

    A category that was no label, such as the text of a query or ``object``, does not become one when it comes
    back.

    Args:
        names: Names that the annotation has now.
        category: Category that it was exported with; None if the document does not say.
        labels: Labels that the segment had; None if the document does not say.
        has_all: Whether ``names`` are all labels; otherwise they are the one category.

    Example:
        >>> labels_now(["dog"], category="cat", labels=["cat", "pet"], has_all=False)
        (('dog', 'pet'), ('cat', 'pet'))
    """
    named = tuple(dict.fromkeys(names))
    if category is None or labels is None:
        return tuple(one for one in named if one != NO_CATEGORY), None
    if named == (category,) and not has_all:
        return tuple(labels), tuple(labels)
    others = () if has_all else (one for one in labels if one != category)
    kept = [one for one in (*named, *others) if one != category or category in labels]
    return tuple(dict.fromkeys(kept)), tuple(labels)


def shape_mask(shape: Shape, size_hw: tuple[int, int]) -> MaskRLE | BoxXYXY:
    """Return the mask of a shape, or its box in whole pixels where it has none.

    Args:
        shape: The shape.
        size_hw: True height and width of the picture in pixels.

    Raises:
        ValueError: If the shape is damaged, or is of a picture of another size.
    """
    given_hw = shape.mask.size_hw if isinstance(shape, CompressedMask) else shape.size_hw
    if given_hw is not None and given_hw != size_hw:
        raise ValueError(
            f"it is of a picture of {given_hw[1]} x {given_hw[0]} pixels, but the picture has "
            f"{size_hw[1]} x {size_hw[0]}"
        )
    match shape:
        case CompressedMask(mask):
            height, width = size_hw
            return column_edges_mask(runs_edges(rle_runs_px(mask), height * width), size_hw)
        case MaskRuns(_, runs):
            check_runs(runs, size_hw)
            return column_edges_mask(runs_edges(runs, size_hw[0] * size_hw[1]), size_hw)
        case BrushMask(_, code):
            return decode_brush(code, size_hw)
        case Polygons(_, parts):
            return _filled(parts, size_hw)
        case Box(_, (x1, y1, x2, y2)):
            low, high = np.floor([x1, y1]), np.ceil([x2, y2])
            corners = np.clip([*low, *high], -1e9, 1e9).astype(int).tolist()
            return BoxXYXY(*corners).clip(size_hw)


def _filled(parts: Sequence[npt.NDArray[np.float64]], size_hw: tuple[int, int]) -> MaskRLE:
    height, width = size_hw
    length = 0.0
    for part in parts:
        if (np.abs(part - (width / 2, height / 2)) > (2 * width + 100, 2 * height + 100)).any():
            x, y = part[np.abs(part - (width / 2, height / 2)).max(axis=1).argmax()]
            raise ValueError(f"its polygon has a corner at ({x:g}, {y:g}), far outside the picture")
        length += float(np.abs(np.diff(part, axis=0, append=part[:1])).max(axis=1).sum())
    if length > MAX_OUTLINE_PX:
        raise ValueError(f"its outline is {length:,.0f} pixels long; at most {MAX_OUTLINE_PX:,} are allowed")
    if not parts:
        return MaskRLE(size_hw, column_edges_mask(np.array([], np.int64), size_hw).counts)
    drawn = coco_mask.merge(coco_mask.frPyObjects([part.ravel().tolist() for part in parts], height, width))
    mask = MaskRLE(size_hw, drawn["counts"].decode("ascii"))
    return column_edges_mask(runs_edges(rle_runs_px(mask), height * width), size_hw)
