"""Where to prompt: the point grid and the crop layers of automatic mask generation.

Both follow Meta's ``SAM2AutomaticMaskGenerator`` (facebookresearch/sam2 2b90b9f, ``sam2/utils/amg.py``).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdex_core.geometry import BoxXYXY


@dataclass(frozen=True, slots=True)
class CropWindow:
    """A part of the picture that is encoded and prompted by itself.

    Attributes:
        box: The part, in pixels of the full picture.
        layer: 0 is the whole picture; further layers cut it into more and smaller windows.
    """

    box: BoxXYXY
    layer: int


def point_grid(
    size_hw: tuple[int, int], *, points_per_side: int, min_spacing_px: int = 0
) -> npt.NDArray[np.float32]:
    """Return (n, 2) x y points in pixels, evenly over the window, row by row from the top left.

    Each axis is scaled by its own length, because SAM 2 squashes every picture to a square; the outermost
    points lie half a step inside.

    Args:
        size_hw: Height and width of the window in pixels.
        points_per_side: Points along each axis.
        min_spacing_px: Along an axis where they would lie closer than this there are fewer points, at least
            one: a picture of 32x32 pixels needs no 256 prompts.

    Example:
        >>> point_grid((2, 4), points_per_side=2).tolist()
        [[1.0, 0.5], [3.0, 0.5], [1.0, 1.5], [3.0, 1.5]]
    """
    height, width = size_hw
    x, y = np.meshgrid(
        _evenly(width, points_per_side, min_spacing_px), _evenly(height, points_per_side, min_spacing_px)
    )
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def every_second(points_xy: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return (n,) which points of a grid lie on every second of its columns and of its rows.

    Example:
        >>> every_second(point_grid((3, 3), points_per_side=3)).reshape(3, 3).astype(int).tolist()
        [[1, 0, 1], [0, 0, 0], [1, 0, 1]]
    """
    chosen = np.ones(len(points_xy), dtype=bool)
    for places in points_xy.T:
        _, position = np.unique(places, return_inverse=True)
        chosen &= position % 2 == 0
    return chosen


def crop_windows(
    size_hw: tuple[int, int], *, crop_layers: int, overlap_ratio: float, min_window_px: int = 0
) -> list[CropWindow]:
    """Return the whole picture and, for each further layer i, its 2^i by 2^i overlapping windows.

    Args:
        size_hw: Height and width of the picture in pixels.
        crop_layers: Layers besides the whole picture, 0 or more.
        overlap_ratio: Overlap in the first layer as a share of the shorter side; halved in each further
            layer. Meta's default is 512 / 1500.
        min_window_px: A layer whose windows have a shorter side is left out: SAM 2 enlarges every window
            to 1024, and there is nothing more to see in a few pixels.
    """
    height, width = size_hw
    windows = [CropWindow(BoxXYXY(0, 0, width, height), 0)]
    for layer in range(1, crop_layers + 1):
        count = 2**layer
        overlap_px = int(overlap_ratio * min(height, width) * (2 / count))
        # ceil, so that count windows less their overlaps cover the whole side
        window_w = math.ceil((overlap_px * (count - 1) + width) / count)
        window_h = math.ceil((overlap_px * (count - 1) + height) / count)
        if min(window_w, window_h) < min_window_px:
            break
        windows += [
            CropWindow(
                BoxXYXY(x, y, min(x + window_w, width), min(y + window_h, height)),
                layer,
            )
            for x in ((window_w - overlap_px) * i for i in range(count))
            for y in ((window_h - overlap_px) * i for i in range(count))
            if x < width and y < height  # the sides of small pictures are covered before the last window
        ]
    return windows


def tile_windows(
    size_hw: tuple[int, int], *, layers: int, overlap: float, min_window_px: int = 0
) -> list[CropWindow]:
    """Return the whole picture and, for each further layer i, its (i + 1) by (i + 1) overlapping windows.

    Where Meta's layers double, these grow by one: 3x3 windows find small objects that 2x2 do not, for half
    the cost of 4x4. A picture that is more than twice as long as it is wide is a row of panels that are not,
    each with windows and a grid of its own: squashed to a square as a whole, its objects would be slivers.

    Args:
        size_hw: Height and width of the picture in pixels.
        layers: Layers besides the whole picture, 0 or more.
        overlap: Overlap of neighbours as a share of the window, 0 to 0.5.
        min_window_px: As in ``crop_windows``.
    """
    height, width = size_hw
    down, across = panels(size_hw)
    windows = [CropWindow(BoxXYXY(0, 0, width, height), 0)]
    for layer in range(0 if down * across > 1 else 1, layers + 1):
        rows = _overlapping(height, (layer + 1) * down, overlap)
        columns = _overlapping(width, (layer + 1) * across, overlap)
        sides_px = [end - start for start, end in (*rows, *columns)]
        # the windows of a strip are enlarged most; see docs/research/mask-generation.md
        smallest_px = min_window_px if down * across == 1 or layer == 0 else _MIN_STRIP_WINDOW_PX
        if min(sides_px) < max(smallest_px if layer > 0 else 2, 2):
            break
        windows += [CropWindow(BoxXYXY(x1, y1, x2, y2), layer) for y1, y2 in rows for x1, x2 in columns]
    return windows


_PANEL_ASPECT = 2.0
"""A picture that is longer than this times its shorter side is cut into panels that are not."""

_MIN_STRIP_WINDOW_PX = 160
"""No further windows of a panel whose shorter side has fewer pixels."""

_MAX_PANELS = 32


def panels(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return into how many panels a picture is cut, down and across; one of the two is 1.

    Example:
        >>> panels((800, 1200)), panels((200, 4800)), panels((3000, 1000))
        ((1, 1), (1, 12), (2, 1))
    """
    height, width = size_hw
    count = min(math.ceil(max(height, width) / (_PANEL_ASPECT * min(height, width))), _MAX_PANELS)
    return (count, 1) if height > width else (1, count)


def _overlapping(length: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Return ``count`` equal parts of a side that overlap by a share of the part."""
    part = length / (count - (count - 1) * overlap)
    starts = [i * part * (1 - overlap) for i in range(count)]
    return [(round(start), min(round(start + part), length)) for start in starts]


def _evenly(length_px: int, count: int, min_spacing_px: int) -> npt.NDArray[np.float32]:
    if min_spacing_px > 0:
        count = min(count, max(length_px // min_spacing_px, 1))
    return (np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(length_px / count)
