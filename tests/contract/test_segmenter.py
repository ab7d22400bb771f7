"""What every segmenter must do: the cases run on the fake and on all real adapters."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.fakes.segmenter import FloodSegmenter
from tests.needs import photo
from tests.real_models import onnx_sam2, package_sam2, torch_sam2

from segdex_core.geometry import MaskBoxXYXY
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_core.ports.segmenter import (
    ImageFeatures,
    NamesDecoder,
    NarrowsFeatures,
    Segmenter,
    StoresFeatures,
    TunesBatches,
)
from segdex_core.records import RGBImage

# Clicks and boxes on the cat of chelsea.png (451x300), in pixels.
CLICKS = np.array([[[200, 150]], [[60, 40]], [[420, 280]]], np.float32)
EYE_TO_EAR = np.array([[[150, 60], [300, 200]]], np.float32)


class FullSegmenter(Segmenter, NarrowsFeatures, StoresFeatures, TunesBatches, NamesDecoder, Protocol):
    """A segmenter with everything that one may have."""


MAKERS: dict[str, Callable[[], FullSegmenter]] = {
    "flood": FloodSegmenter,
    "onnx": onnx_sam2,
    "torch": torch_sam2,
    "package": package_sam2,
}


@dataclass(frozen=True, eq=False)
class Encoded:
    segmenter: FullSegmenter
    images: list[RGBImage]
    features: list[ImageFeatures]

    def decode(self, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        return self.segmenter.decode(self.features[0], prompts, multimask=multimask)

    @cached_property
    def small(self) -> ImageFeatures:
        """The photograph in a smaller frame."""
        [features] = self.segmenter.encode(self.images[:1], frame_px=672)
        return features


@pytest.fixture(
    scope="module",
    params=[
        "flood",
        *(pytest.param(name, marks=pytest.mark.models) for name in ("onnx", "torch")),
        # half a minute; the fast tests compare it with ours in test_sam2_package
        pytest.param("package", marks=[pytest.mark.models, pytest.mark.slow]),
    ],
)
def encoded(request: pytest.FixtureRequest) -> Encoded:
    """A segmenter with a photograph, and a small portrait format beside it in the same call."""
    return encode_once(request.param)


@cache  # encoding takes seconds, and tests of several segmenters may come in turns
def encode_once(name: str) -> Encoded:
    segmenter = MAKERS[name]()
    with Image.open(photo("chelsea.png")) as opened:
        cat = np.asarray(opened.convert("RGB"))
    portrait = np.full((90, 40, 3), 200, np.uint8)
    portrait[30:60, 10:30] = (180, 20, 20)
    images = [cat, portrait]
    return Encoded(segmenter, images, segmenter.encode(images))


def clicks(points_xy: np.ndarray = CLICKS, *, mask_logits: np.ndarray | None = None) -> Prompts:
    return Prompts(points_xy, np.ones(points_xy.shape[:2], np.int64), mask_logits)


def iou_of(masks: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return (n,) the IoU of each of (n, h, w) masks with one."""
    iou: npt.NDArray[np.float64] = (masks & truth).sum(axis=(1, 2)) / (masks | truth).sum(axis=(1, 2))
    return iou


def test_features_come_in_order_and_know_the_size_of_their_picture(encoded: Encoded) -> None:
    assert [features.size_hw for features in encoded.features] == [(300, 451), (90, 40)]
    assert encoded.segmenter.encode([]) == []


def test_three_masks_of_clamped_float_logits_for_each_prompt(encoded: Encoded) -> None:
    decoded = encoded.decode(clicks())

    assert decoded.logits.shape == (3, 3, 256, 256)
    assert decoded.logits.dtype == np.float32
    assert np.abs(decoded.logits).max() <= 32
    assert decoded.predicted_iou.shape == (3, 3)
    assert decoded.predicted_iou.dtype == np.float32
    assert decoded.tokens.shape[:2] == (3, 3)
    assert decoded.tokens.dtype == np.float32
    assert ((decoded.predicted_iou >= 0) & (decoded.predicted_iou <= 1)).all()


def test_one_of_the_masks_covers_the_clicked_point(encoded: Encoded) -> None:
    decoded = encoded.decode(clicks())

    columns, rows = (CLICKS[:, 0] / (451, 300) * 256).astype(int).T
    assert (decoded.logits[np.arange(3), :, rows, columns] > 0).any(axis=1).all()


def test_axes_are_scaled_apart_in_a_portrait_format(encoded: Encoded) -> None:
    red = Prompts(np.array([[[20, 45]]], np.float32), np.ones((1, 1), np.int64))

    decoded = encoded.segmenter.decode(encoded.features[1], red)

    truth = np.zeros((90, 40), dtype=bool)
    truth[30:60, 10:30] = True
    low_res = np.asarray(Image.fromarray(truth).resize((256, 256), Image.Resampling.NEAREST))
    masks = decoded.logits[0] > 0
    assert iou_of(masks, low_res).max() > 0.85


