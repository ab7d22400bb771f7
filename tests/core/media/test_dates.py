"""The date of a picture, from whichever tag has a date that can be true."""

import struct
from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image
from tests.core.media.making import chunk, decode, encode, smooth, tiff, tiff_page, with_chunk

from segdex_core.media.dates import captured_of, parse_date

Tags = dict[int, object]
BASE, GPS = ExifTags.Base, ExifTags.GPS
AT = datetime(2015, 7, 4, 10, tzinfo=UTC).timestamp()
TEXT = "2015:07:04 10:00:00"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description {}</rdf:Description></rdf:RDF></x:xmpmeta>'
)


def day(year: int, month: int, number: int) -> float:
    return datetime(year, month, number, tzinfo=UTC).timestamp()


def exif(base: Tags | None = None, *, ifd: Tags | None = None, gps: Tags | None = None) -> Image.Exif:
    found = Image.Exif()
    found.update({BASE.Artist: "x", **(base or {})})  # Pillow drops EXIF without a tag of its own
    found.get_ifd(ExifTags.IFD.Exif).update(ifd or {})
    found[ExifTags.IFD.Exif] = dict(ifd or {})  # of which it writes this one into TIFF
    found.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    return found


def captured(file_format: str = "JPEG", **options: object) -> tuple[float | None, str | None]:
    decoded = decode(encode(Image.fromarray(smooth()), file_format, **options))
    return decoded.captured_s, decoded.captured_from


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_with_exif_has_its_date(file_format: str) -> None:
    assert captured(file_format, exif=exif(ifd={BASE.DateTimeOriginal: TEXT})) == (AT, "exif")
    assert captured(file_format, exif=exif({BASE.DateTime: TEXT})) == (AT, "exif")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_with_xmp_has_its_date(file_format: str) -> None:
    packet = XMP.format('exif:DateTimeOriginal="2015-07-04T12:00:00+02:00">').encode()
    options: dict[str, object] = {"xmp": packet}
    if file_format == "PNG":
        body = b"XML:com.adobe.xmp\0\0\0\0\0" + packet
        data = with_chunk(encode(Image.fromarray(smooth()), "PNG"), b"iTXt", body)
        found = decode(data)
        assert (found.captured_s, found.captured_from) == (AT, "xmp")
        return
    if file_format == "TIFF":
        options = {"tiffinfo": {700: packet}}

    assert captured(file_format, **options) == (AT, "xmp")


@pytest.mark.parametrize(
    "inside",
    [
        'photoshop:DateCreated="2015-07-04T10:00:00">',
        "><photoshop:DateCreated>2015-07-04T10:00:00Z</photoshop:DateCreated>",
        "><xmp:CreateDate>2015-07-04T10:00</xmp:CreateDate>",
        "xmp:CreateDate='2015-07-04T05:30:00.000-04:30'>",
        'xmp:ModifyDate="2020-01-01" xmp:CreateDate = "2015-07-04T10:00:00">',
        'exif:DateTimeOriginal="0000-00-00T00:00:00" xmp:CreateDate="2015-07-04T10:00:00">',
    ],
)
def test_xmp_is_read_in_both_of_its_forms(inside: str) -> None:
    assert captured(xmp=XMP.format(inside).encode()) == (AT, "xmp")


def iptc(*datasets: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack(">BBBH", 0x1C, 2, tag, len(value)) + value for tag, value in datasets)


def with_app13(jpeg: bytes, records: bytes) -> bytes:
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records + bytes(len(records) % 2)
    body = b"Photoshop 3.0\0" + resource
    return jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize(
    ("datasets", "expected"),
    [
        ([(55, b"20150704"), (60, b"100000+0000")], AT),
        ([(55, b"20150704"), (60, b"120000+0200")], AT),
        ([(55, b"20150704"), (60, b"100000")], AT),
        ([(55, b"20150704")], AT - 36_000),
        ([(55, b"19500000")], day(1950, 1, 1)),
        ([(55, b"00000000")], None),
        ([(60, b"100000+0000")], None),
    ],
)
def test_iptc_is_read(datasets: list[tuple[int, bytes]], expected: float | None) -> None:
    jpeg = with_app13(encode(Image.fromarray(smooth()), "JPEG"), iptc(*datasets))
    page, pixels = tiff_page(smooth())
    records = iptc(*datasets)
    in_tiff = decode(tiff(([*page, (33723, 1, tuple(records + bytes(4)))], pixels)))
    found = decode(jpeg)

    source = None if expected is None else "iptc"
    assert (found.captured_s, found.captured_from) == (expected, source)
    assert (in_tiff.captured_s, in_tiff.captured_from) == (expected, source)


