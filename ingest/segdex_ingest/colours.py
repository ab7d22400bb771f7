"""Colours of segments: the shares of the eleven basic colour terms inside a mask.

A table gives the shares of the terms for each of 32 x 32 x 32 colours, as van de Weijer et al. do ("Learning
Color Names for Real-World Applications", 2009), but it is computed from Munsell samples and not learned from
pictures. A colour is shared between the terms by its distance from the nearest sample of each.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from segdex_core.colours import COLOUR_NAMES, ColourShares
from segdex_core.masks import BoolMask, decode_mask, mask_box
from segdex_core.records import RGBImage, Segment
from segdex_ingest.munsell import MUNSELL_SAMPLES

CHROMA_SCALE = 2.5
"""What a and b of OKLab count beside lightness. It and ``SOFTNESS`` name the colours of the xkcd survey best,
see docs/research/search.md."""

SOFTNESS = 0.055
"""Standard deviation, in the scaled OKLab, of the normal density by which terms share a colour."""

BORDER_SHARE = 1 / 250
"""Width of the border that is left out as a share of the longer side of the picture, at least 1 pixel: it
mixes with the background, and masks are a pixel or two off."""

MIN_INNER_SHARE = 0.4
"""Share of a mask that must be left without its border; else a narrower border, or none, is left out."""

_BITS = 5  # of each channel
_ENOUGH_PX = 1 << 16  # pixels of a mask that are counted; a larger one is sampled on a grid

Shares = npt.NDArray[np.float64]
"""(11,) float64, 0 to 1, in the order of ``COLOUR_NAMES``."""


def with_colours(image: RGBImage, segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments of an image with their colours measured.

    Args:
        image: (H, W, 3) uint8.
        segments: Segments with masks of the image's size.
    """
    cells = colour_cells(image)
    return [replace(segment, colours=colour_shares(cells, decode_mask(segment.mask))) for segment in segments]


def colour_cells(image: RGBImage) -> npt.NDArray[np.uint16]:
    """Return for each pixel of an image its row of ``colour_table``, (H, W) uint16."""
    high = (image >> (8 - _BITS)).astype(np.uint16)
    red, green, blue = high[..., 0], high[..., 1], high[..., 2]
    return (red << (2 * _BITS) | green << _BITS | blue).astype(np.uint16)


def colour_shares(cells: npt.NDArray[np.uint16], mask: BoolMask) -> ColourShares:
    """Return the shares of the eleven colours inside a mask, without its border.

    Args:
        cells: (H, W) ``colour_cells`` of the image.
        mask: (H, W) bool, with at least one pixel.

    Raises:
        ValueError: If the mask is empty, or of another size.

    Example:
        >>> red = np.full((8, 8, 3), (190, 30, 40), np.uint8)
        >>> colour_shares(colour_cells(red), np.ones((8, 8), bool)).share("red") > 0.99
        True
    """
    if cells.shape != mask.shape or not mask.any():
        raise ValueError(f"a mask must have a pixel and the size {cells.shape}, but has {mask.shape}")
    around = _around(mask)
    inside = cells[around][_inner(mask[around], border_px=max(round(max(mask.shape) * BORDER_SHARE), 1))]
    inside = inside[:: max(len(inside) // _ENOUGH_PX, 1)]
    counts = np.bincount(inside, minlength=1 << (3 * _BITS))
    present = np.flatnonzero(counts)
    return _rounded(counts[present] @ colour_table()[present] / len(inside))


@lru_cache(maxsize=1)
def colour_table() -> npt.NDArray[np.float64]:
    """Return the shares of the terms for the middle of each cell of colours, (32768, 11), rows of sum 1."""
    steps = (np.arange(1 << _BITS) + 0.5) * (255 / (1 << _BITS))
    red, green, blue = np.meshgrid(steps, steps, steps, indexing="ij")
    table = shares_of(np.stack([red, green, blue], axis=-1).reshape(-1, 3))
    table.flags.writeable = False
    return table


def shares_of(colours: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the shares of the terms for some colours, (n, 11), rows of sum 1.

    Args:
        colours: (n, 3) sRGB, 0 to 255.
    """
    points = _scaled_oklab(colours)
    squared = np.stack([_nearest_squared(points, samples) for samples in _samples()], axis=1)
    squared -= squared.min(axis=1, keepdims=True)
    shares = np.exp(-squared / (2 * SOFTNESS**2))
    normed: npt.NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return normed


def _nearest_squared(
    points: npt.NDArray[np.float64], samples: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the squared distance of each of n points from the nearest sample, (n,)."""
    squared: npt.NDArray[np.float64] = (points**2).sum(axis=1) - 2 * (
        points @ samples.T - (samples**2).sum(axis=1) / 2
    ).max(axis=1)
    return squared


def _samples() -> list[npt.NDArray[np.float64]]:
    """Return the samples of each term, (n, 3) of the scaled OKLab."""
    codes = [re.findall(r"\b[0-9a-f]{6}\b", MUNSELL_SAMPLES[name]) for name in COLOUR_NAMES]
    return [_scaled_oklab(np.array([list(bytes.fromhex(code)) for code in some], float)) for some in codes]


def _scaled_oklab(colours: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return sRGB colours, 0 to 255, in OKLab (Ottosson 2020) with a and b times ``CHROMA_SCALE``."""
    channels = colours / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    lab: npt.NDArray[np.float64] = np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T
    return lab * (1.0, CHROMA_SCALE, CHROMA_SCALE)


# https://bottosson.github.io/posts/oklab, public domain
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _around(mask: BoolMask) -> tuple[slice, slice]:
    """Return the rows and columns of a mask with a pixel, and one more on each side that is in the picture.

    At the edge of this part a pixel is off the mask or at the edge of the picture, so that the part has the
    border of the whole.
    """
    box = mask_box(mask)
    return slice(max(box.y1 - 1, 0), box.y2 + 1), slice(max(box.x1 - 1, 0), box.x2 + 1)


def _inner(mask: BoolMask, *, border_px: int) -> BoolMask:
    """Return a mask without its border, or with a narrower border left out where little would be left."""
    least = MIN_INNER_SHARE * np.count_nonzero(mask)
    inner = mask
    for _ in range(border_px):
        narrower = _eroded(inner)
        if np.count_nonzero(narrower) < least:
            break
        inner = narrower
    return inner


def _eroded(mask: BoolMask) -> BoolMask:
    """Return a mask without the pixels beside one that is off it; the edge of the picture is no border."""
    padded = np.pad(mask, 1, constant_values=True)
    inner: BoolMask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inner


def _rounded(shares: Shares) -> ColourShares:
    """Return shares as thousandths that add up to 1,000: the largest remainders are rounded up."""
    exact = shares / shares.sum() * 1000
    whole = np.floor(exact).astype(int)
    lacking = 1000 - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:lacking]] += 1
    return ColourShares(tuple(whole.tolist()))
