"""Decoding points to candidates: floors, batches, and parts of a window."""

import numpy as np
import pytest
from tests.fakes.segmenter import FloodSegmenter, GivenMasks

from segdex.core.geometry import BoxXYXY
from segdex.ingest.candidates import (
    Floors,
    decode_near_points,
    decode_points,
    join_candidates,
)
from segdex.ingest.prompts import point_grid
from segdex.ingest.select import unpack_masks

NO_FLOORS = Floors(predicted_iou=0, stability=0, stability_offset=1)


def test_the_estimate_must_be_above_its_floor_and_the_stability_may_be_at_it() -> None:
    logits = np.full((3, 256, 256), -8, np.float32)
    logits[:, :100, :100] = 8
    logits[0, 0, :100] = 0.5  # 9,900 of 10,000 pixels are above 1
    segmenter = GivenMasks(logits, [0.8001, 0.8, 0.9])
    [features] = segmenter.encode([np.zeros((64, 64, 3), np.uint8)])
    points = point_grid((64, 64), points_per_side=1)

    def kept(stability_floor: float) -> list[float]:
        floors = Floors(predicted_iou=0.8, stability=stability_floor, stability_offset=1)
        found = join_candidates(list(decode_points(segmenter, features, points, floors=floors)))
        return [float(estimate) for estimate in found.predicted_iou]

    assert kept(0.99) == pytest.approx([0.8001, 0.9], abs=1e-5)
    assert kept(0.9901) == pytest.approx([0.9])


def test_points_are_decoded_in_batches_and_keep_their_order() -> None:
    logits = np.full((3, 256, 256), 8, np.float32)
    segmenter = GivenMasks(logits, [0.5, 0.6, 0.7], batch=10)
    [features] = segmenter.encode([np.zeros((64, 64, 3), np.uint8)])

    points = point_grid((64, 64), points_per_side=5)
    found = join_candidates(list(decode_points(segmenter, features, points, floors=NO_FLOORS)))

    assert segmenter.batches == [10, 10, 5]
    np.testing.assert_allclose(found.predicted_iou, [0.5, 0.6, 0.7] * 25)


def squares() -> np.ndarray:
    """Return a picture of 512x512 with small squares, and one that is larger than a part."""
    image = np.full((512, 512, 3), 230, np.uint8)
    for y in range(16, 512, 96):
        for x in range(16, 512, 96):
            image[y : y + 24, x : x + 24] = (200, 30, 30)
    image[200:420, 200:420] = (30, 60, 200)
    return image


def test_masks_decoded_near_a_point_are_those_of_the_whole_window_that_lie_in_its_part() -> None:
    segmenter = FloodSegmenter()
    [features] = segmenter.encode([squares()])
    points = point_grid((512, 512), points_per_side=32)

    near = join_candidates(
        list(decode_near_points(segmenter, features, points, floors=NO_FLOORS, part_px=96))
    )
    whole = join_candidates(list(decode_points(segmenter, features, points, floors=NO_FLOORS)))

    of_whole = {mask.tobytes() for mask in whole.packed}
    of_near = {mask.tobytes() for mask in near.packed}
    assert of_near < of_whole
    assert len(of_near) > 20
    for position, mask in enumerate(unpack_masks(near.packed)):
        np.testing.assert_array_equal(near.frame_logits(position) > 0, mask)
        assert near.parts[position].size_wh == (96, 96)


def test_a_mask_that_reaches_the_inner_edge_of_its_part_is_dropped_and_one_at_the_frames_edge_stays() -> None:
    logits = np.full((3, 96, 96), -8, np.float32)
    logits[0, :10, 40:50] = 8  # the upper edge of the part
    logits[1, 40:50, :10] = 8  # its left edge
    logits[2, 40:50, 40:50] = 8
    segmenter = GivenMasks(logits, [0.5, 0.6, 0.7])
    [features] = segmenter.encode([np.zeros((64, 64, 3), np.uint8)])
    points = point_grid((64, 64), points_per_side=1)

    def kept(part: BoxXYXY) -> list[int]:
        found = decode_points(segmenter, features, points, floors=NO_FLOORS, part=part)
        return [int(level) for level in join_candidates(list(found)).level]

    assert kept(BoxXYXY(0, 0, 96, 96)) == [0, 1, 2]
    assert kept(BoxXYXY(0, 32, 96, 128)) == [1, 2]
    assert kept(BoxXYXY(32, 0, 128, 96)) == [0, 2]
    assert kept(BoxXYXY(64, 64, 160, 160)) == [2]


def test_candidates_are_cut_in_all_their_parts_alike() -> None:
    segmenter = FloodSegmenter()
    [features] = segmenter.encode([squares()])
    points = point_grid((512, 512), points_per_side=8)
    candidates = join_candidates(list(decode_points(segmenter, features, points, floors=NO_FLOORS)))

    some = candidates[np.array([3, 1])]

    assert len(some) == 2
    for position, row in enumerate((3, 1)):
        np.testing.assert_array_equal(some.frame_logits(position), candidates.frame_logits(row))
        assert some.predicted_iou[position] == candidates.predicted_iou[row]
        assert some.stability[position] == candidates.stability[row]
        assert some.level[position] == candidates.level[row]
        np.testing.assert_array_equal(some.packed[position], candidates.packed[row])
        np.testing.assert_array_equal(some.tokens[position], candidates.tokens[row])
