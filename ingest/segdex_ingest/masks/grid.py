"""The point grid and the crop layers of automatic mask generation.

Both follow Meta's ``SAM2AutomaticMaskGenerator`` (facebookresearch/sam2 2b90b9f, ``sam2/utils/amg.py``).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdex_core.geometry import LONG_ASPECT, BoxXYXY


@dataclass(frozen=True, slots=True)
class CropWindow:
    """A part of the image that is encoded and prompted separately.

    Attributes:
        box: Box of the part, in pixels of the full image.
        layer: 0 for the whole image and its panels; further layers have more and smaller windows.
    """

    box: BoxXYXY
    layer: int


def point_grid(
    size_hw: tuple[int, int], *, points_per_side: int, min_spacing_px: int = 0
) -> npt.NDArray[np.float32]:
    """Return (n, 2) points (x, y) in pixels, evenly spaced over the window, row by row from the top left.

    Each axis is scaled by its own length, because SAM 2 squashes every image to a square. The outermost
    points lie half a step inside the window.

    Args:
        size_hw: Height and width of the window in pixels.
        points_per_side: Points along each axis.
        min_spacing_px: Minimum spacing of points. A short axis has fewer points, at least one: an image of
            32x32 pixels does not need 256 prompts.

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
    """Return (n,) bool, whether each point of a grid lies on every second column and every second row.

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
    """Return the whole image and, for each further layer i, its 2^i by 2^i overlapping windows.

    Args:
        size_hw: Height and width of the image in pixels.
        crop_layers: Number of layers besides the whole image, 0 or more.
        overlap_ratio: Overlap in the first layer as a share of the shorter side; halved in each further
            layer. Meta's default is 512 / 1500.
        min_window_px: Minimum shorter side of a window. Layers with smaller windows are left out: SAM 2
            enlarges every window to 1024 pixels, and a few pixels have no more detail.
    """
    height, width = size_hw
    windows = [CropWindow(BoxXYXY(0, 0, width, height), 0)]
    for layer in range(1, crop_layers + 1):
        count = 2**layer
        overlap_px = int(overlap_ratio * min(height, width) * (2 / count))
        # ceil, so that ``count`` overlapping windows cover the whole side
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
            if x < width and y < height  # fewer windows cover the side of a small image
        ]
    return windows


def tile_windows(
    size_hw: tuple[int, int], *, layers: int, overlap: float, min_window_px: int = 0
) -> list[CropWindow]:
    """Return the whole image and, for each further layer i, its (i + 1) by (i + 1) overlapping windows.

    Meta's layers double the windows per side. These layers add one: 3x3 windows find small objects that 2x2
    windows miss, for half the cost of 4x4. An image whose longer side is more than twice its shorter side is
    split into shorter panels, each with its own windows and point grid: squashed to one square, its objects
    would be slivers.

    Args:
        size_hw: Height and width of the image in pixels.
        layers: Number of layers besides the whole image, 0 or more.
        overlap: Overlap of neighboring windows as a share of the window, 0 to 0.5.
        min_window_px: Minimum shorter side of a window, see ``crop_windows``.
    """
    height, width = size_hw
    down, across = panels(size_hw)
    windows = [CropWindow(BoxXYXY(0, 0, width, height), 0)]
    for layer in range(0 if down * across > 1 else 1, layers + 1):
        rows = _overlapping(height, (layer + 1) * down, overlap)
        columns = _overlapping(width, (layer + 1) * across, overlap)
        sides_px = [end - start for start, end in (*rows, *columns)]
        # windows of a long image are enlarged most; see docs/research/mask-generation.md
        smallest_px = min_window_px if down * across == 1 or layer == 0 else _MIN_STRIP_WINDOW_PX
        if min(sides_px) < max(smallest_px if layer > 0 else 2, 2):
            break
        windows += [CropWindow(BoxXYXY(x1, y1, x2, y2), layer) for y1, y2 in rows for x1, x2 in columns]
    return windows


_MIN_STRIP_WINDOW_PX = 160
"""Minimum shorter side of a window in the further layers of a panel."""

_MAX_PANELS = 32


def panels(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the number of panels of an image, down and across; one of the two is 1.

    Example:
        >>> panels((800, 1200)), panels((200, 4800)), panels((3000, 1000))
        ((1, 1), (1, 12), (2, 1))
    """
    height, width = size_hw
    count = min(math.ceil(max(height, width) / (LONG_ASPECT * min(height, width))), _MAX_PANELS)
    return (count, 1) if height > width else (1, count)


def _overlapping(length: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Return ``count`` equal parts of a side, each overlapping the next by a share of its length."""
    part = length / (count - (count - 1) * overlap)
    starts = [i * part * (1 - overlap) for i in range(count)]
    return [(round(start), min(round(start + part), length)) for start in starts]


def _evenly(length_px: int, count: int, min_spacing_px: int) -> npt.NDArray[np.float32]:
    if min_spacing_px > 0:
        count = min(count, max(length_px // min_spacing_px, 1))
    return (np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(length_px / count)
