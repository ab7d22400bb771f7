"""Of files with several pictures, the one that a person means is taken."""

import struct

import numpy as np
import pytest
from PIL import Image
from tests.core.media.making import Pixels, decode, difference, encode, smooth, tiff, tiff_page, tiff_tags

from segdex_core.errors import NotAnImageError
from segdex_core.media.pixels import MAX_FRAMES

THUMBNAIL, MASK = (254, 4, (1,)), (254, 4, (4,))
ANIMATIONS = [
    ("GIF", {"optimize": False, "disposal": 2}, 40.0),
    ("PNG", {}, 0.0),
    ("WEBP", {"lossless": True}, 0.0),
    ("AVIF", {"quality": 95}, 4.0),
]


def small(factor: int) -> Pixels:
    return np.ascontiguousarray(smooth()[::factor, ::factor])


def animation(frames: list[Image.Image], file_format: str, options: dict[str, object]) -> bytes:
    return encode(frames[0], file_format, save_all=True, append_images=frames[1:], duration=40, **options)


@pytest.mark.parametrize(("file_format", "options", "levels"), ANIMATIONS)
@pytest.mark.parametrize("first", [(0, 0, 0, 255), (0, 0, 0, 0), (255, 255, 255, 255)])
@pytest.mark.parametrize("count", [1, 5])
def test_an_animation_is_its_first_frame_that_shows_something(
    file_format: str, options: dict[str, object], levels: float, first: tuple[int, ...], count: int
) -> None:
    blank = Image.new("RGBA", (64, 48), first)
    blanks = [blank.copy() for _ in range(count)]
    for n, one in enumerate(blanks):  # encoders join equal frames
        one.putpixel((0, 0), (n, 0, 0, 255) if first[0] == 0 else (255, 255, 255 - n, 255))
    shown = Image.fromarray(smooth()).convert("RGBA")
    other = Image.fromarray(255 - smooth()).convert("RGBA")
    data = animation([*blanks, shown, other], file_format, options)

    assert difference(decode(data).pixels, smooth()) <= levels


@pytest.mark.parametrize(("file_format", "options", "levels"), ANIMATIONS)
def test_a_first_frame_that_shows_something_is_taken(
    file_format: str, options: dict[str, object], levels: float
) -> None:
    frames = [Image.fromarray(smooth()), Image.fromarray(255 - smooth())]

    assert difference(decode(animation(frames, file_format, options)).pixels, smooth()) <= levels


def test_an_animation_that_stays_blank_is_its_first_frame_and_ends_soon() -> None:
    frames = [Image.new("RGB", (16, 16), (0, 0, n % 2)) for n in range(MAX_FRAMES + 8)]
    frames.append(
        Image.fromarray(np.kron(np.eye(2, dtype=np.uint8) * 255, np.ones((8, 8), np.uint8))).convert("RGB")
    )
    late = encode(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=40)

    assert decode(late).pixels.max() <= 1
    soon = encode(frames[0], "PNG", save_all=True, append_images=[*frames[1:4], frames[-1]], duration=40)
    assert decode(soon).pixels.max() == 255
    assert decode(soon[: len(soon) - 60]).pixels.shape == (16, 16, 3)  # damaged behind a whole first frame


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_below", [True, False])
def test_a_tiff_that_begins_with_a_reduced_version_is_its_full_picture(order: str, is_below: bool) -> None:
    thumbnail = tiff_page(small(4), THUMBNAIL)
    pages = [thumbnail, tiff_page(smooth(), (254, 4, (0,))), tiff_page(small(2), THUMBNAIL)]
    data = tiff(*pages, order=order, sub=2 if is_below else 0)

    np.testing.assert_array_equal(decode(data).pixels, smooth())


def test_a_small_first_page_without_a_mark_is_a_thumbnail_of_a_page_of_its_shape() -> None:
    np.testing.assert_array_equal(decode(tiff(tiff_page(small(4)), tiff_page(smooth()))).pixels, smooth())


def test_other_pages_do_not_displace_the_first() -> None:
    first = smooth()
    wider = np.zeros((96, 200, 3), np.uint8)  # a scan of another sheet
    mask = np.zeros((480, 640, 3), np.uint8)

    for pages in (
        [tiff_page(first), tiff_page(wider)],
        [tiff_page(first), tiff_page(mask, MASK)],
        [tiff_page(first), tiff_page(small(4), THUMBNAIL)],
        [tiff_page(first), tiff_page(255 - first)],
        [tiff_page(first, THUMBNAIL)],
        [tiff_page(first, THUMBNAIL), tiff_page(small(2))],
    ):
        np.testing.assert_array_equal(decode(tiff(*pages)).pixels, first)


def raw(
    *tags: tuple[int, int, tuple[int, ...]], below: bool = True, preview_wh: tuple[int, int] = (64, 48)
) -> bytes:
    """Return a TIFF with a preview and the values of a sensor with these tags."""
    preview = tiff_page(np.zeros((preview_wh[1], preview_wh[0], 3), np.uint8), THUMBNAIL)
    sensor = [*tiff_tags(640, 480, bits=16, channels=1, photometric=32803), *tags]
    return tiff(preview, (sensor, bytes(640 * 480 * 2)), sub=1 if below else 0)


def test_raw_files_that_are_tiff_are_told_by_what_they_hold() -> None:
    for data in (raw(), raw(below=False), raw(preview_wh=(640, 480))):
        with pytest.raises(NotAnImageError, match="camera RAW is not read"):
            decode(data)
    dng = tiff(tiff_page(smooth(), (50706, 1, (1, 4, 0, 0))))
    with pytest.raises(NotAnImageError, match=r"camera RAW \(DNG\) is not read"):
        decode(dng)
    packed = tiff(([*tiff_tags(64, 48, channels=1, photometric=1)[:3], (259, 3, (34713,))], b"x" * 100))
    with pytest.raises(NotAnImageError, match=r"camera RAW \(NEF\) is not read"):
        decode(packed)


def test_directories_that_go_in_circles_end() -> None:
    data = bytearray(tiff(tiff_page(smooth())))
    start = struct.unpack("<I", data[4:8])[0]
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)

    np.testing.assert_array_equal(decode(bytes(data)).pixels, smooth())
