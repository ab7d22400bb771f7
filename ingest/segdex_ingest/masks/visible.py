"""Whether there is something to see at a segment: SAM outlines blank paper too, and is sure of it.

A segmenter answers every prompt. On a white page its mask is the page, with a predicted IoU of .99. So a
segment has to be visible: its surroundings must differ from a smooth shading by more than noise does. The
rule reads pixels alone, and holds for the masks of any segmenter.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from segdex_core.geometry import BoxXYXY
from segdex_core.records import RGBImage

Floats = npt.NDArray[np.float32]

_MARGIN, _MIN_MARGIN_PX = 0.1, 4
"""What lies around a box belongs to the view: share of its longer side, and the least in pixels."""

_VIEW_PX = 128
"""Views whose longer side is at least twice this are downscaled: a large object is seen from further away."""

_BLOCK_PX = 4
"""Side of the blocks whose means are compared; small views have smaller blocks, at least six along a side."""

_CURVED_FROM = 12
"""Blocks along an axis from which a shading may be curved along it, as lenses make it. In fewer blocks, a
curved shading would fit a real object."""

_NOISE_STD = 4.5
"""Standard deviations that the mean of one block in a thousand hardly reaches by noise alone."""

_NOISE_FROM_PX = 12
"""Shorter side of a view in which noise can be told from an object."""

_MAD = 0.6745
"""Median of the absolute values of a normal distribution, in standard deviations."""


def visible_contrast(image: RGBImage, box: BoxXYXY) -> float:
    """Return by how many levels of 255 the surroundings of a box differ from a smooth shading, beyond noise.

    The value is that of the channel and of the block that differ most. It is about 0 or less on paper, in
    front of a lit wall, in a clear sky and in noise.

    Args:
        image: (H, W, 3) uint8, the whole image.
        box: Box of a segment.
    """
    view = _view(image, box)
    side = min(view.shape[:2])
    block_px = _BLOCK_PX if side >= 6 * _BLOCK_PX else max(side // 6, 1)
    means = _block_means(view, block_px)
    rough = np.abs(means - _shading(means)).max(axis=(0, 1))
    noise = _noise_std(view) if side >= _NOISE_FROM_PX else np.zeros(3, np.float32)
    return float((rough - _NOISE_STD / block_px * noise).max())


def _view(image: RGBImage, box: BoxXYXY) -> Floats:
    """Return the (h, w, 3) pixels of a box with its margin, averaged where the box is large."""
    margin = max(_MIN_MARGIN_PX, int(_MARGIN * max(box.size_wh)))
    rows = slice(max(box.y1 - margin, 0), box.y2 + margin)
    shown = image[rows, max(box.x1 - margin, 0) : box.x2 + margin]
    factor = max(shown.shape[:2]) // _VIEW_PX
    if factor > 1:
        shown = np.asarray(Image.fromarray(np.ascontiguousarray(shown)).reduce(factor))
    return shown.astype(np.float32)


def _block_means(view: Floats, block_px: int) -> Floats:
    """Return the (h // b, w // b, 3) means of the whole blocks of a view."""
    rows, columns = view.shape[0] // block_px, view.shape[1] // block_px
    whole = view[: rows * block_px, : columns * block_px]
    means: Floats = whole.reshape(rows, block_px, columns, block_px, 3).mean(axis=(1, 3))
    return means


def _shading(means: Floats) -> Floats:
    """Return the (h, w, 3) plane, or curved surface, that is nearest to the means by least squares."""
    rows, columns = means.shape[:2]
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j])
    terms = [np.ones(rows * columns), x, y]
    if columns >= _CURVED_FROM:
        terms.append(x * x)
    if rows >= _CURVED_FROM:
        terms.append(y * y)
    if min(rows, columns) >= _CURVED_FROM:
        terms.append(x * y)
    surface = np.stack(terms, axis=1)
    weights, *_ = np.linalg.lstsq(surface, means.reshape(-1, 3), rcond=None)
    fitted: Floats = (surface @ weights).reshape(means.shape).astype(np.float32)
    return fitted


def _noise_std(view: Floats) -> Floats:
    """Return the (3,) standard deviations of the noise between neighboring pixels.

    They are of the finest diagonal wavelet, by its median, which edges do not move (Donoho and Johnstone
    1994, "Ideal spatial adaptation by wavelet shrinkage").
    """
    height, width = (length // 2 * 2 for length in view.shape[:2])
    upper, lower = view[:height:2, :width], view[1:height:2, :width]
    diagonal = (upper[:, ::2] - upper[:, 1::2] - lower[:, ::2] + lower[:, 1::2]) / 2
    std: Floats = (np.median(np.abs(diagonal), axis=(0, 1)) / _MAD).astype(np.float32)
    return std