def png(*chunks: tuple[bytes, bytes], behind: bool = False) -> tuple[float | None, str | None]:
    data = encode(Image.fromarray(smooth()), "PNG")
    for one in chunks:
        data = data[:-12] + chunk(*one) + data[-12:] if behind else with_chunk(data, *one)
    decoded = decode(data)
    return decoded.captured_s, decoded.captured_from


TIME = struct.pack(">H5B", 2015, 7, 4, 10, 0, 0)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    ("name", "data", "source"),
    [
        (b"tIME", TIME, "png"),
        (b"tEXt", b"Creation Time\x002015:07:04 10:00:00", "png"),
        (b"tEXt", b"Creation Time\0Sat, 04 Jul 2015 12:00:00 +0200", "png"),
        (b"tEXt", b"Creation Time\x004 Jul 2015 10:00:00", "png"),
        (b"tEXt", b"creation time\x002015-07-04T10:00:00Z", "png"),
        (b"iTXt", b"Creation Time\0\0\0\0\x002015-07-04T10:00:00Z", "png"),
        (b"eXIf", exif(ifd={BASE.DateTimeOriginal: TEXT}).tobytes()[6:], "exif"),
    ],
)
def test_the_chunks_of_a_png_are_read(name: bytes, data: bytes, source: str, behind: bool) -> None:
    assert png((name, data), behind=behind) == (AT, source)


def test_a_png_without_a_date_has_none() -> None:
    for data in (b"", TIME[:-1], bytes(7), struct.pack(">H5B", 2015, 13, 41, 99, 0, 0)):
        assert png((b"tIME", data)) == (None, None)
    assert png((b"tEXt", b"Creation Time\0long ago")) == (None, None)


@pytest.mark.parametrize(
    ("tag", "zone_tag", "fraction_tag"),
    [
        (BASE.DateTimeOriginal, BASE.OffsetTimeOriginal, BASE.SubsecTimeOriginal),
        (BASE.DateTimeDigitized, BASE.OffsetTimeDigitized, BASE.SubsecTimeDigitized),
        (BASE.DateTime, BASE.OffsetTime, BASE.SubsecTime),
    ],
)
def test_zones_and_fractions_of_a_second_count(tag: int, zone_tag: int, fraction_tag: int) -> None:
    inside: Tags = {zone_tag: "+02:00", fraction_tag: "250 "}
    if tag == BASE.DateTime:
        found = captured(exif=exif({tag: TEXT}, ifd=inside))
    else:
        found = captured(exif=exif(ifd={tag: TEXT, **inside}))

    assert found == (AT - 7_200 + 0.25, "exif")


def test_gps_time_is_utc() -> None:
    stamp: Tags = {GPS.GPSDateStamp: "2015:07:04", GPS.GPSTimeStamp: (10.0, 0.0, 0.5)}

    assert captured(exif=exif(gps=stamp)) == (AT + 0.5, "gps")
    assert captured(exif=exif(gps={GPS.GPSDateStamp: "2015:07:04"})) == (AT - 36_000, "gps")
    assert captured(exif=exif(gps={GPS.GPSTimeStamp: (10.0, 0.0, 0.0)})) == (None, None)


def test_the_date_of_the_scene_comes_before_those_of_the_file_and_of_a_change() -> None:
    scan: Tags = {BASE.DateTimeDigitized: "2010:01:01 00:00:00"}
    print_of_1965 = XMP.format('photoshop:DateCreated="1965" xmp:CreateDate="2010-01-01">').encode()
    later: Tags = {BASE.DateTime: "2020:01:01 00:00:00"}

    assert captured(exif=exif(later, ifd=scan), xmp=print_of_1965) == (
        day(1965, 1, 1),
        "xmp",
    )
    assert captured(exif=exif(later, ifd=scan)) == (day(2010, 1, 1), "exif")
    both: Tags = {**scan, BASE.DateTimeOriginal: TEXT}
    assert captured(exif=exif(later, ifd=both), xmp=print_of_1965) == (AT, "exif")


