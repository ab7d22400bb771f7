"""What the adapter does around encoder and decoder: too little memory, frame sizes, compiled or not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.backends.models.tiny_sam2 import save_tiny_sam2, tiny_sam2

from segdex_backends.models.sam2.loader import load_sam2_weights
from segdex_backends.models.sam2.segmenter import TorchSam2
from segdex_core.errors import ModelInvalidError
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_core.ports.segmenter import ImageFeatures
from segdex_core.records import RGBImage

FRAME_PX = 224


@pytest.fixture
def segmenter(tmp_path: Path) -> TorchSam2:
    return load_sam2_weights(str(save_tiny_sam2(tmp_path)))


def pictures(count: int) -> list[RGBImage]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (40 + 7 * i, 70, 3), np.uint8) for i in range(count)]


def clicks(count: int, *, side: int | None = None) -> Prompts:
    """Prompts of one and of two points, and with mask prompts where ``side`` is given."""
    random = np.random.default_rng(1)
    labels = np.ones((count, 2), np.int64)
    labels[::3, 1] = -1
    masks = None if side is None else random.normal(0, 8, (count, side, side)).astype(np.float32)
    return Prompts(random.uniform(0, 40, (count, 2, 2)).astype(np.float32), labels, masks)


class SmallDevice(TorchSam2):
    """Has memory for so many prompts and pictures at a time, and remembers how many were asked of it."""

    def __init__(self, *, prompts: int = 1 << 20, pictures: int = 1 << 20) -> None:
        super().__init__(
            tiny_sam2(), name="small", weights_id="tiny", device="cpu", precision="fp32", in_one_pass=True
        )
        self.prompts, self.pictures = prompts, pictures
        self.asked: list[int] = []

    def decode_part(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool) -> DecodedMasks:
        self._take(len(prompts), of=self.prompts)
        return super().decode_part(features, prompts, multimask=multimask)

    def encode_part(self, images: Sequence[RGBImage], frame_px: int) -> list[ImageFeatures]:
        self._take(len(images), of=self.pictures)
        return super().encode_part(images, frame_px)

    def _take(self, count: int, *, of: int) -> None:
        self.asked.append(count)
        if count > of:
            raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("with_masks", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3, 10])
def test_prompts_that_do_not_fit_are_decoded_in_halves(most: int, with_masks: bool) -> None:
    large, small = SmallDevice(), SmallDevice(prompts=most)
    [features] = large.encode(pictures(1), frame_px=FRAME_PX)
    asked = clicks(10, side=FRAME_PX // 4 if with_masks else None)

    expected, decoded = (segmenter.decode(features, asked) for segmenter in (large, small))

    assert sum(count for count in small.asked if count <= most) == 10
    np.testing.assert_allclose(decoded.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(decoded.predicted_iou, expected.predicted_iou, atol=1e-5)
    np.testing.assert_allclose(decoded.tokens, expected.tokens, atol=1e-5)


def test_after_that_batches_are_smaller() -> None:
    small = SmallDevice()
    [features] = small.encode(pictures(1), frame_px=FRAME_PX)
    before = small.prompts_per_batch(features)
    small.prompts = before // 2

    small.decode(features, clicks(before))

    assert small.prompts_per_batch(features) == before // 2


def test_a_single_prompt_that_does_not_fit_is_out_of_memory() -> None:
    small = SmallDevice(prompts=0)
    [features] = small.encode(pictures(1), frame_px=FRAME_PX)
    small.asked.clear()

    with pytest.raises(torch.OutOfMemoryError):
        small.decode(features, clicks(4))
    assert small.asked == [4, 2, 1]
    assert small.prompts_per_batch(features) >= 1


@pytest.mark.parametrize("most", [1, 2, 5])
def test_pictures_that_do_not_fit_are_encoded_in_halves(segmenter: TorchSam2, most: int) -> None:
    """As on CUDA: a CPU encodes one by one unless it is told otherwise."""
    images, small = pictures(5), SmallDevice(pictures=most)
    expected = segmenter.encode(images, frame_px=FRAME_PX)

    together = small.encode(images, frame_px=FRAME_PX)

    assert sum(count for count in small.asked if count <= most) == 5
    assert [each.size_hw for each in together] == [image.shape[:2] for image in images]
    for found, wanted in zip(together, expected, strict=True):
        masks, exact = small.decode(found, clicks(2)).logits, segmenter.decode(wanted, clicks(2)).logits
        np.testing.assert_allclose(masks, exact, atol=1e-4)


def test_a_single_picture_that_does_not_fit_is_out_of_memory() -> None:
    small = SmallDevice(pictures=0)

    with pytest.raises(torch.OutOfMemoryError):
        small.encode(pictures(3), frame_px=FRAME_PX)
    assert small.asked == [3, 1]


def test_features_of_another_precision_are_refused(tmp_path: Path) -> None:
    folder = str(save_tiny_sam2(tmp_path))
    exact, half = load_sam2_weights(folder), load_sam2_weights(folder, precision="bf16")
    [features] = exact.encode(pictures(1), frame_px=FRAME_PX)

    with pytest.raises(ValueError, match="another segmenter"):
        half.decode(features, clicks(1))


@pytest.mark.parametrize("options", [{"global_blocks": [1]}, {"windows": [8, 4, 7, 7]}])
def test_a_trunk_that_is_no_hiera_of_sam_2_is_refused(options: dict[str, list[int]]) -> None:
    model = tiny_sam2(**options)

    with pytest.raises(ModelInvalidError, match="no Hiera of SAM 2"):
        TorchSam2(model, name="odd", weights_id="odd", device="cpu", precision="fp32")
