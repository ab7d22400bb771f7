"""Orientation, capture time and position from EXIF. Broken EXIF counts as missing and never raises."""

import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from PIL import ExifTags, Image

T = TypeVar("T")

_BROKEN_EXIF = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""Exceptions that Pillow and values of the wrong type raise for broken EXIF."""


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF (or XMP) orientation of a loaded image, 1 to 8; 1 if missing or invalid."""

    def read() -> int:
        value = image.getexif().get(ExifTags.Base.Orientation)
        return value if isinstance(value, int) and 1 <= value <= 8 else 1

    return _or_none(read) or 1


def captured_s_of(image: Image.Image) -> float | None:
    """Return ``DateTimeOriginal`` in seconds since 1970 UTC; a time without an offset is taken as UTC."""

    def read() -> float:
        tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
        taken = datetime.strptime(
            _text(tags[ExifTags.Base.DateTimeOriginal])[:19], "%Y:%m:%d %H:%M:%S"
        ).replace(tzinfo=UTC)
        offset = _or_none(lambda: datetime.strptime(_text(tags[ExifTags.Base.OffsetTimeOriginal]), "%z"))
        return taken.replace(tzinfo=offset.tzinfo if offset else UTC).timestamp()

    return _or_none(read)


def place_of(image: Image.Image) -> tuple[float, float] | None:
    """Return latitude and longitude in degrees, north and east positive; None unless both are in range."""

    def read() -> tuple[float, float] | None:
        tags = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        latitude = _degrees(tags[ExifTags.GPS.GPSLatitude])
        longitude = _degrees(tags[ExifTags.GPS.GPSLongitude])
        if not (0 <= latitude <= 90 and 0 <= longitude <= 180):  # also rejects NaN
            return None
        north = {"N": 1, "S": -1}[_text(tags[ExifTags.GPS.GPSLatitudeRef])]
        east = {"E": 1, "W": -1}[_text(tags[ExifTags.GPS.GPSLongitudeRef])]
        return north * latitude, east * longitude

    return _or_none(read)


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except _BROKEN_EXIF:
        return None


def _text(value: object) -> str:
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
