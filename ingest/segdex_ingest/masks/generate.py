"""Automatic mask generation: prompt with point grids, rank the masks, and bring the best to full size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar, get_args

import numpy as np
import numpy.typing as npt

from segdex_core.choices import Quality, Selection
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures, Segmenter, decoder_id_of
from segdex_core.records import RGBImage, Segment
from segdex_ingest.masks.compare import AlikePairs, alike_pairs, lay_out, suppress_alike
from segdex_ingest.masks.decode import (
    Candidates,
    Edges,
    Thresholds,
    decode_in_rounds,
    decode_near_points,
    decode_points,
    join_candidates,
)
from segdex_ingest.masks.finish import FullSize, finish_in_order, select_meta, without_twins
from segdex_ingest.masks.grid import CropWindow, crop_windows, every_second, point_grid, tile_windows
from segdex_ingest.masks.objects import FinishedMasks, object_scores, second_scores, selection_scores
from segdex_ingest.masks.rank import TOKEN_SCALE, Ranked, find_ranker, ranked_scores
from segdex_ingest.masks.redraw import redraw
from segdex_ingest.masks.tree import find_parents
from segdex_ingest.masks.visible import visible_contrast

T = TypeVar("T")


_NO_VALUE = object()


def newer_setting(neutral: T) -> T:
    """Return a field for a setting added later; its default ``neutral`` changes no mask."""
    return field(default=neutral, metadata={"neutral": neutral})


def _renamed_setting(was: str, default: T) -> T:
    """Return a field for a renamed setting; the fingerprint keeps the old name ``was``."""
    return field(default=default, metadata={"name": was})


@dataclass(frozen=True, slots=True)
class GeneratorSettings:
    """How masks are generated and selected; docs/research/mask-generation.md measures the defaults.

    Attributes:
        selection: ``ranked`` keeps the best masks by score up to a budget; ``meta`` applies the rules of
            Meta's ``SAM2AutomaticMaskGenerator`` and has no budget.
        segments_per_image: Budget of ``ranked``: the maximum number of segments, 1 or more.
        frame_px: Side of the square that the image and each window are squashed to for SAM 2; a multiple of
            32, at least 224. 672 finds as much as 1024, the side that Meta uses and SAM 2 was trained on.
        points_per_side: Points along each side of the grid on the whole image, 1 to 128. Meta: 32.
        explained_above: In a grid decoded over the whole image or window, every second point of every second
            row is prompted first. Other points are prompted only if no mask with predicted IoU times
            stability above this covers them. 0 to 1; 1 prompts all points (``meta``).
        min_point_spacing_px: Minimum spacing of points, so that small images cost less; 0 or more.
        crop_layers: Number of further layers of windows for small objects, 0 to 3; each window is encoded
            separately. ``ranked`` has 2x2, 3x3, 4x4 windows, ``meta`` has 2x2, 4x4, 8x8 windows.
        crop_points_per_side: Points along each side of the grid on each window, decoded over the whole
            window, 0 to 128 (``meta``).
        crop_near_points_per_side: Points along each side of the grid on each window of the first layer, each
            point decoded in the part around it, 0 to 128. Further layers have fewer points per window and
            more in total.
        part_px: Side of the part around a point in mask pixels; a multiple of 8, 32 or more.
        crop_overlap: Overlap of windows, 0 to 0.5. ``ranked``: share of the window. ``meta``: share of the
            shorter side of the image in the first layer, halved in each further layer. Meta: 512/1500.
        min_window_px: Minimum shorter side of a window in pixels, 0 or more. Meta has no limit.
        predicted_iou_threshold: Masks must have a higher predicted IoU (exclusive), 0 to 1. ``meta``: 0.8.
        stability_threshold: Minimum stability (inclusive), 0 to 1. ``meta``: 0.95.
        stability_offset: Offset of the stability cut-offs from 0, in logits. Meta: 1.
        nms_iou: Of two masks with a larger IoU, the lower-ranked is dropped, 0.5 to 1. ``ranked`` uses mask
            IoU, ``meta`` uses box IoU (0.7).
        redraws: Whether the best masks are re-decoded from their boxes (``ranked``).
        min_region_px: Holes and islands with fewer pixels of the image are removed; 0 keeps all.
        min_area_px: Masks with fewer pixels of the image are dropped, 1 or more.
        min_containment: Share of a mask that a larger mask must cover to be its parent, 0.5 to 1.
        min_contrast: Segments at which less is visible are dropped, in levels of 255; see
            ``visible_contrast``. 0 to 255; 0 also keeps what is outlined on blank paper.
    """

    selection: Selection = "ranked"
    segments_per_image: int = 100
    frame_px: int = 672
    points_per_side: int = 16
    explained_above: float = 0.6
    min_point_spacing_px: int = 8
    crop_layers: int = 1
    crop_points_per_side: int = 0
    crop_near_points_per_side: int = 20
    part_px: int = 96
    crop_overlap: float = 0.2
    min_window_px: int = 100
    predicted_iou_threshold: float = _renamed_setting("predicted_iou_floor", 0.05)
    stability_threshold: float = _renamed_setting("stability_floor", 0.05)
    stability_offset: float = 1.0
    nms_iou: float = 0.62
    redraws: bool = True
    min_region_px: int = 64
    min_area_px: int = 16
    min_containment: float = 0.9
    min_contrast: float = 3.0

    def __post_init__(self) -> None:
        if self.selection not in get_args(Selection):
            raise ValueError(f"selection must be ranked or meta, but got {self.selection!r}")
        for name, low, high in (
            ("segments_per_image", 1, 100_000),
            ("frame_px", 224, 4096),
            ("points_per_side", 1, 128),
            ("explained_above", 0, 1),
            ("min_point_spacing_px", 0, 10_000),
            ("crop_layers", 0, 3),
            ("crop_points_per_side", 0, 128),
            ("crop_near_points_per_side", 0, 128),
            ("part_px", 32, self.frame_px // 4),
            ("crop_overlap", 0, 0.5),
            ("min_window_px", 0, 100_000),
            ("predicted_iou_threshold", 0, 1),
            ("stability_threshold", 0, 1),
            ("stability_offset", 0, 32),
            ("nms_iou", 0.5, 1),
            ("min_region_px", 0, 10**9),
            ("min_area_px", 1, 10**9),
            ("min_containment", 0.5, 1),
            ("min_contrast", 0, 255),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be between {low} and {high}, but got {value}")
        for name, step in (("frame_px", 32), ("part_px", 8)):
            if getattr(self, name) % step:
                raise ValueError(f"{name} must be a multiple of {step}, but got {getattr(self, name)}")

    def fingerprint(self) -> str:
        """Return a text that differs whenever the masks can differ.

        A setting added later is declared with ``newer_setting``. At its neutral value it is not in the text,
        so the images of existing indexes are not segmented again.
        """
        values = {
            one.metadata.get("name", one.name): getattr(self, one.name)
            for one in fields(self)
            if getattr(self, one.name) != one.metadata.get("neutral", _NO_VALUE)
        }
        shown = ",".join(f"{name}={value}" for name, value in sorted(values.items()))
        return f"generate-v{_GENERATOR_VERSION}({shown})"


_GENERATOR_VERSION = 5  # increased whenever this file returns other masks for the same settings


_STABILITY_MARGIN = 0.1  # stability at 256x256 was up to 0.043 off the stability at 512x512


def meta_settings() -> GeneratorSettings:
    """Return the defaults of Meta's ``SAM2AutomaticMaskGenerator`` (sam2 2b90b9f)."""
    return GeneratorSettings(
        selection="meta",
        frame_px=FRAME_PX,
        points_per_side=32,
        explained_above=1.0,
        min_point_spacing_px=0,
        crop_layers=0,
        crop_points_per_side=32,
        crop_near_points_per_side=0,
        crop_overlap=512 / 1500,
        min_window_px=0,
        redraws=False,
        predicted_iou_threshold=0.8,
        stability_threshold=0.95,
        nms_iou=0.7,
        min_region_px=0,
        min_area_px=1,
    )


