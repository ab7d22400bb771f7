"""Positions of masks to each other."""

from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segdex_core.masks import BoolMask, encode_mask
from segdex_search.queries import RelationName
from segdex_search.relations import GRID_PX, Shape, holds, share_before

SIZE_HW = (96, 128)


def box(x1: int, y1: int, x2: int, y2: int, size_hw: tuple[int, int] = SIZE_HW) -> BoolMask:
    mask = np.zeros(size_hw, dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def relations(a: BoolMask, b: BoolMask) -> set[str]:
    first, second = (Shape.of(encode_mask(mask)) for mask in (a, b))
    return {name for name in get_args(RelationName) if holds(name, first, second)}


def ring(x1: int, y1: int, x2: int, y2: int, width: int) -> BoolMask:
    return box(x1, y1, x2, y2) & ~box(x1 + width, y1 + width, x2 - width, y2 - width)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (box(5, 40, 25, 60), box(90, 40, 120, 60), {"left_of"}),
        (box(5, 40, 25, 60), box(28, 38, 60, 64), {"left_of", "near"}),
        (box(40, 5, 60, 20), box(40, 70, 60, 90), {"above"}),
        (box(40, 5, 60, 45), box(20, 46, 100, 90), {"above", "on", "near"}),  # stands on it
        (box(40, 30, 60, 60), box(10, 40, 118, 92) & ~box(40, 30, 60, 60), {"above", "on", "near"}),
        (box(50, 40, 60, 50), ring(30, 20, 80, 70, 5), {"inside", "near"}),  # in a bowl seen from above
        (box(40, 50, 60, 70), box(40, 30, 60, 49), {"below", "near"}),  # hangs below it: not on
    ],
)
def test_drawn_positions(a: BoolMask, b: BoolMask, expected: set[str]) -> None:
    assert relations(a, b) == expected


MASKS = arrays(bool, (12, 16)).filter(lambda mask: bool(mask.any()))


@given(MASKS, MASKS)
@settings(max_examples=40)
def test_the_share_before_is_that_of_counting_pairs_of_pixels(a: BoolMask, b: BoolMask) -> None:
    first, second = Shape(a), Shape(b)
    xs = [[x for _, x in np.argwhere(mask)] for mask in (a, b)]
    pairs = [(x < y) + 0.5 * (x == y) for x, y in product(*xs)]

    assert share_before(first.columns, second.columns) == pytest.approx(np.mean(pairs))


@given(MASKS, MASKS)
@settings(max_examples=40)
def test_positions_turn_round_with_the_pair_and_with_the_picture(a: BoolMask, b: BoolMask) -> None:
    first, second = Shape(a), Shape(b)
    mirrored, other = Shape(a[:, ::-1]), Shape(b[:, ::-1])
    upside, down = Shape(a[::-1]), Shape(b[::-1])

    assert holds("left_of", first, second) == holds("right_of", second, first)
    assert holds("above", first, second) == holds("below", second, first)
    assert holds("near", first, second) == holds("near", second, first)
    assert holds("left_of", first, second) == holds("right_of", mirrored, other)
    assert holds("above", first, second) == holds("below", upside, down)
    assert holds("on", first, second) == holds("on", mirrored, other)
    assert holds("inside", first, second) == holds("inside", mirrored, other) == holds("inside", upside, down)


@given(MASKS, MASKS)
@settings(max_examples=40)
def test_opposites_never_hold_together(a: BoolMask, b: BoolMask) -> None:
    first, second = Shape(a), Shape(b)

    assert not (holds("left_of", first, second) and holds("right_of", first, second))
    assert not (holds("above", first, second) and holds("below", first, second))
    assert not (holds("inside", first, second) and holds("inside", second, first))


@given(st.integers(1, 4))
def test_a_larger_picture_of_the_same_shows_the_same_positions(scale: int) -> None:
    a, b = box(5, 40, 25, 60), box(28, 38, 60, 64)

    assert relations(
        np.kron(a, np.ones((scale, scale), bool)), np.kron(b, np.ones((scale, scale), bool))
    ) == (relations(a, b))


def test_a_thin_object_in_a_large_picture_keeps_its_shape() -> None:
    line = box(100, 500, 1900, 502, (1000, 2000))
    shape = Shape.of(encode_mask(line))

    assert max(shape.cells.shape) == GRID_PX
    assert shape.cells.any(axis=0).sum() >= 0.85 * GRID_PX
    assert relations(line, box(100, 700, 1900, 990, (1000, 2000))) >= {"above"}
