"""The polygons of a mask fill to exactly that mask and obey RFC 7946."""

import json
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from segdex_core.formats.polygons import MultiPolygon, Ring, mask_polygon
from segdex_core.masks import BoolMask

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=8))


def fill(polygon: MultiPolygon, size_hw: tuple[int, int]) -> BoolMask:
    """Fill by the even-odd rule: every upright edge flips all pixels to its right."""
    flips = np.zeros((size_hw[0], size_hw[1] + 1), bool)
    for ring in chain.from_iterable(polygon["coordinates"]):
        for (x1, y1), (x2, y2) in pairwise(ring):
            if x1 == x2:
                flips[min(y1, y2) : max(y1, y2), x1] ^= True
    return np.logical_xor.accumulate(flips, axis=1)[:, :-1]


def area(ring: Ring) -> float:
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(ring)) / 2


def blobs(seed: int, *, size_hw: tuple[int, int] = (120, 160), sigma: float = 4) -> BoolMask:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size_hw), sigma)
    mask: BoolMask = noise > 0
    return mask


@given(MASKS)
def test_filling_the_polygons_gives_the_mask_back(mask: BoolMask) -> None:
    assert (fill(mask_polygon(mask), mask.shape) == mask).all()


@pytest.mark.parametrize("seed", range(5))
def test_blobs_with_holes_come_back_exactly(seed: int) -> None:
    mask = blobs(seed)
    polygon = mask_polygon(mask)

    assert any(len(rings) > 1 for rings in polygon["coordinates"])  # there are holes
    assert (fill(polygon, mask.shape) == mask).all()


@given(MASKS)
def test_each_connected_part_is_one_polygon_with_outer_ring_first(mask: BoolMask) -> None:
    polygons = mask_polygon(mask)["coordinates"]
    parts, count = ndimage.label(mask)

    assert len(polygons) == count
    for number, (outer, *holes) in enumerate(polygons, start=1):
        assert area(outer) > 0
        assert all(area(hole) < 0 for hole in holes)
        assert area(outer) + sum(map(area, holes)) == (parts == number).sum()


@given(MASKS)
def test_rings_are_closed_simple_and_turn_at_every_corner(mask: BoolMask) -> None:
    for ring in chain.from_iterable(mask_polygon(mask)["coordinates"]):
        corners = ring[:-1]
        assert ring[0] == ring[-1]
        assert len(set(corners)) == len(corners) >= 4
        upright = [x1 == x2 for (x1, _), (x2, _) in pairwise(ring)]
        assert all(a != b for a, b in pairwise([*upright, upright[0]]))


@given(st.integers(1, 4), st.integers(1, 4))
def test_a_full_mask_is_one_rectangle(height: int, width: int) -> None:
    (rings,) = mask_polygon(np.ones((height, width), bool))["coordinates"]

    assert [set(ring) for ring in rings] == [{(0, 0), (width, 0), (width, height), (0, height)}]


def test_an_empty_mask_has_no_polygons() -> None:
    assert mask_polygon(np.zeros((3, 3), bool)) == MultiPolygon(type="MultiPolygon", coordinates=[])


def test_the_result_is_plain_json() -> None:
    polygon = mask_polygon(blobs(0))
    read = json.loads(json.dumps(polygon))

    assert read["coordinates"][0][0][0] == list(polygon["coordinates"][0][0][0])


def test_a_mask_with_hundreds_of_holes_comes_back_exactly() -> None:
    mask = blobs(0, size_hw=(750, 1000), sigma=4)
    polygon = mask_polygon(mask)

    assert sum(len(rings) - 1 for rings in polygon["coordinates"]) > 100
    assert (fill(polygon, mask.shape) == mask).all()
