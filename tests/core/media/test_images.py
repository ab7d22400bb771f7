"""Every picture comes out upright in RGB, and every other file as one named error."""

import io
import os
import random
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageOps

from segdex_core.errors import ImageError, ImageTooLargeError, ImageUnreadableError, NotAnImageError
from segdex_core.ids import sha256_hex
from segdex_core.media.decode import DecodedImage, decode_image, read_image_file


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decode(data: bytes, *, max_pixels: int = 1_000_000) -> DecodedImage:
    return decode_image(data, name="test", max_pixels=max_pixels)


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def smooth(height: int = 48, width: int = 64) -> npt.NDArray[np.uint8]:
    """Return colours that lossy formats keep within a few levels."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 3, y * 4, 255 - x * 2 - y], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("file_format", "name", "options", "tolerance"),
    [
        ("PNG", "PNG", {}, 0),
        ("BMP", "BMP", {}, 0),
        ("PPM", "PPM", {}, 0),
        ("TIFF", "TIFF", {}, 0),
        ("TIFF", "TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", "WEBP", {"lossless": True}, 0),
        ("JPEG2000", "JPEG2000", {}, 0),
        ("ICO", "ICO", {"sizes": [(64, 48)]}, 0),
        ("JPEG", "JPEG", {"quality": 95, "subsampling": 0}, 6),
        ("MPO", "JPEG", {"quality": 95, "subsampling": 0}, 6),
        ("AVIF", "AVIF", {"quality": 95}, 8),
    ],
)
def test_each_format_decodes_to_the_pixels_that_were_saved(
    file_format: str, name: str, options: dict[str, object], tolerance: int
) -> None:
    pixels = smooth()
    decoded = decode(encode(Image.fromarray(pixels), file_format, **options))

    assert decoded.format_name == name
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous
    assert decoded.pixels.flags.writeable
    assert np.abs(decoded.pixels.astype(int) - pixels).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_as_pillow_does(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encode(Image.fromarray(noise(3, 5, 3)), file_format, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))

    np.testing.assert_array_equal(decode(data).pixels, expected)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = noise(3, 5, 3)

    np.testing.assert_array_equal(decode(encode(Image.fromarray(pixels), "PNG", exif=exif)).pixels, pixels)


def test_grey_bilevel_and_palette_pictures_become_rgb() -> None:
    grey = noise(8, 9)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)

    np.testing.assert_array_equal(decode(encode(Image.fromarray(grey), "PNG")).pixels, rgb)
    np.testing.assert_array_equal(
        decode(encode(Image.fromarray(grey > 127), "PNG")).pixels, (rgb > 127) * 255
    )
    palette = Image.fromarray(smooth()).quantize(16)
    np.testing.assert_array_equal(decode(encode(palette, "PNG")).pixels, np.asarray(palette.convert("RGB")))


def test_transparency_is_laid_on_white() -> None:
    rgba = noise(16, 16, 4)
    rgba[0, 0, 3], rgba[0, 1, 3] = 0, 255
    alpha = rgba[:, :, 3:] / 255
    expected = rgba[:, :, :3] * alpha + 255 * (1 - alpha)
    pixels = decode(encode(Image.fromarray(rgba), "PNG")).pixels

    assert np.abs(pixels - expected).max() <= 1
    assert (pixels[0, 0] == 255).all()
    np.testing.assert_array_equal(pixels[0, 1], rgba[0, 1, :3])


@pytest.mark.parametrize("mode", ["LA", "P"])
def test_transparent_grey_and_palette_entries_are_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (10, 10, 10, 255))
    image.putpixel((0, 0), (10, 10, 10, 0))
    pixels = decode(encode(image.convert(mode), "PNG")).pixels

    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [10, 10, 10]


def test_a_transparent_colour_of_rgb_and_16_bit_grey_is_white() -> None:
    rgb = encode(Image.new("RGB", (2, 2), (9, 8, 7)), "PNG", transparency=(9, 8, 7))
    grey = encode(Image.fromarray(np.full((2, 2), 300, np.uint16)), "PNG", transparency=300)

    assert (decode(rgb).pixels == 255).all()
    assert (decode(grey).pixels == 255).all()


def test_16_bit_grey_is_scaled_by_257_not_clipped() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.round(values / 257).astype(np.uint8)

    for file_format in ("PNG", "TIFF"):
        pixels = decode(encode(Image.fromarray(values), file_format)).pixels
        np.testing.assert_array_equal(pixels, np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 100_000, 200_000]], np.int32), [0, 128, 255]),
        (np.array([[7, 7, 7_000_000]], np.int32), [0, 0, 255]),
        (np.array([[-5, -5, -5]], np.int32), [0, 0, 0]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0.5, 0.5, 0.5]], np.float32), [128, 128, 128]),
        (np.array([[-2, 0, 2]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, np.inf, -np.inf]], np.float32), [0, 255, 0]),
        (np.array([[np.nan, 10, 30]], np.float32), [0, 0, 255]),
    ],
)
def test_32_bit_grey_keeps_a_known_scale_and_stretches_any_other(
    values: npt.NDArray[np.float32], expected: list[int]
) -> None:
    assert decode(encode(Image.fromarray(values), "TIFF")).pixels[0, :, 0].tolist() == expected


def test_cmyk_lab_and_ycbcr_keep_their_colours() -> None:
    colours = smooth()
    cmyk = encode(Image.fromarray(colours).convert("CMYK"), "JPEG", quality=95)  # Adobe's inverted CMYK
    ycbcr = encode(Image.fromarray(colours).convert("YCbCr"), "TIFF")
    lab = encode(Image.merge("LAB", [Image.new("L", (4, 4), v) for v in (136, 208, 195)]), "TIFF")

    assert np.abs(decode(cmyk).pixels.astype(int) - colours).mean() < 4
    assert np.abs(decode(ycbcr).pixels.astype(int) - colours).mean() < 4
    red = decode(lab).pixels[0, 0].astype(int)  # L* 53, a* 80, b* 67 is sRGB red
    assert np.abs(red - [255, 0, 0]).max() <= 12


@pytest.mark.parametrize(
    ("file_format", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})]
)
def test_of_an_animation_or_several_pages_the_first_is_taken(
    file_format: str, options: dict[str, object]
) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    data = encode(frames[0], file_format, save_all=True, append_images=frames[1:], **options)

    assert (decode(data).pixels == (255, 0, 0)).all()


def test_a_large_picture_is_as_its_halves_are() -> None:
    tile = np.tile(noise(50, 20, 4), (52, 100, 1))  # 5.2 million pixels are two bands, a half is one
    whole, upper, lower = (
        decode(encode(Image.fromarray(part), "PNG", compress_level=1), max_pixels=6_000_000).pixels
        for part in (tile, tile[:1300], tile[1300:])
    )

    np.testing.assert_array_equal(whole, np.concatenate([upper, lower]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"not a picture at all",
        b"BMW and P6 are words\n" * 20,
        b"P6 is how a text may begin",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"\xd7\xcd\xc6\x9a" + bytes(40),
        b"\0\0\x01\0" + bytes(10),
        b"MZ" + bytes(100),
    ],
)
def test_what_is_no_picture_in_a_supported_format_says_so(data: bytes) -> None:
    with pytest.raises(NotAnImageError, match=r"^test: "):
        decode(data)


def test_an_archive_of_pictures_is_not_a_picture() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", encode(Image.new("RGB", (2, 2)), "PNG"))

    with pytest.raises(NotAnImageError):
        decode(buffer.getvalue())


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "JPEG2000"]
)
def test_a_picture_cut_short_is_unreadable_not_half_grey(file_format: str) -> None:
    data = encode(Image.fromarray(noise(40, 40, 3)), file_format)

    for share in (0.3, 0.5, 0.7, 0.9):
        with pytest.raises(ImageUnreadableError, match="damaged"):
            decode(data[: int(len(data) * share)])


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and has no pixels."""
    data = bytearray(encode(Image.new("L", (1, 1)), "PNG"))
    chunk = b"IHDR" + struct.pack(">II", width, height) + bytes(data[24:29])
    data[12:33] = chunk + struct.pack(">I", zlib.crc32(chunk))
    return bytes(data)


