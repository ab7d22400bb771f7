"""What is small in a panorama is prompted in a window of it, and what is long in as many as it needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import Tried
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex.render.sheets import window_around
from segdex.usecases.segment import segment_object
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import MaskRLE, decode_mask, encode_mask, rle_iou
from segdex_core.ports.segmenter import ImageFeatures
from segdex_core.records import RGBImage
from segdex_core.wire.segments import PromptOptions
from segdex_search.refine.encodings import EncodingCache
from segdex_search.refine.refiner import Refiner
from segdex_search.windows import is_long, windows_around, windows_over

T = TypeVar("T")
SIDES = st.integers(1, 3000)


@given(SIDES, SIDES, st.tuples(*[st.floats(0, 1)] * 4))
def test_windows_hold_the_box_and_grow_up_to_the_picture(
    height: int, width: int, shares: tuple[float, float, float, float]
) -> None:
    (x1, x2), (y1, y2) = sorted(shares[:2]), sorted(shares[2:])
    box = BoxXYXY(int(x1 * (width - 1)), int(y1 * (height - 1)), int(x2 * width) + 1, int(y2 * height) + 1)
    box = box.clip((height, width))
    windows = list(windows_around(box, (height, width)))

    assert windows[-1] == BoxXYXY(0, 0, width, height)
    assert (len(windows) == 1) or is_long((height, width))
    assert [one.area_px for one in windows] == sorted(one.area_px for one in windows)
    for window in windows:
        assert window.x1 <= box.x1 < box.x2 <= window.x2
        assert window.y1 <= box.y1 < box.y2 <= window.y2
        assert window == window.clip((height, width))


@given(SIDES, SIDES)
def test_windows_over_a_picture_cover_it_and_cost_twice_its_area(height: int, width: int) -> None:
    windows = windows_over((height, width))
    longer = max(height, width)
    axis = 0 if width >= height else 1

    covered = np.zeros(longer, bool)
    for window in windows:
        covered[window[axis] : window[axis + 2]] = True
    assert covered.all()
    assert sum(one.area_px for one in windows) <= 4 * height * width


class CountingSegmenter(FloodSegmenter):
    """Remembers the sizes of what it encoded."""

    def __init__(self) -> None:
        self.sizes_hw: list[tuple[int, ...]] = []

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = 1024) -> list[ImageFeatures]:
        self.sizes_hw += [image.shape[:2] for image in images]
        return super().encode(images, frame_px=frame_px)


@dataclass(frozen=True, slots=True, eq=False)
class Here:
    """Models whose calls run at once."""

    refiner: Refiner

    def run(self, call: Callable[[], T]) -> T:
        return call()


def drawn(size_hw: tuple[int, int], boxes: Sequence[BoxXYXY], colors: Sequence[str]) -> RGBImage:
    image = np.full((*size_hw, 3), COLOURS_RGB["grey"], np.uint8)
    for box, color in zip(boxes, colors, strict=True):
        image[box.y1 : box.y2, box.x1 : box.x2] = COLOURS_RGB[color]
    return image


def found(image: RGBImage, here: Here, **options: object) -> MaskRLE:
    size_hw = (image.shape[0], image.shape[1])
    request = PromptOptions.model_validate(options)
    answer = segment_object(request, models=here, size_hw=size_hw, read=lambda: image, image_id=UUID(int=1))  # type: ignore[arg-type]
    [mask] = answer.masks
    return MaskRLE(mask.rle.size, mask.rle.counts)


def truth(box: BoxXYXY, size_hw: tuple[int, int]) -> MaskRLE:
    mask = np.zeros(size_hw, bool)
    mask[box.y1 : box.y2, box.x1 : box.x2] = True
    return encode_mask(mask)


@pytest.fixture(name="here")
def _here() -> Here:
    embedder = ColourEmbedder()
    others = embedder.embed_texts(list(COLOURS_RGB))
    return Here(Refiner(CountingSegmenter(), embedder, others, EncodingCache(64)))


STRIP = (60, 2400)
SQUARES = [BoxXYXY(x, 24, x + 9, 33) for x in (40, 700, 1301, 2380)]
COLORS = ["red", "blue", "green", "yellow"]
BAR = BoxXYXY(300, 40, 2100, 56)


def turned(image: RGBImage) -> RGBImage:
    return np.ascontiguousarray(image.transpose(1, 0, 2))


def turned_box(box: BoxXYXY) -> BoxXYXY:
    return BoxXYXY(box.y1, box.x1, box.y2, box.x2)


@pytest.mark.promise(
    "Pictures", "A small object in a panorama, or in a long strip, has its mask from a point or a box."
)
@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("by", ["point", "box"])
def test_a_small_object_of_a_strip_is_segmented(here: Here, by: str, upright: bool, tried: Tried) -> None:
    image = drawn(STRIP, SQUARES, COLORS)
    image = turned(image) if upright else image
    ious = []
    for square in SQUARES:
        box = turned_box(square) if upright else square
        centre = {"x": (box.x1 + box.x2) / 2, "y": (box.y1 + box.y2) / 2, "label": 1}
        mask = found(image, here, **({"points": [centre]} if by == "point" else {"box_xyxy": tuple(box)}))
        ious.append(float(rle_iou([mask], [truth(box, (image.shape[0], image.shape[1]))])[0, 0]))
    tried(len(ious), "small objects", lost=sum(iou < 0.8 for iou in ious))

    assert min(ious) >= 0.8


def test_a_long_object_of_a_strip_is_segmented_as_a_whole(here: Here) -> None:
    mask = found(drawn(STRIP, [BAR], ["red"]), here, points=[{"x": 1000, "y": 48, "label": 1}])

    assert rle_iou([mask], [truth(BAR, STRIP)])[0, 0] > 0.9
    widths = [width for _, width in here.refiner.segmenter.sizes_hw]  # type: ignore[attr-defined]
    assert widths == [120, 240, 480, 960, 1920, 2400][: len(widths)]
    assert widths[-1] >= 1920


def test_the_next_point_nearby_needs_no_encoding(here: Here) -> None:
    image = drawn(STRIP, SQUARES, COLORS)
    for x in (701, 704, 700):
        found(image, here, points=[{"x": x, "y": 28, "label": 1}])

    assert here.refiner.segmenter.sizes_hw == [(60, 120)]  # type: ignore[attr-defined]


def test_a_picture_of_usual_shape_is_encoded_as_it_is(here: Here) -> None:
    size_hw = (60, 120)
    box = BoxXYXY(10, 10, 40, 50)
    mask = found(drawn(size_hw, [box], ["red"]), here, box_xyxy=tuple(box))

    assert rle_iou([mask], [truth(box, size_hw)])[0, 0] > 0.9
    assert here.refiner.segmenter.sizes_hw == [size_hw]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("square", "color"), list(zip(SQUARES, COLORS, strict=True)))
def test_a_text_finds_its_small_object_in_a_strip(here: Here, square: BoxXYXY, color: str) -> None:
    image = drawn(STRIP, SQUARES, COLORS)
    mask = found(image, here, text=color)

    assert rle_iou([mask], [truth(square, STRIP)])[0, 0] > 0.7


@pytest.mark.parametrize("square", [SQUARES[1], BAR])
def test_the_tile_of_a_strip_shows_the_object_and_what_is_beside_it(square: BoxXYXY) -> None:
    image = drawn(STRIP, [square], ["red"])

    pixels, mask = window_around(image, truth(square, STRIP), square)

    assert pixels.shape[:2] == mask.size_hw
    assert pixels.shape[1] < max(2 * square.size_wh[0], 121)
    np.testing.assert_array_equal(decode_mask(mask), (pixels == COLOURS_RGB["red"]).all(axis=2))


def test_the_tile_of_a_usual_picture_shows_all_of_it() -> None:
    box = BoxXYXY(10, 10, 40, 50)
    image, mask = drawn((60, 120), [box], ["red"]), truth(box, (60, 120))

    shown, shown_mask = window_around(image, mask, box)

    assert shown is image
    assert shown_mask is mask
