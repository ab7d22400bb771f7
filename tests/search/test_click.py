"""Prompts that people give: what is refused, what one mask or three mean, and masks given back."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.segmenter import FloodSegmenter, GivenMasks

from segdex_core.errors import QueryError
from segdex_core.full_size import upsample_mask
from segdex_core.masks import decode_mask
from segdex_core.ports.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT
from segdex_core.wire.limits import MAX_POINTS
from segdex_search.click import PromptedMask, ThingPrompt, mask_prompt, segment_thing, to_prompts

SEGMENTER = FloodSegmenter()


@pytest.fixture(name="picture")
def _picture() -> np.ndarray:
    """A red box in the left half, a blue one in the right, on grey."""
    pixels = np.full((128, 192, 3), 128, np.uint8)
    pixels[32:96, 24:72] = (220, 30, 30)
    pixels[32:96, 120:168] = (30, 60, 220)
    return pixels


def answers(picture: np.ndarray, prompt: ThingPrompt, masks: int = 1) -> list[PromptedMask]:
    [features] = SEGMENTER.encode([picture])
    return segment_thing(features, prompt, segmenter=SEGMENTER, masks=masks)


def test_a_click_answers_with_the_thing_under_it(picture: np.ndarray) -> None:
    [answer] = answers(picture, ThingPrompt(((40.0, 64.0),), (1,)))

    red = np.zeros(picture.shape[:2], bool)
    red[32:96, 24:72] = True
    mask = decode_mask(answer.mask)
    assert (mask & red).sum() / (mask | red).sum() > 0.95
    assert answer.area_px == mask.sum()
    x1, y1, x2, y2 = answer.box
    assert mask[y1:y2, x1:x2].sum() == answer.area_px


def test_three_masks_come_best_first_and_the_one_is_the_best_of_them(picture: np.ndarray) -> None:
    click = ThingPrompt(((40.0, 64.0),), (1,))

    three = answers(picture, click, masks=3)

    assert len(three) == 3
    assert all(a.predicted_iou >= b.predicted_iou for a, b in pairwise(three))
    assert answers(picture, click)[0].mask == three[0].mask


def test_more_than_a_click_is_answered_by_the_single_mask(picture: np.ndarray) -> None:
    logits = np.stack([np.full((32, 32), value, np.float32) for value in (1, 2, 3)])
    asked: list[bool] = []

    class Asked(GivenMasks):
        def decode(self, features, prompts, *, multimask=True):  # type: ignore[no-untyped-def]
            asked.append(multimask)
            return super().decode(features, prompts, multimask=multimask)

    segmenter = Asked(logits, (0.5, 0.9, 0.7))
    [features] = segmenter.encode([picture], frame_px=128)
    click = ((4.0, 4.0),)
    for prompt in (
        ThingPrompt(click, (1,)),
        ThingPrompt((*click, (9.0, 9.0)), (1, 0)),
        ThingPrompt(box_xyxy=(1, 1, 9, 9)),
        ThingPrompt(click, (1,), mask_logits=logits[0]),
    ):
        segment_thing(features, prompt, segmenter=segmenter)

    assert asked == [True, False, False, False]


def test_a_mask_given_back_is_a_prompt(picture: np.ndarray) -> None:
    [red] = answers(picture, ThingPrompt(((40.0, 64.0),), (1,)))

    [both] = answers(picture, ThingPrompt(((150.0, 64.0),), (1,), mask_logits=red.logits))

    assert both.area_px > 1.8 * red.area_px


@given(st.integers(1, 100), st.integers(1, 100), st.integers(20, 90), st.integers(20, 90))
def test_a_mask_from_a_file_survives_being_made_a_prompt(x: int, y: int, width: int, height: int) -> None:
    mask = np.zeros((200, 260), bool)
    mask[y : y + height, x : x + width] = True

    part, reach = upsample_mask(mask_prompt(mask, 256), mask.shape)

    again = np.zeros_like(mask)
    again[reach.y1 : reach.y2, reach.x1 : reach.x2] = part
    assert (mask & again).sum() / (mask | again).sum() > 0.9


def test_the_box_comes_before_the_points() -> None:
    prompts = to_prompts(ThingPrompt(((5.0, 6.0),), (0,), (1, 2, 30, 40)), (100, 100))

    assert prompts.labels.tolist() == [[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, 0]]
    assert prompts.points_xy.tolist() == [[[1, 2], [30, 40], [5, 6]]]


def test_shifting_there_and_back_changes_nothing() -> None:
    prompt = ThingPrompt(((5.0, 6.0), (7.0, 8.0)), (1, 0), (1, 2, 30, 40))

    moved = prompt.shift(10, -3)

    assert moved.points_xy == ((15.0, 3.0), (17.0, 5.0))
    assert moved.box_xyxy == (11.0, -1.0, 40.0, 37.0)
    back = moved.shift(-10, 3)
    assert (back.points_xy, back.box_xyxy) == (prompt.points_xy, prompt.box_xyxy)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"points_xy": ((1.0, 1.0),), "labels": (-1,)}, "-1 is SAM's padding, background is 0"),
        ({"points_xy": ((1.0, 1.0),), "labels": (2,)}, "must be 1 .* or 0"),
        ({"points_xy": ((1.0, 1.0),), "labels": ()}, "1 points and 0 labels"),
        ({"points_xy": ((float("nan"), 1.0),), "labels": (1,)}, "finite"),
        ({"points_xy": ((1.0, 1.0),), "labels": (0,)}, "at least one point on it"),
        ({}, "at least one point on it"),
        ({"box_xyxy": (9, 1, 2, 3)}, "x1 < x2"),
        (
            {"points_xy": ((1.0, 1.0),) * (MAX_POINTS + 1), "labels": (1,) * (MAX_POINTS + 1)},
            f"at most {MAX_POINTS} points",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        ThingPrompt(**values)  # type: ignore[arg-type]

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "prompt",
    [
        ThingPrompt(((192.0, 5.0),), (1,)),
        ThingPrompt(((5.0, -1.0),), (1,)),
        ThingPrompt(box_xyxy=(200, 10, 300, 20)),
    ],
)
def test_what_lies_outside_is_named_with_the_size_of_the_picture(
    picture: np.ndarray, prompt: ThingPrompt
) -> None:
    with pytest.raises(QueryError, match="outside the picture, 192 x 128 pixels"):
        answers(picture, prompt)


def test_two_masks_cannot_be_asked_for(picture: np.ndarray) -> None:
    with pytest.raises(QueryError, match="one or three"):
        answers(picture, ThingPrompt(((4.0, 4.0),), (1,)), masks=2)
