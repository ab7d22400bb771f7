"""Relevance maps and the prompts that they become, on pictures of plain colours."""

import numpy as np
import pytest
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex_core.geometry import BoxXYXY
from segdex_core.masks import decode_mask
from segdex_core.ports.prompts import BACKGROUND, FOREGROUND
from segdex_search.refine.map import (
    RelevanceMap,
    agreement,
    make_map,
    map_prompt,
    outline_prompt,
    propose_by_map,
    window_of,
)

EMBEDDER = ColourEmbedder()
OTHERS = EMBEDDER.embed_texts([name for name in COLOURS_RGB if name != "red"])
SIZE_HW = (160, 240)
RED = BoxXYXY(40, 40, 90, 110)


@pytest.fixture(name="picture")
def _picture() -> np.ndarray:
    pixels = np.full((*SIZE_HW, 3), COLOURS_RGB["grey"], np.uint8)
    pixels[RED.y1 : RED.y2, RED.x1 : RED.x2] = COLOURS_RGB["red"]
    pixels[40:110, 150:200] = COLOURS_RGB["blue"]
    return pixels


def red_mask() -> np.ndarray:
    mask = np.zeros(SIZE_HW, bool)
    mask[RED.y1 : RED.y2, RED.x1 : RED.x2] = True
    return mask


def map_of(picture: np.ndarray, window: BoxXYXY, text: str = "red") -> RelevanceMap:
    query = EMBEDDER.embed_texts([text])[0]
    return make_map(picture, window, query=query, distractors=OTHERS, embedder=EMBEDDER)


WHOLE = BoxXYXY(0, 0, SIZE_HW[1], SIZE_HW[0])


def test_a_map_is_high_on_what_is_asked_for_and_low_elsewhere(picture: np.ndarray) -> None:
    values = map_of(picture, WHOLE).at_size(SIZE_HW[::-1])

    red = red_mask()
    assert values.shape == SIZE_HW
    assert values[red].mean() > values[~red].mean() + 2


def test_the_map_of_a_part_is_that_part_of_the_map(picture: np.ndarray) -> None:
    window = window_of(RED, SIZE_HW)
    moved = BoxXYXY(window.x1 + 8, window.y1, window.x2 + 8, window.y2)
    shifted = np.roll(picture, 8, axis=1)

    here, there = map_of(picture, window), map_of(shifted, moved)

    np.testing.assert_allclose(here.values, there.values, atol=1e-5)


def test_a_longer_query_vector_asks_for_the_same(picture: np.ndarray) -> None:
    query = EMBEDDER.embed_texts(["red"])[0]

    maps = [
        make_map(picture, WHOLE, query=query * length, distractors=OTHERS, embedder=EMBEDDER).values
        for length in (1, 7)
    ]

    np.testing.assert_allclose(maps[0], maps[1], atol=1e-4)


def test_the_prompt_points_at_the_thing_and_away_from_the_rest(picture: np.ndarray) -> None:
    red = red_mask()
    for inside in (red, None):
        prompt = map_prompt(map_of(picture, WHOLE), inside=inside, size_hw=SIZE_HW, mask_px=64)

        on = [p for p, label in zip(prompt.points_xy, prompt.labels, strict=True) if label == FOREGROUND]
        off = [p for p, label in zip(prompt.points_xy, prompt.labels, strict=True) if label == BACKGROUND]
        assert all(red[int(y), int(x)] for x, y in on)
        assert on
        assert not any(red[int(y), int(x)] for x, y in off)
        assert off
        assert prompt.mask_logits is not None
        assert prompt.mask_logits.shape == (64, 64)
        assert abs(prompt.mask_logits).max() <= 32
        x1, y1, x2, y2 = prompt.box_xyxy or (0, 0, 0, 0)
        assert abs(np.array([x1, y1, x2, y2]) - np.array(RED)).max() <= 10


def test_a_thing_that_fills_its_window_has_no_point_off_it() -> None:
    picture = np.full((64, 64, 3), COLOURS_RGB["red"], np.uint8)
    window = BoxXYXY(0, 0, 64, 64)

    prompt = map_prompt(map_of(picture, window), inside=np.ones((64, 64), bool), size_hw=(64, 64), mask_px=64)

    assert prompt.labels == (FOREGROUND,)
    assert prompt.box_xyxy == (0, 0, 64, 64)


def test_the_mask_of_the_thing_agrees_more_than_a_part_of_it_or_all_around(picture: np.ndarray) -> None:
    relevance, red = map_of(picture, WHOLE), red_mask()
    part, around = red.copy(), red.copy()
    part[:, 65:] = False
    around[20:130, 20:110] = True

    whole = agreement(relevance, red, SIZE_HW)
    assert whole > agreement(relevance, part, SIZE_HW)
    assert whole > agreement(relevance, around, SIZE_HW)
    assert agreement(relevance, np.zeros(SIZE_HW, bool), SIZE_HW) == 0
    assert agreement(relevance, red[::2, ::2], SIZE_HW) == pytest.approx(whole, abs=0.02)


def test_the_decoded_map_is_the_thing(picture: np.ndarray) -> None:
    segmenter = FloodSegmenter()
    [features] = segmenter.encode([picture])
    relevance = map_of(picture, WHOLE)
    prompt = map_prompt(relevance, inside=None, size_hw=SIZE_HW, mask_px=features.mask_px)

    proposal = propose_by_map(relevance, prompt, features=features, segmenter=segmenter)

    mask, red = decode_mask(proposal.mask.mask), red_mask()
    assert proposal.source == "relevance"
    assert (mask & red).sum() / (mask | red).sum() > 0.75


def test_the_outline_prompt_is_box_and_mask() -> None:
    prompt = outline_prompt(red_mask(), RED, 64)

    assert prompt.box_xyxy == tuple(map(float, RED))
    assert prompt.points_xy == ()
    assert prompt.mask_logits is not None
    assert ((prompt.mask_logits > 0).mean() - red_mask().mean()) < 0.02


def test_a_large_picture_is_looked_at_as_a_small_one_is(picture: np.ndarray) -> None:
    large = np.kron(picture, np.ones((6, 6, 1), np.uint8))
    size_hw = (large.shape[0], large.shape[1])
    inside = np.kron(red_mask(), np.ones((6, 6), bool))
    box = BoxXYXY(*(6 * edge for edge in RED))

    small = map_prompt(
        map_of(picture, window_of(RED, SIZE_HW)), inside=red_mask(), size_hw=SIZE_HW, mask_px=64
    )
    prompt = map_prompt(map_of(large, window_of(box, size_hw)), inside=inside, size_hw=size_hw, mask_px=64)

    assert prompt.labels == small.labels
    x, y = (int(edge) for edge in prompt.points_xy[0])
    assert inside[y, x]
    assert prompt.box_xyxy is not None
    assert abs(np.array(prompt.box_xyxy) / 6 - np.array(small.box_xyxy)).max() <= 3


def test_a_thing_thinner_than_a_cell_still_has_its_point() -> None:
    picture = np.full((2000, 2000, 3), COLOURS_RGB["grey"], np.uint8)
    picture[1000:1002, 200:1800] = COLOURS_RGB["red"]
    inside = np.zeros((2000, 2000), bool)
    inside[1000:1002, 200:1800] = True
    window = BoxXYXY(0, 0, 2000, 2000)

    prompt = map_prompt(map_of(picture, window), inside=inside, size_hw=(2000, 2000), mask_px=64)

    x, y = prompt.points_xy[0]
    assert 190 < x < 1810
    assert abs(y - 1001) < 10
