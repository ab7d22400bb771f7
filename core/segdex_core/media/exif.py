"""Orientation and position from EXIF. Broken metadata counts as missing and never raises."""

import math
from collections.abc import Callable
from typing import TypeVar

from PIL import ExifTags, Image

from segdex_core.media.pillow import PILLOW_ERRORS

T = TypeVar("T")


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF (or XMP) orientation of a loaded image, 1 to 8; 1 if missing or invalid."""

    def read() -> int:
        value = image.getexif().get(ExifTags.Base.Orientation)
        return value if isinstance(value, int) and 1 <= value <= 8 else 1

    return or_none(read) or 1


def place_of(image: Image.Image) -> tuple[float, float] | None:
    """Return latitude and longitude in degrees, north and east positive; None unless both are in range."""

    def read() -> tuple[float, float] | None:
        tags = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        latitude = _degrees(tags[ExifTags.GPS.GPSLatitude])
        longitude = _degrees(tags[ExifTags.GPS.GPSLongitude])
        if not (0 <= latitude <= 90 and 0 <= longitude <= 180):  # also rejects NaN
            return None
        north = {"N": 1, "S": -1}[text_of(tags[ExifTags.GPS.GPSLatitudeRef])]
        east = {"E": 1, "W": -1}[text_of(tags[ExifTags.GPS.GPSLongitudeRef])]
        return north * latitude, east * longitude

    return or_none(read)


def or_none(read: Callable[[], T]) -> T | None:
    """Return what ``read`` returns; None if the metadata is broken."""
    try:
        return read()
    except (*PILLOW_ERRORS, MemoryError):  # values of the wrong type raise some of them too
        return None


def text_of(value: object) -> str:
    """Return a text without the zeros and blanks around it.

    Raises:
        TypeError: If it is not a text.
    """
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r}")
    return value.strip("\0 ")


def _degrees(parts: object) -> float:
    """Return degrees, minutes and seconds as degrees."""
    if not isinstance(parts, tuple):
        raise TypeError(f"not degrees, minutes, seconds: {parts!r}")
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    return value if math.isfinite(value) else math.nan
