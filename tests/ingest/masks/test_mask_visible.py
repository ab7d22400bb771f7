"""A segment has to be visible: blank paper, walls, skies and noise show nothing, whatever outlines them."""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFilter
from tests.conftest import Tried
from tests.fakes.segmenter import GivenMasks

from segdex_core.geometry import BoxXYXY
from segdex_core.records import RGBImage
from segdex_ingest.masks.generate import GeneratorSettings, generate_masks, meta_settings
from segdex_ingest.masks.visible import visible_contrast

LEAST = GeneratorSettings().min_contrast
SIZES_HW = ((200, 300), (480, 640), (120, 900), (1100, 850))
Floats = npt.NDArray[np.float64]


def flat(size_hw: tuple[int, int], rng: np.random.Generator) -> Floats:
    values: Floats = np.tile(rng.uniform(0, 255, 3), (*size_hw, 1))
    return values


def lit(size_hw: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Return a wall whose light falls from one corner."""
    y, x = np.mgrid[-0.5 : 0.5 : size_hw[0] * 1j, -0.5 : 0.5 : size_hw[1] * 1j]
    values: Floats = (
        rng.uniform(90, 165, 3) + (rng.uniform(-80, 80) * y + rng.uniform(-80, 80) * x)[..., None]
    )
    return values


def vignetted(size_hw: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Return a wall as a lens shows it: darker in the corners."""
    y, x = np.mgrid[-0.5 : 0.5 : size_hw[0] * 1j, -0.5 : 0.5 : size_hw[1] * 1j]
    values: Floats = rng.uniform(120, 220, 3) - (rng.uniform(20, 80) * (y * y + x * x))[..., None]
    return values


def noisy(size_hw: tuple[int, int], rng: np.random.Generator) -> Floats:
    return flat(size_hw, rng) / 2 + 64 + rng.normal(0, rng.uniform(1, 12), (*size_hw, 3))


def scanned(size_hw: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Return a sheet of paper: off white, unevenly lit, with fibres."""
    fibres = Image.fromarray(rng.integers(0, 256, size_hw, np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    grain = np.asarray(fibres, float) - 128
    light = lit(size_hw, rng) / 20
    values: Floats = light - light.mean() + 238 + rng.uniform(0, 1) * (grain / grain.std())[..., None]
    return values


BLANK = (flat, lit, vignetted, noisy, scanned)


def as_pixels(values: Floats, quality: int | None) -> RGBImage:
    """Return values as pixels, compressed as a JPEG of this quality if it is given."""
    image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if quality is None:
        return np.asarray(image)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data).convert("RGB"))


@pytest.mark.promise("Pictures", "On a blank picture (paper, wall, sky, noise) there is no segment.")
@pytest.mark.parametrize("blank", BLANK)
def test_a_blank_picture_shows_nothing(
    blank: Callable[[tuple[int, int], np.random.Generator], Floats], tried: Tried
) -> None:
    rng = np.random.default_rng(0)
    shown = []
    for size_hw in SIZES_HW:
        values = blank(size_hw, rng)
        for quality in (None, 75):
            box = BoxXYXY(0, 2, size_hw[1], size_hw[0])
            shown.append(visible_contrast(as_pixels(values, quality), box))
    tried(len(shown), "blank pictures", lost=sum(value >= LEAST for value in shown))

    assert max(shown) < LEAST


def drawn_disc(radius: int, levels: int, background: int, *, noise: float = 0) -> tuple[RGBImage, BoxXYXY]:
    """Return a picture of one disc, and the disc's box."""
    x1, y1, x2, y2 = 150 - radius, 100 - radius, 150 + radius, 100 + radius
    image = Image.new("L", (320, 240), background)
    ImageDraw.Draw(image).ellipse((x1, y1, x2, y2), fill=background + levels)
    values = np.repeat(np.asarray(image, float)[..., None], 3, axis=2)
    values += np.random.default_rng(0).normal(0, noise, values.shape)
    return as_pixels(values, None), BoxXYXY(x1, y1, x2 + 1, y2 + 1)


@pytest.mark.promise("Pictures", "One small or pale object on a blank picture is kept.")
@pytest.mark.parametrize(
    ("radius", "levels", "background", "noise"),
    [
        (2, -255, 255, 0),  # a full stop
        (3, 255, 0, 0),  # a star
        (8, 60, 128, 15),
        (20, -15, 200, 3),
        (30, -12, 255, 0),  # grey on white
        (30, 20, 128, 6),
        (60, 10, 100, 2),
    ],
)
def test_an_object_on_a_blank_picture_is_visible(
    radius: int, levels: int, background: int, noise: float, tried: Tried
) -> None:
    contrast = visible_contrast(*drawn_disc(radius, levels, background, noise=noise))
    tried(1, "pale objects", lost=int(contrast < LEAST))

    assert contrast >= LEAST


def test_an_outline_is_visible_as_a_surface_is() -> None:
    image = Image.new("RGB", (320, 240), "white")
    ImageDraw.Draw(image).ellipse((110, 60, 190, 140), outline="black", width=2)

    assert visible_contrast(np.asarray(image), BoxXYXY(110, 60, 191, 141)) > 50


def test_a_color_of_equal_lightness_is_visible() -> None:
    image = Image.new("RGB", (320, 240), (128, 128, 128))
    ImageDraw.Draw(image).ellipse((135, 85, 165, 115), fill=(128, 110, 200))

    assert visible_contrast(np.asarray(image), BoxXYXY(135, 85, 166, 116)) > 50


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 500), (500, 1), (3, 2), (40, 4000), (7, 7)])
def test_boxes_of_any_shape_are_measured(size_hw: tuple[int, int]) -> None:
    image = np.full((*size_hw, 3), 40, np.uint8)

    assert visible_contrast(image, BoxXYXY(0, 0, size_hw[1], size_hw[0])) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("settings", [GeneratorSettings(crop_layers=0, redraws=False), meta_settings()])
def test_of_two_masks_the_one_on_blank_paper_is_dropped(settings: GeneratorSettings) -> None:
    """Whatever the segmenter thinks of both."""
    image = np.full((256, 256, 3), 250, np.uint8)
    image[20:60, 20:60] = (200, 30, 30)
    side = settings.frame_px // 4
    logits = np.full((3, side, side), -8, np.float32)
    inside, outside = slice(side * 20 // 256, side * 60 // 256), slice(side // 2, side * 3 // 4)
    logits[0, inside, inside] = 8
    logits[1:, outside, outside] = 8

    segments = generate_masks(image, segmenter=GivenMasks(logits, [0.9, 0.99, 0.99]), settings=settings)

    assert [one.box for one in segments] == [pytest.approx(BoxXYXY(20, 20, 60, 60), abs=2)]
