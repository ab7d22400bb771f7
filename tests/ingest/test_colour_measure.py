"""Colours are measured inside the mask, under changing light, and without the border."""

import re
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from tests.ingest.test_analyse import RECIPE, nested_picture, records_of
from tests.quality.colour_names import css_colours, named_right

from segdex_core.colours import COLOUR_NAMES, ColourName, ColourShares
from segdex_core.masks import BoolMask
from segdex_core.records import RGBImage
from segdex_ingest.colours import (
    BORDER_SHARE,
    MIN_INNER_SHARE,
    colour_cells,
    colour_shares,
    colour_table,
    shares_of,
)
from segdex_ingest.munsell import MUNSELL_SAMPLES

FOCAL_NOTATIONS: dict[ColourName, str] = {
    "black": "N1",
    "white": "N9.5",
    "grey": "N5.5",
    "red": "5R 4/14",
    "orange": "2.5YR 6/16",
    "yellow": "2.5Y 8/16",
    "green": "7.5G 5/10",
    "blue": "2.5PB 5/12",
    "purple": "5P 3/10",
    "pink": "5R 8/6",
    "brown": "5YR 3/6",
}
"""The focal colours of Heider (1972), and three greys, in Munsell's notation."""

FOCAL_RGB = {
    name: (int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16))
    for name, notation in FOCAL_NOTATIONS.items()
    for code in re.findall(rf"{re.escape(notation)}\s+(\w{{6}})", MUNSELL_SAMPLES[name])
}


def patch(colour: tuple[int, int, int], size: int = 32) -> RGBImage:
    return np.full((size, size, 3), colour, np.uint8)


def measured(image: RGBImage, mask: BoolMask | None = None) -> ColourShares:
    inside = np.ones(image.shape[:2], bool) if mask is None else mask
    return colour_shares(colour_cells(image), inside)


def largest(image: RGBImage) -> ColourName:
    return next(iter(measured(image).by_name()))


