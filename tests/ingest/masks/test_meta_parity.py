"""With Meta's settings the generator finds the masks of Meta's own generator in a real photograph."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.needs import ROOT, photo
from tests.real_models import onnx_sam2

from segdex_core.masks import MaskRLE, rle_iou
from segdex_ingest.masks.generate import generate_masks, meta_settings

pytestmark = pytest.mark.models


@pytest.mark.slow
def test_metas_masks_and_ours_are_the_same() -> None:
    """Both have a twin of IoU .9 for 97 % of the other's masks, with the same scores.

    The reference is torch and ours onnxruntime, so that a mask near a threshold may fall on either side.
    """
    expected = json.loads((ROOT / "tests" / "reference" / "meta_masks.json").read_text())
    height, width = expected["size_hw"]
    metas = [MaskRLE((height, width), mask["counts"]) for mask in expected["masks"]]
    pixels = np.asarray(Image.open(photo(expected["picture"])).convert("RGB"))

    segments = generate_masks(pixels, segmenter=onnx_sam2(), settings=meta_settings())
    iou = rle_iou(metas, [segment.mask for segment in segments])

    assert len(metas) >= 15
    assert (iou.max(axis=1) >= 0.9).mean() >= 0.97
    assert (iou.max(axis=0) >= 0.9).mean() >= 0.97
    for mask, twin in zip(expected["masks"], iou.argmax(axis=1), strict=True):
        if iou[:, twin].max() >= 0.9:
            assert segments[twin].predicted_iou == pytest.approx(mask["predicted_iou"], abs=0.01)
            assert segments[twin].stability == pytest.approx(mask["stability"], abs=0.01)