def test_too_many_pixels_are_refused_from_the_header_and_name_the_option() -> None:
    with pytest.raises(ImageTooLargeError, match=r"60000 x 60000 = 3,600,000,000 pixels.*--max-pixels"):
        decode(png_header(60_000, 60_000))


def test_the_limit_on_pixels_is_inclusive() -> None:
    data = encode(Image.new("L", (10, 7)), "PNG")

    assert decode(data, max_pixels=70).pixels.shape == (7, 10, 3)
    with pytest.raises(ImageTooLargeError):
        decode(data, max_pixels=69)


def test_the_argument_alone_is_the_limit_where_pillow_would_refuse_or_warn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)

    assert decode(encode(Image.new("L", (100, 100)), "PNG")).pixels.shape == (100, 100, 3)
    with pytest.raises(ImageTooLargeError, match="Pillow"):
        decode(encode(Image.new("RGB", (100, 100)), "WEBP"))


def exif_with(tags: dict[int, object], *, ifd: int) -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(ifd).update(tags)
    return exif


def with_exif(exif: Image.Exif | bytes) -> DecodedImage:
    return decode(encode(Image.new("RGB", (4, 4)), "JPEG", exif=exif))


@pytest.mark.parametrize(
    ("taken", "offset", "expected_s"),
    [
        ("1970:01:02 00:00:01", None, 86401.0),
        ("1970:01:02 00:00:01", "+02:00", 79201.0),
        ("1970:01:02 00:00:01", "-00:30", 88201.0),
        ("1970:01:02 00:00:01", "nonsense", 86401.0),
        ("0000:00:00 00:00:00", None, None),
        ("    :  :     :  :  ", None, None),
        ("yesterday", None, None),
    ],
)
def test_the_exif_time_is_read_with_its_offset_or_as_utc(
    taken: str, offset: str | None, expected_s: float | None
) -> None:
    tags: dict[int, object] = {ExifTags.Base.DateTimeOriginal: taken}
    if offset is not None:
        tags[ExifTags.Base.OffsetTimeOriginal] = offset

    assert with_exif(exif_with(tags, ifd=ExifTags.IFD.Exif)).captured_s == expected_s


