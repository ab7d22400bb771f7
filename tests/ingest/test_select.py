"""Selection on packed masks agrees with Meta and with brute force."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.needs import package

from segdex.core.geometry import BoxXYXY
from segdex.ingest import select
from segdex.ingest.select import (
    agreement_counts,
    mask_nms,
    pack_masks,
    packed_areas,
    stability_scores,
    unpack_masks,
)

Masks = npt.NDArray[np.bool_]


def random_blobs(rng: np.random.Generator, count: int, *, side: int, step: int = 1) -> Masks:
    """Return (count, side, side) rectangles and discs, many of them nested, twins or empty.

    With ``step`` 2 all edges lie on even pixels.
    """
    y, x = np.mgrid[:side, :side] // step * step
    centres = rng.integers(0, side, size=(max(count // 4, 1), 2)) // step * step
    masks = np.zeros((count, side, side), dtype=bool)
    for i in range(count):
        cy, cx = centres[rng.integers(len(centres))]
        radius_y, radius_x = rng.integers(0, side // 2, size=2) // step * step
        if rng.random() < 0.5:
            masks[i] = (y >= cy - radius_y) & (y < cy + radius_y) & (x >= cx - radius_x) & (x < cx + radius_x)
        else:
            masks[i] = (y - cy) ** 2 + (x - cx) ** 2 < radius_y**2
    return masks


def brute_force_iou(a: Masks, b: Masks) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def brute_force_nms(masks: Masks, scores: npt.NDArray[np.float32], threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(masks)), key=lambda i: (-float(scores[i]), i)):
        if masks[i].any() and all(brute_force_iou(masks[i], masks[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


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


@pytest.mark.parametrize("count", [0, 1, 7])
def test_packing_keeps_every_bit(count: int) -> None:
    masks = np.random.default_rng(count).random((count, 256, 256)) > 0.7

    packed = pack_masks(masks)

    assert packed.shape == (count, 1024)
    assert packed.dtype == np.uint64
    unpacked = np.unpackbits(packed.view(np.uint8), axis=1).reshape(masks.shape).astype(bool)
    np.testing.assert_array_equal(unpacked, masks)
    np.testing.assert_array_equal(packed_areas(packed), masks.sum(axis=(1, 2)))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 30),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.65, 0.9, 1.0]),
    distinct_scores=st.booleans(),
)
def test_mask_nms_agrees_with_comparing_every_pair(
    seed: int, count: int, threshold: float, distinct_scores: bool
) -> None:
    rng = np.random.default_rng(seed)
    masks = random_blobs(rng, count, side=16)
    scores = rng.random(count).astype(np.float32)
    if not distinct_scores:
        scores = np.round(scores * 3)

    kept = mask_nms(pack_masks(masks), scores, iou_threshold=threshold)

    assert kept.tolist() == brute_force_nms(masks, scores, threshold)


@pytest.mark.parametrize("limit", [0, 1, 3, 10, 1000])
def test_a_limit_cuts_the_full_result(limit: int) -> None:
    rng = np.random.default_rng(3)
    packed = pack_masks(random_blobs(rng, 60, side=16))
    scores = rng.random(60).astype(np.float32)
    full = mask_nms(packed, scores, iou_threshold=0.5)

    cut = mask_nms(packed, scores, iou_threshold=0.5, limit=limit)

    assert len(full) > 10
    assert cut.tolist() == full[:limit].tolist()


def test_the_order_of_the_masks_does_not_matter_where_scores_differ() -> None:
    rng = np.random.default_rng(4)
    packed = pack_masks(random_blobs(rng, 60, side=16))
    scores = rng.permutation(60).astype(np.float32)
    order = rng.permutation(60)

    kept = mask_nms(packed, scores, iou_threshold=0.5)
    kept_of_permuted = mask_nms(packed[order], scores[order], iou_threshold=0.5)

    assert order[kept_of_permuted].tolist() == kept.tolist()


def test_no_masks_and_only_empty_masks_leave_nothing() -> None:
    for count in (0, 3):
        packed = pack_masks(np.zeros((count, 16, 16), dtype=bool))

        assert mask_nms(packed, np.ones(count, np.float32), iou_threshold=0.5).tolist() == []


@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_agreement_counts_every_mask_of_about_the_same_shape(threshold: float) -> None:
    masks = random_blobs(np.random.default_rng(5), 30, side=256, step=2)
    iou = np.array([[brute_force_iou(a, b) for b in masks] for a in masks])

    counts = agreement_counts(pack_masks(masks), iou_threshold=threshold)

    np.testing.assert_array_equal(counts, (iou > threshold).sum(axis=1))
    assert counts.max() > 1


def test_agreement_of_masks_on_odd_pixels_is_near_the_exact_one() -> None:
    masks = random_blobs(np.random.default_rng(6), 40, side=256)
    masks = masks[masks.sum(axis=(1, 2)) > 1000]
    iou = np.array([[brute_force_iou(a, b) for b in masks] for a in masks])

    counts = agreement_counts(pack_masks(masks), iou_threshold=0.7)

    assert (counts <= (iou > 0.6).sum(axis=1)).all()
    assert (counts >= (iou > 0.8).sum(axis=1)).all()


def test_agreement_does_not_depend_on_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack_masks(random_blobs(np.random.default_rng(7), 20, side=256, step=2))
    at_once = agreement_counts(packed, iou_threshold=0.8)
    monkeypatch.setattr(select, "_AGREEMENT_ROWS", 7)

    np.testing.assert_array_equal(agreement_counts(packed, iou_threshold=0.8), at_once)


def test_no_masks_have_no_agreement() -> None:
    assert len(agreement_counts(pack_masks(np.zeros((0, 256, 256), bool)), iou_threshold=0.5)) == 0


def test_parts_are_packed_where_they_lie_in_the_frame() -> None:
    rng = np.random.default_rng(8)
    part = BoxXYXY(32, 96, 128, 192)
    masks = np.zeros((5, 256, 256), dtype=bool)
    masks[:, 96:192, 32:128] = rng.random((5, 96, 96)) > 0.5

    packed = pack_masks(masks[:, 96:192, 32:128], part=part)

    np.testing.assert_array_equal(packed, pack_masks(masks))
    np.testing.assert_array_equal(unpack_masks(packed), masks)
