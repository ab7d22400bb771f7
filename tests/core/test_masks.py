"""The run-length code agrees with pycocotools, and overlaps with counting pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask
from tests.fakes.hostile_masks import coco_counts, wrapping_runs

from segdex_core.masks import (
    MAX_SIDE_PX,
    BoolMask,
    MaskRLE,
    cell_shares,
    decode_mask,
    encode_mask,
    mask_box,
    rle_area_px,
    rle_box,
    rle_containment,
    rle_iou,
)

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=12)
MASKS = arrays(np.bool_, SHAPES)


@st.composite
def mask_lists(draw: st.DrawFn) -> tuple[list[BoolMask], list[BoolMask]]:
    """Draw two lists of masks of one size."""
    masks = st.lists(arrays(np.bool_, draw(SHAPES)), min_size=1, max_size=4)
    return draw(masks), draw(masks)


@given(MASKS)
def test_a_mask_comes_back_from_its_code_with_its_area(mask: BoolMask) -> None:
    rle = encode_mask(mask)

    np.testing.assert_array_equal(decode_mask(rle), mask)
    assert rle.size_hw == mask.shape
    assert rle_area_px(rle) == mask.sum()
    assert rle_box(rle) == mask_box(mask)


@given(MASKS)
def test_the_code_is_that_of_pycocotools_and_of_coco_json(mask: BoolMask) -> None:
    expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    rle = encode_mask(mask)

    assert rle.counts.encode() == expected["counts"]
    assert rle.to_coco() == {"size": expected["size"], "counts": rle.counts}


@pytest.mark.parametrize(
    "mask", [np.zeros((3, 4), bool), np.ones((3, 4), bool), np.ones((1, 1), bool), np.eye(5, dtype=bool)]
)
def test_empty_full_and_single_pixel_masks_survive(mask: BoolMask) -> None:
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)
    assert decode_mask(encode_mask(mask)).flags.c_contiguous


def test_memory_order_and_strides_of_the_mask_do_not_matter() -> None:
    mask = np.random.default_rng(0).random((31, 17)) > 0.5

    for other in (np.asfortranarray(mask), np.repeat(mask, 2, axis=1)[:, ::2], mask[::-1][::-1]):
        assert encode_mask(other) == encode_mask(mask)


@given(mask_lists())
def test_iou_and_containment_are_those_of_counted_pixels(
    lists: tuple[list[BoolMask], list[BoolMask]],
) -> None:
    a, b = lists
    rles_a, rles_b = [encode_mask(mask) for mask in a], [encode_mask(mask) for mask in b]
    intersection = np.array([[(x & y).sum() for y in b] for x in a])
    union = np.array([[(x | y).sum() for y in b] for x in a])
    area = np.array([[x.sum()] for x in a])

    np.testing.assert_allclose(rle_iou(rles_a, rles_b), intersection / np.maximum(union, 1))
    np.testing.assert_allclose(rle_containment(rles_a, rles_b), intersection / np.maximum(area, 1))


def test_overlaps_of_no_masks_are_empty_of_the_right_shape() -> None:
    one = [encode_mask(np.ones((2, 2), bool))]

    assert rle_iou([], one).shape == (0, 1)
    assert rle_iou(one, []).shape == (1, 0)
    assert rle_containment([], []).shape == (0, 0)


@given(MASKS)
def test_the_box_is_the_smallest_that_holds_every_pixel(mask: BoolMask) -> None:
    box = mask_box(mask)
    inside = mask[box.y1 : box.y2, box.x1 : box.x2]

    assert inside.sum() == mask.sum()
    if mask.any():
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
    else:
        assert box.area_px == 0


def test_a_code_that_cannot_be_a_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="size_hw"):
        MaskRLE(size_hw=(0, 4), counts="")
    with pytest.raises(ValueError, match="size_hw"):
        MaskRLE(size_hw=(2**40, 2**40), counts="")
    with pytest.raises(ValueError, match="ASCII"):
        MaskRLE(size_hw=(2, 4), counts="é")


@pytest.mark.parametrize("counts", ["", "0", "1", "01O1", "8", ":", "zzzz", "oooo", "0900", "O900", "0~"])
def test_runs_that_do_not_add_up_to_the_size_are_refused(counts: str) -> None:
    with pytest.raises(ValueError, match="RLE"):
        decode_mask(MaskRLE(size_hw=(3, 3), counts=counts))


@given(MASKS)
def test_the_code_of_runs_is_that_of_pycocotools(mask: BoolMask) -> None:
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    runs = np.diff([0, *edges, flat.size]).tolist()

    assert coco_counts(runs) == encode_mask(mask).counts


@pytest.mark.parametrize("size_hw", [(64, 128), (6000, 6000), (MAX_SIDE_PX, MAX_SIDE_PX)])
def test_runs_whose_sum_wraps_are_refused_by_everything_that_reads_them(size_hw: tuple[int, int]) -> None:
    size_px = size_hw[0] * size_hw[1]
    runs = wrapping_runs(size_px)
    assert min(runs) >= 0
    assert sum(runs) == 2**64 + size_px
    hostile = MaskRLE(size_hw=size_hw, counts=coco_counts(runs))

    for read in (
        decode_mask,
        rle_area_px,
        rle_box,
        lambda rle: rle_iou([rle], [rle]),
        lambda rle: rle_containment([rle], [rle]),
    ):
        with pytest.raises(ValueError, match="the runs of an RLE must add up"):
            read(hostile)


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=12))
def test_a_code_decodes_only_where_pycocotools_counts_the_same_pixels(counts: str) -> None:
    rle = MaskRLE(size_hw=(2, 3), counts=counts)
    try:
        mask = decode_mask(rle)
    except ValueError:
        return

    assert mask.shape == (2, 3)
    assert rle_area_px(rle) == coco_mask.area(rle.to_coco()) == mask.sum()


@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
)
def test_the_share_of_each_cell_is_that_of_counting_its_pixels(
    height: int, width: int, cell_h: int, cell_w: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((height * cell_h, width * cell_w)) < 0.4
    counted = mask.reshape(height, cell_h, width, cell_w).mean(axis=(1, 3))

    shares = cell_shares(mask, (height, width))

    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares, counted, atol=1 / 255 + 1e-6)  # in 8 bits, along each axis


def test_cells_smaller_than_pixels_are_those_of_their_pixel() -> None:
    mask = np.array([[True, False], [False, True]])

    np.testing.assert_array_equal(cell_shares(mask, (6, 4)), np.kron(mask, np.ones((3, 2))))


def test_a_mask_far_smaller_than_a_cell_keeps_its_share() -> None:
    mask = np.zeros((400, 300), np.bool_)
    mask[110, 160] = True

    shares = cell_shares(mask, (4, 3))

    assert shares[1, 1] == pytest.approx(1e-4)
    assert shares.sum() == shares[1, 1]
