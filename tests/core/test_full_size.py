"""Upsampling agrees with torch, and the removal of small regions with a flood fill."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from tests.needs import package

from segdex_core.full_size import clean_small_regions, full_size_stability, upsample_mask
from segdex_core.masks import BoolMask, mask_box

SMALL_MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=10))


def smooth_logits(seed: int, *, sigma: float, offset: float = 0.0) -> npt.NDArray[np.float32]:
    """Return (256, 256) logits with blobs of about ``sigma`` cells."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(256, 256)), sigma)
    logits: npt.NDArray[np.float32] = (noise / noise.std() * 4 + offset).astype(np.float32)
    return logits


def torch_upsampled(logits: npt.NDArray[np.floating], size_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    import torch

    values = torch.from_numpy(logits.astype(np.float32))[None, None]
    upsampled = torch.nn.functional.interpolate(values, size_hw, mode="bilinear", align_corners=False)
    return np.asarray(upsampled[0, 0].numpy(), np.float32)


def in_full_frame(logits: npt.NDArray[np.floating], size_hw: tuple[int, int]) -> BoolMask:
    mask, box = upsample_mask(logits, size_hw)
    full = np.zeros(size_hw, dtype=bool)
    full[box.y1 : box.y2, box.x1 : box.x2] = mask
    return full


@pytest.mark.models
@pytest.mark.parametrize(
    "size_hw",
    [(256, 256), (300, 451), (1000, 700), (100, 640), (64, 31), (1, 500), (500, 1), (1, 1), (2, 3)],
)
@pytest.mark.parametrize(("sigma", "offset"), [(2, 0), (6, 0), (6, -12), (30, -4), (30, 8)])
def test_the_full_size_mask_is_torchs(size_hw: tuple[int, int], sigma: float, offset: float) -> None:
    logits = smooth_logits(size_hw[0], sigma=sigma, offset=offset)
    expected = torch_upsampled(logits, size_hw)

    differs = in_full_frame(logits, size_hw) != (expected > 0)

    assert (np.abs(expected[differs]) < 1e-5).all()
    assert differs.mean() < 1e-3


@pytest.mark.models
@pytest.mark.parametrize("cell", [(0, 0), (0, 255), (255, 0), (255, 255), (100, 31)])
@pytest.mark.parametrize("size_hw", [(512, 768), (100, 200)])
def test_the_box_holds_all_that_one_cell_can_reach(cell: tuple[int, int], size_hw: tuple[int, int]) -> None:
    logits = np.full((256, 256), -0.01, np.float32)
    logits[cell] = 30

    expected = torch_upsampled(logits, size_hw) > 0

    np.testing.assert_array_equal(in_full_frame(logits, size_hw), expected)


def test_a_small_thing_is_upsampled_only_where_it_is() -> None:
    logits = np.full((256, 256), -5, np.float32)
    logits[100:110, 40:60] = 5

    mask, box = upsample_mask(logits, (2560, 2560))

    assert mask.shape == (box.y2 - box.y1, box.x2 - box.x1)
    assert box.area_px < 3 * 100 * 200
    assert mask_box(mask).area_px == 100 * 200


@pytest.mark.models
def test_half_precision_moves_only_pixels_on_the_boundary() -> None:
    logits = smooth_logits(1, sigma=10)
    expected = torch_upsampled(logits, (700, 900))

    differs = in_full_frame(logits.astype(np.float16), (700, 900)) != (expected > 0)

    assert (np.abs(expected[differs]) < 1e-3).all()


@pytest.mark.models
@pytest.mark.parametrize("size_hw", [(300, 451), (100, 90)])
@pytest.mark.parametrize(("sigma", "offset"), [(6, 0), (30, -4), (30, 8)])
def test_the_full_size_stability_is_metas(size_hw: tuple[int, int], sigma: float, offset: float) -> None:
    package("sam2", "reference")
    import torch
    from sam2.utils.amg import calculate_stability_score

    logits = smooth_logits(7, sigma=sigma, offset=offset)
    upsampled = torch.from_numpy(torch_upsampled(logits, size_hw))[None]
    expected = calculate_stability_score(upsampled, 0.0, 1.0).item()

    stability = full_size_stability(logits, size_hw, offset=1.0)

    assert stability == pytest.approx(expected, abs=1e-4)
    assert 0 < stability < 1


def test_an_empty_mask_has_no_stability() -> None:
    assert full_size_stability(np.full((256, 256), -5, np.float16), (30, 40), offset=1.0) == 0


def test_a_mask_without_a_pixel_stays_empty() -> None:
    mask, box = upsample_mask(np.full((256, 256), -1, np.float16), (300, 400))

    assert mask.size == 0
    assert box.area_px == 0


def regions_of(mask: BoolMask) -> list[set[tuple[int, int]]]:
    """Return the 8-connected regions of a mask, in reading order of their first pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    regions = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        region, border = {start}, [start]
        while border:
            y, x = border.pop()
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    region.add(near)
                    border.append(near)
        regions.append(region)
    return regions


def brute_force_clean(mask: BoolMask, min_region_px: int) -> BoolMask:
    """Holes first, then islands, as Meta does; a region of the background at the edge is no hole."""
    height, width = mask.shape
    cleaned = mask.copy()
    for hole in regions_of(~mask):
        at_edge = any(y in (0, height - 1) or x in (0, width - 1) for y, x in hole)
        if len(hole) < min_region_px and not at_edge:
            for pixel in hole:
                cleaned[pixel] = True
    islands = regions_of(cleaned)
    largest = max(islands, key=len, default=set())
    for island in islands:
        if len(island) < min_region_px and island is not largest:
            for pixel in island:
                cleaned[pixel] = False
    return cleaned


@given(SMALL_MASKS, st.integers(0, 60))
def test_cleaning_agrees_with_a_flood_fill(mask: BoolMask, min_region_px: int) -> None:
    before = mask.copy()

    cleaned = clean_small_regions(mask, min_region_px=min_region_px)

    np.testing.assert_array_equal(cleaned, brute_force_clean(mask, min_region_px))
    np.testing.assert_array_equal(mask, before)


@given(SMALL_MASKS, st.integers(0, 60))
def test_cleaning_twice_is_cleaning_once(mask: BoolMask, min_region_px: int) -> None:
    once = clean_small_regions(mask, min_region_px=min_region_px)

    np.testing.assert_array_equal(clean_small_regions(once, min_region_px=min_region_px), once)
    assert once.any() == mask.any()


def test_only_holes_and_islands_below_the_area_change() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:35, 5:35] = True
    mask[10:12, 10:14] = False  # a hole of 8
    mask[20:23, 20:23] = False  # a hole of 9
    mask[5:8, 40:43] = True  # an island of 9
    mask[20:22, 40:44] = True  # an island of 8
    mask[5, 5] = False  # a dent
    expected = mask.copy()
    expected[10:12, 10:14] = True
    expected[20:22, 40:44] = False

    np.testing.assert_array_equal(clean_small_regions(mask, min_region_px=9), expected)


def test_the_largest_island_stays_however_small() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:4, 2:4] = True
    mask[10, 10:13] = True

    cleaned = clean_small_regions(mask, min_region_px=100)

    assert cleaned.sum() == 4
    assert cleaned[2, 2]
