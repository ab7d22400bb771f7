"""Colours to sRGB: profiles of ICC, and what PNG and AVIF signal instead."""

import re
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from segdex_core.media.png import chunks_of
from segdex_core.media.profiles import profile_of_code_points, profile_of_gamma

ToRGB = Callable[[Image.Image], Image.Image]
"""Converts a band of an image without its alpha to RGB in sRGB."""

_EQUAL_LEVELS = 2
"""Largest difference, of 255, of a profile whose colours count as those of sRGB."""

_MODES_OF_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_GREY_MODES = ("1", "L", "I", "F")
"""How the names of modes with one channel begin."""
_NCLX = re.compile(rb"colrnclx(.{7})", re.DOTALL)
_JP2_PROFILE = re.compile(rb"colr\x02..", re.DOTALL)
_META_BYTES = 1 << 16
"""Where the boxes of AVIF and JPEG 2000 that tell the colours begin at the latest."""


def rgb_converter(image: Image.Image, data: bytes) -> ToRGB:
    """Return the conversion of bands of this image to sRGB.

    A profile is used if it can be read and fits the pixels: one for CMYK or grey with such pixels, one for
    RGB with grey or RGB. A profile of sRGB's own colours costs nothing. Without a profile, RGB is sRGB.

    Args:
        image: Loaded image.
        data: Bytes of its file, for what Pillow does not tell.
    """
    if image.mode == "LAB":
        from_lab = _lab_transform()
        return from_lab.apply
    profile = _profile_of(image, data)
    space = None if profile is None else _space_of(profile)
    if profile is not None and space is not None:
        mode = _MODES_OF_SPACES[space]
        fits = (
            space == "RGB" or (space == "GRAY" and image.mode.startswith(_GREY_MODES)) or space == image.mode
        )
        if fits and not (space == "RGB" and image.mode == "CMYK"):
            transform = _transform(profile, mode)
            if transform is not None:
                return lambda band: transform.apply(band.convert(mode))
    return lambda band: band.convert("RGB")


def _profile_of(image: Image.Image, data: bytes) -> bytes | None:
    """Return the profile of an image; PNG and AVIF may signal one by numbers, JPEG 2000 has it in a box."""
    signalled: bytes | None = None
    if image.format == "PNG":
        numbers = chunks_of(data).get(b"cICP", b"")
        if len(numbers) == 4:
            return profile_of_code_points(numbers[0], numbers[1])  # before all others, says the standard
        if "srgb" not in image.info:
            signalled = profile_of_gamma(image.info.get("gamma"), image.info.get("chromaticity"))
    elif image.format == "AVIF":
        found = _NCLX.search(data[:_META_BYTES])
        if found:
            primaries, transfer = found[1][:2], found[1][2:4]
            signalled = profile_of_code_points(
                int.from_bytes(primaries, "big"), int.from_bytes(transfer, "big")
            )
    elif image.format == "JPEG2000":
        boxed = _JP2_PROFILE.search(data[:_META_BYTES])
        if boxed:
            start = boxed.end()
            signalled = data[start : start + int.from_bytes(data[start : start + 4], "big")]
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and profile else signalled


@lru_cache(maxsize=64)
def _space_of(profile: bytes) -> str | None:
    """Return the colour space of a profile, if it is one of ``_MODES_OF_SPACES``; None if it is broken."""
    space = profile[16:20].decode("ascii", "replace").strip()
    return space if len(profile) >= 128 and profile[36:40] == b"acsp" and space in _MODES_OF_SPACES else None


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion to sRGB; None if the profile is broken, or changes nothing.

    Threads may share it: LittleCMS does not change a transform that it applies.
    """
    try:
        transform = ImageCms.buildTransform(
            ImageCms.getOpenProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.PERCEPTUAL,
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
    probe = _probe(mode)
    changed = np.asarray(transform.apply(probe)).astype(int)
    if np.abs(changed - np.asarray(probe.convert("RGB"))).max() <= _EQUAL_LEVELS:
        return None
    return transform


def _probe(mode: str) -> Image.Image:
    """Return an image with colours from everywhere in the space."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None, :])
    steps = np.linspace(0, 255, 6 if mode == "CMYK" else 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(*[steps] * len(mode), indexing="ij"), axis=-1).reshape(1, -1, len(mode))
    return Image.frombytes(mode, (grid.shape[1], 1), grid.tobytes())


@lru_cache(maxsize=1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
