"""Files whose last bytes are missing, or that have some too many."""

import random
import re
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from tests import needs
from tests.core.media.making import decode, difference, encode, smooth

from segdex_core.errors import ImageUnreadableError


def photo() -> Image.Image:
    image = Image.open(needs.photo("rocket.jpg")).convert("RGB")
    image.thumbnail((320, 320))
    return image


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subsampling": 0},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 3},
        {"progressive": True, "restart_marker_rows": 2},
        {"optimize": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_marker_is_the_whole_picture(options: dict[str, object], mode: str) -> None:
    data = encode(photo().convert(mode), "JPEG", quality=85, **options)
    expected = decode(data).pixels

    assert data.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(decode(data[:-2]).pixels, expected)
    np.testing.assert_array_equal(decode(data[:-1]).pixels, expected)
    np.testing.assert_array_equal(decode(data[:-2] + bytes(300)).pixels, expected)


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 3}], ids=str)
def test_of_a_jpeg_a_fiftieth_may_be_missing(options: dict[str, object]) -> None:
    data = encode(photo(), "JPEG", quality=85, **options)
    expected = decode(data).pixels

    assert difference(decode(data[:-40]).pixels, expected) < 1
    for share in (0.1, 0.4, 0.7, 0.9, 0.95):
        with pytest.raises(ImageUnreadableError, match="it ends early"):
            decode(data[: int(len(data) * share)])


def test_a_progressive_jpeg_without_a_color_or_its_detail_is_damaged() -> None:
    data = encode(photo(), "JPEG", quality=85, progressive=True)
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]

    for end in scans[1:5]:
        with pytest.raises(ImageUnreadableError, match="a color or of detail is missing"):
            decode(data[:end])
    for end in scans[6:]:
        assert difference(decode(data[:end]).pixels, decode(data).pixels) < 5


def test_a_jpeg_with_an_end_marker_is_not_mended() -> None:
    data = encode(photo(), "JPEG", quality=85)
    rng = random.Random(0)

    with pytest.raises(ImageUnreadableError):
        decode(data[:200])
    for _ in range(30):  # whatever the bytes are, it ends in a picture or an error
        broken = bytearray(data[: rng.randrange(100, len(data))])
        broken[rng.randrange(len(broken))] = 255
        try:
            decode(bytes(broken))
        except ImageUnreadableError as error:
            assert "damaged JPEG" in str(error)  # noqa: PT017 (an error is one of two right outcomes)


def test_pillow_stays_strict_meanwhile() -> None:
    data = encode(photo(), "JPEG")[:-2]
    decode(data)

    with pytest.raises(OSError, match="truncated"):
        JpegImagePlugin.JpegImageFile(BytesIO(data)).load()


def test_a_png_without_its_last_chunks_is_read() -> None:
    data = encode(Image.fromarray(smooth()), "PNG")
    texts = data[:-12] + b"\0\0\0\x40tEXtComment\0half a chu"

    for end in (12, 11, 4, 1):
        np.testing.assert_array_equal(decode(data[:-end]).pixels, smooth())
    np.testing.assert_array_equal(decode(texts).pixels, smooth())
    interlaced = encode(Image.fromarray(smooth()), "PNG", interlace=1)
    np.testing.assert_array_equal(decode(interlaced[:-12]).pixels, smooth())


def test_a_gif_without_its_trailer_is_read() -> None:
    data = encode(Image.fromarray(smooth()), "GIF")

    assert data.endswith(b";")
    np.testing.assert_array_equal(decode(data[:-1]).pixels, decode(data).pixels)
    np.testing.assert_array_equal(decode(data[:-2]).pixels, decode(data).pixels)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("JPEG", {}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {}),
        ("AVIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("PPM", {}),
        ("JPEG2000", {}),
        ("ICO", {"sizes": [(64, 48)]}),
    ],
)
def test_bytes_behind_the_picture_change_nothing(file_format: str, options: dict[str, object]) -> None:
    data = encode(Image.fromarray(smooth()), file_format, **options)

    for behind in (bytes(5000), b"\xff" * 100, random.Random(0).randbytes(999), zlib.compress(b"x") * 9):
        np.testing.assert_array_equal(decode(data + behind).pixels, decode(data).pixels)


@pytest.mark.parametrize("lossless", [True, False])
def test_metadata_of_a_webp_may_end_early(lossless: bool) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description" * 40
    data = encode(Image.fromarray(smooth()), "WEBP", exif=exif, lossless=lossless)

    np.testing.assert_array_equal(decode(data[:-100]).pixels, decode(data).pixels)
