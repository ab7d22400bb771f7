"""Mask generation with the real model on pictures of odd shapes, and on pictures of nothing."""

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw
from tests.real_models import onnx_sam2

from segdex_core.masks import encode_mask, rle_iou
from segdex_ingest.masks.generate import generate_masks, preset

pytestmark = pytest.mark.models

COLOURS = ((220, 30, 30), (30, 160, 40), (40, 60, 220), (240, 200, 20))


def blank(kind: str) -> npt.NDArray[np.uint8]:
    height, width = 120, 160
    across = np.linspace(0, 255, width).astype(np.uint8)
    values = {"black": 0, "white": 255, "grey": 127}.get(kind, across)
    return np.array(np.broadcast_to(np.asarray(values)[..., None], (height, width, 3)), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["black", "white", "grey", "gradient"])
def test_a_picture_of_nothing_has_no_segments(kind: str) -> None:
    pixels = blank(kind) if kind == "gradient" else np.full((120, 160, 3), blank(kind)[0, 0], np.uint8)

    assert generate_masks(pixels, segmenter=onnx_sam2(), settings=preset("balanced")) == []


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "rows"), [(24, 1), (1, 24)])
def test_discs_on_a_strip_are_found(columns: int, rows: int) -> None:
    """At least 22 of 24, as the discs of a picture of 3:2 are."""
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
    assert np.count_nonzero(best > 0.5) >= 22
