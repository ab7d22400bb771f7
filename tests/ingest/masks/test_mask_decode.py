"""Decoding points to candidates: thresholds, batches, and parts of a window."""

import numpy as np
import pytest
from tests.fakes.segmenter import FloodSegmenter, GivenMasks, PlainSegmenter
from tests.needs import package

from segdex_core.geometry import MaskBoxXYXY
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_core.ports.segmenter import DEFAULT_PROMPTS_PER_BATCH, ImageFeatures
from segdex_ingest.masks.decode import (
    Edges,
    Thresholds,
    decode_in_rounds,
    decode_near_points,
    decode_points,
    join_candidates,
    stability_scores,
)
from segdex_ingest.masks.grid import every_second, point_grid

NO_THRESHOLDS = Thresholds(predicted_iou=0, stability=0, stability_offset=1)


def test_the_estimate_must_be_above_its_threshold_and_the_stability_may_be_at_it() -> None:
    logits = np.full((3, 256, 256), -8, np.float32)
    logits[:, :100, :100] = 8
    logits[0, 0, :100] = 0.5  # 9,900 of 10,000 pixels are above 1
    segmenter = GivenMasks(logits, [0.8001, 0.8, 0.9])
    [features] = segmenter.encode([np.zeros((64, 64, 3), np.uint8)])
    points = point_grid((64, 64), points_per_side=1)

    def kept(stability_threshold: float) -> list[float]:
        thresholds = Thresholds(predicted_iou=0.8, stability=stability_threshold, stability_offset=1)
        found = join_candidates(list(decode_points(segmenter, features, points, thresholds=thresholds)))
        return [float(estimate) for estimate in found.predicted_iou]

    assert kept(0.99) == pytest.approx([0.8001, 0.9], abs=1e-5)
    assert kept(0.9901) == pytest.approx([0.9])


def test_points_are_decoded_in_batches_and_keep_their_order() -> None:
    logits = np.full((3, 256, 256), 8, np.float32)
    segmenter = GivenMasks(logits, [0.5, 0.6, 0.7], batch=10)
    [features] = segmenter.encode([np.zeros((64, 64, 3), np.uint8)])

    points = point_grid((64, 64), points_per_side=5)
    found = join_candidates(list(decode_points(segmenter, features, points, thresholds=NO_THRESHOLDS)))

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


@pytest.mark.slow
def test_masks_decoded_near_a_point_are_those_of_the_whole_window_that_lie_in_its_part() -> None:
    segmenter = FloodSegmenter()
    [features] = segmenter.encode([squares()])
    points = point_grid((512, 512), points_per_side=32)

    near = join_candidates(
        list(decode_near_points(segmenter, features, points, thresholds=NO_THRESHOLDS, part_px=96))
    )
    whole = join_candidates(list(decode_points(segmenter, features, points, thresholds=NO_THRESHOLDS)))

    of_whole, of_near = (
        {(found.frame_logits(position) > 0).tobytes() for position in range(len(found))}
        for found in (whole, near)
    )
    assert of_near < of_whole
    assert len(of_near) > 20
    for position, area_px in enumerate(near.areas_px):
        assert area_px == np.count_nonzero(near.frame_logits(position) > 0)
        assert near.parts[position].size_wh == (96, 96)


def test_a_mask_that_reaches_the_inner_edge_of_its_part_is_dropped_and_one_at_the_frames_edge_stays() -> None:
    logits = np.full((3, 96, 96), -8, np.float32)
    logits[0, :10, 40:50] = 8  # the upper edge of the part
    logits[1, 40:50, :10] = 8  # its left edge
    logits[2, 40:50, 40:50] = 8
    segmenter = GivenMasks(logits, [0.5, 0.6, 0.7])
    [features] = segmenter.encode([np.zeros((64, 64, 3), np.uint8)])
    points = point_grid((64, 64), points_per_side=1)

    def kept(cuts: Edges) -> list[int]:
        part = MaskBoxXYXY(32, 32, 128, 128)
        found = decode_points(segmenter, features, points, thresholds=NO_THRESHOLDS, part=part, cuts=cuts)
        return [int(level) for level in join_candidates(list(found)).level]

    assert kept(Edges()) == [0, 1, 2]
    assert kept(Edges(top=True)) == [1, 2]
    assert kept(Edges(left=True, bottom=True)) == [0, 2]
    assert kept(Edges(left=True, top=True)) == [2]


