"""Mask generation with the real model on pictures of odd shapes, and on pictures of nothing."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw
from tests.real_models import onnx_sam2

from segdex_core.masks import encode_mask, rle_iou
from segdex_ingest.masks.generate import GeneratorSettings, generate_masks, meta_settings, preset

pytestmark = pytest.mark.models

COLOURS = ((220, 30, 30), (30, 160, 40), (40, 60, 220), (240, 200, 20))


def blank(kind: str) -> npt.NDArray[np.uint8]:
    size_hw, rng = (200, 300), np.random.default_rng(1)
    across = np.linspace(0, 255, size_hw[1])[None, :, None]
    values = {
        "black": np.zeros((1, 1, 1)),
        "white": np.full((1, 1, 1), 255.0),
        "blue": np.array([[[30.0, 60, 200]]]),
        "gradient": across,
        "static": rng.integers(0, 255, (*size_hw, 3)),
        "night": rng.normal(3, 4, (*size_hw, 3)),
        "wall": 200 - across / 8 + rng.normal(0, 6, (*size_hw, 3)),
    }[kind]
    pixels: npt.NDArray[np.uint8] = np.ascontiguousarray(
        np.broadcast_to(np.clip(values, 0, 255), (*size_hw, 3)), np.uint8
    )
    return pixels


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["black", "white", "blue", "gradient", "static", "night", "wall"])
def test_a_picture_of_nothing_has_no_segments(kind: str) -> None:
    assert generate_masks(blank(kind), segmenter=onnx_sam2(), settings=preset("fast")) == []


@pytest.mark.slow
@pytest.mark.parametrize("settings", [preset("balanced"), replace(meta_settings(), points_per_side=8)])
def test_neither_windows_nor_the_rules_of_meta_find_something_in_nothing(settings: GeneratorSettings) -> None:
    assert generate_masks(blank("white"), segmenter=onnx_sam2(), settings=settings) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("background", "color", "radius"),
    [
        ((128, 128, 128), (128, 110, 200), 15),  # equally light
        ((255, 255, 255), (243, 243, 243), 30),
        ((0, 0, 0), (255, 255, 255), 4),
    ],
)
def test_the_one_object_on_a_plain_ground_is_found(
    background: tuple[int, int, int], color: tuple[int, int, int], radius: int
) -> None:
    """The ranker, which learnt from photographs, takes none of these for an object."""
    box = (150 - radius, 100 - radius, 150 + radius, 100 + radius)
    picture, alone = Image.new("RGB", (320, 240), background), Image.new("L", (320, 240))
    ImageDraw.Draw(picture).ellipse(box, fill=color)
    ImageDraw.Draw(alone).ellipse(box, fill=1)
    truth = encode_mask(np.asarray(alone).astype(bool))

    segments = generate_masks(np.asarray(picture), segmenter=onnx_sam2(), settings=preset("fast"))

    assert rle_iou([truth], [one.mask for one in segments]).max() > 0.7


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "rows"), [(24, 1), (1, 24)])
def test_discs_on_a_strip_are_found(columns: int, rows: int) -> None:
    """All 24, as the discs of a picture of 3:2 are."""
    picture = Image.new("RGB", (200 * columns, 200 * rows), (128, 128, 128))
    draw, truth = ImageDraw.Draw(picture), []
    for number in range(columns * rows):
        x, y = 200 * (number % columns) + 100, 200 * (number // columns) + 100
        box = (x - 40, y - 40, x + 40, y + 40)
        draw.ellipse(box, fill=COLOURS[number % 4])
        alone = Image.new("L", picture.size)
        ImageDraw.Draw(alone).ellipse(box, fill=1)
        truth.append(encode_mask(np.asarray(alone).astype(bool)))

    segments = generate_masks(np.asarray(picture), segmenter=onnx_sam2(), settings=preset("balanced"))

    best = rle_iou(truth, [one.mask for one in segments]).max(axis=1)
    assert np.count_nonzero(best > 0.5) == 24
