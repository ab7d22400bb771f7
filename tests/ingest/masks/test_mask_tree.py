"""The mask tree: the parent is the smallest mask that contains a segment."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from segdex_core.masks import BoolMask, encode_mask, rle_containment
from segdex_ingest.masks.tree import ancestors_of, find_parents, parents_by_containment

SIZE_HW = (24, 32)


def random_boxes(seed: int, count: int) -> list[BoolMask]:
    """Return boxes around few centres, many of them nested."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        cy, cx = rng.choice([6, 12, 18]), rng.choice([8, 16, 24])
        half_h, half_w = rng.integers(1, 14, size=2)
        mask = np.zeros(SIZE_HW, dtype=bool)
        mask[max(cy - half_h, 0) : cy + half_h, max(cx - half_w, 0) : cx + half_w] = True
        masks.append(mask)
    return masks


def parents_of(masks: Sequence[BoolMask], *, min_containment: float = 0.9) -> list[int | None]:
    return find_parents([encode_mask(mask) for mask in masks], min_containment=min_containment)


@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.sampled_from([0.6, 0.9, 1.0]))
def test_the_parent_is_the_smallest_larger_mask_that_contains_the_child(
    seed: int, count: int, min_containment: float
) -> None:
    masks = random_boxes(seed, count)
    areas = [int(mask.sum()) for mask in masks]

    parents = parents_of(masks, min_containment=min_containment)

    assert len(parents) == count
    for child, parent in enumerate(parents):
        containers = [
            other
            for other in range(count)
            if (areas[other], -other) > (areas[child], -child)
            and (masks[child] & masks[other]).sum() >= min_containment * areas[child] - 1e-9
        ]
        assert parent == min(containers, key=lambda other: (areas[other], -other), default=None)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_every_path_upwards_ends_and_grows(seed: int, count: int) -> None:
    masks = random_boxes(seed, count)
    parents = parents_of(masks)

    for position in range(count):
        path = ancestors_of(position, parents)
        areas = [int(masks[i].sum()) for i in [position, *path]]

        assert position not in path
        assert len(set(path)) == len(path)
        assert areas == sorted(areas)


@given(st.integers(0, 2**32 - 1), st.integers(1, 15))
def test_another_order_of_the_masks_is_the_same_tree(seed: int, count: int) -> None:
    masks = random_boxes(seed, count)
    assume(len({int(mask.sum()) for mask in masks}) == count)  # twins go by their order
    order = np.random.default_rng(seed).permutation(count).tolist()

    parents = parents_of(masks)
    permuted = parents_of([masks[i] for i in order])

    assert [None if p is None else order[p] for p in permuted] == [parents[i] for i in order]


@given(st.integers(0, 2**32 - 1), st.integers(0, 15), st.sampled_from([0.6, 0.9, 1.0]))
def test_what_contains_each_mask_is_that_of_counting_pixels_and_its_smallest_is_the_parent(
    seed: int, count: int, min_containment: float
) -> None:
    masks = random_boxes(seed, count)
    areas = [int(mask.sum()) for mask in masks]
    codes = [encode_mask(mask) for mask in masks]
    inside = rle_containment(codes, codes) if codes else np.zeros((0, 0))

    contains, parents = parents_by_containment(inside, np.array(areas), min_containment=min_containment)

    assert contains.shape == (count, count)
    for inner in range(count):
        for outer in range(count):
            shared = int((masks[inner] & masks[outer]).sum())
            larger = (areas[outer], -outer) > (areas[inner], -inner)
            assert contains[inner, outer] == (larger and shared >= min_containment * areas[inner] - 1e-9)
    tree = find_parents(codes, min_containment=min_containment)
    assert [None if parent < 0 else parent for parent in parents.tolist()] == tree


def test_twins_form_a_chain_under_the_first() -> None:
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[3:9, 3:9] = True

    assert parents_of([mask, mask, mask]) == [None, 0, 1]


@pytest.mark.parametrize(("inside_px", "expected"), [(90, 1), (89, None)])
def test_a_child_may_stick_out_by_what_the_containment_allows(inside_px: int, expected: int | None) -> None:
    child = np.zeros((30, 30), dtype=bool)
    child.ravel()[:100] = True
    parent = np.zeros((30, 30), dtype=bool)
    parent.ravel()[100 - inside_px : 500] = True

    assert parents_of([child, parent]) == [expected, None]


def test_no_masks_have_no_tree() -> None:
    assert find_parents([], min_containment=0.9) == []


def test_ancestors_come_nearest_first() -> None:
    assert ancestors_of(2, [None, 0, 1, None]) == [1, 0]
    assert ancestors_of(3, [None, 0, 1, None]) == []
