"""Masks as edges: the places where a mask changes along its lines. Pixels are never unpacked.

Formats differ in the order of pixels: COCO goes down the columns, Label Studio and CVAT along the rows. Edges
are turned from one order into the other with work that grows with the outline of a mask, not its picture.
"""

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from segdex_core.geometry import BoxXYXY
from segdex_core.masks import MaskRLE, rle_runs_px

Edges = npt.NDArray[np.int64]
"""Ascending flat places where a mask changes; it begins outside. The end of the last line is never one."""

MAX_EDGES = 1 << 24
"""Edges of one mask in either order: ten times those of the most jagged mask of a picture."""


def column_edges(mask: MaskRLE) -> Edges:
    """Return the edges of a mask down its columns.

    Raises:
        ValueError: If the runs do not fit ``size_hw``.
    """
    height, width = mask.size_hw
    return runs_edges(rle_runs_px(mask), height * width)


def column_edges_mask(edges: Edges, size_hw: tuple[int, int]) -> MaskRLE:
    """Return the mask with these edges down its columns; equal masks have equal codes."""
    height, width = size_hw
    runs = edges_runs(edges, height * width)
    code = coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return MaskRLE(size_hw, code["counts"].decode("ascii"))


def runs_edges(runs: npt.NDArray[np.int64], size_px: int) -> Edges:
    """Return the edges of run lengths, of which the first is outside the mask.

    Args:
        runs: Run lengths, 0 or more, that add up to ``size_px``.
        size_px: Number of pixels.
    """
    return _changes(np.cumsum(runs), size_px)


def edges_runs(edges: Edges, size_px: int) -> npt.NDArray[np.int64]:
    """Return the run lengths between edges; the first is outside the mask, and it alone may be 0."""
    return np.diff(edges, prepend=0, append=size_px)


def turned(edges: Edges, *, lines: int, length: int) -> Edges:
    """Return the edges along the other axis: with the pixels of all lines at a place one after another.

    Args:
        edges: Edges along ``lines`` lines of ``length`` pixels.
        lines: Number of lines.
        length: Pixels of a line.

    Raises:
        ValueError: If there are more than ``MAX_EDGES``.

    Example:
        >>> turned(np.array([1, 4]), lines=2, length=3).tolist()  # 0 1 1 / 1 0 0
        [1, 3, 4, 5]
    """
    size_px = lines * length
    closed = edges if len(edges) % 2 == 0 else np.append(edges, size_px)
    # where a line differs from the line before it; the lines before the first and after the last are empty
    differs = _odd(np.concatenate([closed, closed + length]))
    starts, counts = differs[::2], differs[1::2] - differs[::2]
    total = int(counts.sum())
    if total > MAX_EDGES:
        raise ValueError(f"the mask has an outline of {total:,} pixels; at most {MAX_EDGES:,} are allowed")
    places = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(total)
    line, offset = np.divmod(places, length)
    return _changes(offset * lines + line, size_px)


def cropped(edges: Edges, box: BoxXYXY, *, height: int) -> Edges:
    """Return the edges inside the tight box of the mask, both down the columns.

    Args:
        edges: Edges of the mask in the picture.
        box: Tight box of the mask.
        height: Height of the picture in pixels.
    """
    box_w, box_h = box.size_wh

    def inside(places: Edges) -> Edges:
        x, y = np.divmod(places, height)
        return (x - box.x1) * box_h + y - box.y1

    # a run that goes on in the next column reaches from the upper to the lower side, and so does the box
    ends = edges[1::2] if len(edges) % 2 == 0 else np.append(edges[1::2], box.x2 * height)
    both = np.empty(2 * len(ends), np.int64)
    both[::2], both[1::2] = inside(edges[::2]), inside(ends - 1) + 1
    return _changes(both, box_w * box_h)


def placed(edges: Edges, box: BoxXYXY, size_hw: tuple[int, int]) -> Edges:
    """Return the edges in a picture of a mask that is given inside a box, both down the columns.

    Args:
        edges: Edges inside the box.
        box: Box in the picture; the mask may be smaller.
        size_hw: Height and width of the picture in pixels.

    Raises:
        ValueError: If there are more than ``MAX_EDGES``.
    """
    height, width = size_hw
    box_w, box_h = box.size_wh
    # each run ends with its column: in the picture, the box is not the whole column
    ends = edges[1::2] if len(edges) % 2 == 0 else np.append(edges[1::2], box_w * box_h)
    columns = (ends - 1) // box_h - edges[::2] // box_h
    if int(columns.sum()) > MAX_EDGES:
        raise ValueError(f"the mask has more than {MAX_EDGES:,} edges")
    first = np.repeat(edges[::2] // box_h, columns) + _counted(columns)
    breaks = (first + 1) * box_h
    starts = np.sort(np.concatenate([edges[::2], breaks]))
    stops = np.sort(np.concatenate([ends, breaks])) - 1

    def outside(places: Edges) -> Edges:
        x, y = np.divmod(places, box_h)
        return (x + box.x1) * height + y + box.y1

    both = np.concatenate([outside(starts), outside(stops) + 1])
    return _changes(both, height * width)


def _counted(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return 0, 1, ... for each of some counts, one after another."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


def _changes(places: npt.NDArray[np.int64], size_px: int) -> Edges:
    """Return where a mask really changes: two edges at one place are none, and the end of all is none."""
    changes = _odd(places)
    return changes[:-1] if len(changes) and changes[-1] == size_px else changes


def _odd(places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the places that occur an odd number of times, ascending."""
    unique, counts = np.unique(places, return_counts=True)
    odd: npt.NDArray[np.int64] = unique[counts % 2 == 1]
    return odd
