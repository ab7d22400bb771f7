"""Positions of two objects to each other in one picture, decided on their masks.

The rules are those that people go by rather than comparisons of boxes: a cup stands ON a table whose mask is
all around it, and a long cat is LEFT OF a vase that stands behind its tail.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay, QhullError

from segdex_core.masks import BoolMask, MaskRLE, cell_shares, decode_mask
from segdex_search.queries import RelationName

GRID_PX = 128
"""Masks are compared on a grid of square cells, so many along the longer side of the picture."""

MOSTLY = 0.8
"""Share of pairs of pixels that must lie in the order asked for, and of the object that must lie inside."""

CONTACT = 0.3
"""Share of the columns at the lower edge of an object that must touch what it stands on."""

_CONTACT_GAP = 0.03
"""Largest gap at such a column, as a share of the longer side of the picture."""

_FOOT = 0.25
"""Share of the height of an object that counts as its lower edge."""

NEAR_GAP = 0.5
"""Largest gap between objects that are near, in square roots of the smaller area."""


@dataclass(frozen=True)
class Shape:
    """The mask of an object on a grid of square cells.

    Attributes:
        cells: (h, w) bool, the longer side ``GRID_PX`` at most; at least one cell is set.
    """

    cells: BoolMask

    @classmethod
    def of(cls, mask: MaskRLE) -> "Shape":
        """Return the shape of a mask that has a pixel."""
        height, width = mask.size_hw
        scale = min(GRID_PX / max(height, width), 1.0)
        size_hw = max(round(height * scale), 1), max(round(width * scale), 1)
        shares = cell_shares(decode_mask(mask), size_hw)
        # what is thinner than half a cell everywhere keeps the cells that it touches most
        return cls(shares >= min(0.5, float(shares.max())))

    @cached_property
    def area(self) -> int:
        """Number of cells."""
        return int(self.cells.sum())

    @cached_property
    def rows(self) -> npt.NDArray[np.float64]:
        """(h,) share of the cells in each row."""
        shares: npt.NDArray[np.float64] = self.cells.sum(axis=1) / self.area
        return shares

    @cached_property
    def columns(self) -> npt.NDArray[np.float64]:
        """(w,) share of the cells in each column."""
        shares: npt.NDArray[np.float64] = self.cells.sum(axis=0) / self.area
        return shares

    @cached_property
    def distances(self) -> npt.NDArray[np.float64]:
        """(h, w) distance of each cell to the nearest one of the object, in cells."""
        found: npt.NDArray[np.float64] = ndimage.distance_transform_edt(~self.cells)
        return found

    @cached_property
    def hull(self) -> BoolMask:
        """(h, w) the convex hull."""
        points = np.argwhere(self.cells)
        try:
            corners = points[ConvexHull(points).vertices]
        except (QhullError, ValueError):  # fewer than three cells, or all on a line
            return self.cells
        every = np.indices(self.cells.shape).reshape(2, -1).T
        inside: BoolMask = (Delaunay(corners).find_simplex(every) >= 0).reshape(self.cells.shape)
        return inside | self.cells


def share_before(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Return the probability that a cell of the first lies before one of the second; ties count half.

    Args:
        first: (n,) shares of an object by row or column.
        second: (n,) those of the other object.
    """
    until = np.cumsum(first)
    return float(second @ (until - first / 2))


def _is_left(a: Shape, b: Shape) -> bool:
    return share_before(a.columns, b.columns) >= MOSTLY


def _is_above(a: Shape, b: Shape) -> bool:
    return share_before(a.rows, b.rows) >= MOSTLY


def _is_on(a: Shape, b: Shape) -> bool:
    if share_before(a.rows, b.rows) < 1 - MOSTLY:
        return False  # it hangs below
    height = a.cells.shape[0]
    lowest = height - 1 - a.cells[::-1].argmax(axis=0)  # of each column that has a cell
    has_any = a.cells.any(axis=0)
    top = int(np.flatnonzero(a.cells.any(axis=1))[0])
    bottom = int(lowest[has_any].max())
    feet = np.flatnonzero(has_any & (lowest >= bottom - _FOOT * (bottom - top)))
    gap = max(round(_CONTACT_GAP * max(a.cells.shape)), 1)
    touched = [b.cells[lowest[x] : lowest[x] + gap + 1, x].any() for x in feet]
    return float(np.mean(touched)) >= CONTACT


def _is_inside(a: Shape, b: Shape) -> bool:
    return int(a.hull.sum()) < int(b.hull.sum()) and float((a.cells & b.hull).sum()) / a.area >= MOSTLY


def _is_near(a: Shape, b: Shape) -> bool:
    gap = float(b.distances[a.cells].min()) - 1  # neighbours have a distance of one cell, and no gap
    return gap <= NEAR_GAP * float(np.sqrt(min(a.area, b.area))) or _is_inside(a, b) or _is_inside(b, a)


_RULES: Mapping[RelationName, Callable[[Shape, Shape], bool]] = MappingProxyType(
    {
        "left_of": _is_left,
        "right_of": lambda a, b: _is_left(b, a),
        "above": _is_above,
        "below": lambda a, b: _is_above(b, a),
        "on": _is_on,
        "inside": _is_inside,
        "near": _is_near,
    }
)


def holds(relation: RelationName, a: Shape, b: Shape) -> bool:
    """Return whether an object lies in a position to another of the same picture.

    Args:
        relation: The position of the first.
        a: The first object.
        b: The second.
    """
    return _RULES[relation](a, b)
