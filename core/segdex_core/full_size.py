"""Upsampling of the kept 256x256 masks to the size of the image: pure functions on numpy arrays."""

import numpy as np
import numpy.typing as npt

from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask

_ROWS = 512  # image rows that are interpolated at a time

_EIGHT_CONNECTED = np.ones((3, 3), dtype=np.int8)


def upsample_mask(logits: npt.NDArray[np.floating], size_hw: tuple[int, int]) -> tuple[BoolMask, BoxXYXY]:
    """Return the non-empty part of the full-size mask, and its box.

    Logits are interpolated bilinearly (``torch.nn.functional.interpolate(..., align_corners=False)``) and
    thresholded at 0. Only the area that the low-resolution mask reaches is computed, which for most masks is
    a small part of the image.

    Args:
        logits: (h, w) logits of one mask.
        size_hw: Target height and width in pixels.

    Returns:
        The mask inside the box, and a box that contains the whole mask. The box is not always tight; it is
        empty if the mask is empty.
    """
    positive = logits > 0
    rows = np.flatnonzero(positive.any(axis=1))
    columns = np.flatnonzero(positive.any(axis=0))
    if rows.size == 0:
        return np.zeros((0, 0), dtype=bool), BoxXYXY(0, 0, 0, 0)
    y1, y2 = _reach(int(rows[0]), int(rows[-1]), logits.shape[0], size_hw[0])
    x1, x2 = _reach(int(columns[0]), int(columns[-1]), logits.shape[1], size_hw[1])
    values = logits.astype(np.float32, copy=False)
    mask = np.empty((y2 - y1, x2 - x1), dtype=bool)
    left, right, across = _source(x1, x2, logits.shape[1], size_hw[1])
    for start in range(y1, y2, _ROWS):  # in strips: 100 megapixels of floats take 0.4 GB
        stop = min(start + _ROWS, y2)
        low, high, down = _source(start, stop, logits.shape[0], size_hw[0])
        strip = values[low] * (1 - down)[:, None] + values[high] * down[:, None]
        mask[start - y1 : stop - y1] = strip[:, left] * (1 - across) + strip[:, right] * across > 0
    return mask, BoxXYXY(x1, y1, x2, y2)


def full_size_stability(
    logits: npt.NDArray[np.floating], size_hw: tuple[int, int], *, offset: float
) -> float:
    """Return the stability score of one mask, from its (h, w) logits upsampled to ``size_hw``."""
    values = logits.astype(np.float32, copy=False)
    inner, _ = upsample_mask(values - offset, size_hw)
    outer, _ = upsample_mask(values + offset, size_hw)
    return int(np.count_nonzero(inner)) / max(int(np.count_nonzero(outer)), 1)


def clean_small_regions(mask: BoolMask, *, min_region_px: int) -> BoolMask:
    """Return the mask without holes and islands smaller than ``min_region_px`` pixels.

    Regions are 8-connected, as in Meta's ``remove_small_regions``; the largest island is always kept. A
    background region that reaches the edge of the array is not a hole. The input is not modified.
    """
    if min_region_px <= 1 or not mask.any():
        return mask
    from scipy import ndimage  # takes a third of a second, which a client does not need

    padded = np.pad(mask, 1)
    holes, count = ndimage.label(~padded, structure=_EIGHT_CONNECTED)
    areas = np.bincount(holes.ravel(), minlength=count + 1)
    fill = areas < min_region_px
    fill[0] = False  # the mask itself
    fill[holes[0, 0]] = False  # the outside
    filled = padded | fill[holes]
    del holes, padded

    islands, count = ndimage.label(filled, structure=_EIGHT_CONNECTED)
    areas = np.bincount(islands.ravel(), minlength=count + 1)
    areas[0] = 0  # the background
    keep = areas >= min_region_px
    keep[int(areas.argmax())] = True
    keep[0] = False
    cleaned: BoolMask = keep[islands][1:-1, 1:-1]
    return cleaned


def _reach(first: int, last: int, low_res: int, full: int) -> tuple[int, int]:
    """Return the full-size range whose interpolation can read low-resolution cells ``first`` to ``last``."""
    scale = full / low_res
    return max(int(np.floor((first - 0.5) * scale)), 0), min(int(np.ceil((last + 1.5) * scale)), full)


def _source(
    start: int, stop: int, low_res: int, full: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return both low-resolution neighbours of full-size positions, and the weight of the second one."""
    position = (np.arange(start, stop) + 0.5) * (low_res / full) - 0.5
    position = np.maximum(position, 0)
    low = position.astype(np.intp)
    high = np.minimum(low + 1, low_res - 1)
    return low, high, (position - low).astype(np.float32)
