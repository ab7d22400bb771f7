"""Loaded images of any mode to RGB pixels, and the frame of an animation that shows something."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from PIL import Image

from segdex_core.media.bands import bands
from segdex_core.media.colour import ToRGB, rgb_converter
from segdex_core.media.formats import Kind
from segdex_core.media.grey import grey_converter, is_wide_grey
from segdex_core.media.ground import WHITE, ground_for, laid_on
from segdex_core.media.pillow import PILLOW_ERRORS
from segdex_core.records import RGBImage

MAX_FRAMES = 32
"""Frames of an animation that are looked at for the first one that shows something."""

_BLANK_LEVELS, _BLANK_SHARE = 16, 0.001
"""A frame is blank if a smaller share of its pixels differs from the median by so many levels of 255."""


def shown_pixels(image: Image.Image, data: bytes, kind: Kind) -> RGBImage:
    """Return the RGB pixels of a loaded image; of an animation that begins blank, those of a later frame.

    Args:
        image: Loaded image of any mode.
        data: Bytes of its file.
        kind: Format of the file.
    """
    pixels = _to_rgb(image, data)
    if _is_animated(image, kind) and _is_blank(pixels):
        return _first_that_shows(image, data, otherwise=pixels)
    return pixels


def turned_upright(pixels: RGBImage, *, orientation: int) -> RGBImage:
    """Undo an EXIF orientation (CIPA DC-008, tag 0x0112: 1 upright, 2 to 8 mirrored or rotated)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _is_animated(image: Image.Image, kind: Kind) -> bool:
    if kind.name == "GIF":  # counting its frames would read all of it
        return True
    return kind.name in ("PNG", "WEBP", "AVIF") and getattr(image, "n_frames", 1) > 1


_BLANK_SAMPLES = 1 << 20


def _is_blank(pixels: RGBImage) -> bool:
    step = max(1, round((pixels.size / _BLANK_SAMPLES) ** 0.5))
    sample = pixels[::step, ::step].reshape(-1, 3).astype(np.int16)
    differs = np.abs(sample - np.median(sample, axis=0)).max(axis=1) >= _BLANK_LEVELS
    return float(differs.mean()) < _BLANK_SHARE


def _first_that_shows(image: Image.Image, data: bytes, *, otherwise: RGBImage) -> RGBImage:
    """Return the next frame that is not blank, unless there is none, or the file is damaged before it."""
    with suppress(*PILLOW_ERRORS):
        for number in range(1, MAX_FRAMES):
            image.seek(number)
            image.load()
            pixels = _to_rgb(image, data)
            if not _is_blank(pixels):
                return pixels
    return otherwise


Part = tuple[Image.Image, Image.Image | None]
"""Colours of a horizontal band as RGB, and its alpha unless it is opaque."""


def _to_rgb(image: Image.Image, data: bytes) -> RGBImage:
    """Return the pixels of a loaded image of any mode as a new (H, W, 3) uint8 array."""
    split = _splitter(image, rgb_converter(image, data))
    places = list(bands(image))

    def part(top: int, bottom: int) -> Part:
        return split(image.crop((0, top, image.width, bottom)))

    kept = [part(*places[0])] if len(places) == 1 else None  # a large image is split twice
    ground = WHITE
    if image.has_transparency_data and not (kept and kept[0][1] is None):
        splits = kept or (part(*place) for place in places)
        ground = ground_for(
            ((one, alpha or Image.new("L", one.size, 255)) for one, alpha in splits), image.size
        )
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, bottom in places:
        colours, alpha = kept[0] if kept else part(top, bottom)
        pixels[top:bottom] = np.asarray(colours if alpha is None else laid_on(colours, alpha, ground))
    return pixels


def _splitter(image: Image.Image, to_rgb: ToRGB) -> Callable[[Image.Image], Part]:
    """Return a function that splits a band into colours and alpha."""
    if is_wide_grey(image):
        to_8_bit, transparent = grey_converter(image), image.info.get("transparency")

        def wide(band: Image.Image) -> Part:
            values = np.asarray(band)
            colours = to_rgb(Image.fromarray(to_8_bit(values)))
            if not isinstance(transparent, int):
                return colours, None
            return colours, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))

        return wide
    if not image.has_transparency_data:
        return lambda band: (to_rgb(band), None)
    return lambda band: _split(band, to_rgb)


def _split(band: Image.Image, to_rgb: ToRGB) -> Part:
    if band.mode == "La":  # Pillow converts premultiplied grey only to LA
        band = band.convert("LA")
    rgba = band.convert("RGBA")
    alpha = rgba.getchannel("A")
    opaque = band.convert("L") if band.mode in ("LA", "L") else rgba.convert("RGB")
    return to_rgb(opaque), None if alpha.getextrema() == (255, 255) else alpha
