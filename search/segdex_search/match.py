"""Which segment of a picture an annotation of another tool is: by its id, or by its mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.geometry import BoxXYXY
from segdex_core.masks import MaskRLE, rle_area_px, rle_iou
from segdex_core.records import SegmentRecord

SURELY_OWN_IOU = 0.65
"""IoU from which an annotation is the segment that it was exported from: no two segments of a picture are as
similar, so that it is no other one."""

OWN_IOU = 0.5
"""IoU from which it is that segment unless it is another one. docs/import.md has the figures."""

MatchedBy = Literal["id", "mask", "box"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An annotation to find.

    Attributes:
        outline: Its mask, at the size of the picture, or its box.
        segment_id: Segment that it was exported from; None if unknown.
    """

    outline: MaskRLE | BoxXYXY
    segment_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """The segment of an annotation.

    Attributes:
        record: The segment; None if no segment is similar enough.
        iou: IoU of the masks, or of the boxes where the annotation has no mask, with the segment or, without
            one, with the segment that is most similar.
        by: What found it.
    """

    record: SegmentRecord | None
    iou: float
    by: MatchedBy


def match_annotations(
    wanted: Sequence[Wanted], records: Sequence[SegmentRecord], *, min_iou: float
) -> list[Match]:
    """Return the segment of each annotation of a picture.

    Several annotations may be one segment. With ``min_iou`` above 0.5, these overlap each other.

    Args:
        wanted: Annotations of the picture.
        records: All segments of the picture; their masks have its size.
        min_iou: Lowest IoU, above 0, of an annotation and a segment that it was not exported from.

    Raises:
        ValueError: If the runs of a mask do not fit its size.
    """
    places = {record.segment_id: place for place, record in enumerate(records)}
    matches: list[Match] = []
    for one, ious in zip(wanted, _ious(wanted, records), strict=True):
        best = int(ious.argmax()) if records else -1
        own = None if one.segment_id is None else places.get(one.segment_id)
        own_iou = 0.0 if own is None else float(ious[own])
        by: MatchedBy = "box" if isinstance(one.outline, BoxXYXY) else "mask"
        if own is not None and own_iou >= OWN_IOU:
            is_other = own_iou < SURELY_OWN_IOU and min_iou <= ious[best] > own_iou
            if not is_other:
                matches.append(Match(records[own], own_iou, "id"))
                continue
        iou = float(ious[best]) if records else 0.0
        matches.append(Match(records[best] if iou >= min_iou else None, iou, by))
    return matches


def _ious(wanted: Sequence[Wanted], records: Sequence[SegmentRecord]) -> npt.NDArray[np.float64]:
    ious = np.zeros((len(wanted), len(records)))
    masks = [(row, one.outline) for row, one in enumerate(wanted) if isinstance(one.outline, MaskRLE)]
    drawn = [(row, mask) for row, mask in masks if rle_area_px(mask)]
    if drawn and records:
        rows = [row for row, _ in drawn]
        ious[rows] = rle_iou([mask for _, mask in drawn], [record.mask for record in records])
    boxes = np.array([record.box for record in records]).reshape(-1, 4)
    for row, one in enumerate(wanted):
        if isinstance(one.outline, BoxXYXY) and one.outline.area_px:
            low = np.maximum(boxes[:, :2], one.outline[:2])
            high = np.minimum(boxes[:, 2:], one.outline[2:])
            shared = np.prod(np.maximum(high - low, 0), axis=1)
            areas = np.array([record.box.area_px for record in records])
            ious[row] = shared / (areas + one.outline.area_px - shared)
    return ious
