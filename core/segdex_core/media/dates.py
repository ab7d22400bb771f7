"""When a picture was taken, from the metadata that cameras, phones, scanners and editors write."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime

from PIL import ExifTags, Image, ImageFile, IptcImagePlugin

from segdex_core.media.exif import or_none, text_of
from segdex_core.media.png import chunks_of
from segdex_core.wire.limits import CapturedFrom

FIRST_YEAR = 1826
"""The year of the oldest photograph; an earlier date is a mistake."""

_DAY_S = 86_400.0
_BASE, _GPS = ExifTags.Base, ExifTags.GPS


@dataclass(frozen=True, slots=True)
class Captured:
    """When a picture was taken.

    Attributes:
        at_s: Seconds since 1970 UTC.
        source: Metadata that says so.
    """

    at_s: float
    source: CapturedFrom


def captured_of(image: Image.Image, data: bytes, *, now_s: float) -> Captured | None:
    """Return when a picture was taken, from the first of its dates that can be true; None if there is none.

    First come the dates of the scene: EXIF ``DateTimeOriginal``, XMP ``exif:DateTimeOriginal`` and
    ``photoshop:DateCreated``, IPTC 2:55 and 2:60. Then those of the file: EXIF ``DateTimeDigitized``, XMP
    ``xmp:CreateDate``, GPS, PNG ``Creation Time``. Those of a change are last: EXIF ``DateTime``, PNG
    ``tIME``. So a scan of an old print has the date of the print. A time without a zone is taken as UTC, a
    day without a time begins at midnight. A date before ``FIRST_YEAR``, or more than a day after ``now_s``,
    is passed over.

    Args:
        image: Loaded image.
        data: Bytes of its file, for the chunks of PNG.
        now_s: Seconds since 1970 UTC.
    """
    for source, read in _sources(image, data):
        found = or_none(read)
        if found is not None and found.year >= FIRST_YEAR:
            at_s = or_none(found.timestamp)
            if at_s is not None and at_s <= now_s + _DAY_S:
                return Captured(at_s, source)
    return None


def parse_date(text: str, zone: tzinfo = UTC) -> datetime | None:
    """Return a date in any form of EXIF, XMP, IPTC and ISO 8601; None if it is none.

    A year alone, or a year and a month, is its first day, as for old prints. A time that does not exist is
    midnight.

    Example:
        >>> parse_date("2015:07:04 10:00:00.25+02:00").isoformat()
        '2015-07-04T10:00:00.250000+02:00'
    """
    match = _DATE.match(text.strip("\0 \t\r\n"))
    if match is None:
        return None
    year, month, day = int(match["year"]), int(match["month"] or 0) or 1, int(match["day"] or 0) or 1
    found = datetime(year, month, day, tzinfo=_zone(match["zone"]) or zone)
    hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    if hour > 23 or minute > 59 or second > 60:
        return found
    fraction = float("0." + match["fraction"]) if match["fraction"] else 0.0
    return found + timedelta(hours=hour, minutes=minute, seconds=second + fraction)


_DATE = re.compile(
    r"(?P<year>\d{4})(?:[:/.-]?(?P<month>\d{2})(?:[:/.-]?(?P<day>\d{2})"
    r"(?:[T ]+(?P<hour>\d{1,2}):?(?P<minute>\d{2})(?::?(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9})\d*)?)?"
    r"\s*(?P<zone>Z|[+-]\d{2}:?\d{2})?)?)?)?(?!\d)",
    re.ASCII,
)
_ZONE = re.compile(r"(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2})", re.ASCII)


def _zone(text: str | None) -> tzinfo | None:
    if text == "Z":
        return UTC
    match = _ZONE.fullmatch((text or "").strip("\0 "))
    if match is None:
        return None
    offset = timedelta(hours=int(match["hours"]), minutes=int(match["minutes"]))
    return timezone(-offset if match["sign"] == "-" else offset) if offset < timedelta(days=1) else None


Read = Callable[[], datetime | None]


def _sources(image: Image.Image, data: bytes) -> Iterator[tuple[CapturedFrom, Read]]:
    """Yield the places of a date in the order of ``captured_of``."""
    yield "exif", lambda: _exif_date(image, _BASE.DateTimeOriginal)
    yield "xmp", lambda: _xmp_date(image, "exif:DateTimeOriginal")
    yield "xmp", lambda: _xmp_date(image, "photoshop:DateCreated")
    yield "iptc", lambda: _iptc_date(image)
    yield "exif", lambda: _exif_date(image, _BASE.DateTimeDigitized)
    yield "xmp", lambda: _xmp_date(image, "xmp:CreateDate")
    yield "gps", lambda: _gps_date(image)
    yield "png", lambda: _png_text_date(image)
    yield "exif", lambda: _exif_date(image, _BASE.DateTime)
    yield "png", lambda: _png_time(image, data)


_BESIDES = {
    _BASE.DateTimeOriginal: (_BASE.OffsetTimeOriginal, _BASE.SubsecTimeOriginal),
    _BASE.DateTimeDigitized: (_BASE.OffsetTimeDigitized, _BASE.SubsecTimeDigitized),
    _BASE.DateTime: (_BASE.OffsetTime, _BASE.SubsecTime),
}
"""The tags that have the zone and the fraction of a second of a date."""


def _exif_date(image: Image.Image, tag: ExifTags.Base) -> datetime | None:
    exif = image.getexif()
    tags = exif.get_ifd(ExifTags.IFD.Exif)
    zone_tag, fraction_tag = _BESIDES[tag]
    zone = or_none(lambda: _zone(text_of(tags[zone_tag])))
    text = text_of(exif[tag] if tag is _BASE.DateTime else tags[tag])
    found = parse_date(text, zone or UTC)
    if found is None or found.microsecond:
        return found
    fraction = or_none(lambda: float("0." + _digits(text_of(tags[fraction_tag]))))
    return found + timedelta(seconds=fraction or 0)


def _digits(text: str) -> str:
    match = re.match(r"\d{1,9}", text, re.ASCII)
    return match[0] if match else "0"


def _gps_date(image: Image.Image) -> datetime | None:
    tags = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    found = parse_date(text_of(tags[_GPS.GPSDateStamp]))
    parts = or_none(lambda: [float(part) for part in tags[_GPS.GPSTimeStamp]])
    if found is None or parts is None or len(parts) != 3 or not 0 <= parts[0] < 24:
        return found
    return found + timedelta(hours=parts[0], minutes=parts[1], seconds=parts[2])


def _xmp_date(image: Image.Image, name: str) -> datetime | None:
    packet = image.info.get("xmp")
    if not isinstance(packet, bytes):
        return None
    pattern = re.escape(name).encode() + rb"(?:\s*=\s*[\"']([^\"'<]{4,40})[\"']|\s*>\s*([^<]{4,40})<)"
    match = re.search(pattern, packet)
    return None if match is None else parse_date((match[1] or match[2]).decode("ascii", "replace"))


def _iptc_date(image: Image.Image) -> datetime | None:
    if not isinstance(image, ImageFile.ImageFile):
        return None
    tags = IptcImagePlugin.getiptcinfo(image) or {}
    date, clock = _first(tags.get((2, 55))), _first(tags.get((2, 60)))
    return parse_date(f"{date} {clock}") or parse_date(date) if date else None


def _first(value: bytes | list[bytes] | None) -> str:
    if isinstance(value, list):
        value = value[0]
    return "" if value is None else value.decode("ascii", "replace").strip("\0 ")


def _png_text_date(image: Image.Image) -> datetime | None:
    for key, value in image.info.items():
        if isinstance(key, str) and isinstance(value, str) and key.lower() in _CREATION:
            found = parse_date(value) or or_none(lambda text=value: parsedate_to_datetime(text))  # type: ignore[misc]
            if found is not None:
                return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


_CREATION = frozenset({"creation time", "creationtime", "create-date"})


def _png_time(image: Image.Image, data: bytes) -> datetime | None:
    stamp = chunks_of(data).get(b"tIME", b"") if image.format == "PNG" else b""
    if len(stamp) != 7:
        return None
    month, day, hour, minute, second = stamp[2:]
    return datetime(int.from_bytes(stamp[:2], "big"), month, day, hour, minute, min(second, 59), tzinfo=UTC)
