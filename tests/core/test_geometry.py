"""Box arithmetic agrees with counting pixels and with torchvision."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdex_core.geometry import BoxesXYXY, BoxXYXY, MaskBoxXYXY, box_iou, box_nms

SIDE = 12


@st.composite
def boxes(draw: st.DrawFn) -> BoxXYXY:
    """Draw a box that is not empty, inside SIDE x SIDE."""
    x1, y1 = draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))
    return BoxXYXY(x1, y1, draw(st.integers(x1 + 1, SIDE)), draw(st.integers(y1 + 1, SIDE)))


def as_array(items: list[BoxXYXY]) -> BoxesXYXY:
    return np.array(items, np.float32).reshape(-1, 4)


def painted(box: BoxXYXY) -> npt.NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[box.y1 : box.y2, box.x1 : box.x2] = True
    return mask


def random_boxes(count: int, *, seed: int) -> BoxesXYXY:
    rng = np.random.default_rng(seed)
    top_left = rng.uniform(0, 80, (count, 2))
    return np.concatenate([top_left, top_left + rng.uniform(1, 40, (count, 2))], axis=1).astype(np.float32)


@given(st.lists(boxes(), min_size=1, max_size=4), st.lists(boxes(), min_size=1, max_size=4))
def test_box_iou_is_that_of_counted_pixels(a: list[BoxXYXY], b: list[BoxXYXY]) -> None:
    expected = [[(painted(x) & painted(y)).sum() / (painted(x) | painted(y)).sum() for y in b] for x in a]

    np.testing.assert_allclose(box_iou(as_array(a), as_array(b)), expected, rtol=1e-6)


def test_box_iou_of_empty_boxes_is_zero_and_of_no_boxes_is_empty() -> None:
    empty = np.array([[3, 3, 3, 3], [5, 5, 2, 2]], np.float32)

    assert (box_iou(empty, empty) == 0).all()
    assert box_iou(empty[:0], empty).shape == (0, 2)


def nms_by_definition(
    boxes_xyxy: BoxesXYXY, scores: npt.NDArray[np.float32], *, threshold: float
) -> list[int]:
    iou = box_iou(boxes_xyxy, boxes_xyxy)
    kept: list[int] = []
    for candidate in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(iou[candidate, other] <= threshold for other in kept):
            kept.append(candidate)
    return kept


@given(
    st.lists(st.tuples(boxes(), st.integers(0, 3)), max_size=12), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0])
)
def test_nms_keeps_what_its_definition_keeps_ties_included(
    items: list[tuple[BoxXYXY, int]], threshold: float
) -> None:
    boxes_xyxy = as_array([box for box, _ in items])
    scores = np.array([score for _, score in items], np.float32)

    kept = box_nms(boxes_xyxy, scores, iou_threshold=threshold)
    assert kept.tolist() == nms_by_definition(boxes_xyxy, scores, threshold=threshold)


@pytest.mark.models
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_nms_and_iou_agree_with_torchvision(threshold: float) -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    boxes_xyxy = random_boxes(200, seed=1)
    scores = np.random.default_rng(2).random(200).astype(np.float32)
    tensor = torch.from_numpy(boxes_xyxy)

    kept = box_nms(boxes_xyxy, scores, iou_threshold=threshold)
    assert kept.tolist() == ops.nms(tensor, torch.from_numpy(scores), threshold).tolist()
    np.testing.assert_allclose(
        box_iou(boxes_xyxy, boxes_xyxy), ops.box_iou(tensor, tensor).numpy(), atol=1e-6
    )


@given(boxes(), st.floats(0.01, 20), st.integers(1, 40))
def test_a_scaled_box_is_inside_the_picture_and_not_empty(
    box: BoxXYXY, factor: float, min_side_px: int
) -> None:
    scaled = box.scale_about_centre(factor, (SIDE, SIDE), min_side_px=min_side_px)

    assert 0 <= scaled.x1 < scaled.x2 <= SIDE
    assert 0 <= scaled.y1 < scaled.y2 <= SIDE
    assert min(scaled.size_wh) >= min(min_side_px, SIDE) / 2  # half, where the box lies at an edge


@given(boxes(), st.floats(1, 20))
def test_growing_a_box_keeps_all_of_it(box: BoxXYXY, factor: float) -> None:
    grown = box.scale_about_centre(factor, (SIDE, SIDE))

    assert (painted(grown) & painted(box)).sum() == box.area_px


@given(boxes())
def test_scaling_by_one_changes_nothing(box: BoxXYXY) -> None:
    assert box.scale_about_centre(1, (SIDE, SIDE)) == box


@given(st.tuples(*[st.integers(-20, 30)] * 4))
def test_clipping_keeps_exactly_the_pixels_inside(corners: tuple[int, int, int, int]) -> None:
    box = BoxXYXY(*corners)
    clipped = box.clip((SIDE, SIDE))
    inside = [
        (x, y)
        for x in range(box.x1, box.x2)
        for y in range(box.y1, box.y2)
        if 0 <= x < SIDE and 0 <= y < SIDE
    ]

    assert clipped.area_px == len(inside)


@given(boxes(), st.integers(1, 3 * SIDE), st.integers(1, 3 * SIDE))
def test_a_box_in_a_mask_lies_inside_and_is_never_empty(box: BoxXYXY, height: int, width: int) -> None:
    inside = box.to_mask_px((SIDE, SIDE), (height, width))

    assert 0 <= inside.x1 < inside.x2 <= width
    assert 0 <= inside.y1 < inside.y2 <= height


@given(boxes(), st.integers(1, 8), st.integers(1, 8))
def test_a_box_comes_back_from_a_mask_of_whole_multiples(box: BoxXYXY, down: int, across: int) -> None:
    whole, mask_hw = BoxXYXY(0, 0, SIDE, SIDE), (SIDE * down, SIDE * across)

    assert box.to_mask_px((SIDE, SIDE), mask_hw).to_picture_px(whole, mask_hw) == pytest.approx(box)


@given(boxes(), st.integers(SIDE, 40), st.integers(SIDE, 40), st.integers(1, 99), st.integers(0, 99))
def test_a_box_of_a_mask_keeps_its_share_of_the_window(
    box: BoxXYXY, mask_h: int, mask_w: int, side: int, left: int
) -> None:
    window = BoxXYXY(left, 2 * left, left + side, 2 * left + 2 * side)

    x1, y1, x2, y2 = MaskBoxXYXY(*box).to_picture_px(window, (mask_h, mask_w))

    assert window.x1 <= x1 < x2 <= window.x2 + 1e-9
    assert window.y1 <= y1 < y2 <= window.y2 + 1e-9
    share = (x2 - x1) * (y2 - y1) / window.area_px
    assert share == pytest.approx(box.area_px / (mask_h * mask_w))


@given(boxes(), st.integers(-5, 5), st.integers(-5, 5))
def test_what_is_made_of_a_box_keeps_its_kind(box: BoxXYXY, x: int, y: int) -> None:
    of_mask = MaskBoxXYXY(*box)

    assert type(box.shift(x, y).clip((SIDE, SIDE))) is BoxXYXY
    assert type(of_mask.shift(x, y).clip((SIDE, SIDE))) is MaskBoxXYXY
    assert not isinstance(of_mask, BoxXYXY)
