"""Pictures as callers hand them in: every kind is the same picture."""

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from segdex.pictures import Picture, picture_file, picture_pixels
from segdex_core.errors import ImageError, ImageTooLargeError, UsageError
from segdex_core.media.decode import decode_image

MAX_PIXELS = 10_000
PIXELS = np.random.default_rng(7).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def png_bytes(image: Image.Image, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.fixture(name="kinds")
def _kinds(tmp_path: Path) -> dict[str, Picture]:
    data = png_bytes(Image.fromarray(PIXELS))
    path = tmp_path / "b\u00e4r.png"
    path.write_bytes(data)
    blue_first: npt.NDArray[np.uint8] = np.ascontiguousarray(PIXELS[..., ::-1])
    return {
        "path": path,
        "text": str(path),
        "bytes": data,
        "Pillow": Image.fromarray(PIXELS),
        "opened": Image.open(BytesIO(data)),
        "array": PIXELS,
        "a view of an array": blue_first[..., ::-1],
    }


def pixels_of(picture: Picture) -> npt.NDArray[np.uint8]:
    return picture_pixels(picture, max_pixels=MAX_PIXELS, decode=decode_image)


def sent_pixels_of(picture: Picture) -> npt.NDArray[np.uint8]:
    return decode_image(picture_file(picture)[1], name="sent", max_pixels=MAX_PIXELS).pixels


def test_every_kind_has_the_same_pixels_here_and_when_it_is_sent(kinds: dict[str, Picture]) -> None:
    for kind, picture in kinds.items():
        assert np.array_equal(pixels_of(picture), PIXELS), kind
        assert np.array_equal(sent_pixels_of(picture), PIXELS), kind
        assert pixels_of(picture).flags.c_contiguous, kind


def test_a_file_keeps_its_name_and_a_home_folder_is_found(
    kinds: dict[str, Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert picture_file(kinds["path"])[0] == "b\u00e4r.png"
    assert picture_file("~/b\u00e4r.png") == picture_file(kinds["path"])
    assert np.array_equal(pixels_of("~/b\u00e4r.png"), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pillow_image_is_turned_upright_as_its_file_is(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    path.write_bytes(png_bytes(Image.fromarray(PIXELS), exif=exif))
    upright = pixels_of(path)

    assert upright.shape == ((30, 40, 3) if orientation < 5 else (40, 30, 3))
    with Image.open(path) as opened:
        assert np.array_equal(pixels_of(opened), upright)
        assert np.array_equal(sent_pixels_of(opened), upright)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV"])
def test_a_pillow_image_of_any_mode_is_what_pillow_shows(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)

    assert np.array_equal(pixels_of(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("dtype", "factor", "mode"), [(np.uint16, 257, "I;16"), (np.int32, 257, "I"), (np.float32, 1 / 255, "F")]
)
def test_greys_of_more_than_8_bits_are_scaled_as_those_of_a_file(
    dtype: type[np.generic], factor: float, mode: str
) -> None:
    grey = PIXELS[..., 0]
    image = Image.fromarray((grey * float(factor)).astype(dtype))

    assert image.mode == mode
    assert np.array_equal(pixels_of(image), np.dstack([grey] * 3))


def test_cielab_is_converted() -> None:
    assert (pixels_of(Image.new("LAB", (4, 4), (255, 128, 128))) >= 254).all()


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBA", "RGBa"])
def test_what_is_transparent_lies_on_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (10, 10, 10, 0))
    image.paste((10, 10, 10, 255), (0, 0, 2, 4))
    found = pixels_of(image.convert(mode))

    assert (found[:, :2] == 10).all()
    assert (found[:, 2:] == 255).all()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4), np.uint8), r"\(4, 4\) uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\) uint8"),
        (np.zeros((3, 4, 4), np.uint8), r"\(3, 4, 4\) uint8"),
        (np.zeros((4, 4, 3), np.float32), r"\(4, 4, 3\) float32"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\) uint8"),
        (7, "is a int"),
        (None, "is a NoneType"),
        ([[1, 2]], "is a list"),
    ],
)
def test_what_is_no_picture_is_refused_by_what_it_is(array: object, words: str) -> None:
    for read in (pixels_of, picture_file):
        with pytest.raises(UsageError, match=words):
            read(array)  # type: ignore[arg-type]


def test_too_many_pixels_are_refused_whatever_the_kind(kinds: dict[str, Picture]) -> None:
    for picture in kinds.values():
        with pytest.raises(ImageTooLargeError):
            picture_pixels(picture, max_pixels=PIXELS.shape[0] * PIXELS.shape[1] - 1, decode=decode_image)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (pixels_of, picture_file):
        with pytest.raises(UsageError, match=r"none\.png: there is no such file"):
            read(tmp_path / "none.png")


def test_what_cannot_be_read_is_an_error_of_a_picture(tmp_path: Path) -> None:
    half = png_bytes(Image.fromarray(PIXELS))[:600]
    avif = BytesIO()
    Image.fromarray(PIXELS).save(avif, "AVIF")
    head, mark, _ = avif.getvalue().partition(b"mdat")
    damaged = head + mark + bytes(2_000)  # for which Pillow raises a RuntimeError
    for data in (half, damaged):
        with Image.open(BytesIO(data)) as opened:  # Pillow reads the pixels later
            for read in (pixels_of, picture_file):
                with pytest.raises(ImageError, match="cannot be read"):
                    read(opened)
    for read in (pixels_of, picture_file):
        with pytest.raises(ImageError):
            read(tmp_path)
