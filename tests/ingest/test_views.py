"""What an embedder sees of a segment."""

from collections.abc import Iterable
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from tests.backends.index.stored_samples import unit_rows
from tests.fakes.embedder import ColourEmbedder

from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, encode_mask, mask_box
from segdex_core.ports.embedder import RegionEmbedder
from segdex_core.records import RGBImage, Segment, Vectors
from segdex_ingest.views import (
    BLUR_SHARE,
    CROP_MARGIN,
    MIN_CROP_PX,
    SegmentViews,
    ViewNumbers,
    mask_view,
    region_vectors,
    segment_views,
)


def coordinates(size_hw: tuple[int, int]) -> RGBImage:
    """Return a picture whose pixels say where they are: x, y and 7."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return np.stack([x, y, np.full_like(x, 7)], axis=2).astype(np.uint8)


def noise(size_hw: tuple[int, int], seed: int = 0) -> RGBImage:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3)).astype(np.uint8)


def box_of(crop: RGBImage) -> BoxXYXY:
    """Return where a crop of ``coordinates`` was cut."""
    x1, y1 = crop[0, 0, :2].tolist()
    x2, y2 = crop[-1, -1, :2].tolist()
    return BoxXYXY(x1, y1, x2 + 1, y2 + 1)


def filled(size_hw: tuple[int, int], box: BoxXYXY) -> BoolMask:
    mask = np.zeros(size_hw, dtype=bool)
    mask[box.y1 : box.y2, box.x1 : box.x2] = True
    return mask


def segment_of(mask: BoolMask) -> Segment:
    return Segment(
        box=mask_box(mask),
        mask=encode_mask(mask),
        area_px=int(mask.sum()),
        predicted_iou=0.9,
        stability=0.9,
        score=0.9,
    )


@st.composite
def pictures_with_a_box(draw: st.DrawFn) -> tuple[tuple[int, int], BoxXYXY]:
    height, width = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x2, y2 = draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))
    return (height, width), BoxXYXY(x1, y1, x2, y2)


@given(pictures_with_a_box())
def test_the_crop_holds_the_whole_box_and_not_much_more(picture: tuple[tuple[int, int], BoxXYXY]) -> None:
    size_hw, box = picture
    seen = box_of(SegmentViews.of(coordinates(size_hw)).crop(box))

    assert seen.x1 <= box.x1 < box.x2 <= seen.x2
    assert seen.y1 <= box.y1 < box.y2 <= seen.y2
    for length, before in zip(seen.size_wh, box.size_wh, strict=True):
        assert length <= max(CROP_MARGIN * before, MIN_CROP_PX) + 2


def test_a_box_in_the_middle_gets_the_documented_margin() -> None:
    views = SegmentViews.of(coordinates((200, 240)))

    assert CROP_MARGIN == 1.1
    assert box_of(views.crop(BoxXYXY(100, 60, 140, 120))) == BoxXYXY(98, 57, 142, 123)


@given(pictures_with_a_box(), st.integers(0, 2**32 - 1))
def test_the_blur_view_is_the_crop_inside_the_mask_and_the_blurred_picture_outside(
    picture: tuple[tuple[int, int], BoxXYXY], seed: int
) -> None:
    size_hw, box = picture
    image = noise(size_hw, seed)
    mask = filled(size_hw, box) & (np.random.default_rng(seed).random(size_hw) < 0.6)
    views = SegmentViews.of(image)
    where = box_of(SegmentViews.of(coordinates(size_hw)).crop(box))
    part = (slice(where.y1, where.y2), slice(where.x1, where.x2))
    radius = max(size_hw) * BLUR_SHARE
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))

    crop, seen = views.crop(box), views.blur(box, mask)

    assert seen.shape == crop.shape
    assert seen.dtype == np.uint8
    np.testing.assert_array_equal(seen[mask[part]], crop[mask[part]])
    np.testing.assert_array_equal(seen[~mask[part]], blurred[part][~mask[part]])


def test_detail_outside_the_mask_is_blurred_away_and_inside_it_stays() -> None:
    image = noise((240, 320))
    box = BoxXYXY(80, 60, 220, 180)
    mask = filled((240, 320), BoxXYXY(80, 60, 150, 180))
    views = SegmentViews.of(image)

    seen = views.blur(box, mask)

    left, right = seen[6:-6, 7:77], seen[6:-6, 77:-7]
    assert left.std() > 60
    assert right.std() < 10


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (12, 130, 201)])
def test_of_a_flat_picture_both_views_are_alike(colour: tuple[int, int, int]) -> None:
    image = np.full((70, 90, 3), colour, np.uint8)
    mask = filled((70, 90), BoxXYXY(20, 10, 50, 40))

    crop, blur = segment_views(image, [segment_of(mask)])

    np.testing.assert_array_equal(crop, blur)


def test_a_line_of_pixels_is_seen_with_its_surroundings_in_every_view() -> None:
    mask = filled((100, 100), BoxXYXY(50, 20, 51, 80))

    views = segment_views(coordinates((100, 100)), [segment_of(mask)])

    assert len(views) == 2
    for view in views:
        assert view.shape[1] in (MIN_CROP_PX, MIN_CROP_PX + 1)  # rounded outwards
        assert view.shape[0] == 66


def test_all_crops_come_before_all_blurred_ones_each_in_the_order_of_the_segments() -> None:
    image = noise((50, 60))
    masks = [filled((50, 60), box) for box in (BoxXYXY(0, 0, 20, 20), BoxXYXY(30, 10, 50, 40))]
    segments = [segment_of(mask) for mask in masks]
    views = SegmentViews.of(image)

    seen = segment_views(image, segments)

    expected = [views.crop(one.box) for one in segments]
    expected += [views.blur(one.box, mask) for one, mask in zip(segments, masks, strict=True)]
    assert len(seen) == 4
    for one, other in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(seen[0], seen[2])


def test_crops_are_no_copies_and_the_picture_is_not_written_to() -> None:
    image = noise((50, 60))
    before = image.copy()
    image.flags.writeable = False
    mask = filled((50, 60), BoxXYXY(5, 5, 30, 40))

    crop, blur = segment_views(image, [segment_of(mask)])

    assert np.shares_memory(crop, image)
    assert not np.shares_memory(blur, image)
    np.testing.assert_array_equal(image, before)


def test_a_large_blurred_crop_is_a_smaller_copy_of_the_same_and_the_crop_stays_as_it_is() -> None:
    image = noise((1300, 1100))
    box = BoxXYXY(0, 0, 1100, 1300)
    mask = filled((1300, 1100), BoxXYXY(100, 200, 700, 900))
    views = SegmentViews.of(image)

    seen = views.blur(box, mask)

    whole = np.where(mask[..., None], image, views.blurred).astype(np.float64)
    halves = whole.reshape(650, 2, 550, 2, 3).mean(axis=(1, 3))
    assert seen.shape == (650, 550, 3)
    np.testing.assert_allclose(seen, halves, atol=0.51)  # rounded
    assert views.crop(box).shape == (1300, 1100, 3)
    almost = BoxXYXY(0, 0, 900, 900)
    assert views.blur(almost, mask).shape == views.crop(almost).shape


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.floats(0, 1))
def test_the_mask_view_is_the_documented_mixture_in_unit_rows(seed: int, count: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    blurred, regions = unit_rows(rng, count, 7), unit_rows(rng, count, 7)

    view = mask_view(blurred, regions, share=share)

    mixed = (1 - share) * blurred + share * regions
    assert view.shape == (count, 7)
    assert view.dtype == np.float32
    np.testing.assert_allclose(view * np.linalg.norm(mixed, axis=1, keepdims=True), mixed, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(view, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(mask_view(blurred, None, share=share), blurred)


class PoolingEmbedder(ColourEmbedder):
    """Says how many pixels each mask has."""

    region_share = 0.3

    def embed_regions(self, image: RGBImage, masks: Iterable[BoolMask]) -> Vectors:
        return np.array([[mask.sum()] for mask in masks], np.float32).reshape(-1, 1)


def test_regions_are_the_masks_of_the_segments_in_order_where_the_embedder_has_any() -> None:
    image = noise((50, 60))
    segments = [segment_of(filled((50, 60), box)) for box in (BoxXYXY(0, 0, 20, 20), BoxXYXY(30, 10, 50, 40))]

    assert isinstance(PoolingEmbedder(), RegionEmbedder)
    regions = region_vectors(image, segments, PoolingEmbedder())
    assert regions is not None
    assert regions.tolist() == [[400], [600]]
    assert region_vectors(image, segments, ColourEmbedder()) is None


def test_without_segments_there_are_no_views() -> None:
    assert segment_views(noise((9, 9)), []) == []


@pytest.mark.parametrize("field", [one.name for one in fields(ViewNumbers)])
def test_every_number_of_the_views_changes_their_fingerprint(field: str) -> None:
    values = {"version": 3, "names": ("crop",), "crop_margin": 1.2, "blur_share": 0.02, "min_crop_px": 8}
    numbers = ViewNumbers()

    changed = replace(numbers, **{field: values[field]})  # type: ignore[arg-type]

    assert changed.fingerprint(region_share=0.3) != numbers.fingerprint(region_share=0.3)
    pooled_differ = changed.pooled_fingerprint() != numbers.pooled_fingerprint()
    assert pooled_differ == (field != "blur_share")  # nothing is blurred there


def test_the_share_of_regions_and_one_pass_change_the_fingerprint_of_the_views() -> None:
    numbers = ViewNumbers()
    prints = {numbers.fingerprint(region_share=share) for share in (0.0, 0.3)} | {
        numbers.pooled_fingerprint()
    }

    assert len(prints) == 3
