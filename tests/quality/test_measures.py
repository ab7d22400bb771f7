"""What the measurements of examples and near-duplicates are made of."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.quality.examples import differing
from tests.quality.near_duplicates import COPIES, best_threshold, spread

SHARES = st.lists(st.integers(0, 20).map(lambda one: one / 20), min_size=1, max_size=8).map(np.array)


@given(SHARES, SHARES)
def test_no_threshold_separates_better(copies: np.ndarray, different: np.ndarray) -> None:
    if len({*copies.tolist(), *different.tolist()}) < 2:
        return

    def gain(threshold: float) -> float:
        return float((copies >= threshold).mean() - (different >= threshold).mean())

    found = best_threshold(copies, different)

    lowest = min(copies.min(), different.min())
    tried = [one for one in np.arange(0.025, 1, 0.05).tolist() if one > lowest]
    highest = max(copies.max(), different.max())
    assert gain(found) == pytest.approx(max(gain(one) for one in tried if one < highest))
    assert found not in copies
    assert found not in different


def test_the_threshold_is_in_the_middle_of_what_it_separates() -> None:
    assert best_threshold(np.array([0.5, 0.8]), np.array([0.1, 0.3])) == pytest.approx(0.4)


@given(st.integers(0, 100))
def test_differing_examples_are_of_all_kinds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.permutation([0, 0, 0, 1, 1, 2, 2, 2, 2])
    rows = np.eye(4)[kinds] + 0.05 * rng.normal(size=(len(kinds), 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    chosen = differing(rows, 3, rng)

    assert sorted(kinds[chosen].tolist()) == [0, 1, 2]


def test_every_row_can_be_the_first_example() -> None:
    rng = np.random.default_rng(0)

    assert {differing(np.eye(4), 2, rng)[0] for _ in range(100)} == {0, 1, 2, 3}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_another_picture_and_the_same_one_each_time(name: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))

    made, again = (COPIES[name](image, np.random.default_rng(1)) for _ in range(2))

    assert made.tobytes() == again.tobytes() != image.tobytes()


@given(st.integers(1, 60), st.integers(0, 60))
def test_pictures_are_spread_over_the_set_and_fewer_are_part_of_more(size: int, count: int) -> None:
    paths = {str(number): Path(str(number)) for number in range(size)}

    chosen = list(spread(paths, count))

    assert len(chosen) == len({*chosen}) <= count
    assert size % 23 == 0 or len(chosen) == min(size, count)
    assert list(spread(paths, count + 5))[: len(chosen)] == chosen
