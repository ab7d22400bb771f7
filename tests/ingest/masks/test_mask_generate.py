"""Mask generation on drawn pictures, with a segmenter that floods regions of one colour."""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
from tests.fakes.segmenter import FloodSegmenter, GivenMasks, PlainSegmenter

from segdex_core.choices import Quality
from segdex_core.masks import BoolMask, decode_mask, mask_box, rle_iou
from segdex_core.records import RGBImage, Segment
from segdex_ingest.masks.generate import (
    GeneratorSettings,
    generate_masks,
    meta_settings,
    preset,
    windows_of,
)

GRID = GeneratorSettings(
    frame_px=512,
    part_px=96,
    points_per_side=6,
    crop_layers=0,
    crop_points_per_side=6,
    crop_near_points_per_side=0,
    min_window_px=0,
    explained_above=1.0,
    nms_iou=0.7,
    redraws=False,
)
FINE = replace(GRID, frame_px=1024)
META = replace(meta_settings(), frame_px=512, points_per_side=6)
BACKGROUND = (230, 230, 220)
COLOURS = ((200, 30, 30), (30, 60, 200), (20, 150, 60), (240, 200, 40), (120, 40, 140))


def drawn(size_hw: tuple[int, int], shapes: Sequence[BoolMask]) -> RGBImage:
    """Return a picture with each shape in a colour of its own."""
    image = np.full((*size_hw, 3), BACKGROUND, dtype=np.uint8)
    for i, shape in enumerate(shapes):
        image[shape] = COLOURS[i % len(COLOURS)]
    return image


def disc(size_hw: tuple[int, int], centre_yx: tuple[float, float], radius: float) -> BoolMask:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    inside: BoolMask = (y - centre_yx[0]) ** 2 + (x - centre_yx[1]) ** 2 <= radius**2
    return inside


