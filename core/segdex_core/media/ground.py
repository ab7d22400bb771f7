"""What lies under transparent pixels: white, or a darker ground from which the picture stands out."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

WHITE, DARK, MIDDLE = 255, 40, 128
"""Grey levels of the grounds, in the order in which they are preferred."""

STANDS_OUT_BY = 32
"""Levels of 255 by which a visible pixel has to differ from the ground in one channel."""

_ENOUGH_OF_OUTLINE, _TOO_MUCH_LOST = 0.5, 1 / 3
_CELLS, _NEAR = 64, 2  # cells of each side of an image, and how many lie between things that are near
_SHARE_OF_CELL = 0.1


def ground_for(parts: Iterable[tuple[Image.Image, Image.Image]], size: tuple[int, int]) -> int:
    """Return the grey level to lay an image on.

    White, unless most of the outline of what is visible would vanish on it, and more than a third of what is
    visible has nothing near it that stands out. So an outlined drawing with a white body stays on white, as
    does a cut-out with a white fringe or a sticker with a white border; white art, and white text beside a
    colored logo, do not. They are laid on ``DARK`` or ``MIDDLE``, from which most of the outline stands out.

    Visible is what has an alpha of at least 128, or half of the largest alpha if that is less. The outline is
    what has a transparent one among its four neighbours. Near is within a thirtieth of the image.

    Args:
        parts: RGB colours and alpha of each horizontal band, from top to bottom.
        size: Width and height of the image in pixels.
    """
    outline, standing_out = 0, np.zeros(3, np.int64)
    cells = _Cells(size)
    for colours, alpha in parts:
        lowest, highest = alpha.getextrema()
        if highest == 0:
            cells.skip(alpha.height)
            continue
        cover = np.asarray(alpha)
        solid = cover >= max(min(128, (int(cover.max()) + 1) // 2), 1)
        cells.add(solid, solid & (np.asarray(_contrast_to_white(colours, alpha)) >= STANDS_OUT_BY))
        if lowest == highest:
            continue
        edge = np.nonzero(_edge(solid))
        shown, weight = np.asarray(colours)[edge].astype(np.int16), cover[edge].astype(np.int32)
        outline += len(weight)
        for n, level in enumerate((WHITE, DARK, MIDDLE)):
            differs = np.abs(shown - level).max(axis=1) * weight // 255
            standing_out[n] += np.count_nonzero(differs >= STANDS_OUT_BY)
    if standing_out[0] >= _ENOUGH_OF_OUTLINE * outline or cells.lost_share() <= _TOO_MUCH_LOST:
        return WHITE
    return DARK if standing_out[1] >= standing_out[2] else MIDDLE


def laid_on(colours: Image.Image, alpha: Image.Image, ground: int) -> Image.Image:
    """Return RGB colours over a ground."""
    laid = Image.new("RGB", colours.size, (ground,) * 3)
    laid.paste(colours, mask=alpha)
    return laid


class _Cells:
    """Counts of pixels in a coarse grid over an image, whose bands come one after the other."""

    def __init__(self, size: tuple[int, int]) -> None:
        width, self._height = size
        self._shape = min(_CELLS, self._height), min(_CELLS, width)
        self._starts = np.arange(self._shape[1]) * width // self._shape[1]
        self._visible, self._seen = np.zeros(self._shape, np.int64), np.zeros(self._shape, np.int64)
        self._top = 0

    def add(self, visible: npt.NDArray[np.bool_], seen: npt.NDArray[np.bool_]) -> None:
        """Count the pixels of the next band that are visible, and those of them that stand out from white."""
        rows = (self._top + np.arange(len(visible))) * self._shape[0] // self._height
        for counts, mask in ((self._visible, visible), (self._seen, seen)):
            by_column = np.add.reduceat(mask.view(np.uint8), self._starts, axis=1, dtype=np.int32)
            np.add.at(counts, rows, by_column)
        self._top += len(visible)

    def skip(self, height: int) -> None:
        """Go on to the band after an empty one."""
        self._top += height

    def lost_share(self) -> float:
        """Return the share of the visible pixels that have nothing near them that stands out."""
        near = (self._seen > 0) & (self._seen >= _SHARE_OF_CELL * self._visible)
        for _ in range(_NEAR):
            near = _grown(near)
        return float(self._visible[~near].sum() / max(self._visible.sum(), 1))


def _contrast_to_white(colours: Image.Image, alpha: Image.Image) -> Image.Image:
    """Return by how many levels each pixel differs from a white ground: its lowest channel decides."""
    red, green, blue = colours.split()
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    return ImageChops.multiply(ImageChops.invert(darkest), alpha)


def _edge(solid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels of a mask that have a neighbour outside it, of the four; beyond the image is none."""
    return solid & _grown(~solid)


def _grown(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return a mask with the four neighbours of its pixels."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown
