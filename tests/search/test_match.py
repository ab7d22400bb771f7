"""Which segment an annotation is."""

from uuid import uuid4

import numpy as np
import pytest

from segdex_core.geometry import BoxXYXY
from segdex_core.ids import make_segment_id
from segdex_core.masks import BoolMask, encode_mask, mask_box
from segdex_core.records import SegmentRecord
from segdex_search.match import OWN_IOU, SURELY_OWN_IOU, Wanted, match_annotations

IMAGE = uuid4()


def bar(start: int, end: int) -> BoolMask:
    """Return a mask of some of 1,000 pixels in a row, so that an IoU is a simple fraction."""
    mask = np.zeros((1, 1_000), np.bool_)
    mask[:, start:end] = True
    return mask


def segment(mask: BoolMask) -> SegmentRecord:
    rle = encode_mask(mask)
    return SegmentRecord(
        segment_id=make_segment_id(IMAGE, rle),
        image_id=IMAGE,
        box=mask_box(mask),
        mask=rle,
        area_px=int(mask.sum()),
        area_fraction=float(mask.mean()),
        predicted_iou=0.9,
        stability=0.9,
        object_score=0.5,
        touches_border=False,
        ancestor_ids=(),
        sources=(),
        tags=(),
        captured_s=0.0,
    )


PART, WHOLE, OTHER = segment(bar(0, 60)), segment(bar(0, 100)), segment(bar(500, 600))
ALL = [PART, WHOLE, OTHER]


@pytest.mark.parametrize(
    ("mask", "own", "found", "by"),
    [
        (bar(0, 100), None, WHOLE, "mask"),
        (bar(0, 100), WHOLE, WHOLE, "id"),
        (bar(0, 61), None, PART, "mask"),
        (bar(0, 92), PART, PART, "id"),  # IoU .652 with its own, .92 with another
        (bar(0, 95), PART, WHOLE, "mask"),  # .63 and .95: it is the other one now
        (bar(480, 595), WHOLE, OTHER, "mask"),
        (bar(500, 555), None, None, "mask"),
        (bar(500, 555), OTHER, OTHER, "id"),  # .55 is enough for its own
        (bar(500, 545), OTHER, None, "mask"),
        (bar(900, 950), None, None, "mask"),
        (bar(0, 0), WHOLE, None, "mask"),
    ],
)
def test_an_annotation_is_its_own_segment_or_the_most_similar_one(
    mask: BoolMask, own: SegmentRecord | None, found: SegmentRecord | None, by: str
) -> None:
    assert (OWN_IOU, SURELY_OWN_IOU) == (0.5, 0.65)
    wanted = Wanted(encode_mask(mask), None if own is None else own.segment_id)

    [match] = match_annotations([wanted], ALL, min_iou=0.6)
    assert (match.record, match.by) == (found, by)


def test_a_segment_of_another_picture_or_one_that_is_gone_is_found_by_its_mask() -> None:
    [match] = match_annotations([Wanted(WHOLE.mask, uuid4())], ALL, min_iou=0.6)

    assert (match.record, match.iou, match.by) == (WHOLE, 1.0, "mask")


def test_a_box_is_compared_with_boxes_and_the_best_iou_is_told_without_a_match() -> None:
    boxes = [BoxXYXY(500, 0, 590, 1), BoxXYXY(500, 0, 550, 1), BoxXYXY(3, 0, 3, 1)]

    near, far, empty = match_annotations([Wanted(box) for box in boxes], ALL, min_iou=0.6)
    assert (near.record, near.iou, near.by) == (OTHER, 0.9, "box")
    assert (far.record, far.iou) == (None, 0.5)
    assert (empty.record, empty.iou) == (None, 0.0)


def test_a_picture_without_segments_has_none() -> None:
    [match] = match_annotations([Wanted(WHOLE.mask, WHOLE.segment_id)], [], min_iou=0.6)

    assert (match.record, match.iou) == (None, 0.0)
