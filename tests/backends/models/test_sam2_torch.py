"""What the adapter does around encoder and decoder: too little memory, frame sizes, compiled or not."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.backends.models.tiny_sam2 import save_tiny_sam2, tiny_sam2

from segdex_backends.models.sam2.loader import load_sam2_weights
from segdex_backends.models.sam2.segmenter import TorchSam2
from segdex_core.errors import ModelInvalidError
from segdex_core.ports.prompts import Prompts
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


def refusing(
    call: Callable[..., object], *, most: int, which: int
) -> tuple[Callable[..., object], list[int]]:
    """Return ``call``, out of memory if its argument ``which`` is longer than ``most``, and the lengths."""
    lengths: list[int] = []

    def limited(*args: Sequence[object], **options: object) -> object:
        lengths.append(len(args[which]))
        if lengths[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return call(*args, **options)

    return limited, lengths


@pytest.mark.parametrize("with_masks", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3, 10])
def test_prompts_that_do_not_fit_are_decoded_in_halves(
    segmenter: TorchSam2, monkeypatch: pytest.MonkeyPatch, most: int, with_masks: bool
) -> None:
    [features] = segmenter.encode(pictures(1), frame_px=FRAME_PX)
    asked = clicks(10, side=FRAME_PX // 4 if with_masks else None)
    expected = segmenter.decode(features, asked)
    limited, lengths = refusing(segmenter._decoder.decode, most=most, which=1)
    monkeypatch.setattr(segmenter._decoder, "decode", limited)

    decoded = segmenter.decode(features, asked)

    assert sum(length for length in lengths if length <= most) == 10
    np.testing.assert_allclose(decoded.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(decoded.predicted_iou, expected.predicted_iou, atol=1e-5)
    np.testing.assert_allclose(decoded.tokens, expected.tokens, atol=1e-5)


def test_after_that_batches_are_smaller(segmenter: TorchSam2, monkeypatch: pytest.MonkeyPatch) -> None:
    [features] = segmenter.encode(pictures(1), frame_px=FRAME_PX)
    before = segmenter.prompts_per_batch(features)
    limited, _ = refusing(segmenter._decoder.decode, most=before // 2, which=1)
    monkeypatch.setattr(segmenter._decoder, "decode", limited)

    segmenter.decode(features, clicks(before))

    assert segmenter.prompts_per_batch(features) == before // 2


def test_a_single_prompt_that_does_not_fit_is_out_of_memory(
    segmenter: TorchSam2, monkeypatch: pytest.MonkeyPatch
) -> None:
    [features] = segmenter.encode(pictures(1), frame_px=FRAME_PX)
    limited, lengths = refusing(segmenter._decoder.decode, most=0, which=1)
    monkeypatch.setattr(segmenter._decoder, "decode", limited)

    with pytest.raises(torch.OutOfMemoryError):
        segmenter.decode(features, clicks(4))
    assert lengths == [4, 2, 1]
    assert segmenter.prompts_per_batch(features) >= 1


@pytest.mark.parametrize("most", [1, 2, 5])
def test_pictures_that_do_not_fit_are_encoded_in_halves(
    segmenter: TorchSam2, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """As on CUDA: a CPU encodes one by one in any case."""
    images = pictures(5)
    expected = segmenter.encode(images, frame_px=FRAME_PX)
    limited, lengths = refusing(segmenter._encode, most=most, which=0)
    monkeypatch.setattr(segmenter, "_encode", limited)

    together = segmenter._encode_what_fits(images, FRAME_PX)

    assert sum(length for length in lengths if length <= most) == 5
    assert [each.size_hw for each in together] == [image.shape[:2] for image in images]
    for found, wanted in zip(together, expected, strict=True):
        masks, exact = (segmenter.decode(each, clicks(2)).logits for each in (found, wanted))
        np.testing.assert_allclose(masks, exact, atol=1e-4)


def test_a_single_picture_that_does_not_fit_is_out_of_memory(
    segmenter: TorchSam2, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited, lengths = refusing(segmenter._encode, most=0, which=0)
    monkeypatch.setattr(segmenter, "_encode", limited)

    with pytest.raises(torch.OutOfMemoryError):
        segmenter._encode_what_fits(pictures(3), FRAME_PX)
    assert lengths == [3, 1]


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
