"""What is visible of a transparent picture stands out from the ground that it is laid on."""

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw
from tests.core.media.making import decode, encode, png_of_16_bits, smooth

WHITE, DARK, MIDDLE = 255, 40, 128


def disc(fill: tuple[int, ...], *, mode: str = "RGBA", ring: tuple[int, ...] | None = None) -> Image.Image:
    image = Image.new(mode, (80, 80), (*fill[:-1], 0))
    ImageDraw.Draw(image).ellipse((10, 10, 70, 70), fill=fill, outline=ring, width=4 if ring else 0)
    return image


def ground(data: bytes) -> int:
    return int(decode(data).pixels[0, 0, 0])


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (disc((255, 255, 255, 255)), DARK),
        (disc((240, 240, 235, 255)), DARK),
        (disc((200, 200, 200, 255)), WHITE),
        (disc((0, 0, 0, 255)), WHITE),
        (disc((250, 250, 250, 255), ring=(0, 0, 0, 255)), WHITE),  # its outline is seen on white
        (disc((0, 0, 0, 255), ring=(255, 255, 255, 255)), WHITE),  # a sticker: its border may vanish
        (disc((255, 255, 255, 60)), DARK),  # nowhere opaque
        (disc((255, 255), mode="LA"), DARK),
    ],
)
def test_the_ground_is_white_unless_the_outline_would_vanish_on_it(image: Image.Image, expected: int) -> None:
    assert ground(encode(image, "PNG")) == expected


def test_white_and_black_parts_are_both_seen_where_white_would_hide_most() -> None:
    image = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    for n in range(8):
        colour = (255, 255, 255, 255) if n % 8 < 5 else (20, 20, 20, 255)
        draw.rectangle((10, 10 * n, 70, 10 * n + 5), fill=colour)

    assert decode(encode(image, "PNG")).pixels[8, 75].tolist() == [MIDDLE] * 3


def test_white_text_beside_a_coloured_logo_is_seen() -> None:
    image = Image.new("RGBA", (400, 100), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 10, 90, 90), fill=(200, 30, 30, 255))
    for x in range(130, 380, 20):
        draw.rectangle((x, 20, x + 9, 80), fill=(255, 255, 255, 255))

    assert decode(encode(image, "PNG")).pixels[5, 200].max() < 200


def test_the_white_fringe_of_a_cut_out_does_not_change_its_ground() -> None:
    pixels = np.asarray(disc((90, 120, 60, 255))).copy()
    alpha = pixels[:, :, 3] > 0
    inner = alpha.copy()
    inner[1:-1, 1:-1] &= alpha[2:, 1:-1] & alpha[:-2, 1:-1] & alpha[1:-1, 2:] & alpha[1:-1, :-2]
    pixels[alpha & ~inner, :3] = 255

    assert ground(encode(Image.fromarray(pixels), "PNG")) == WHITE


def with_tile() -> Image.Image:
    image = disc((255, 255, 255, 255))
    image.putpixel((40, 40), (10, 10, 10, 255))
    return image


@pytest.mark.parametrize(
    ("file_format", "mode", "options"),
    [
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PNG", "LA", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("GIF", "RGBA", {}),
        ("AVIF", "RGBA", {}),
        ("TIFF", "RGBA", {}),
        ("TIFF", "LA", {}),
        ("ICO", "RGBA", {"sizes": [(80, 80)]}),
    ],
)
def test_white_art_is_seen_in_every_format(file_format: str, mode: str, options: dict[str, object]) -> None:
    pixels = decode(encode(with_tile().convert(mode), file_format, **options)).pixels

    assert np.abs(pixels[2, 2].astype(int) - DARK).max() <= 4
    assert pixels[40, 20].min() >= 250


def test_white_art_is_seen_where_one_value_is_transparent() -> None:
    grey = np.zeros((20, 20), np.uint8)
    grey[5:15, 5:15] = 255
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    wide = grey.astype(np.uint16) * 257
    trns = b"tRNS"

    assert ground(encode(Image.fromarray(grey), "PNG", transparency=0)) == DARK
    assert ground(encode(Image.fromarray(rgb), "PNG", transparency=(0, 0, 0))) == DARK
    assert ground(png_of_16_bits(wide, (trns, bytes(2)))) == DARK
    assert ground(png_of_16_bits(np.repeat(wide[:, :, None], 3, axis=2), (trns, bytes(6)))) == DARK
    assert ground(png_of_16_bits(np.dstack([wide] * 4))) == DARK


def test_of_16_bits_only_the_very_colour_is_transparent() -> None:
    values = np.full((4, 6, 3), 9 * 257, np.uint16)
    values[:, 3:, 2] += 1  # another value with the same upper byte
    pixels = decode(png_of_16_bits(values, (b"tRNS", values[0, 0].astype(">u2").tobytes()))).pixels

    assert (pixels[:, :3] == 255).all()
    assert pixels[0, 5].max() < 255


def test_what_is_fine_on_white_is_as_pillow_lays_it_on_white() -> None:
    colours = smooth()
    alpha: npt.NDArray[np.uint8] = np.linspace(0, 255, colours[:, :, 0].size).reshape(48, 64).astype(np.uint8)
    image = Image.fromarray(np.dstack([colours, alpha]))
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)

    np.testing.assert_array_equal(decode(encode(image, "PNG")).pixels, np.asarray(white))


def test_an_opaque_picture_with_alpha_is_its_colours() -> None:
    white = np.full((8, 8, 4), 255, np.uint8)

    assert (decode(encode(Image.fromarray(white), "PNG")).pixels == 255).all()
    opaque = Image.fromarray(smooth()).convert("RGBA")
    np.testing.assert_array_equal(decode(encode(opaque, "PNG")).pixels, smooth())


def test_a_large_picture_has_one_ground() -> None:
    image = Image.new("RGBA", (2100, 2400), (255, 255, 255, 0))  # two bands, white art only in the second
    image.paste((255, 255, 255, 255), (500, 2200, 900, 2300))
    pixels = decode(encode(image, "PNG", compress_level=1)).pixels

    assert set(pixels[0, 0].tolist()) == {DARK}
    assert set(pixels[2399, 0].tolist()) == {DARK}
    assert pixels[2250, 700].tolist() == [255] * 3
