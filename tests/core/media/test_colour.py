"""Colours come out in sRGB, whatever the file uses to say what its numbers mean."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms
from tests.core.media.making import (
    Pixels,
    decode,
    difference,
    encode,
    png_of_16_bits,
    smooth,
    with_chunk,
)

from segdex_core.media.profiles import D65, rgb_profile

P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
WIDE = rgb_profile(P3, D65, lambda v: v**1.8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def stored_in(profile: bytes, image: Image.Image) -> Image.Image:
    """Return the numbers that have the colours of an sRGB image in another profile."""
    target = ImageCms.getOpenProfile(BytesIO(profile))
    stored = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), target, outputMode="RGB")
    assert stored is not None
    stored.info.clear()
    return stored


def large() -> Pixels:
    return np.kron(smooth(), np.ones((2, 2, 1), np.uint8))  # chroma at half size costs nothing


@pytest.mark.parametrize(
    ("file_format", "options", "levels"),
    [
        ("PNG", {}, 1.0),
        ("TIFF", {}, 1.0),
        ("TIFF", {"compression": "tiff_lzw"}, 1.0),
        ("WEBP", {"lossless": True}, 1.0),
        ("JPEG", {"quality": 98, "subsampling": 0}, 2.0),
        ("AVIF", {"quality": 95}, 3.0),
    ],
)
def test_a_profile_is_applied_in_every_format(
    file_format: str, options: dict[str, object], levels: float
) -> None:
    for mode in ("RGB",) if file_format == "JPEG" else ("RGB", "RGBA"):
        stored = stored_in(WIDE, Image.fromarray(large())).convert(mode)

        assert difference(decode(encode(stored, file_format, **options)).pixels, large()) > 8
        managed = encode(stored, file_format, icc_profile=WIDE, **options)
        assert difference(decode(managed).pixels, large()) < levels


def test_a_profile_in_a_box_of_jpeg_2000_is_applied() -> None:
    data = encode(stored_in(WIDE, Image.fromarray(large())), "JPEG2000")
    place = data.index(b"colr") - 4
    old = int.from_bytes(data[place : place + 4], "big")
    box = struct.pack(">I4sBBB", 11 + len(WIDE), b"colr", 2, 0, 0) + WIDE
    header = data.index(b"jp2h") - 4
    size = int.from_bytes(data[header : header + 4], "big") - old + len(box)
    data = data[:header] + struct.pack(">I", size) + data[header + 4 : place] + box + data[place + old :]

    assert difference(decode(data).pixels, large()) < 1


@pytest.mark.parametrize("profile", [b"junk", WIDE[:300], WIDE[:128] + bytes(200), SRGB[:140]])
def test_a_broken_profile_is_ignored(profile: bytes) -> None:
    np.testing.assert_array_equal(
        decode(encode(Image.fromarray(smooth()), "PNG", icc_profile=profile)).pixels, smooth()
    )


def test_threads_share_a_profile() -> None:
    image = Image.fromarray(large())
    files = [encode(image.rotate(90 * n), "PNG", icc_profile=WIDE) for n in range(4)]
    alone = [decode(data).pixels for data in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda n: decode(files[n % 4]).pixels, range(64)))

    assert all(np.array_equal(pixels, alone[n % 4]) for n, pixels in enumerate(together))


def test_a_profile_of_srgb_changes_no_pixel() -> None:
    np.testing.assert_array_equal(
        decode(encode(Image.fromarray(smooth()), "PNG", icc_profile=SRGB)).pixels, smooth()
    )


def profile_of_one_table(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    """Return an ICC profile of version 2."""
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    parts = [
        (b"desc", b"desc" + bytes(4) + struct.pack(">I", 2) + b"g\0" + bytes(82)),
        (b"wtpt", white),
        *tags,
    ]
    at, table, body = 128 + 4 + 12 * len(parts), struct.pack(">I", len(parts)), b""
    for name, part in parts:
        padded = part + bytes(-len(part) % 4)
        table += name + struct.pack(">II", at + len(body), len(part))
        body += padded
    kind, connection = (b"prtr", b"Lab ") if space == b"CMYK" else (b"mntr", b"XYZ ")
    head = struct.pack(">I", at + len(body)) + bytes(4) + bytes([2, 0x20, 0, 0]) + kind + space + connection
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white[8:]
    return head + bytes(128 - len(head)) + table + body


LINEAR_GREY = profile_of_one_table(b"GRAY", [(b"kTRC", b"curv" + bytes(4) + struct.pack(">IH", 1, 256))])


@pytest.mark.parametrize("kind", ["L", "LA", "16 bits", "JPEG", "TIFF"])
def test_a_grey_profile_is_applied_to_grey(kind: str) -> None:
    values = np.arange(8, 256, dtype=np.uint8)[None].repeat(8, axis=0)
    light = values / 255
    expected = (
        np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)[..., None] * 255
    )
    image = Image.fromarray(values)
    if kind == "16 bits":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    elif kind == "LA":
        image = image.convert("LA")
    file_format = kind if kind in ("JPEG", "TIFF") else "PNG"

    assert difference(decode(encode(image, file_format, icc_profile=LINEAR_GREY)).pixels, expected) < 1


def cmyk_profile() -> bytes:
    """Return a profile in which cyan ink is a mid grey (L* 50), and magenta and yellow ink are nothing."""
    lab = [(0 if n & 1 else 50 if n & 8 else 100) * 255 // 100 for n in range(16)]
    table = b"".join(bytes([level, 128, 128]) for level in lab)
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    straight = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + straight * 4 + table + straight * 3
    return profile_of_one_table(b"CMYK", [(b"A2B0", lut)])


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_a_profile_of_cmyk_is_applied_to_cmyk(file_format: str) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 0, 0))
    image.paste((255, 0, 0, 0), (8, 0, 16, 16))
    pixels = decode(encode(image, file_format, icc_profile=cmyk_profile())).pixels.astype(int)

    assert np.abs(pixels[4, 2] - 255).max() <= 6
    assert np.abs(pixels[4, 13] - 119).max() <= 6  # L* 50


def test_a_profile_that_does_not_fit_the_pixels_is_ignored() -> None:
    rgb = Image.fromarray(smooth())

    np.testing.assert_array_equal(decode(encode(rgb, "PNG", icc_profile=LINEAR_GREY)).pixels, smooth())
    np.testing.assert_array_equal(decode(encode(rgb, "PNG", icc_profile=cmyk_profile())).pixels, smooth())
    cmyk = rgb.convert("CMYK")
    np.testing.assert_array_equal(
        decode(encode(cmyk, "TIFF", icc_profile=WIDE)).pixels, decode(encode(cmyk, "TIFF")).pixels
    )


def test_palettes_and_16_bits_have_the_colours_of_their_profile() -> None:
    stored = stored_in(WIDE, Image.fromarray(smooth()))
    few = stored.quantize(64)
    expected = decode(encode(few.convert("RGB"), "PNG", icc_profile=WIDE)).pixels
    wide = np.asarray(stored).astype(np.uint16) * 257

    np.testing.assert_array_equal(decode(encode(few, "PNG", icc_profile=WIDE)).pixels, expected)
    assert difference(decode(encode(Image.fromarray(wide[:, :, 0]), "PNG")).pixels, wide[:, :, :1] >> 8) == 0
    packed = b"p\0\0" + zlib.compress(WIDE)
    assert difference(decode(png_of_16_bits(wide, (b"iCCP", packed))).pixels, smooth()) < 1


CHROMATICITIES = (0.3127, 0.3290, *(value for point in P3 for value in point))


def chrm(*values: float) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in values))


def gama(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def test_the_gamma_and_primaries_of_a_png_are_applied_as_browsers_do() -> None:
    stored = encode(stored_in(WIDE, Image.fromarray(smooth())), "PNG")

    signalled = with_chunk(with_chunk(stored, *chrm(*CHROMATICITIES)), *gama(1 / 1.8))
    assert difference(decode(signalled).pixels, smooth()) < 1
    assert difference(decode(with_chunk(signalled, b"sRGB", b"\0")).pixels, smooth()) > 8  # it comes first
    plain = encode(Image.fromarray(smooth()), "PNG")
    for harmless in (
        gama(0.45455),
        gama(0),
        chrm(0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06),
        chrm(*[0.0] * 8),
    ):
        np.testing.assert_array_equal(decode(with_chunk(plain, *harmless)).pixels, smooth())


def test_code_points_of_png_and_avif_are_applied() -> None:
    profile = rgb_profile(P3, D65, lambda v: np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4))
    stored = stored_in(profile, Image.fromarray(large()))
    avif = encode(stored, "AVIF", quality=95)
    at = avif.index(b"colrnclx") + 8

    assert (
        difference(decode(with_chunk(encode(stored, "PNG"), b"cICP", bytes([12, 13, 0, 1]))).pixels, large())
        < 1
    )
    assert difference(decode(avif[:at] + b"\0\x0c\0\x0d" + avif[at + 4 :]).pixels, large()) < 3
    srgb = with_chunk(encode(Image.fromarray(smooth()), "PNG"), b"cICP", bytes([1, 13, 0, 1]))
    np.testing.assert_array_equal(decode(srgb).pixels, smooth())


@pytest.mark.parametrize(("transfer", "paper_white"), [(16, 148), (18, 191)])  # values of 255 for 203 nits
def test_high_dynamic_range_is_toned_so_that_paper_white_is_light_and_highlights_are_kept(
    transfer: int, paper_white: int
) -> None:
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    data = with_chunk(encode(Image.fromarray(ramp), "PNG"), b"cICP", bytes([9, transfer, 0, 1]))
    grey = decode(data).pixels[0, :, 1].astype(int)

    assert (np.diff(grey) >= 0).all()
    assert grey[0] == 0
    assert 225 <= grey[paper_white] <= 245
    assert grey[255] >= 250
    assert np.unique(grey[paper_white:]).size > 8