def lit(image: RGBImage, gains: npt.ArrayLike) -> RGBImage:
    """Return an image under another light: gains of linear red, green and blue, or of each pixel."""
    linear = (image / 255) ** 2.2 * np.asarray(gains)
    return np.asarray(np.clip(linear, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def test_there_is_a_focal_colour_for_each_name() -> None:
    assert FOCAL_RGB.keys() == set(COLOUR_NAMES)


@pytest.mark.parametrize("name", COLOUR_NAMES)
def test_a_focal_colour_has_its_name(name: ColourName) -> None:
    assert measured(patch(FOCAL_RGB[name])).share(name) > 0.75


@pytest.mark.parametrize("gain", [0.8, 0.9, 1.1, 1.25])
@pytest.mark.parametrize("name", COLOUR_NAMES)
def test_a_focal_colour_keeps_its_name_when_the_exposure_changes(name: ColourName, gain: float) -> None:
    assert largest(lit(patch(FOCAL_RGB[name]), gain)) == name


@pytest.mark.parametrize("cast", [(1.1, 1, 0.9), (0.9, 1, 1.1), (1, 1.05, 1), (1.05, 1, 1.05)])
@pytest.mark.parametrize("name", COLOUR_NAMES)
def test_a_focal_colour_keeps_its_name_under_a_colour_cast(
    name: ColourName, cast: tuple[float, float, float]
) -> None:
    assert largest(lit(patch(FOCAL_RGB[name]), cast)) == name


@pytest.mark.parametrize("name", [name for name in COLOUR_NAMES if name not in {"black", "grey", "white"}])
def test_shading_and_a_highlight_do_not_hide_the_colour_of_a_thing(name: ColourName) -> None:
    image = lit(patch(FOCAL_RGB[name], 64), np.linspace(0.55, 1.15, 64)[None, :, None])
    image[4:16, 40:52] = 255

    assert largest(image) == name


def test_named_colours_that_nothing_was_fitted_on_have_the_name_that_they_contain() -> None:
    right = named_right({text: (rgb, term) for text, rgb, term in css_colours()})

    assert len(right) > 70
    assert sum(right.values()) / len(right) >= 0.75  # .78 in November 2026


def test_every_colour_is_shared_among_the_names() -> None:
    table = colour_table()

    assert table.shape == (32**3, len(COLOUR_NAMES))
    np.testing.assert_allclose(np.asarray(table.sum(axis=1)), np.ones(len(table)))
    assert table.min() >= 0


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=30))
def test_shares_add_up_and_are_those_of_the_pixels(colours: list[tuple[int, int, int]]) -> None:
    image = np.array([colours], np.uint8)
    shares = measured(image)
    middles: npt.NDArray[np.float64] = (image.reshape(-1, 3) // 8 + 0.5).astype(np.float64) * (255 / 32)

    assert sum(shares.thousandths) == 1000
    np.testing.assert_allclose(
        np.array(shares.thousandths) / 1000, shares_of(middles).mean(axis=0), atol=0.001
    )


def test_what_is_outside_the_mask_and_on_its_border_does_not_count() -> None:
    image = patch(FOCAL_RGB["blue"], 64)
    image[16:48, 16:48] = FOCAL_RGB["green"]  # the border mixes with the background
    image[17:47, 17:47] = FOCAL_RGB["red"]
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True

    assert measured(image, mask).share("red") > 0.95


def test_a_mask_that_is_all_border_counts_whole() -> None:
    image = patch(FOCAL_RGB["blue"], 64)
    image[20] = FOCAL_RGB["red"]
    mask = np.zeros((64, 64), bool)
    mask[20] = True

    assert measured(image, mask).share("red") > 0.95


def test_the_edge_of_the_picture_is_no_border() -> None:
    image = patch(FOCAL_RGB["blue"], 10)
    image[:, 0] = FOCAL_RGB["red"]

    assert 0.09 <= measured(image).share("red") <= 0.11


def eroded_whole(mask: BoolMask) -> BoolMask:
    """Return a mask without its border, pixel by pixel of the whole picture."""
    inner = mask
    for _ in range(max(round(max(mask.shape) * BORDER_SHARE), 1)):
        narrower = ndimage.binary_erosion(inner, border_value=1)
        if np.count_nonzero(narrower) < MIN_INNER_SHARE * np.count_nonzero(mask):
            break
        inner = narrower
    return inner


@given(
    st.tuples(st.integers(1, 30), st.integers(1, 700)),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_the_border_is_that_of_eroding_the_whole_picture(
    size_hw: tuple[int, int], boxes: list[tuple[float, ...]], is_turned: bool, seed: int
) -> None:
    """Boxes in any place, at the edges of the picture too; the width of a border is up to 3 pixels."""
    mask = np.zeros(size_hw, bool)
    for top, left, height, width in boxes:
        y, x = int(top * (size_hw[0] - 1)), int(left * (size_hw[1] - 1))
        mask[y : y + 1 + int(height * size_hw[0]), x : x + 1 + int(width * size_hw[1])] = True
    mask = mask.T if is_turned else mask
    rng = np.random.default_rng(seed)
    image = rng.choice(np.array(list(FOCAL_RGB.values()), np.uint8), mask.shape)

    assert measured(image, mask) == measured(image[eroded_whole(mask)][None], None)


def test_a_small_mask_costs_no_memory_of_a_large_picture() -> None:
    cells, mask = np.zeros((2000, 2000), np.uint16), np.zeros((2000, 2000), bool)
    mask[900:950, 900:950] = True
    colour_shares(cells, mask)  # the table is made
    tracemalloc.start()
    try:
        colour_shares(cells, mask)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < mask.nbytes / 4


def test_a_large_mask_has_the_shares_of_a_small_one() -> None:
    small = np.concatenate([patch(FOCAL_RGB["red"], 24), patch(FOCAL_RGB["white"], 24)])
    large = small.repeat(30, axis=0).repeat(30, axis=1)

    np.testing.assert_allclose(measured(large).thousandths, measured(small).thousandths, atol=30)


def test_a_mask_without_a_pixel_or_of_another_size_is_refused() -> None:
    cells = colour_cells(patch((0, 0, 0), 8))
    for mask in (np.zeros((8, 8), bool), np.ones((8, 9), bool)):
        with pytest.raises(ValueError, match="must have a pixel and the size"):
            colour_shares(cells, mask)


def test_an_ingest_stores_the_colours_of_each_segment() -> None:
    image = nested_picture()
    records = records_of(image, RECIPE).records
    found = {next(iter(record.colours.by_name())) for record in records if record.colours is not None}

    assert all(record.colours is not None for record in records)
    assert {"red", "blue", "green", "white"} <= found