def preset(quality: Quality) -> GeneratorSettings:
    """Return the settings of a preset; docs/costs.md lists what each preset finds and costs.

    Raises:
        ValueError: If there is no such preset.
    """
    match quality:
        case "fast":
            return GeneratorSettings(crop_layers=0)
        case "balanced":
            return GeneratorSettings()
        case "best":
            return GeneratorSettings(crop_layers=2, crop_near_points_per_side=16, segments_per_image=200)
    raise ValueError(f"quality must be one of {', '.join(get_args(Quality))}, but got {quality!r}")


def generate_masks(
    image: RGBImage,
    *,
    segmenter: Segmenter,
    settings: GeneratorSettings,
    checkpoint: Callable[[], None] = lambda: None,
) -> list[Segment]:
    """Return the segments of an image with their parents in the mask tree, best score first.

    Args:
        image: (H, W, 3) uint8.
        segmenter: Segmenter such as SAM 2.
        settings: Grids, thresholds and budget.
        checkpoint: Called between calls of the segmenter. An exception from it ends the generation.
    """
    size_hw = (image.shape[0], image.shape[1])
    features: list[ImageFeatures] = []
    found: list[tuple[CropWindow, Candidates]] = []
    for window in windows_of(size_hw, settings):
        seen, candidates = window_candidates(
            image, window, segmenter=segmenter, settings=settings, checkpoint=checkpoint
        )
        found.append((window, candidates))
        if settings.redraws:
            features.append(seen)
    checkpoint()
    full_size = FullSize(size_hw, min_region_px=settings.min_region_px, min_area_px=settings.min_area_px)
    if settings.selection == "meta":
        segments = select_meta(
            found,
            full_size,
            box_nms_iou=settings.nms_iou,
            stability_threshold=settings.stability_threshold,
            stability_offset=settings.stability_offset,
        )
        segments = [
            replace(one, object_score=float(np.clip(one.predicted_iou * one.stability, 0, 1)))
            for one in segments
        ]
    else:
        segments = _select_ranked(found, features, full_size, segmenter=segmenter, settings=settings)
    if settings.min_contrast > 0:
        segments = [one for one in segments if visible_contrast(image, one.box) >= settings.min_contrast]
    parents = find_parents([s.mask for s in segments], min_containment=settings.min_containment)
    return [replace(segment, parent=parent) for segment, parent in zip(segments, parents, strict=True)]


