"""One dot product of the stored vector is the weighted sum of the views and of the object score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.backends.index.stored_samples import DIM, FINGERPRINT, VIEWS, make_picture, unit_rows

from segdex_backends.index.fusing import (
    OBJECT_SCALE,
    check_fused_query,
    join_query,
    join_rows,
    joined_size,
    split_row,
)
from segdex_core.records import EmbeddedSegments

PICTURE = make_picture(0, 7)


@given(
    seed=st.integers(0, 2**32 - 1),
    weights=st.sampled_from([{"crop": 0.4, "mask": 0.6}, {"mask": 1.0}, {"crop": 0.25}]),
    object_weight=st.sampled_from([0.0, 0.05, 0.6, 10.0]),
)
def test_the_joined_dot_product_is_the_sum_of_the_weighted_parts(
    seed: int, weights: dict[str, float], object_weight: float
) -> None:
    rng = np.random.default_rng(seed)
    vectors = {view: unit_rows(rng, 1, DIM)[0] for view in VIEWS}

    rows = join_rows(PICTURE.segments, VIEWS)
    query = join_query(vectors, weights, VIEWS, object_weight=object_weight)

    for row, n in zip(rows, range(7), strict=True):
        expected = object_weight * PICTURE.segments.records[n].object_score + sum(
            weight * float(PICTURE.segments.vectors[view][n] @ vectors[view])
            for view, weight in weights.items()
        )
        assert float(row @ np.array(query, np.float32)) == pytest.approx(expected, abs=1e-5)


def test_a_stored_vector_has_each_view_whole_and_one_number_more() -> None:
    rows = join_rows(PICTURE.segments, VIEWS)

    assert rows.shape == (7, joined_size(FINGERPRINT)) == (7, 2 * DIM + 1)
    assert rows.dtype == np.float32
    for n, row in enumerate(rows):
        apart = split_row(row, VIEWS)
        assert tuple(apart) == VIEWS
        for view in VIEWS:
            np.testing.assert_array_equal(apart[view], PICTURE.segments.vectors[view][n])
        assert row[-1] == np.float32(PICTURE.segments.records[n].object_score * OBJECT_SCALE)


def test_a_picture_without_segments_has_no_rows_of_the_right_length() -> None:
    nothing = {view: np.zeros((0, DIM), np.float32) for view in VIEWS}

    assert join_rows(EmbeddedSegments([], nothing), VIEWS).shape == (0, joined_size(FINGERPRINT))


def test_weights_are_shares_of_the_views_and_those_of_zero_fall_away() -> None:
    vectors = dict.fromkeys(VIEWS, np.ones(DIM, np.float32))

    assert check_fused_query(vectors, 3, FINGERPRINT, {"crop": 1.0, "mask": 3.0}, 0.2) == {
        "crop": 0.25,
        "mask": 0.75,
    }
    assert check_fused_query(vectors, 3, FINGERPRINT, {"crop": 5.0, "mask": 0.0}, 0.0) == {"crop": 1.0}