@pytest.mark.parametrize(
    "nonsense",
    [
        "0000:00:00 00:00:00",
        "    :  :     :  :  ",
        "0001:01:01 00:00:00",
        "1700:01:01 00:00:00",
        "soon",
        "2999:01:01 00:00:00",
        "2015:13:41 00:00:00",
        "",
    ],
)
def test_a_date_that_cannot_be_gives_way_to_the_next(nonsense: str) -> None:
    tags: Tags = {BASE.DateTimeOriginal: nonsense, BASE.DateTimeDigitized: TEXT}

    assert captured(exif=exif(ifd=tags)) == (AT, "exif")
    assert captured(exif=exif(ifd={BASE.DateTimeOriginal: nonsense})) == (None, None)


def test_a_day_ahead_may_be_another_zone_and_no_more() -> None:
    image = Image.open(BytesIO(encode(Image.new("RGB", (4, 4)), "JPEG", exif=exif({BASE.DateTime: TEXT}))))

    assert captured_of(image, b"", now_s=AT - 86_000) is not None
    assert captured_of(image, b"", now_s=AT - 87_000) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2015:07:04 10:00:00", AT),
        ("2015-07-04 10:00:00", AT),
        ("2015/07/04 10:00:00", AT),
        ("2015.07.04 10:00", AT),
        ("2015:07:04T10:00:00Z", AT),
        ("2015:07:04  10:00:00\0\0", AT),
        ("20150704T100000", AT),
        ("2015-07-04T10:00:00.500+00:00", AT + 0.5),
        ("2015-07-04T10:00:00,5", AT + 0.5),
        ("2015:07:04 9:59:60", AT),
        ("2015:07:04 24:00:00", AT - 36_000),
        ("2015:07:04   :  :  ", AT - 36_000),
        ("2015-07", day(2015, 7, 1)),
        ("2015", day(2015, 1, 1)),
        ("201", None),
        ("20150704100000", None),
        ("yesterday", None),
        ("-2015-07-04", None),
    ],
)
def test_dates_are_read_in_every_usual_form(text: str, expected: float | None) -> None:
    found = parse_date(text)

    assert (None if found is None else found.timestamp()) == expected


def test_dates_of_every_year_are_exact() -> None:
    for year in (1826, 1899, 1900, 1969, 1970, 2000, 2024):
        found = captured(exif=exif(ifd={BASE.DateTimeOriginal: f"{year}:02:28 23:59:59"}))
        expected = (
            datetime(year, 2, 28, 23, 59, 59, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        ) / timedelta(seconds=1)
        assert found == (expected, "exif")


def test_a_picture_behind_its_thumbnail_has_the_date_of_the_file() -> None:
    page, pixels = tiff_page(np.ascontiguousarray(smooth()[::4, ::4]), (254, 4, (1,)))
    stamp = (306, 2, tuple(f"{TEXT}\0".encode()))
    decoded = decode(tiff(([*page, stamp], pixels), tiff_page(smooth())))

    assert decoded.pixels.shape == (48, 64, 3)
    assert (decoded.captured_s, decoded.captured_from) == (AT, "exif")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_an_orientation_in_xmp_alone_is_applied(file_format: str) -> None:
    packet = XMP.format('tiff:Orientation="6">').encode()
    data = encode(
        Image.fromarray(smooth()),
        "JPEG" if file_format == "JPEG" else "PNG",
        **({"xmp": packet} if file_format == "JPEG" else {}),
    )
    if file_format in ("WEBP", "AVIF"):
        data = encode(Image.fromarray(smooth()), file_format, xmp=packet)
    elif file_format == "PNG":
        data = with_chunk(data, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)

    assert decode(data).pixels.shape == (64, 48, 3)


def test_an_orientation_behind_the_pixels_of_a_png_is_applied() -> None:
    data = encode(Image.fromarray(smooth()), "PNG")
    turned = data[:-12] + chunk(b"eXIf", exif({BASE.Orientation: 6}).tobytes()[6:]) + data[-12:]

    assert decode(turned).pixels.shape == (64, 48, 3)