def test_near_parts_are_cut_inside_the_window_and_where_the_window_cuts_the_picture() -> None:
    """A bar of the height of the window, at its left edge; its part ends above and below it."""
    image = np.full((512, 512, 3), 230, np.uint8)
    image[200:240, :40] = (200, 30, 30)
    segmenter = FloodSegmenter()
    [features] = segmenter.encode([image])
    point = np.array([[20, 220]], np.float32)

    def found(cuts: Edges, part_px: int) -> int:
        parts = decode_near_points(
            segmenter, features, point, thresholds=NO_THRESHOLDS, part_px=part_px, cuts=cuts
        )
        return len(join_candidates(list(parts)))

    assert found(Edges(), 96) == 3
    assert found(Edges(left=True), 96) == 0
    assert found(Edges(right=True, bottom=True), 96) == 3


@pytest.mark.models
@pytest.mark.parametrize("offset", [0.5, 1.0, 3.0])
def test_stability_is_metas_and_zero_where_meta_divides_by_zero(offset: float) -> None:
    package("sam2", "reference")
    import torch
    from sam2.utils.amg import calculate_stability_score

    rng = np.random.default_rng(0)
    logits = rng.normal(rng.normal(size=(40, 1, 1)) * 2, 2, size=(40, 32, 32)).astype(np.float32)
    logits[0], logits[1] = -9, 9
    expected = calculate_stability_score(torch.from_numpy(logits), 0.0, offset).numpy()

    scores = stability_scores(logits, offset=offset)

    np.testing.assert_array_equal(scores, np.nan_to_num(expected))
    assert scores.dtype == np.float32
    assert scores[0] == 0
    assert scores[1] == 1


class CountingFlood(FloodSegmenter):
    """Notes which points it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, float]] = []

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        self.asked += [(float(x), float(y)) for x, y in prompts.points_xy[:, 0]]
        return super().decode(features, prompts, multimask=multimask)


def test_a_second_round_asks_only_where_nothing_good_was_found() -> None:
    """Squares on grey: the flood fills the grey from any point, and the others there are not asked."""
    segmenter = CountingFlood()
    [features] = segmenter.encode([squares()])
    points = point_grid((512, 512), points_per_side=16)
    first = every_second(points)

    rounds = join_candidates(
        list(
            decode_in_rounds(
                segmenter,
                features,
                points,
                is_first=first,
                explained_above=0.9999,  # the box around the grey is estimated lower
                thresholds=NO_THRESHOLDS,
            )
        )
    )
    everything = join_candidates(list(decode_points(segmenter, features, points, thresholds=NO_THRESHOLDS)))

    asked = segmenter.asked[: -len(points)]
    assert asked[: first.sum()] == [tuple(point) for point in points[first].tolist()]
    assert first.sum() < len(asked) < len(points)
    found, possible = (
        {(each.frame_logits(i) > 0).tobytes() for i in range(len(each))} for each in (rounds, everything)
    )
    assert found == possible


def test_a_segmenter_that_cannot_narrow_decodes_near_points_over_the_whole_window() -> None:
    segmenter = PlainSegmenter()
    [features] = segmenter.encode([squares()])
    points = point_grid((512, 512), points_per_side=8)

    near = join_candidates(
        list(decode_near_points(segmenter, features, points, thresholds=NO_THRESHOLDS, part_px=96))
    )
    whole = join_candidates(list(decode_points(FloodSegmenter(), features, points, thresholds=NO_THRESHOLDS)))

    assert set(near.parts) == {MaskBoxXYXY.whole(features.mask_px)}
    np.testing.assert_array_equal(np.stack(near.logits), np.stack(whole.logits))


def test_a_segmenter_that_does_not_tune_its_batches_gets_the_default() -> None:
    segmenter = PlainSegmenter()
    [features] = segmenter.encode([squares()])
    points = point_grid((512, 512), points_per_side=6)

    list(decode_points(segmenter, features, points, thresholds=NO_THRESHOLDS))

    assert segmenter.batches == [DEFAULT_PROMPTS_PER_BATCH] * 2 + [36 - 2 * DEFAULT_PROMPTS_PER_BATCH]
