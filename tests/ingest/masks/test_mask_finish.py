"""Masks at full size: which of them, in which order, and without twins."""

from collections.abc import Sequence

import numpy as np
import pytest
from tests.fakes.segmenter import GivenMasks

from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, decode_mask, encode_mask, mask_box, rle_iou
from segdex_core.records import Segment
from segdex_ingest.masks.decode import Candidates, Thresholds, decode_points, join_candidates
from segdex_ingest.masks.finish import FullSize, finish_in_order, without_twins
from segdex_ingest.masks.grid import CropWindow, point_grid

SIZE_HW = (128, 192)
LEFT = CropWindow(BoxXYXY(0, 0, 128, 128), 1)
RIGHT = CropWindow(BoxXYXY(64, 0, 192, 128), 1)
FULL = FullSize(SIZE_HW, min_region_px=0, min_area_px=1)


def candidates(estimates: Sequence[float], sides: Sequence[int]) -> Candidates:
    """Return squares in the upper left corner of a window, of so many of 256 pixels."""
    logits = np.full((3, 256, 256), -8, np.float32)
    for row, side in zip(logits, sides, strict=True):
        row[:side, :side] = 8
    segmenter = GivenMasks(logits, estimates)
    [features] = segmenter.encode([np.zeros((128, 128, 3), np.uint8)])
    thresholds = Thresholds(predicted_iou=0, stability=0, stability_offset=1)
    points = point_grid((128, 128), points_per_side=1)
    return join_candidates(list(decode_points(segmenter, features, points, thresholds=thresholds)))


FOUND = [
    (LEFT, candidates([0.1, 0.2, 0.3], [40, 80, 120])),
    (RIGHT, candidates([0.4, 0.5, 0.6], [40, 80, 120])),
]
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], np.float32)


def test_masks_of_all_windows_come_in_the_given_order_with_what_is_known_of_each() -> None:
    order = np.array([4, 0, 5, 2], np.intp)

    done = finish_in_order(FOUND, order, SCORES, FULL)

    assert [one.position for one in done] == order.tolist()
    for one in done:
        window, row = (LEFT, one.position) if one.position < 3 else (RIGHT, one.position - 3)
        side = (20, 40, 60)[row]
        segment = one.segment
        assert segment.box == BoxXYXY(window.box.x1, 0, window.box.x1 + side, side)
        assert segment.area_px == side**2 == decode_mask(segment.mask).sum()
        assert segment.mask.size_hw == SIZE_HW
        assert segment.predicted_iou == pytest.approx((one.position + 1) / 10)
        assert segment.score == SCORES[one.position]
        # the fake's token is its estimate
        np.testing.assert_array_equal(one.tokens, [np.float16((one.position + 1) / 10)])


def test_masks_that_are_too_small_are_left_out_and_the_others_keep_their_positions() -> None:
    full = FullSize(SIZE_HW, min_region_px=0, min_area_px=401)

    done = finish_in_order(FOUND, np.arange(6), SCORES, full)

    assert [one.position for one in done] == [1, 2, 4, 5]
    assert finish_in_order(FOUND, np.zeros(0, np.intp), SCORES, full) == []


def test_only_what_the_order_names_is_finished() -> None:
    done = finish_in_order(FOUND, np.array([3], np.intp), SCORES, FULL)

    assert [one.position for one in done] == [3]


def box_segment(mask: BoolMask) -> Segment:
    return Segment(
        box=mask_box(mask),
        mask=encode_mask(mask),
        area_px=int(mask.sum()),
        predicted_iou=0.9,
        stability=0.9,
        score=0.9,
    )


def random_segments(seed: int, count: int) -> list[Segment]:
    rng = np.random.default_rng(seed)
    segments = []
    for _ in range(count):
        mask = np.zeros((24, 32), dtype=bool)
        y, x = rng.integers(0, 6, 2)
        mask[y : y + rng.integers(8, 16), x : x + rng.integers(8, 16)] = True
        segments.append(box_segment(mask))
    return segments


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("nms_iou", [0.3, 0.6, 0.9])
def test_a_segment_stays_unless_an_earlier_one_that_stays_is_its_twin(seed: int, nms_iou: float) -> None:
    segments = random_segments(seed, 80)

    kept = without_twins(segments, nms_iou=nms_iou, limit=100)

    expected: list[Segment] = []
    for segment in segments:
        mine = decode_mask(segment.mask)
        others = [decode_mask(other.mask) for other in expected]
        if all((mine & other).sum() / (mine | other).sum() <= nms_iou for other in others):
            expected.append(segment)
    assert kept == expected
    assert 1 < len(kept) < 80
    masks = [one.mask for one in kept]
    overlaps = rle_iou(masks, masks) - np.eye(len(kept))
    assert overlaps.max() <= nms_iou


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_at_most_so_many_are_kept_and_they_are_the_first(limit: int) -> None:
    segments = random_segments(1, 30)
    everything = without_twins(segments, nms_iou=0.6, limit=30)

    assert len(everything) > 3
    assert without_twins(segments, nms_iou=0.6, limit=limit) == everything[:limit]


def test_of_exact_twins_the_first_stays() -> None:
    [one] = random_segments(0, 1)

    assert without_twins([one, one, one], nms_iou=0.99, limit=9) == [one]
    assert without_twins([], nms_iou=0.5, limit=9) == []
