"""How likely a finished mask is one whole object: its features agree with counting pixels."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdex_core.masks import BoolMask, encode_mask, mask_box, rle_containment
from segdex_core.networks import HiddenLayerNetwork
from segdex_core.records import Segment
from segdex_ingest.masks import objects
from segdex_ingest.masks.objects import (
    FinishedMasks,
    iou_of_containment,
    object_scores,
    second_scores,
    selection_scores,
    tree_features,
)
from segdex_ingest.masks.rank import RANKING_NUMBERS

SIZE_HW = (24, 32)
NOT_THERE = -5.0
TOKENS = 3


def drawn_masks(seed: int, count: int) -> list[BoolMask]:
    """Return boxes around few centres, many of them nested, some of them alike."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        cy, cx = rng.choice([8, 16]), rng.choice([8, 16, 24])
        half_h, half_w = rng.integers(1, 12, size=2)
        mask = np.zeros(SIZE_HW, dtype=bool)
        mask[max(cy - half_h, 0) : cy + half_h, max(cx - half_w, 0) : cx + half_w] = True
        masks.append(mask)
    return masks


def segment_of(mask: BoolMask, *, predicted_iou: float = 0.9, stability: float = 0.8) -> Segment:
    return Segment(
        box=mask_box(mask),
        mask=encode_mask(mask),
        area_px=int(mask.sum()),
        predicted_iou=predicted_iou,
        stability=stability,
        score=0.0,
    )


def finished(masks: list[BoolMask], seed: int = 0) -> FinishedMasks:
    rng = np.random.default_rng(seed)
    count = len(masks)
    return FinishedMasks(
        segments=[
            segment_of(mask, predicted_iou=float(rng.random()), stability=float(rng.random()))
            for mask in masks
        ],
        first_scores=rng.random(count).astype(np.float32),
        likelihood=rng.random(count).astype(np.float32),
        numbers=rng.normal(size=(count, RANKING_NUMBERS)).astype(np.float32),
        tokens=rng.normal(size=(count, TOKENS)).astype(np.float32),
    )


def counted(
    masks: list[BoolMask], log_odds: npt.NDArray[np.float32], min_containment: float
) -> list[list[float]]:
    """Return the features of the docstring, by going through all pairs of pixels' sets."""
    count = len(masks)
    areas = [int(mask.sum()) for mask in masks]
    shared = [[int((a & b).sum()) for b in masks] for a in masks]
    above = [
        [
            other
            for other in range(count)
            if (areas[other], -other) > (areas[i], -i)
            and shared[i][other] >= min_containment * areas[i] - 1e-9
        ]
        for i in range(count)
    ]
    parent = [min(outer, key=lambda o: (areas[o], -o), default=None) for outer in above]
    rows = []
    for i in range(count):
        children = [other for other in range(count) if parent[other] == i]
        descendants = [other for other in range(count) if i in above[other]]
        over = parent[i]
        siblings = 0 if over is None else sum(each == over for each in parent)
        ious = [
            shared[i][other] / (areas[i] + areas[other] - shared[i][other])
            for other in range(count)
            if other != i
        ]
        rows.append(
            [
                math.log(1 + len(children)),
                math.log(1 + len(descendants)),
                min(sum(areas[other] for other in children) / areas[i], 2),
                max((areas[other] / areas[i] for other in children), default=0),
                max([NOT_THERE, *(float(log_odds[other]) for other in children)]),
                max([NOT_THERE, *(float(log_odds[other]) for other in descendants)]),
                1 if over is None else areas[i] / areas[over],
                NOT_THERE if over is None else float(log_odds[over]),
                max([NOT_THERE, *(float(log_odds[other]) for other in above[i])]),
                len(above[i]),
                math.log(1 + siblings),
                max(ious, default=0),
            ]
        )
    return rows


@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.sampled_from([0.6, 0.9, 1.0]))
def test_the_features_of_the_tree_are_those_of_counting_pixels(
    seed: int, count: int, min_containment: float
) -> None:
    masks = drawn_masks(seed, count)
    log_odds = np.random.default_rng(seed).normal(size=count).astype(np.float32)

    rows = tree_features([segment_of(mask) for mask in masks], log_odds, min_containment=min_containment)

    assert rows.shape == (count, 12)
    np.testing.assert_allclose(rows, counted(masks, log_odds, min_containment), rtol=1e-5, atol=1e-6)