@pytest.mark.parametrize(
    ("latitude", "north", "longitude", "east", "expected"),
    [
        ((48, 30, 0), "N", (2, 15, 36), "E", (48.5, 2.26)),
        ((33, 51, 36), "S", (151, 12, 36), "E", (-33.86, 151.21)),
        ((40, 0, 0), "N", (74, 0, 0), "W", (40.0, -74.0)),
        ((91, 0, 0), "N", (2, 0, 0), "E", None),
        ((10, 0, 0), "N", (181, 0, 0), "E", None),
        ((10, 0, 0), "X", (10, 0, 0), "E", None),
        ((10, 0), "N", (10, 0, 0), "E", None),
    ],
)
def test_the_exif_place_is_in_signed_degrees_or_none(
    latitude: tuple[int, ...],
    north: str,
    longitude: tuple[int, ...],
    east: str,
    expected: tuple[float, float] | None,
) -> None:
    tags: dict[int, object] = {
        ExifTags.GPS.GPSLatitude: latitude,
        ExifTags.GPS.GPSLatitudeRef: north,
        ExifTags.GPS.GPSLongitude: longitude,
        ExifTags.GPS.GPSLongitudeRef: east,
    }
    place = with_exif(exif_with(tags, ifd=ExifTags.IFD.GPSInfo)).place_lat_lon

    assert place == (None if expected is None else pytest.approx(expected))