def rectangle(size_hw: tuple[int, int], y1: int, x1: int, y2: int, x2: int) -> BoolMask:
    mask = np.zeros(size_hw, dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def five_shapes(size_hw: tuple[int, int]) -> list[BoolMask]:
    """Return shapes apart from each other, all of more than a grid step of ``GRID``."""
    height, width = size_hw
    return [
        disc(size_hw, (0.25 * height, 0.25 * width), 0.16 * min(height, width)),
        disc(size_hw, (0.3 * height, 0.75 * width), 0.2 * min(height, width)),
        rectangle(size_hw, int(0.6 * height), int(0.1 * width), int(0.9 * height), int(0.35 * width)),
        rectangle(size_hw, int(0.6 * height), int(0.45 * width), int(0.8 * height), int(0.6 * width)),
        rectangle(size_hw, int(0.55 * height), int(0.7 * width), int(0.95 * height), int(0.9 * width)),
    ]


def iou(a: BoolMask, b: BoolMask) -> float:
    return float((a & b).sum() / (a | b).sum())


def best_iou(shape: BoolMask, segments: Sequence[Segment]) -> float:
    return max((iou(shape, decode_mask(segment.mask)) for segment in segments), default=0.0)


def generated(image: RGBImage, settings: GeneratorSettings = GRID) -> list[Segment]:
    return generate_masks(image, segmenter=FloodSegmenter(), settings=settings)


@pytest.mark.parametrize(
    ("size_hw", "settings"), [((256, 256), GRID), ((120, 160), META), ((330, 220), GRID), ((500, 900), META)]
)
def test_every_shape_is_found(size_hw: tuple[int, int], settings: GeneratorSettings) -> None:
    shapes = five_shapes(size_hw)

    segments = generated(drawn(size_hw, shapes), settings)

    assert [shape for shape in shapes if best_iou(shape, segments) < 0.9] == []


def test_a_segment_describes_its_mask_and_the_best_come_first() -> None:
    size_hw = (200, 300)

    segments = generated(drawn(size_hw, five_shapes(size_hw)))

    assert len(segments) >= 6
    assert [s.score for s in segments] == sorted((s.score for s in segments), reverse=True)
    for segment in segments:
        mask = decode_mask(segment.mask)
        assert segment.mask.size_hw == size_hw
        assert segment.box == mask_box(mask)
        assert segment.area_px == mask.sum()
        assert 0 <= segment.predicted_iou <= 1
        assert segment.stability == 1
        assert 0 < segment.object_score <= 1


def test_a_part_is_the_child_of_the_whole() -> None:
    size_hw = (256, 256)
    whole, part = rectangle(size_hw, 40, 40, 200, 200), disc(size_hw, (120, 120), 30)
    settings = replace(GRID, min_region_px=10_000)  # fills the hole that the part leaves in the whole

    segments = generated(drawn(size_hw, [whole, part]), settings)
    masks = [decode_mask(segment.mask) for segment in segments]
    [whole_at] = [i for i, mask in enumerate(masks) if iou(mask, whole) > 0.9]
    [part_at] = [i for i, mask in enumerate(masks) if iou(mask, part) > 0.9]

    assert segments[part_at].parent == whole_at
    assert all(segment.parent != i for i, segment in enumerate(segments))


def test_a_smaller_budget_keeps_the_best_of_a_larger_one() -> None:
    size_hw = (256, 256)
    image = drawn(size_hw, five_shapes(size_hw))
    everything = generated(image)

    assert len(everything) >= 6
    for budget in (1, len(everything) - 1):
        some = generated(image, replace(GRID, segments_per_image=budget))

        assert [replace(s, parent=None) for s in some] == [
            replace(s, parent=None) for s in everything[:budget]
        ]


def test_a_mirrored_picture_gives_the_mirrored_masks() -> None:
    size_hw = (192, 256)
    image = drawn(size_hw, five_shapes(size_hw))

    masks = [decode_mask(segment.mask) for segment in generated(image, FINE)]
    mirrored = [decode_mask(segment.mask) for segment in generated(image[:, ::-1], FINE)]

    assert len(mirrored) == len(masks)
    for mask in masks:
        assert max(iou(mask[:, ::-1], other) for other in mirrored) > 0.97


def test_crop_layers_find_what_lies_between_the_points_of_the_grid() -> None:
    size_hw = (512, 512)
    # The grid has points at 43 and 128; that of a window of 284 pixels has one at 71.
    small = [disc(size_hw, (y, x), 14) for y in (71, 441) for x in (71, 441)]
    image = drawn(size_hw, small)

    coarse = generated(image)
    fine = generated(image, replace(GRID, crop_layers=1))

    assert max(best_iou(shape, coarse) for shape in small) < 0.1
    assert min(best_iou(shape, fine) for shape in small) > 0.9


@pytest.mark.slow
def test_windows_decoded_near_their_points_find_small_things_and_leave_large_ones_to_the_whole() -> None:
    size_hw = (512, 512)
    small = [disc(size_hw, (y, x), 9) for y in (71, 441) for x in (71, 441)]
    large = rectangle(size_hw, 130, 130, 390, 390)
    near = replace(GRID, points_per_side=1, crop_points_per_side=0, part_px=64)
    image = drawn(size_hw, [*small, large])

    segments = generated(image, replace(near, crop_layers=1, crop_near_points_per_side=24))
    without_windows = generated(image, near)

    assert min(best_iou(shape, segments) for shape in [*small, large]) > 0.9
    assert best_iou(large, without_windows) > 0.9
    assert max(best_iou(shape, without_windows) for shape in small) < 0.1


@pytest.mark.parametrize("frame_px", [224, 672, 896])
def test_other_frames_find_the_same_shapes(frame_px: int) -> None:
    size_hw = (300, 400)
    shapes = five_shapes(size_hw)

    segments = generated(drawn(size_hw, shapes), replace(GRID, frame_px=frame_px, part_px=40))

    assert min(best_iou(shape, segments) for shape in shapes) > 0.85


@pytest.mark.parametrize("selection", ["ranked", "meta"])
def test_nothing_that_a_window_cuts_off_is_kept(selection: str) -> None:
    size_hw = (400, 400)
    shapes = [rectangle(size_hw, 100, 60, 300, 340), rectangle(size_hw, 20, 20, 60, 60)]
    settings = GRID if selection == "ranked" else META
    settings = replace(settings, crop_layers=1, crop_points_per_side=6)
    windows = windows_of(size_hw, settings)
    inner_x = {x for w in windows for x in (w.box.x1, w.box.x2)} - {0, 400}
    inner_y = {y for w in windows for y in (w.box.y1, w.box.y2)} - {0, 400}

    segments = generated(drawn(size_hw, shapes), settings)

    assert min(best_iou(shape, segments) for shape in shapes) > 0.9
    for segment in segments:
        assert inner_x.isdisjoint((segment.box.x1, segment.box.x2))
        assert inner_y.isdisjoint((segment.box.y1, segment.box.y2))


@pytest.mark.parametrize(("crop_layers", "nms_iou"), [(0, 0.5), (0, 0.9), (1, 0.65)])
def test_no_two_masks_overlap_more_than_allowed(crop_layers: int, nms_iou: float) -> None:
    size_hw = (256, 320)
    image = drawn(size_hw, five_shapes(size_hw))

    segments = generated(image, replace(GRID, crop_layers=crop_layers, nms_iou=nms_iou))
    overlaps = rle_iou([s.mask for s in segments], [s.mask for s in segments])
    np.fill_diagonal(overlaps, 0)

    assert len(segments) >= 6
    assert overlaps.max() <= nms_iou + 0.02  # compared at 256x256, kept at full size


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 200), (200, 1), (9, 7)])
@pytest.mark.parametrize("crop_layers", [0, 1])
def test_the_smallest_pictures_give_each_mask_once(size_hw: tuple[int, int], crop_layers: int) -> None:
    rng = np.random.default_rng(size_hw[0])
    image = rng.integers(0, 4, size=(*size_hw, 3), dtype=np.uint8) * 60
    settings = replace(
        GRID,
        points_per_side=3,
        min_point_spacing_px=0,
        crop_layers=crop_layers,
        min_area_px=1,
        min_region_px=4,
        min_contrast=0,
    )

    segments = generated(image, settings)

    assert len({segment.mask for segment in segments}) == len(segments)
    assert segments