def test_many_prompts_at_once_are_decoded_as_one_by_one(encoded: Encoded) -> None:
    together = encoded.decode(clicks())

    for i in range(3):
        alone = encoded.decode(clicks(CLICKS[i : i + 1]))
        np.testing.assert_allclose(together.logits[i], alone.logits[0], atol=1e-4)
        np.testing.assert_allclose(together.predicted_iou[i], alone.predicted_iou[0], atol=1e-4)


def test_each_prompt_has_its_own_mask_prompt(encoded: Encoded) -> None:
    earlier = encoded.decode(clicks(CLICKS[:2])).logits[::-1, 1]

    together = encoded.decode(clicks(CLICKS[:2], mask_logits=earlier))

    for i in range(2):
        alone = encoded.decode(clicks(CLICKS[i : i + 1], mask_logits=earlier[i : i + 1]))
        np.testing.assert_allclose(together.logits[i], alone.logits[0], atol=1e-4)
    assert np.abs(together.logits - encoded.decode(clicks(CLICKS[:2])).logits).max() > 0.01


def test_padding_points_change_nothing(encoded: Encoded) -> None:
    points = np.zeros((2, 3, 2), np.float32)
    points[0, 1], points[1, :2] = CLICKS[0, 0], EYE_TO_EAR[0]
    labels = np.array([[-1, 1, -1], [2, 3, -1]])

    padded = encoded.decode(Prompts(points, labels))

    click = encoded.decode(clicks(CLICKS[:1]))
    box = encoded.decode(Prompts(EYE_TO_EAR, np.array([[2, 3]])))
    np.testing.assert_allclose(padded.logits, np.concatenate([click.logits, box.logits]), atol=1e-4)


def test_labels_tell_the_thing_from_what_is_not_it(encoded: Encoded) -> None:
    red_and_grey = np.array([[[20, 45], [20, 10]]], np.float32)
    columns, rows = (red_and_grey[0] / (40, 90) * 256).astype(int).T

    for labels in ([1, 0], [0, 1]):
        prompts = Prompts(red_and_grey, np.array([labels]))
        decoded = encoded.segmenter.decode(encoded.features[1], prompts)
        best = int(decoded.predicted_iou[0].argmax())
        assert (decoded.logits[0, best, rows, columns] > 0).tolist() == [label == 1 for label in labels]


def test_one_mask_for_each_prompt_on_demand(encoded: Encoded) -> None:
    decoded = encoded.decode(clicks(), multimask=False)

    assert decoded.logits.shape == (3, 1, 256, 256)
    assert decoded.predicted_iou.shape == (3, 1)


def test_no_prompts_give_no_masks(encoded: Encoded) -> None:
    decoded = encoded.decode(clicks(CLICKS[:0]))

    assert decoded.logits.shape == (0, 3, 256, 256)
    assert decoded.predicted_iou.shape == (0, 3)


def test_a_prompt_of_padding_alone_is_refused(encoded: Encoded) -> None:
    with pytest.raises(ValueError, match="at least one point"):
        encoded.decode(Prompts(CLICKS[:1], np.array([[-1]])))


def test_a_part_gives_its_part_of_the_masks_that_lie_in_it(encoded: Encoded) -> None:
    """The red square of the portrait reaches from 64 to 192 across and from 85 to 171 down in the frame."""
    part = MaskBoxXYXY(32, 48, 224, 208)
    red = Prompts(np.array([[[20, 45]]], np.float32), np.ones((1, 1), np.int64))

    narrow = encoded.segmenter.narrow(encoded.features[1], part)
    decoded = encoded.segmenter.decode(narrow, red)

    assert narrow.size_hw == encoded.features[1].size_hw
    assert decoded.logits.shape == (1, 3, 160, 192)
    truth = np.zeros((256, 256), dtype=bool)
    truth[85:171, 64:192] = True
    masks, inside = decoded.logits[0] > 0, truth[48:208, 32:224]
    assert iou_of(masks, inside).max() > 0.85


def test_the_whole_as_a_part_is_the_whole(encoded: Encoded) -> None:
    narrow = encoded.segmenter.narrow(encoded.features[0], MaskBoxXYXY(0, 0, 256, 256))

    decoded = encoded.segmenter.decode(narrow, clicks())

    np.testing.assert_allclose(decoded.logits, encoded.decode(clicks()).logits, atol=1e-4)


@pytest.mark.parametrize("box", [(0, 0, 30, 32), (0, 0, 260, 32), (-4, 0, 32, 32)])
def test_a_part_of_other_edges_is_refused(encoded: Encoded, box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"whole cells|does not lie in"):
        encoded.segmenter.narrow(encoded.features[0], MaskBoxXYXY(*box))


