"""The mask tree: which segment lies inside which."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segdex_core.masks import MaskRLE, rle_area_px, rle_containment


def find_parents(masks: Sequence[MaskRLE], *, min_containment: float) -> list[int | None]:
    """Return for each mask the position of the smallest mask that contains it, or None.

    A mask contains a smaller mask if it covers at least ``min_containment`` of it. Of two masks with equal
    areas, the earlier counts as larger, so that the result has no cycles.

    Args:
        masks: Masks of one image, all of one size.
        min_containment: Share of the smaller mask inside the larger mask, 0.5 to 1.
    """
    if not masks:
        return []
    areas = np.asarray([rle_area_px(mask) for mask in masks])
    _, parents = parents_by_containment(rle_containment(masks, masks), areas, min_containment=min_containment)
    return [None if parent < 0 else parent for parent in parents.tolist()]


def parents_by_containment(
    inside: npt.NDArray[np.float64], area_px: npt.NDArray[np.number], *, min_containment: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Return the (n, n) containment, inner masks by row, and (n,) the smallest containing mask or -1.

    Args:
        inside: (n, n) share of mask i (row) that lies inside mask j (column).
        area_px: (n,) areas in pixels.
        min_containment: See ``find_parents``.
    """
    count = len(area_px)
    rank = np.empty(count, dtype=np.intp)  # 0 is the smallest
    rank[np.lexsort((-np.arange(count), area_px))] = np.arange(count)
    contained = (inside >= min_containment) & (rank[None] > rank[:, None])
    nearest = np.where(contained, rank[None], count).argmin(axis=1) if count else np.zeros(0, np.intp)
    return contained, np.where(contained.any(axis=1), nearest, -1)


def ancestors_of(position: int, parents: Sequence[int | None]) -> list[int]:
    """Return the positions of all ancestors of a mask in the tree, nearest first."""
    path: list[int] = []
    parent = parents[position]
    while parent is not None:
        path.append(parent)
        parent = parents[parent]
    return path