_SPARE = 50
"""Number of masks beyond the budget that are re-decoded, so that the second ranking has a choice."""


def _select_ranked(
    found: Sequence[tuple[CropWindow, Candidates]],
    features: Sequence[ImageFeatures],
    full_size: FullSize,
    *,
    segmenter: Segmenter,
    settings: GeneratorSettings,
) -> list[Segment]:
    """Return the best masks: rank each mask separately, re-decode the best, then rank them by comparison."""
    decoder_id = decoder_id_of(segmenter)
    canvas = lay_out(found, full_size.size_hw)
    pairs = alike_pairs(canvas)
    ranker = find_ranker(decoder_id)
    ranked = ranked_scores(found, canvas, pairs, ranker=ranker)
    finished = finish_best(found, features, ranked, pairs, full_size, segmenter=segmenter, settings=settings)
    second = second_scores(finished, decoder_id=decoder_id, min_containment=settings.min_containment)
    scores = selection_scores(second, finished.first_scores)
    objects = object_scores(second, finished.first_scores)
    best = [
        replace(finished.segments[i], score=float(scores[i]), object_score=float(objects[i]))
        for i in np.argsort(-scores, kind="stable").tolist()
    ]
    return without_twins(best, nms_iou=settings.nms_iou, limit=settings.segments_per_image)


def finish_best(
    found: Sequence[tuple[CropWindow, Candidates]],
    features: Sequence[ImageFeatures],
    ranked: Ranked,
    pairs: AlikePairs,
    full_size: FullSize,
    *,
    segmenter: Segmenter,
    settings: GeneratorSettings,
) -> FinishedMasks:
    """Return the best masks of the first ranking, re-decoded and at full size.

    Args:
        found: Windows with their masks.
        features: Features of each window; read only if the settings re-decode.
        ranked: First ranking of all masks.
        pairs: Pairs of similar masks.
        full_size: Converts the masks to segments.
        segmenter: Segmenter that made the features.
        settings: Budget and thresholds.
    """
    order = suppress_alike(
        pairs, ranked.scores, iou=settings.nms_iou, limit=settings.segments_per_image + _SPARE
    )
    if settings.redraws:
        found = _redrawn(
            found, order, features, segmenter=segmenter, size_hw=full_size.size_hw, settings=settings
        )
    finished = finish_in_order(found, order, ranked.scores, full_size)
    positions = [one.position for one in finished]
    return FinishedMasks(
        segments=[one.segment for one in finished],
        first_scores=ranked.scores[positions],
        likelihood=ranked.likelihood[positions],
        numbers=ranked.numbers[positions],
        tokens=np.array([one.tokens for one in finished], np.float32) * TOKEN_SCALE,
    )