def test_a_smaller_frame_gives_smaller_masks_of_the_same_things(encoded: Encoded) -> None:
    """The red square again: 20x30 pixels of a picture of 40x90."""
    red = Prompts(np.array([[[20, 45]]], np.float32), np.ones((1, 1), np.int64))
    [small] = encoded.segmenter.encode(encoded.images[1:], frame_px=672)

    decoded = encoded.segmenter.decode(small, red)

    assert encoded.features[1].mask_px == 256
    assert small.mask_px == 168
    assert small.size_hw == (90, 40)
    assert decoded.logits.shape == (1, 3, 168, 168)
    truth = np.zeros((168, 168), dtype=bool)
    truth[56:112, 42:126] = True
    masks = decoded.logits[0] > 0
    assert iou_of(masks, truth).max() > 0.85
    large = encoded.segmenter.decode(encoded.features[1], red)
    best = Image.fromarray(large.logits[0, large.predicted_iou[0].argmax()] > 0)
    shrunk = np.asarray(best.resize((168, 168), Image.Resampling.NEAREST))
    assert iou_of(masks, shrunk).max() > 0.85


def test_in_a_smaller_frame_one_of_the_masks_covers_the_clicked_point(encoded: Encoded) -> None:
    decoded = encoded.segmenter.decode(encoded.small, clicks())

    columns, rows = (CLICKS[:, 0] / (451, 300) * 168).astype(int).T
    assert (decoded.logits[np.arange(3), :, rows, columns] > 0).any(axis=1).all()


def test_mask_prompts_and_parts_are_in_pixels_of_the_smaller_masks(encoded: Encoded) -> None:
    small = encoded.small
    earlier = encoded.segmenter.decode(small, clicks()).logits[:, 1]

    decoded = encoded.segmenter.decode(small, clicks(mask_logits=earlier))
    whole = encoded.segmenter.narrow(small, MaskBoxXYXY(0, 0, 168, 168))

    assert decoded.logits.shape == (3, 3, 168, 168)
    again = encoded.segmenter.decode(whole, clicks(mask_logits=earlier))
    np.testing.assert_allclose(again.logits, decoded.logits, atol=1e-4)
    with pytest.raises(ValueError, match=r"whole cells|does not lie in"):
        encoded.segmenter.narrow(small, MaskBoxXYXY(0, 0, 172, 168))


def test_a_frame_that_is_no_multiple_of_32_px_is_refused(encoded: Encoded) -> None:
    with pytest.raises(ValueError, match=r"multiples? of 32"):
        encoded.segmenter.encode(encoded.images, frame_px=100)


@pytest.mark.parametrize("side", [168, 64, 1])
def test_a_mask_prompt_of_another_frame_is_refused(encoded: Encoded, side: int) -> None:
    other = np.ones((3, side, side), np.float32)

    with pytest.raises(ValueError, match="a mask prompt here is 256x256"):
        encoded.decode(clicks(mask_logits=other))


def test_features_of_another_segmenter_are_refused(encoded: Encoded) -> None:
    class Foreign:
        size_hw = (300, 451)
        mask_px = 256
        nbytes = 0

    with pytest.raises(ValueError, match="another segmenter"):
        encoded.segmenter.decode(Foreign(), clicks())
    with pytest.raises(ValueError, match="another segmenter"):
        encoded.segmenter.narrow(Foreign(), MaskBoxXYXY(0, 0, 256, 256))


def test_at_least_as_many_prompts_of_a_part_as_of_the_whole_go_into_a_batch(encoded: Encoded) -> None:
    narrow = encoded.segmenter.narrow(encoded.features[0], MaskBoxXYXY(0, 0, 96, 96))

    of_whole, of_part = (encoded.segmenter.prompts_per_batch(each) for each in (encoded.features[0], narrow))

    assert 1 <= of_whole <= of_part


def test_it_says_who_it_is(encoded: Encoded) -> None:
    assert encoded.segmenter.name
    assert encoded.segmenter.fingerprint
    assert encoded.segmenter.decoder_id


def test_features_from_a_file_answer_as_those_that_were_encoded(encoded: Encoded) -> None:
    segmenter, features = encoded.segmenter, encoded.features[0]

    restored = segmenter.restore(segmenter.dump(features))

    assert (restored.size_hw, restored.mask_px) == (features.size_hw, features.mask_px)
    first, second = segmenter.decode(features, clicks()), segmenter.decode(restored, clicks())
    np.testing.assert_allclose(second.logits, first.logits, atol=1e-4)
    np.testing.assert_allclose(second.predicted_iou, first.predicted_iou, atol=1e-5)


def test_only_whole_pictures_are_kept_and_only_features_restored(encoded: Encoded) -> None:
    part = encoded.segmenter.narrow(encoded.features[0], MaskBoxXYXY(0, 0, 96, 96))

    with pytest.raises(ValueError, match="whole picture"):
        encoded.segmenter.dump(part)
    for data in (b"", b"damaged", encoded.segmenter.dump(encoded.features[0])[:100]):
        with pytest.raises(ValueError, match="no features"):
            encoded.segmenter.restore(data)
