"""Masks of several windows on one canvas, compared with brute force."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdex_core.geometry import BoxXYXY, MaskBoxXYXY
from segdex_ingest.masks.compare import CanvasMasks, alike_pairs, lay_out, suppress_alike
from segdex_ingest.masks.decode import Candidates
from segdex_ingest.masks.grid import CropWindow

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


def candidates_of(masks: Masks) -> Candidates:
    count, side, _ = masks.shape
    return Candidates(
        mask_px=side,
        logits=list(np.where(masks, 4, -4).astype(np.float16)),
        parts=[MaskBoxXYXY.whole(side)] * count,
        predicted_iou=np.ones(count, np.float32),
        stability=np.ones(count, np.float32),
        areas_px=np.count_nonzero(masks, axis=(1, 2)),
        level=np.zeros(count, np.int64),
        tokens=np.zeros((count, 1), np.float16),
    )


def some_masks(seed: int, count: int, *, side: int) -> Masks:
    masks = random_blobs(np.random.default_rng(seed), count, side=side)
    return masks[masks.any(axis=(1, 2))]


def on_canvas(masks: Masks) -> CanvasMasks:
    """Return masks of a picture of their own size: each pixel is one of the canvas."""
    side = masks.shape[-1]
    return lay_out([(CropWindow(BoxXYXY(0, 0, side, side), 0), candidates_of(masks))], (side, side))


def whole(canvas: CanvasMasks, position: int) -> npt.NDArray[np.bool_]:
    x1, y1, x2, y2 = canvas.boxes_xyxy[position]
    mask = np.zeros(canvas.size_hw, bool)
    mask[y1:y2, x1:x2] = canvas.masks[position]
    return mask


def test_a_mask_of_the_whole_picture_keeps_its_pixels() -> None:
    masks = some_masks(0, 30, side=64)

    canvas = on_canvas(masks)

    for position, mask in enumerate(masks):
        np.testing.assert_array_equal(whole(canvas, position), mask)
        assert canvas.areas_px[position] == mask.sum()
    np.testing.assert_allclose(canvas.blocks.sum(axis=1) * 16, canvas.areas_px, rtol=1e-5)


@pytest.mark.parametrize("size_hw", [(480, 640), (1200, 900), (90, 700)])
def test_the_same_place_seen_in_two_windows_is_the_same_place_on_the_canvas(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    place = BoxXYXY(width // 3, height // 3, width // 2, height // 2)
    windows = [
        CropWindow(BoxXYXY(0, 0, width, height), 0),
        CropWindow(BoxXYXY(width // 5, height // 5, width * 3 // 4, height * 3 // 4), 1),
    ]
    found = []
    for window, side in zip(windows, (256, 168), strict=True):
        box = window.box
        y, x = (
            start + (np.arange(side) + 0.5) * length / side
            for start, length in ((box.y1, box.size_wh[1]), (box.x1, box.size_wh[0]))
        )
        rows, columns = (y >= place.y1) & (y < place.y2), (x >= place.x1) & (x < place.x2)
        found.append((window, candidates_of((rows[:, None] & columns)[None])))

    canvas = lay_out(found, size_hw)

    assert max(canvas.size_hw) <= 512
    pairs = alike_pairs(canvas)
    assert pairs.others.tolist() == [1, 0]
    assert pairs.iou.min() > 0.9


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), side=st.sampled_from([16, 32]))
def test_pairs_are_those_of_comparing_all(seed: int, count: int, side: int) -> None:
    masks = some_masks(seed, count, side=side)

    pairs = alike_pairs(on_canvas(masks))

    expected = {
        (i, j): brute_force_iou(a, b)
        for i, a in enumerate(masks)
        for j, b in enumerate(masks)
        if i != j and brute_force_iou(a, b) > 0.5
    }
    firsts = np.repeat(np.arange(len(masks)), np.diff(pairs.starts)).tolist()
    found = dict(zip(zip(firsts, pairs.others.tolist(), strict=True), pairs.iou.tolist(), strict=True))
    assert found.keys() == expected.keys()
    for pair, iou in expected.items():
        assert found[pair] == pytest.approx(iou, abs=1e-5)


def test_large_masks_are_compared_by_blocks_and_come_out_about_right() -> None:
    masks = some_masks(5, 60, side=256)

    pairs = alike_pairs(on_canvas(masks))

    firsts = np.repeat(np.arange(len(masks)), np.diff(pairs.starts))
    assert len(firsts) > 10
    for i, j, iou in zip(firsts, pairs.others, pairs.iou, strict=True):
        assert iou == pytest.approx(brute_force_iou(masks[i], masks[j]), abs=0.05)


@pytest.mark.parametrize("rows", [1, 7])
def test_the_rows_at_a_time_change_nothing(rows: int) -> None:
    canvas = on_canvas(some_masks(6, 40, side=64))
    at_once = alike_pairs(canvas)
    in_parts = alike_pairs(canvas, rows_at_once=rows)

    np.testing.assert_array_equal(in_parts.starts, at_once.starts)
    for name in ("others", "iou"):
        for i in range(len(canvas)):
            part = slice(at_once.starts[i], at_once.starts[i + 1])
            a, b = (np.sort(getattr(pairs, name)[part]) for pairs in (at_once, in_parts))
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("iou", [0.5, 0.7, 0.9])
def test_alike_masks_are_counted(iou: float) -> None:
    masks = some_masks(7, 40, side=32)

    counts = alike_pairs(on_canvas(masks)).count_above(iou)

    expected = [sum(brute_force_iou(a, b) > iou for b in masks) for a in masks]
    assert counts.tolist() == expected
    assert max(expected) > 1


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    iou=st.sampled_from([0.5, 0.62, 0.9]),
    distinct_scores=st.booleans(),
    limit=st.sampled_from([0, 1, 3, 1000]),
)
def test_suppression_agrees_with_comparing_every_pair(
    seed: int, iou: float, distinct_scores: bool, limit: int
) -> None:
    masks = some_masks(seed, 30, side=32)
    scores = np.random.default_rng(seed).random(len(masks)).astype(np.float32)
    if not distinct_scores:
        scores = np.round(scores * 3)

    kept = suppress_alike(alike_pairs(on_canvas(masks)), scores, iou=iou, limit=limit)

    assert kept.tolist() == brute_force_nms(masks, scores, iou)[:limit]


def test_no_masks_have_no_pairs() -> None:
    pairs = alike_pairs(lay_out([], (30, 40)))

    assert pairs.starts.tolist() == [0]
    assert suppress_alike(pairs, np.zeros(0, np.float32), iou=0.5, limit=3).tolist() == []
