"""Pictures with more than 8 bits keep the brightness that a viewer shows."""

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.core.media.making import (
    Entry,
    decode,
    difference,
    encode,
    png_of_16_bits,
    smooth,
    tiff,
    tiff_tags,
)


def of_bits(bits: int) -> npt.NDArray[np.uint16]:
    """Return the smooth picture with values of so many bits."""
    return np.round(smooth() / 255 * ((1 << bits) - 1)).astype(np.uint16)


def tiff_of_16_bits(
    values: npt.NDArray[np.uint16],
    *more: Entry,
    order: str = "<",
    is_planar: bool = False,
    photometric: int | None = None,
) -> bytes:
    channels = values.shape[2] if values.ndim == 3 else 1
    height, width = values.shape[:2]
    stored = values.astype(f"{order}u2")
    strips = [stored[:, :, n].tobytes() for n in range(channels)] if is_planar else [stored.tobytes()]
    meaning = photometric if photometric is not None else 2 if channels == 3 else 1
    tags = tiff_tags(width, height, bits=16, channels=channels, photometric=meaning)
    return tiff(([*tags, (284, 3, (2 if is_planar else 1,)), *more], strips), order=order)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["png", "tiff", "big-endian tiff", "png with alpha"])
def test_fewer_bits_in_16_are_not_near_black(bits: int, kind: str) -> None:
    values = of_bits(bits)
    if kind == "png with alpha":
        data = png_of_16_bits(np.dstack([values, np.full(values.shape[:2], 65535, np.uint16)]))
    elif kind == "png":
        data = png_of_16_bits(values)
    else:
        data = tiff_of_16_bits(values, order=">" if kind.startswith("big") else "<")
    grey = png_of_16_bits(values[:, :, 0]) if "png" in kind else tiff_of_16_bits(values[:, :, 0])

    assert np.abs(decode(data).pixels.astype(int) - smooth()).max() <= 1
    assert np.abs(decode(grey).pixels.astype(int) - smooth()[:, :, :1]).max() <= 1


def test_a_depth_that_the_file_declares_is_kept_where_the_picture_is_dark() -> None:
    dark = of_bits(12)[:, :, 0] // 8  # such as an underexposed photograph
    expected = np.round(dark / 4095 * 255)[:, :, None]

    assert difference(decode(tiff_of_16_bits(dark, (281, 3, (4095,)))).pixels, expected) < 1
    head = b"P5 64 48 4095\n"
    assert difference(decode(head + dark.astype(">u2").tobytes()).pixels, expected) < 1


@pytest.mark.parametrize("maximum", [255, 1023, 4095, 65535])
def test_a_ppm_is_scaled_by_its_maximum(maximum: int) -> None:
    values = np.round(smooth() / 255 * maximum).astype(">u2" if maximum > 255 else np.uint8)
    grey = np.ascontiguousarray(values[:, :, 0])

    rgb = decode(b"P6 64 48 %d\n" % maximum + values.tobytes()).pixels
    assert np.abs(rgb.astype(int) - smooth()).max() <= 1
    one = decode(b"P5 64 48 %d\n" % maximum + grey.tobytes()).pixels
    assert np.abs(one.astype(int) - smooth()[:, :, :1]).max() <= 1
    text = b"P2 64 48 %d\n" % maximum + b" ".join(b"%d" % value for value in grey.ravel())
    np.testing.assert_array_equal(decode(text).pixels, one)


def test_12_bits_that_are_packed_are_read() -> None:
    values = of_bits(12)[:, :, 0].ravel()
    first, second = values[::2], values[1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)
    data = tiff((tiff_tags(64, 48, bits=12, channels=1, photometric=1), packed.tobytes()))

    assert np.abs(decode(data).pixels.astype(int) - smooth()[:, :, :1]).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_of_16_bits_are_read(order: str) -> None:
    data = tiff_of_16_bits(of_bits(16), order=order, is_planar=True)

    assert np.abs(decode(data).pixels.astype(int) - smooth()).max() <= 1


def test_16_bits_whose_smallest_value_is_white_are_inverted() -> None:
    data = tiff_of_16_bits(65535 - of_bits(16)[:, :, 0], photometric=0)

    assert np.abs(decode(data).pixels.astype(int) - smooth()[:, :, :1]).max() <= 1


def test_a_few_extreme_floats_do_not_make_the_rest_black() -> None:
    values = smooth()[:, :, 0].astype(np.float32) * 7 - 300
    values[0, :3] = 1e9, np.nan, -np.inf
    grey = decode(encode(Image.fromarray(values), "TIFF")).pixels[:, :, 0].astype(int)
    expected = smooth()[:, :, 0] / smooth()[:, :, 0].max() * 255

    assert grey[0, :3].tolist() == [255, 0, 0]
    assert np.abs(grey - expected)[1:].max() <= 2


def test_black_stays_black() -> None:
    assert (decode(png_of_16_bits(np.zeros((4, 4), np.uint16))).pixels == 0).all()
    assert (decode(png_of_16_bits(np.zeros((4, 4, 3), np.uint16))).pixels == 0).all()
