"""The point grid and the crop windows are Meta's."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.needs import package

from segdex.core.geometry import BoxXYXY
from segdex.ingest.prompts import CropWindow, crop_windows, point_grid, tile_windows

META_OVERLAP = 512 / 1500
SIZES = st.tuples(st.integers(1, 4000), st.integers(1, 4000))


@pytest.mark.parametrize("per_side", [1, 2, 7, 16, 32])
@pytest.mark.parametrize("size_hw", [(1, 1), (480, 640), (1200, 37)])
def test_the_points_are_metas_scaled_by_each_side(size_hw: tuple[int, int], per_side: int) -> None:
    package("sam2", "reference")
    from sam2.utils.amg import build_point_grid

    expected = build_point_grid(per_side) * np.array([size_hw[1], size_hw[0]])

    np.testing.assert_allclose(point_grid(size_hw, points_per_side=per_side), expected, rtol=1e-6)


def test_the_grids_of_the_crop_layers_are_metas() -> None:
    package("sam2", "reference")
    from sam2.utils.amg import build_all_layer_point_grids

    for layer, expected in enumerate(build_all_layer_point_grids(32, 3, 2)):
        np.testing.assert_allclose(point_grid((1, 1), points_per_side=32 // 2**layer), expected, rtol=1e-6)


@given(SIZES, st.integers(1, 20))
def test_all_points_lie_inside_and_evenly_about_the_centre(size_hw: tuple[int, int], per_side: int) -> None:
    points = point_grid(size_hw, points_per_side=per_side)

    assert points.shape == (per_side**2, 2)
    assert points.dtype == np.float32
    assert (points > 0).all()
    assert (points < np.array([size_hw[1], size_hw[0]])).all()
    np.testing.assert_allclose(points.mean(axis=0), [size_hw[1] / 2, size_hw[0] / 2], rtol=1e-5)


@given(SIZES, st.floats(0.25, 4), st.floats(0.25, 4))
def test_each_axis_scales_by_itself(size_hw: tuple[int, int], by_y: float, by_x: float) -> None:
    height, width = size_hw
    scaled = point_grid((max(int(height * by_y), 1), max(int(width * by_x), 1)), points_per_side=3)
    factors = [max(int(width * by_x), 1) / width, max(int(height * by_y), 1) / height]

    np.testing.assert_allclose(scaled, point_grid(size_hw, points_per_side=3) * factors, rtol=1e-5)


@given(SIZES, st.integers(1, 40), st.integers(1, 100))
def test_points_are_never_closer_than_the_least_spacing(
    size_hw: tuple[int, int], per_side: int, min_spacing_px: int
) -> None:
    points = point_grid(size_hw, points_per_side=per_side, min_spacing_px=min_spacing_px)

    for length, values in zip(size_hw, (points[:, 1], points[:, 0]), strict=True):
        places = np.unique(values)
        assert 1 <= len(places) <= per_side
        assert len(places) == per_side or length / (len(places) + 1) < min_spacing_px
        assert (np.diff(places) >= min_spacing_px - 1e-3).all()
        assert places.min() + places.max() == pytest.approx(length, rel=1e-5)


@pytest.mark.parametrize("overlap", [0.0, 0.1, META_OVERLAP, 0.9])
@pytest.mark.parametrize("size_hw", [(480, 640), (1000, 333), (31, 17), (8, 4000), (1, 1)])
def test_the_windows_are_metas_that_are_not_empty(size_hw: tuple[int, int], overlap: float) -> None:
    package("sam2", "reference")
    from sam2.utils.amg import generate_crop_boxes

    boxes, layers = generate_crop_boxes(size_hw, 3, overlap)
    windows = crop_windows(size_hw, crop_layers=3, overlap_ratio=overlap)

    assert {(tuple(window.box), window.layer) for window in windows} == {
        ((x1, y1, x2, y2), layer)
        for (x1, y1, x2, y2), layer in zip(boxes, layers, strict=True)
        if x1 < x2 and y1 < y2
    }


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 60)),
    st.integers(0, 3),
    st.floats(0, 0.9),
)
def test_the_windows_of_each_layer_cover_the_picture(
    size_hw: tuple[int, int], layers: int, overlap: float
) -> None:
    windows = crop_windows(size_hw, crop_layers=layers, overlap_ratio=overlap)

    for layer in range(layers + 1):
        covered = np.zeros(size_hw, dtype=bool)
        of_layer = [window for window in windows if window.layer == layer]
        for window in of_layer:
            assert_inside(window, size_hw)
            covered[window.box.y1 : window.box.y2, window.box.x1 : window.box.x2] = True

        assert covered.all()
        assert len(of_layer) <= 4**layer


def assert_inside(window: CropWindow, size_hw: tuple[int, int]) -> None:
    box = window.box
    assert 0 <= box.x1 < box.x2 <= size_hw[1]
    assert 0 <= box.y1 < box.y2 <= size_hw[0]


def test_without_layers_the_only_window_is_the_picture() -> None:
    [window] = crop_windows((7, 9), crop_layers=0, overlap_ratio=META_OVERLAP)

    assert tuple(window.box) == (0, 0, 9, 7)
    assert window.layer == 0


def test_a_layer_of_too_small_windows_is_left_out() -> None:
    assert len(crop_windows((300, 600), crop_layers=2, overlap_ratio=META_OVERLAP, min_window_px=200)) == 5
    assert len(crop_windows((200, 600), crop_layers=2, overlap_ratio=META_OVERLAP, min_window_px=200)) == 1


@given(SIZES, st.integers(0, 3), st.floats(0, 0.5))
def test_tiles_cover_the_picture_overlap_and_lie_inside(
    size_hw: tuple[int, int], layers: int, overlap: float
) -> None:
    windows = tile_windows(size_hw, layers=layers, overlap=overlap)

    assert windows[0] == CropWindow(BoxXYXY(0, 0, size_hw[1], size_hw[0]), 0)
    for window in windows:
        assert_inside(window, size_hw)
    for layer in {window.layer for window in windows}:
        boxes = [window.box for window in windows if window.layer == layer]
        assert len(boxes) == len({*boxes}) == (layer + 1) ** 2
        for side, starts in (
            (size_hw[1], {(b.x1, b.x2) for b in boxes}),
            (size_hw[0], {(b.y1, b.y2) for b in boxes}),
        ):
            ordered = sorted(starts)
            assert ordered[0][0] == 0
            assert ordered[-1][1] == side
            for (_, end), (start, _) in pairwise(ordered):
                assert start <= end
                assert end - start <= overlap * (end - ordered[0][0]) + 2


def test_layers_of_too_small_tiles_are_left_out() -> None:
    assert len(tile_windows((300, 600), layers=3, overlap=0.2, min_window_px=120)) == 5
    assert len(tile_windows((300, 600), layers=3, overlap=0.2, min_window_px=80)) == 1 + 4 + 9 + 16
    assert len(tile_windows((1, 1), layers=3, overlap=0.2)) == 1
