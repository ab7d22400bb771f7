"""SAM 2 on CUDA in every precision against fp32 on the CPU; bf16 on the CPU too."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from tests.needs import photo
from tests.real_models import sam2_folder

from segdex_backends.models.devices import fastest_precision
from segdex_backends.models.sam2.loader import load_sam2_weights
from segdex_backends.models.sam2.segmenter import TorchSam2
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_core.records import RGBImage
from segdex_core.settings import ModelPrecision

SURE = 0.8
"""Only masks with at least this predicted IoU are compared: rounding decides what the others are."""

pytestmark = pytest.mark.models

cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]


@cache
def picture(name: str) -> RGBImage:
    with Image.open(photo(name)) as opened:
        return np.array(opened.convert("RGB"))


@cache
def segmenter(device: str, precision: ModelPrecision, *, compiled: bool = False) -> TorchSam2:
    return load_sam2_weights(str(sam2_folder()), device=device, precision=precision, compiled=compiled)


@cache
def masks_of(
    device: str, precision: ModelPrecision, frame_px: int, *, compiled: bool = False
) -> DecodedMasks:
    """Return what a grid of 8x8 clicks finds on a photograph."""
    image = picture("coffee.png")
    model = segmenter(device, precision, compiled=compiled)
    [features] = model.encode([image], frame_px=frame_px)
    sides = [(np.arange(8) + 0.5) / 8 * side for side in (image.shape[1], image.shape[0])]
    points = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 1, 2).astype(np.float32)
    prompts, batch = Prompts(points, np.ones((64, 1), np.int64)), model.prompts_per_batch(features)
    return DecodedMasks.join(
        [model.decode(features, prompts[start : start + batch]) for start in range(0, 64, batch)]
    )


def matched(exact: DecodedMasks, about: DecodedMasks) -> npt.NDArray[np.float64]:
    """Return for each sure mask its IoU with the most alike of the three of the same prompt."""
    prompts, masks = np.nonzero(exact.predicted_iou > SURE)
    wanted, found = exact.logits[prompts, masks] > 0, about.logits[prompts] > 0
    both = (wanted[:, None] & found).sum(axis=(2, 3))
    either = (wanted[:, None] | found).sum(axis=(2, 3))
    best: npt.NDArray[np.float64] = (both / np.maximum(either, 1)).max(axis=1)
    return best


@pytest.mark.parametrize("frame_px", [1024, 672])
@pytest.mark.parametrize(
    ("device", "precision"),
    [
        pytest.param(
            "cpu",
            "bf16",
            marks=pytest.mark.skipif(
                fastest_precision("cpu") != "bf16", reason="bf16 is minutes slow on a CPU without AMX"
            ),
        ),
        pytest.param("cuda", "bf16", marks=cuda),
        pytest.param("cuda", "fp16", marks=cuda),
    ],
)
def test_half_precision_finds_the_masks_of_fp32(
    device: str, precision: ModelPrecision, frame_px: int
) -> None:
    exact, about = masks_of("cpu", "fp32", frame_px), masks_of(device, precision, frame_px)

    iou = matched(exact, about)

    assert len(iou) >= 40
    assert (iou >= 0.9).mean() >= 0.95
    assert np.isfinite(about.logits).all()


@pytest.mark.parametrize("frame_px", [1024, 672])
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=cuda)])
def test_fp32_gives_the_masks_of_the_cpu(device: str, frame_px: int) -> None:
    exact, about = masks_of("cpu", "fp32", frame_px), masks_of(device, "fp32", frame_px)

    # torch computes convolutions in TF32 by default: three digits
    iou = matched(exact, about)
    assert (iou >= 0.98).mean() >= 0.99
    np.testing.assert_allclose(about.predicted_iou, exact.predicted_iou, atol=0.02)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=cuda)])
def test_pictures_in_one_pass_are_as_one_by_one(device: str) -> None:
    images = [picture(name) for name in ("coffee.png", "chelsea.png", "astronaut.png")]
    model = segmenter(device, "fp32")
    click = Prompts(np.array([[[200, 150]]], np.float32), np.ones((1, 1), np.int64))

    together = model.encode(images)

    for image, features in zip(images, together, strict=True):
        [alone] = model.encode([image])
        found, wanted = model.decode(features, click), model.decode(alone, click)
        assert matched(wanted, found).min(initial=1) > 0.98


@pytest.mark.filterwarnings("ignore::UserWarning:torch.*", "ignore::DeprecationWarning")
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=cuda)])
def test_compiled_it_gives_the_same_masks_at_every_frame(device: str) -> None:
    for frame_px in (1024, 672):
        plain, compiled = (masks_of(device, "bf16", frame_px, compiled=each) for each in (False, True))
        assert (matched(plain, compiled) >= 0.9).mean() >= 0.95


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=cuda)])
def test_a_batch_beyond_the_memory_is_decoded_in_halves(device: str) -> None:
    """The device is left with about 1 GiB: too little for a full batch of prompts."""
    model = load_sam2_weights(str(sam2_folder()), device=device, precision="bf16")
    [features] = model.encode([picture("coffee.png")])
    before = model.prompts_per_batch(features)
    random = np.random.default_rng(0)
    points = random.uniform(0, 400, (before, 1, 2)).astype(np.float32)
    asked = Prompts(points, np.ones((before, 1), np.int64))
    expected = model.decode(features, asked)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    filled = torch.empty(max(free - (1 << 30), 0), dtype=torch.uint8, device=device)

    try:
        decoded = model.decode(features, asked)
    finally:
        del filled
        torch.cuda.empty_cache()

    assert model.prompts_per_batch(features) < before
    assert (matched(expected, decoded) >= 0.9).mean() >= 0.95