def test_a_picture_in_which_nothing_passes_the_thresholds_has_no_segments() -> None:
    image = drawn((100, 100), [disc((100, 100), (50, 50), 30)])

    for selection in (GRID, META):
        settings = replace(selection, points_per_side=2, predicted_iou_threshold=1.0, crop_layers=1)
        settings = replace(settings, crop_points_per_side=2)

        assert generated(image, settings) == []


def test_small_masks_and_small_regions_go_by_pixels_of_the_picture() -> None:
    size_hw = (512, 512)
    # the first is around a point of the grid
    shapes = [rectangle(size_hw, 32, 32, 52, 52), rectangle(size_hw, 200, 200, 400, 400)]
    image = drawn(size_hw, shapes)

    kept = generated(image, replace(FINE, min_area_px=400))
    dropped = generated(image, replace(FINE, min_area_px=401))

    assert best_iou(shapes[0], kept) > 0.9
    assert best_iou(shapes[0], dropped) < 0.1
    assert best_iou(shapes[1], dropped) > 0.9


def test_agreement_lifts_what_many_points_find() -> None:
    """The first two masks are twins: together they win over one that is estimated a little better."""
    logits = np.full((3, 256, 256), -8, np.float32)
    logits[0, :200, :200] = 8
    logits[1, :200, :199] = 8
    logits[2, 100:, 100:] = 8
    image = np.zeros((256, 256, 3), np.uint8)

    def order(estimates: list[float]) -> list[float]:
        segmenter = GivenMasks(logits, estimates)
        settings = replace(FINE, points_per_side=1, min_contrast=0)
        found = generate_masks(image, segmenter=segmenter, settings=settings)
        return [round(segment.predicted_iou, 2) for segment in found]

    assert order([0.7, 0.6, 0.71]) == [0.7, 0.71]
    assert order([0.7, 0.6, 0.8]) == [0.8, 0.7]


@pytest.mark.parametrize("quality", ["fast", "balanced", pytest.param("best", marks=pytest.mark.slow)])
def test_each_preset_finds_every_shape(quality: Quality) -> None:
    size_hw = (300, 400)
    shapes = five_shapes(size_hw)

    segments = generated(drawn(size_hw, shapes), preset(quality))

    assert min(best_iou(shape, segments) for shape in shapes) > 0.85


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="fast, balanced, best"):
        preset("ultra")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [field.name for field in fields(GeneratorSettings) if field.name not in ("selection", "redraws")],
)
def test_a_setting_out_of_range_is_refused_by_name(name: str) -> None:
    for value in (-1, 10**10, float("nan")):
        with pytest.raises(ValueError, match=f"^{name} must be between .*but got {value}$"):
            GeneratorSettings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("frame_px", 700), ("part_px", 90)])
def test_sides_that_do_not_fit_the_model_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be a multiple of"):
        GeneratorSettings(**{name: value})  # type: ignore[arg-type]


def test_every_setting_changes_the_fingerprint() -> None:
    changed = {
        "selection": "meta",
        "segments_per_image": 7,
        "points_per_side": 7,
        "min_point_spacing_px": 7,
        "crop_layers": 2,
        "min_window_px": 77,
        "redraws": False,
        "explained_above": 0.7,
        "frame_px": 896,
        "crop_overlap": 0.1,
        "crop_points_per_side": 7,
        "crop_near_points_per_side": 7,
        "part_px": 64,
        "min_region_px": 7,
        "min_area_px": 7,
    }
    base = GeneratorSettings()
    prints = {base.fingerprint()}

    for field in fields(GeneratorSettings):
        value = changed.get(field.name, 0.77)
        prints.add(replace(base, **{field.name: value}).fingerprint())  # type: ignore[arg-type]

    assert len(prints) == 1 + len(fields(GeneratorSettings))
    assert GeneratorSettings().fingerprint() == base.fingerprint()


def test_a_setting_that_was_renamed_keeps_its_name_in_the_fingerprints_of_indexes() -> None:
    text = GeneratorSettings(predicted_iou_threshold=0.25, stability_threshold=0.5).fingerprint()

    assert ",predicted_iou_floor=0.25," in text
    assert ",stability_floor=0.5," in text
    assert "threshold" not in text


def test_a_segmenter_that_can_only_encode_and_decode_finds_the_shapes() -> None:
    size_hw = (240, 320)
    shapes = five_shapes(size_hw)
    settings = GeneratorSettings(points_per_side=8)

    segments = generate_masks(drawn(size_hw, shapes), segmenter=PlainSegmenter(), settings=settings)

    assert min(best_iou(shape, segments) for shape in shapes) > 0.8
