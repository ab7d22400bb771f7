"""What an embedder sees of a segment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from segdex.ingest.crops import CONTEXT_SCALE, CROP_MARGIN, MIN_CROP_PX, crop_views

from segdex.core.geometry import BoxXYXY
from segdex.core.records import SEGMENT_VIEWS, RGBImage


def coordinates(size_hw: tuple[int, int]) -> RGBImage:
    """Return a picture whose pixels say where they are: x, y and 7."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return np.stack([x, y, np.full_like(x, 7)], axis=2).astype(np.uint8)


def box_of(crop: RGBImage) -> BoxXYXY:
    """Return where a crop of ``coordinates`` was cut."""
    x1, y1 = crop[0, 0, :2].tolist()
    x2, y2 = crop[-1, -1, :2].tolist()
    return BoxXYXY(x1, y1, x2 + 1, y2 + 1)


@st.composite
def pictures_with_a_box(draw: st.DrawFn) -> tuple[tuple[int, int], BoxXYXY]:
    height, width = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x2, y2 = draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))
    return (height, width), BoxXYXY(x1, y1, x2, y2)


@given(pictures_with_a_box(), st.sampled_from(SEGMENT_VIEWS))
def test_every_view_holds_the_whole_box_and_not_much_more(
    picture: tuple[tuple[int, int], BoxXYXY], view: str
) -> None:
    size_hw, box = picture
    [crop] = crop_views(coordinates(size_hw), [box], view=view)
    seen = box_of(crop)
    scale = {"crop": CROP_MARGIN, "context": CONTEXT_SCALE}[view]

    assert seen.x1 <= box.x1 < box.x2 <= seen.x2
    assert seen.y1 <= box.y1 < box.y2 <= seen.y2
    for length, before in zip(seen.size_wh, box.size_wh, strict=True):
        assert length <= max(scale * before, MIN_CROP_PX) + 2


@given(pictures_with_a_box())
def test_the_context_holds_the_crop(picture: tuple[tuple[int, int], BoxXYXY]) -> None:
    size_hw, box = picture
    image = coordinates(size_hw)
    inner, outer = (box_of(crop_views(image, [box], view=view)[0]) for view in ("crop", "context"))

    assert outer.x1 <= inner.x1 < inner.x2 <= outer.x2
    assert outer.y1 <= inner.y1 < inner.y2 <= outer.y2


def test_a_box_in_the_middle_gets_the_documented_margins() -> None:
    image = coordinates((200, 240))
    box = BoxXYXY(100, 60, 140, 120)

    assert box_of(crop_views(image, [box], view="crop")[0]) == BoxXYXY(98, 57, 142, 123)
    assert box_of(crop_views(image, [box], view="context")[0]) == BoxXYXY(90, 45, 150, 135)


@pytest.mark.parametrize("view", SEGMENT_VIEWS)
def test_a_line_of_pixels_is_seen_with_its_surroundings(view: str) -> None:
    [crop] = crop_views(coordinates((100, 100)), [BoxXYXY(50, 20, 51, 80)], view=view)

    assert min(crop.shape[:2]) >= MIN_CROP_PX


def test_crops_come_in_the_order_of_the_boxes_and_are_no_copies() -> None:
    image = coordinates((50, 60))
    boxes = [BoxXYXY(0, 0, 20, 20), BoxXYXY(30, 10, 50, 40)]

    crops = crop_views(image, boxes, view="crop")

    assert [box_of(crop).x1 for crop in crops] == [0, 29]
    assert all(np.shares_memory(crop, image) for crop in crops)
    assert crop_views(image, [], view="crop") == []


def test_an_unknown_view_is_an_error() -> None:
    with pytest.raises(KeyError):
        crop_views(coordinates((5, 5)), [BoxXYXY(0, 0, 2, 2)], view="mask")