def test_a_thing_with_two_parts_worked_out_by_hand() -> None:
    whole, left, right = (np.zeros(SIZE_HW, dtype=bool) for _ in range(3))
    whole[0:10, 0:20], left[2:8, 1:6], right[2:8, 12:17] = True, True, True
    log_odds = np.array([2.0, 1.0, -1.0], np.float32)

    thing, part, _ = tree_features(
        [segment_of(mask) for mask in (whole, left, right)], log_odds, min_containment=0.9
    )

    np.testing.assert_allclose(
        thing,
        [math.log(3), math.log(3), 60 / 200, 30 / 200, 1, 1, 1, -5, -5, 0, 0, 30 / 200],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        part, [0, 0, 0, 0, -5, -5, 30 / 200, 2, 2, 1, math.log(3), 30 / 200], rtol=1e-6
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_iou_by_containment_is_that_of_counting_pixels(seed: int, count: int) -> None:
    masks = drawn_masks(seed, count)
    codes = [encode_mask(mask) for mask in masks]
    areas = np.array([mask.sum() for mask in masks], np.float64)

    iou = iou_of_containment(rle_containment(codes, codes), areas)

    np.testing.assert_allclose(iou, [[(a & b).sum() / (a | b).sum() for b in masks] for a in masks])


def test_without_a_ranker_the_score_is_the_estimate_times_the_stability_in_0_to_1() -> None:
    masks = finished(drawn_masks(3, 8))
    too_sure = replace(masks.segments[0], predicted_iou=1.3, stability=1.0)
    masks = replace(masks, segments=[too_sure, *masks.segments[1:]])

    scores = second_scores(masks, decoder_id="flood", min_containment=0.9)

    expected = [one.predicted_iou * one.stability for one in masks.segments]
    assert scores.dtype == np.float32
    assert scores[0] == 1
    np.testing.assert_allclose(scores[1:], expected[1:], rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_with_a_ranker_the_scores_are_its_likelihood_and_lie_in_0_to_1(
    seed: int,
) -> None:
    masks = finished(drawn_masks(seed, 12), seed)

    def any_ranker(decoder_id: str | None) -> HiddenLayerNetwork:
        width = objects.object_features(masks, min_containment=0.9).shape[1]
        rng = np.random.default_rng(seed)
        return HiddenLayerNetwork(
            centre=np.zeros(width, np.float32),
            scale=np.ones(width, np.float32),
            hidden_weight=rng.normal(size=(width, 4)).astype(np.float32),
            hidden_bias=np.zeros(4, np.float32),
            weight=rng.normal(size=4).astype(np.float32),
            bias=np.zeros(1, np.float32),
        )

    scores = second_scores(masks, decoder_id="any", min_containment=0.9, find=any_ranker)

    assert scores.shape == (12,)
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert scores.std() > 0.01
    expected = any_ranker("any").probabilities(objects.object_features(masks, min_containment=0.9))
    np.testing.assert_array_equal(scores, expected)


def test_the_features_are_finite_and_end_with_what_the_first_ranking_knew() -> None:
    masks = finished([*drawn_masks(5, 6), np.ones(SIZE_HW, dtype=bool)])
    extreme = replace(masks, likelihood=np.array([0, 1, 0.5, 0, 1, 0.2, 0.3], np.float32))

    features = objects.object_features(extreme, min_containment=0.9)

    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features[:, -TOKENS:], masks.tokens)
    np.testing.assert_array_equal(features[:, -TOKENS - RANKING_NUMBERS : -TOKENS], masks.numbers)


def test_the_scores_follow_their_masks_in_another_order() -> None:
    masks = finished(drawn_masks(7, 9))
    order = np.random.default_rng(0).permutation(9)
    permuted = FinishedMasks(
        segments=[masks.segments[i] for i in order],
        first_scores=masks.first_scores[order],
        likelihood=masks.likelihood[order],
        numbers=masks.numbers[order],
        tokens=masks.tokens[order],
    )

    scores = second_scores(masks, decoder_id="flood", min_containment=0.9)

    np.testing.assert_array_equal(
        second_scores(permuted, decoder_id="flood", min_containment=0.9), scores[order]
    )


def test_no_masks_have_no_scores() -> None:
    assert second_scores(finished([]), decoder_id="flood", min_containment=0.9).shape == (0,)


LIKELIHOODS = st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(-1, 3, width=32)), max_size=20)
"""Of the second ranking, and scores of the first, which may be above 1."""


@given(LIKELIHOODS)
def test_object_scores_lie_in_0_to_1_and_never_fall_when_a_ranking_rises(
    pairs: list[tuple[float, float]],
) -> None:
    second, first = (np.array([pair[i] for pair in pairs], np.float32) for i in (0, 1))

    scores = object_scores(second, first)

    assert scores.dtype == np.float32
    assert scores.shape == (len(pairs),)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (object_scores(np.minimum(second + np.float32(0.1), 1), first) >= scores).all()
    assert (object_scores(second, first + np.float32(0.1)) >= scores).all()


def test_both_rankings_count_for_the_object_score_and_for_the_choice() -> None:
    low, high = np.array([0.2], np.float32), np.array([0.4], np.float32)

    for scores in (object_scores, selection_scores):
        assert scores(high, low)[0] > scores(low, low)[0]
        assert scores(low, high)[0] > scores(low, low)[0]
    assert object_scores(np.ones(1, np.float32), np.ones(1, np.float32)).tolist() == [1]
    assert object_scores(np.zeros(1, np.float32), np.zeros(1, np.float32)).tolist() == [0]