def test_broken_exif_never_fails_the_picture() -> None:
    good = exif_with({ExifTags.Base.DateTimeOriginal: "2020:01:02 03:04:05"}, ifd=ExifTags.IFD.Exif).tobytes()
    rng = random.Random(0)

    for _ in range(200):
        broken = bytearray(good)
        for _ in range(rng.randrange(1, 12)):
            broken[rng.randrange(6, len(broken))] = rng.randrange(256)
        assert with_exif(bytes(broken)).pixels.size == 48


def seeds() -> list[bytes]:
    colours, alpha = Image.fromarray(smooth(20, 24)), Image.fromarray(noise(20, 24, 4))
    return [
        *(
            encode(colours, name)
            for name in ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "JPEG2000")
        ),
        *(encode(alpha, name) for name in ("PNG", "WEBP", "TIFF", "ICO")),
        encode(alpha, "TIFF", compression="tiff_deflate"),
        encode(colours.quantize(8), "PNG", transparency=b"\0\x80\xff"),
    ]


def test_mutated_files_end_in_a_picture_or_an_image_error(capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(0)
    originals = seeds()

    for _ in range(600):
        data = bytearray(rng.choice(originals))
        for _ in range(rng.choice([1, 2, 5, 20])):
            data[rng.randrange(len(data))] = rng.choice([0, 255, rng.randrange(256)])
        try:
            decoded = decode(bytes(data))
        except ImageError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017 (an error is one of two right outcomes)
        else:
            assert min(decoded.pixels.shape) >= 1
    assert capfd.readouterr() == ("", "")  # neither Pillow nor libtiff speaks for itself


def test_names_that_cannot_be_printed_do_not_break_the_message() -> None:
    with pytest.raises(NotAnImageError) as raised:
        decode_image(b"", name=os.fsdecode(b"a\n\xff.jpg"), max_pixels=10)

    assert str(raised.value) == "a\ufffd\ufffd.jpg: the file is empty"


def test_threads_with_different_limits_do_not_disturb_each_other() -> None:
    data = encode(Image.fromarray(noise(50, 50, 3)), "PNG")
    barrier = threading.Barrier(4)

    def outcomes(limit: int) -> set[bool]:
        barrier.wait()
        return {is_decoded(data, limit) for _ in range(20)}

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(outcomes, [2499, 2500, 2499, 2500])) == [{False}, {True}, {False}, {True}]


def is_decoded(data: bytes, limit: int) -> bool:
    try:
        decode(data, max_pixels=limit)
    except ImageTooLargeError:
        return False
    return True


def make_folder(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("gone"))


def make_nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize("make", [make_folder, make_pipe, make_dangling_link, make_nothing])
def test_what_is_not_a_regular_file_is_unreadable_and_never_waited_for(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "x.jpg")

    with pytest.raises(ImageUnreadableError, match=r"x\.jpg"):
        read_image_file(tmp_path / "x.jpg")


def test_a_path_with_a_zero_byte_is_unreadable() -> None:
    with pytest.raises(ImageUnreadableError):
        read_image_file(Path("a\0b"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encode(Image.new("L", (2, 2)), "PNG"))
    path.chmod(0)

    with pytest.raises(ImageUnreadableError, match="Permission denied"):
        read_image_file(path)


def test_a_file_longer_than_allowed_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encode(Image.new("L", (2, 2)), "PNG"))
    size_bytes = path.stat().st_size

    assert read_image_file(path, max_bytes=size_bytes).pixels.shape == (2, 2, 3)
    with pytest.raises(ImageTooLargeError, match="bytes"):
        read_image_file(path, max_bytes=size_bytes - 1)


def test_sha256_is_that_of_the_standard() -> None:
    assert sha256_hex(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
