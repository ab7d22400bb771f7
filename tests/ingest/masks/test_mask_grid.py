"""The point grid and the crop windows are Meta's."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.needs import package

from segdex_core.geometry import BoxXYXY
from segdex_ingest.masks.grid import CropWindow, crop_windows, panels, point_grid, tile_windows

META_OVERLAP = 512 / 1500
SIZES = st.tuples(st.integers(1, 4000), st.integers(1, 4000))


@pytest.mark.models
@pytest.mark.parametrize("per_side", [1, 2, 7, 16, 32])
@pytest.mark.parametrize("size_hw", [(1, 1), (480, 640), (1200, 37)])
def test_the_points_are_metas_scaled_by_each_side(size_hw: tuple[int, int], per_side: int) -> None:
    package("sam2", "reference")
    from sam2.utils.amg import build_point_grid

    expected = build_point_grid(per_side) * np.array([size_hw[1], size_hw[0]])

    np.testing.assert_allclose(point_grid(size_hw, points_per_side=per_side), expected, rtol=1e-6)


@pytest.mark.models
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


@pytest.mark.models
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
        boxes = [window.box for window in windows[1:] if window.layer == layer] or [windows[0].box]
        rows, columns = ((layer + 1) * count for count in panels(size_hw))
        # layer 0 of a picture without panels is the picture alone
        assert len(boxes) == len({*boxes}) == (1 if windows[1:] == [] else rows * columns)
        for side, starts in (
            (size_hw[1], {(b.x1, b.x2) for b in boxes}),
            (size_hw[0], {(b.y1, b.y2) for b in boxes}),
        ):
            ordered = sorted(starts)
            assert ordered[0][0] == 0
            assert ordered[-1][1] == side
            for (_, end), (start, _) in pairwise(ordered):
                assert start <= end + (overlap * (ordered[0][1] - ordered[0][0]) < 1)  # both are rounded
                assert end - start <= overlap * (ordered[0][1] - ordered[0][0]) + 2


def test_layers_of_too_small_tiles_are_left_out() -> None:
    assert len(tile_windows((300, 600), layers=3, overlap=0.2, min_window_px=120)) == 5
    assert len(tile_windows((300, 600), layers=3, overlap=0.2, min_window_px=80)) == 1 + 4 + 9 + 16
    assert len(tile_windows((1, 1), layers=3, overlap=0.2)) == 1


def equal_parts(length: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Return equal parts of a side, worked out by hand: each begins where the last one ends less its
    share."""
    part = length / (count - (count - 1) * overlap)
    return [
        (round(i * part * (1 - overlap)), min(round(i * part * (1 - overlap) + part), length))
        for i in range(count)
    ]


@given(
    st.integers(40, 2000), st.floats(1, 2), st.booleans(), st.integers(0, 3), st.sampled_from([0, 0.1, 0.2])
)
def test_a_picture_at_most_twice_as_long_as_wide_has_the_whole_and_square_grids_of_tiles(
    shorter: int, aspect: float, upright: bool, layers: int, overlap: float
) -> None:
    longer = min(int(shorter * aspect), 2 * shorter)
    height, width = (longer, shorter) if upright else (shorter, longer)

    windows = tile_windows((height, width), layers=layers, overlap=overlap)

    expected = [CropWindow(BoxXYXY(0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        rows, columns = (equal_parts(side, layer + 1, overlap) for side in (height, width))
        expected += [CropWindow(BoxXYXY(x1, y1, x2, y2), layer) for y1, y2 in rows for x1, x2 in columns]
    assert panels((height, width)) == (1, 1)
    assert windows == expected


@given(
    st.integers(20, 600),
    st.floats(2.01, 64),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from([0.1, 0.2]),
)
def test_a_longer_picture_is_covered_by_panels_of_no_extreme_shape_in_every_layer(
    shorter: int, aspect: float, upright: bool, layers: int, overlap: float
) -> None:
    longer = max(int(shorter * aspect), 2 * shorter + 1)
    size_hw = (longer, shorter) if upright else (shorter, longer)

    windows = tile_windows(size_hw, layers=layers, overlap=overlap)

    down, across = panels(size_hw)
    assert (down > 1, across > 1) == (upright, not upright)
    assert windows[0] == CropWindow(BoxXYXY(0, 0, size_hw[1], size_hw[0]), 0)
    assert len([window for window in windows if window.layer == 0]) == 1 + down * across
    for layer in {window.layer for window in windows}:
        covered = np.zeros(size_hw, dtype=bool)
        for window in windows[1:]:
            if window.layer == layer:
                assert_inside(window, size_hw)
                width, height = window.box.size_wh
                assert max(width, height) <= 2.5 * min(width, height) + 3
                covered[window.box.y1 : window.box.y2, window.box.x1 : window.box.x2] = True
        assert covered.all()


@pytest.mark.parametrize("size_hw", [(1, 4000), (4000, 1), (2, 4000), (3000, 7)])
def test_a_line_of_pixels_has_windows_that_are_not_empty(size_hw: tuple[int, int]) -> None:
    windows = tile_windows(size_hw, layers=2, overlap=0.2)

    assert max(panels(size_hw)) == 32
    assert windows[0].box == BoxXYXY(0, 0, size_hw[1], size_hw[0])
    for window in windows:
        assert_inside(window, size_hw)


def test_further_layers_of_panels_stop_where_their_windows_are_enlarged_too_much() -> None:
    assert len(tile_windows((200, 4800), layers=3, overlap=0.2, min_window_px=80)) == 1 + 12
    assert len(tile_windows((300, 1200), layers=3, overlap=0.2, min_window_px=80)) == 1 + 2 + 2 * 4
    assert len(tile_windows((1000, 2001), layers=1, overlap=0.2, min_window_px=80)) == 1 + 2 + 2 * 4
