"""Exact outlines of masks as polygons along pixel edges."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from segdex_core.masks import BoolMask

Ring = list[tuple[int, int]]
"""Corners (x, y) in pixels; the first is repeated at the end. Pixel (x, y) covers [x, x + 1) by [y, y +
1)."""


class MultiPolygon(TypedDict):
    """Polygons with holes in pixels; x points right and y down.

    The keys are those of a geometry of RFC 7946. It is no GeoJSON, whose numbers are degrees.
    """

    type: Literal["MultiPolygon"]
    coordinates: list[list[Ring]]


def mask_polygon(mask: BoolMask) -> MultiPolygon:
    """Return the polygons that cover exactly the mask; none for an empty mask.

    Each 4-connected part of the mask is one polygon: its outer ring, then its holes. By the shoelace formula
    in these coordinates, outer rings have a positive area and holes a negative area. No ring touches itself.

    Example:
        >>> mask_polygon(np.array([[0, 1, 1]], dtype=bool))["coordinates"]
        [[[(1, 0), (3, 0), (3, 1), (1, 1), (1, 0)]]]
    """
    parts, count = ndimage.label(mask)
    outer: list[list[Ring]] = [[] for _ in range(count)]
    holes: list[list[Ring]] = [[] for _ in range(count)]
    for ring in _rings(mask):
        x, y = _pixel_inside(ring)
        (outer if _doubled_area(ring) > 0 else holes)[parts[y, x] - 1].append(ring)
    return {"type": "MultiPolygon", "coordinates": [[*a, *b] for a, b in zip(outer, holes, strict=True)]}


_RIGHT, _DOWN, _LEFT, _UP = range(4)


def _rings(mask: BoolMask) -> Iterator[Ring]:
    """Yield the closed boundaries, traversed with the mask on the right as seen on a screen."""
    ends = {(x, y, heading): end for x, y, heading, end in _edges(mask)}
    while ends:
        x, y, heading = next(iter(ends))
        path: Ring = []
        position: dict[tuple[int, int], int] = {}
        while True:
            if (x, y) in position:  # two pixels touch at their corners: split off the loop
                loop = path[position[x, y] :]
                del path[position[x, y] :]
                for corner in loop:
                    del position[corner]
                yield [*loop, loop[0]]
            position[x, y] = len(path)
            path.append((x, y))
            x, y = ends.pop((x, y, heading))
            # Edges end where the boundary turns. If both turns are possible, the right one stays at the
            # pixel.
            turns = [turn for turn in ((heading + 1) % 4, (heading - 1) % 4) if (x, y, turn) in ends]
            if not turns:
                break
            heading = turns[0]
        yield [*path, path[0]]


def _edges(mask: BoolMask) -> Iterator[tuple[int, int, int, tuple[int, int]]]:
    """Yield each straight piece of the boundary: start x, start y, heading, and end (x, y)."""
    padded = np.pad(mask, 1).astype(np.int8)
    across = np.diff(padded, axis=0)[:, 1:-1]  # (H + 1, W): 1 where the mask begins below the line
    for y, start, stop, sign in _runs(across):
        yield (start, y, _RIGHT, (stop, y)) if sign > 0 else (stop, y, _LEFT, (start, y))
    along = np.diff(padded, axis=1)[1:-1].T  # (W + 1, H): 1 where the mask begins to the right
    for x, start, stop, sign in _runs(along):
        yield (x, stop, _UP, (x, start)) if sign > 0 else (x, start, _DOWN, (x, stop))


def _runs(lines: npt.NDArray[np.int8]) -> Iterator[tuple[int, int, int, int]]:
    """Yield line, start, stop and value of each run of equal nonzero values along the last axis."""
    padded = np.pad(lines, ((0, 0), (1, 1)))
    line, start = np.nonzero(np.diff(padded, axis=1))
    value = padded[line, start + 1]
    runs = np.flatnonzero(value)  # a run ends at the next change, which exists because lines end in 0
    columns = (line[runs], start[runs], start[runs + 1] if runs.size else start[runs], value[runs])
    yield from zip(*(column.tolist() for column in columns), strict=True)


def _pixel_inside(ring: Ring) -> tuple[int, int]:
    """Return x and y of the mask pixel at the first edge of a ring."""
    (x, y), (next_x, next_y) = ring[0], ring[1]
    return (x if next_x > x or next_y < y else x - 1), (y if next_x > x or next_y > y else y - 1)


def _doubled_area(ring: Ring) -> int:
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(ring))
