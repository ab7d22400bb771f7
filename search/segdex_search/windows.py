"""Windows of long pictures, such as panoramas, strips and screenshots of whole pages.

A segmenter squashes every picture to a square, and an embedder's map has few cells along the shorter side.
In a picture that is longer than ``LONG_ASPECT``, both lose what they look for. A prompt is thus decoded in a
window around it, which has that aspect. Pictures of usual shapes are their own window.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from segdex_core.geometry import LONG_ASPECT, BoxXYXY
from segdex_core.masks import BoolMask, decode_mask, encode_mask, mask_box
from segdex_search.click import PromptedMask, ThingPrompt

_MARGIN = 1.25
"""Ratio of the length of a window to what has to lie inside it, at least."""


def is_long(size_hw: tuple[int, int]) -> bool:
    """Return whether a picture has windows."""
    return max(size_hw) > LONG_ASPECT * min(size_hw)


def windows_around(box: BoxXYXY, size_hw: tuple[int, int]) -> Iterator[BoxXYXY]:
    """Yield windows around a box, each twice as long as the one before it, and the whole picture last.

    They start at multiples of half the shorter side of the picture, so that the next prompt nearby has the
    same window, which is encoded already.

    Args:
        box: What has to lie inside the window.
        size_hw: Height and width of the image in pixels.

    Example:
        >>> [tuple(window) for window in windows_around(BoxXYXY(300, 40, 310, 60), (100, 900))]
        [(200, 0, 400, 100), (100, 0, 500, 100), (0, 0, 800, 100), (0, 0, 900, 100)]
        >>> [tuple(window) for window in windows_around(BoxXYXY(30, 40, 31, 60), (100, 150))]
        [(0, 0, 150, 100)]
    """
    height, width = size_hw
    shorter, longer = sorted(size_hw)
    first, last = (box.x1, box.x2) if width > height else (box.y1, box.y2)
    length = round(LONG_ASPECT * shorter)
    step = max(shorter // 2, 1)
    while length < longer:
        if length >= _MARGIN * (last - first):
            start = round(((first + last) / 2 - length / 2) / step) * step
            start = min(max(start, 0), longer - length)
            if start <= first and last <= start + length:
                yield _part(start, start + length, size_hw)
        length *= 2
    yield BoxXYXY(0, 0, width, height)


def windows_over(size_hw: tuple[int, int]) -> list[BoxXYXY]:
    """Return windows that cover a picture, each half over the next; the picture itself if it is not long.

    Example:
        >>> [tuple(window) for window in windows_over((100, 450))]
        [(0, 0, 200, 100), (100, 0, 300, 100), (200, 0, 400, 100), (250, 0, 450, 100)]
    """
    shorter, longer = sorted(size_hw)
    if not is_long(size_hw):
        return [BoxXYXY(0, 0, size_hw[1], size_hw[0])]
    length = round(LONG_ASPECT * shorter)
    starts = [*range(0, longer - length, max(shorter, 1)), longer - length]
    return [_part(start, start + length, size_hw) for start in starts]


def extent_of(prompt: ThingPrompt, earlier: BoolMask | None, size_hw: tuple[int, int]) -> BoxXYXY:
    """Return the smallest box around the points, the box and the earlier mask of a prompt, in the image."""
    xs = [x for x, _ in prompt.points_xy]
    ys = [y for _, y in prompt.points_xy]
    if prompt.box_xyxy is not None:
        xs += prompt.box_xyxy[::2]
        ys += prompt.box_xyxy[1::2]
    if earlier is not None and earlier.any():
        inside = mask_box(earlier)
        xs += [inside.x1, inside.x2 - 1]
        ys += [inside.y1, inside.y2 - 1]
    return BoxXYXY(int(min(xs)), int(min(ys)), int(max(xs)) + 1, int(max(ys)) + 1).clip(size_hw)


def is_cut(mask: PromptedMask, window: BoxXYXY, size_hw: tuple[int, int]) -> bool:
    """Return whether a mask of a window ends where the window cuts the picture."""
    (height, width), (window_w, window_h) = size_hw, window.size_wh
    return mask.area_px > 0 and (
        (mask.box.x1 == 0 and window.x1 > 0)
        or (mask.box.y1 == 0 and window.y1 > 0)
        or (mask.box.x2 == window_w and window.x2 < width)
        or (mask.box.y2 == window_h and window.y2 < height)
    )


def placed(mask: PromptedMask, window: BoxXYXY, size_hw: tuple[int, int]) -> PromptedMask:
    """Return a mask of a window as a mask of the whole image; its logits stay those of the window."""
    if window.size_wh == (size_hw[1], size_hw[0]):
        return mask
    full = np.zeros(size_hw, dtype=bool)
    full[window.y1 : window.y2, window.x1 : window.x2] = decode_mask(mask.mask)
    box = mask.box.shift(window.x1, window.y1) if mask.area_px else mask.box
    return replace(mask, mask=encode_mask(full), box=box)


def _part(start: int, end: int, size_hw: tuple[int, int]) -> BoxXYXY:
    height, width = size_hw
    return BoxXYXY(start, 0, end, height) if width > height else BoxXYXY(0, start, width, end)
