"""Edges of masks: turned from columns to rows, cut to a box and placed again, without a pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, MaskRLE, encode_mask, mask_box
from segdex_core.runs import (
    MAX_EDGES,
    column_edges,
    column_edges_mask,
    cropped,
    edges_runs,
    placed,
    runs_edges,
    turned,
)

MASKS = of_numpy.arrays(np.bool_, of_numpy.array_shapes(min_dims=2, max_dims=2, max_side=9))


@given(MASKS)
def test_edges_of_a_mask_are_where_its_columns_change_and_its_rows_when_turned(mask: BoolMask) -> None:
    height, width = mask.shape
    edges = column_edges(encode_mask(mask))

    assert edges.tolist() == _changes(mask.T)
    rows = turned(edges, lines=width, length=height)
    assert rows.tolist() == _changes(mask)
    assert turned(rows, lines=height, length=width).tolist() == edges.tolist()
    assert column_edges_mask(edges, (height, width)) == encode_mask(mask)
    runs = edges_runs(rows, mask.size)
    assert runs.sum() == mask.size
    assert runs_edges(runs, mask.size).tolist() == rows.tolist()


@given(MASKS.filter(lambda mask: bool(mask.any())))
def test_a_mask_cut_to_its_box_is_the_part_of_the_picture(mask: BoolMask) -> None:
    box = mask_box(mask)
    edges = column_edges(encode_mask(mask))

    inside = cropped(edges, box, height=mask.shape[0])
    assert inside.tolist() == _changes(mask[box.y1 : box.y2, box.x1 : box.x2].T)
    assert placed(inside, box, (mask.shape[0], mask.shape[1])).tolist() == edges.tolist()


@given(MASKS, st.integers(0, 3), st.integers(0, 3))
def test_a_mask_is_placed_in_a_box_that_is_larger_than_it(mask: BoolMask, left: int, top: int) -> None:
    height, width = mask.shape
    picture = np.zeros((height + 5, width + 4), np.bool_)
    box = BoxXYXY(left, top, left + width, top + height)
    picture[top : top + height, left : left + width] = mask

    found = placed(column_edges(encode_mask(mask)), box, (height + 5, width + 4))
    assert found.tolist() == _changes(picture.T)


def test_runs_of_length_zero_are_no_edges() -> None:
    spelled = MaskRLE((2, 2), "1012")  # 1 0 1 2: nothing is inside for one pixel, twice

    assert runs_edges(np.array([1, 0, 1, 2]), 4).tolist() == [2]
    assert column_edges(spelled).tolist() == [2]


def test_stripes_that_have_too_many_edges_in_the_other_order_are_refused_before_they_are_made() -> None:
    height = width = 1 << 13
    stripes = runs_edges(np.full(width, height), height * width)

    with pytest.raises(ValueError, match=f"at most {MAX_EDGES:,}"):
        turned(stripes, lines=width, length=height)


def _changes(lines: BoolMask) -> list[int]:
    """Return where the flat pixels differ from the ones before, which are outside at the beginning."""
    flat = lines.ravel()
    return np.flatnonzero(np.diff(flat, prepend=False)).tolist()