def _redrawn(
    found: Sequence[tuple[CropWindow, Candidates]],
    order: npt.NDArray[np.intp],
    features: Sequence[ImageFeatures],
    *,
    segmenter: Segmenter,
    size_hw: tuple[int, int],
    settings: GeneratorSettings,
) -> list[tuple[CropWindow, Candidates]]:
    """Return all masks, with the masks at the positions in ``order`` re-decoded."""
    starts = np.cumsum([0, *(len(candidates) for _, candidates in found)])
    return [
        (
            window,
            redraw(
                candidates,
                order[(order >= start) & (order < stop)] - start,
                features=seen,
                segmenter=segmenter,
                cuts=_cuts(window, size_hw),
                stability_offset=settings.stability_offset,
            ),
        )
        for (window, candidates), seen, start, stop in zip(
            found, features, starts[:-1], starts[1:], strict=True
        )
    ]


def _cuts(window: CropWindow, size_hw: tuple[int, int]) -> Edges:
    """Return which edges of a window lie inside the image."""
    (height, width), box = size_hw, window.box
    return Edges(box.x1 > 0, box.y1 > 0, box.x2 < width, box.y2 < height)


def windows_of(size_hw: tuple[int, int], settings: GeneratorSettings) -> list[CropWindow]:
    """Return the windows of an image that are encoded separately, the whole image first."""
    if settings.selection == "meta":
        return crop_windows(
            size_hw,
            crop_layers=settings.crop_layers,
            overlap_ratio=settings.crop_overlap,
            min_window_px=settings.min_window_px,
        )
    return tile_windows(
        size_hw,
        layers=settings.crop_layers,
        overlap=settings.crop_overlap,
        min_window_px=settings.min_window_px,
    )


def window_candidates(
    image: RGBImage,
    window: CropWindow,
    *,
    segmenter: Segmenter,
    settings: GeneratorSettings,
    checkpoint: Callable[[], None] = lambda: None,
) -> tuple[ImageFeatures, Candidates]:
    """Return the features of a window, and its masks above the thresholds in the order of decoding."""
    box = window.box
    pixels = image[box.y1 : box.y2, box.x1 : box.x2]
    checkpoint()
    [features] = segmenter.encode([pixels], frame_px=settings.frame_px)
    parts = []
    for part in _prompted(image, window, features, segmenter, settings):
        checkpoint()
        parts.append(part)
    return features, join_candidates(parts)


def _prompted(
    image: RGBImage,
    window: CropWindow,
    features: ImageFeatures,
    segmenter: Segmenter,
    settings: GeneratorSettings,
) -> Iterator[Candidates]:
    whole, near = settings.points_per_side, 0
    if window.layer > 0:
        whole = settings.crop_points_per_side
        # windows of layer i have 2 / (i + 1) the side of windows of layer 1, with slightly denser points
        near = int(settings.crop_near_points_per_side * (2 / (window.layer + 1)) ** 0.7)
    stability_threshold, cuts = settings.stability_threshold, Edges()
    if settings.selection == "meta":
        # ``select_meta`` applies Meta's stability threshold and edge rule at full size
        stability_threshold = max(stability_threshold - _STABILITY_MARGIN, 0)
    else:
        cuts = _cuts(window, (image.shape[0], image.shape[1]))
    thresholds = Thresholds(settings.predicted_iou_threshold, stability_threshold, settings.stability_offset)

    def grid(points_per_side: int) -> npt.NDArray[np.float32]:
        return point_grid(
            features.size_hw,
            points_per_side=points_per_side,
            min_spacing_px=settings.min_point_spacing_px,
        )

    if whole > 0 and settings.explained_above < 1:
        points = grid(whole)
        yield from decode_in_rounds(
            segmenter,
            features,
            points,
            is_first=every_second(points),
            explained_above=settings.explained_above,
            thresholds=thresholds,
            cuts=cuts,
        )
    elif whole > 0:
        yield from decode_points(segmenter, features, grid(whole), thresholds=thresholds, cuts=cuts)
    if near > 0:
        yield from decode_near_points(
            segmenter, features, grid(near), thresholds=thresholds, part_px=settings.part_px, cuts=cuts
        )
