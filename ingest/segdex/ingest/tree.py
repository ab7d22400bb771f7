"""The mask tree: which segment lies inside which."""

from collections.abc import Sequence

import numpy as np

from segdex.core.masks import MaskRLE, rle_area_px, rle_containment


def find_parents(masks: Sequence[MaskRLE], *, min_containment: float) -> list[int | None]:
    """Return for each mask the position of the smallest mask that contains it, None at the top.

    A mask contains another one when it is larger and covers at least ``min_containment`` of it. Of two masks
    of one area the earlier one counts as the larger, so that the result has no cycles.

    Args:
        masks: Masks of one picture, all of one size.
        min_containment: Share of the smaller mask inside the larger, above 0.5 to 1.
    """
    if not masks:
        return []
    areas = np.asarray([rle_area_px(mask) for mask in masks])
    inside = rle_containment(masks, masks)
    rank = np.empty(len(masks), dtype=np.intp)  # 0 is the smallest
    rank[np.lexsort((-np.arange(len(masks)), areas))] = np.arange(len(masks))
    parents: list[int | None] = []
    for child in range(len(masks)):
        larger = (inside[child] >= min_containment) & (rank > rank[child])
        candidates = np.flatnonzero(larger)
        parents.append(int(candidates[rank[candidates].argmin()]) if candidates.size else None)
    return parents


def ancestors_of(position: int, parents: Sequence[int | None]) -> list[int]:
    """Return the positions of all masks above one in the tree, the nearest first."""
    path: list[int] = []
    parent = parents[position]
    while parent is not None:
        path.append(parent)
        parent = parents[parent]
    return path
