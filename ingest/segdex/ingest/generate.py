"""Automatic mask generation: prompt a grid, keep the best masks, bring them to the picture's size."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from segdex.core.protocols import FOREGROUND, ImageFeatures, PromptableSegmenter, Prompts
from segdex.core.records import RGBImage, Segment
from segdex.ingest.finish import FullSize, WindowCandidates, select_meta, select_ranked
from segdex.ingest.prompts import CropWindow, crop_windows, point_grid
from segdex.ingest.select import (
    Candidates,
    agreement_counts,
    mask_nms,
    pack_masks,
    stability_scores,
)
from segdex.ingest.tree import find_parents

Selection = Literal["ranked", "meta"]


@dataclass(frozen=True, slots=True)
class GeneratorSettings:
    """How masks are generated and which are kept. The defaults are measured: docs/mask-generation.md.

    Attributes:
        selection: ``ranked`` keeps the best by score up to a budget; ``meta`` applies the rules of Meta's
            ``SAM2AutomaticMaskGenerator`` and has no budget.
        segments_per_image: Budget of ``ranked``, 1 or more.
        points_per_side: The grid has this many points along each side of a window, 1 to 128. Meta: 32.
        min_point_spacing_px: Points never lie closer than this, so that small pictures cost less; 0 or more.
        crop_layers: Further layers of 4, 16, ... windows, each encoded alone, for small things; 0 to 3.
        crop_points_downscale: In layer i the grid has ``points_per_side // downscale**i`` points, 1 or more.
        crop_overlap_ratio: Overlap of windows in the first layer, share of the shorter side. Meta: 512/1500.
        min_window_px: No windows whose shorter side has fewer pixels; 0 or more. Meta has no such limit.
        predicted_iou_floor: Drop masks with a lower estimate, 0 to 1. ``meta``: 0.8, exclusive.
        stability_floor: Drop masks with a lower stability, 0 to 1. ``meta``: 0.95, inclusive.
        stability_offset: Logits by which the stability cut-offs differ from 0. Meta: 1.
        nms_iou: Of two masks with a larger IoU the lower-ranked is dropped, 0 to 1: mask IoU in ``ranked``,
            box IoU in ``meta`` (0.7).
        agreement_iou: Masks with a larger IoU agree with each other, 0 to 1 (``ranked``).
        agreement_weight: Weight of log(number that agree) in the score, 0 or more (``ranked``).
        min_region_px: Holes and islands with fewer pixels of the picture are removed; 0 leaves them.
        min_area_px: Masks with fewer pixels of the picture are dropped, 1 or more.
        min_containment: A mask is a child of a larger one that covers this share of it, above 0.5 to 1.
    """

    selection: Selection = "ranked"
    segments_per_image: int = 100
    points_per_side: int = 16
    min_point_spacing_px: int = 8
    crop_layers: int = 1
    crop_points_downscale: int = 2
    crop_overlap_ratio: float = 512 / 1500
    min_window_px: int = 200
    predicted_iou_floor: float = 0.1
    stability_floor: float = 0.1
    stability_offset: float = 1.0
    nms_iou: float = 0.7
    agreement_iou: float = 0.9
    agreement_weight: float = 0.1
    min_region_px: int = 64
    min_area_px: int = 16
    min_containment: float = 0.9

    def __post_init__(self) -> None:
        if self.selection not in get_args(Selection):
            raise ValueError(f"selection must be ranked or meta, but got {self.selection!r}")
        for name, low, high in (
            ("segments_per_image", 1, 100_000),
            ("points_per_side", 1, 128),
            ("min_point_spacing_px", 0, 10_000),
            ("crop_layers", 0, 3),
            ("crop_points_downscale", 1, 128),
            ("crop_overlap_ratio", 0, 1),
            ("min_window_px", 0, 100_000),
            ("predicted_iou_floor", 0, 1),
            ("stability_floor", 0, 1),
            ("stability_offset", 0, 32),
            ("nms_iou", 0, 1),
            ("agreement_iou", 0, 1),
            ("agreement_weight", 0, 100),
            ("min_region_px", 0, 10**9),
            ("min_area_px", 1, 10**9),
            ("min_containment", 0.5, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be between {low} and {high}, but got {value}")

    def fingerprint(self) -> str:
        """Return a text that differs whenever the masks can differ."""
        values = ",".join(f"{name}={getattr(self, name)}" for name in sorted(self.__dataclass_fields__))
        return f"generate-v{_GENERATOR_VERSION}({values})"


_GENERATOR_VERSION = 1  # raised whenever this file changes what it returns for the same settings


_STABILITY_MARGIN = 0.1  # at 256x256 the stability was up to 0.043 off that at 512x512


def meta_settings() -> GeneratorSettings:
    """Return the defaults of Meta's ``SAM2AutomaticMaskGenerator`` (sam2 2b90b9f)."""
    return GeneratorSettings(
        selection="meta",
        points_per_side=32,
        min_point_spacing_px=0,
        crop_layers=0,
        crop_points_downscale=1,
        min_window_px=0,
        predicted_iou_floor=0.8,
        stability_floor=0.95,
        nms_iou=0.7,
        min_region_px=0,
        min_area_px=1,
    )


def generate_masks(
    image: RGBImage, *, segmenter: PromptableSegmenter, settings: GeneratorSettings
) -> list[Segment]:
    """Return the segments of a picture, best score first, with their places in the mask tree.

    Args:
        image: (H, W, 3) uint8.
        segmenter: SAM 2 behind the port.
        settings: Grid, thresholds and budget.
    """
    size_hw = (image.shape[0], image.shape[1])
    windows = crop_windows(
        size_hw,
        crop_layers=settings.crop_layers,
        overlap_ratio=settings.crop_overlap_ratio,
        min_window_px=settings.min_window_px,
    )
    floors = settings
    if settings.selection == "meta":  # Meta's floor holds at full size: ``select_meta`` decides
        lower = max(settings.stability_floor - _STABILITY_MARGIN, 0)
        floors = replace(settings, stability_floor=lower)
    found: list[WindowCandidates] = []
    for window in windows:
        box = window.box
        [features] = segmenter.encode([image[box.y1 : box.y2, box.x1 : box.x2]])
        points = point_grid(
            features.size_hw,
            min_spacing_px=settings.min_point_spacing_px,
            points_per_side=max(settings.points_per_side // settings.crop_points_downscale**window.layer, 1),
        )
        candidates = decode_points(segmenter, features, points, settings=floors)
        if settings.selection == "ranked":
            found.append(_best_of_window(candidates, window, settings))
        else:
            found.append(WindowCandidates(window, candidates, scores=candidates.predicted_iou))
    full_size = FullSize(size_hw, min_region_px=settings.min_region_px, min_area_px=settings.min_area_px)
    if settings.selection == "ranked":
        segments = select_ranked(
            found, full_size, nms_iou=settings.nms_iou, limit=settings.segments_per_image
        )
    else:
        segments = select_meta(
            found,
            full_size,
            box_nms_iou=settings.nms_iou,
            stability_floor=settings.stability_floor,
            stability_offset=settings.stability_offset,
        )
    parents = find_parents([s.mask for s in segments], min_containment=settings.min_containment)
    return [replace(segment, parent=parent) for segment, parent in zip(segments, parents, strict=True)]


def decode_points(
    segmenter: PromptableSegmenter,
    features: ImageFeatures,
    points_xy: npt.NDArray[np.float32],
    *,
    settings: GeneratorSettings,
) -> Candidates:
    """Decode one foreground point after the other, three masks each, and keep what is above the floors.

    Args:
        segmenter: SAM 2 behind the port.
        features: What it made of the window.
        points_xy: (n, 2) pixels of the window.
        settings: The floors.

    Returns:
        At most 3 n masks, in the order of the points.
    """
    prompts = Prompts(
        points_xy=points_xy[:, None, :], labels=np.full((len(points_xy), 1), FOREGROUND, dtype=np.int64)
    )
    parts: list[Candidates] = []
    for start in range(0, len(prompts), segmenter.prompts_per_batch):
        decoded = segmenter.decode(features, prompts[start : start + segmenter.prompts_per_batch])
        logits = decoded.logits.reshape(-1, *decoded.logits.shape[2:])
        predicted_iou = decoded.predicted_iou.reshape(-1)
        # Meta keeps above its IoU threshold, and at or above its stability threshold.
        above = predicted_iou > settings.predicted_iou_floor
        logits, predicted_iou = logits[above], predicted_iou[above]
        stability = stability_scores(logits, offset=settings.stability_offset)
        stable = stability >= settings.stability_floor
        logits = logits[stable]
        parts.append(
            Candidates(
                logits=logits.astype(np.float16),
                predicted_iou=predicted_iou[stable],
                stability=stability[stable],
                packed=pack_masks(logits > 0),
            )
        )
    return Candidates(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in _CANDIDATE_FIELDS)
    )


_CANDIDATE_FIELDS = ("logits", "predicted_iou", "stability", "packed")


def _best_of_window(
    candidates: Candidates, window: CropWindow, settings: GeneratorSettings
) -> WindowCandidates:
    """Rank the masks of one window and drop twins, so that few of them have to be kept in memory."""
    scores = ranked_scores(candidates, settings)
    kept = mask_nms(
        candidates.packed,
        scores,
        iou_threshold=settings.nms_iou,
        # some are lost at full size: cut off by the window, too small, or found in another window too
        limit=2 * settings.segments_per_image,
    )
    return WindowCandidates(window, candidates[kept], scores=scores[kept])


def ranked_scores(candidates: Candidates, settings: GeneratorSettings) -> npt.NDArray[np.float32]:
    """Return the score of the ``ranked`` selection, higher is better.

    Predicted IoU times stability, plus a weight times the logarithm of how many masks of the same window
    agree with it. docs/mask-generation.md has the table of what was tried.
    """
    quality = candidates.predicted_iou * candidates.stability
    if settings.agreement_weight == 0 or len(candidates) == 0:
        return quality
    agreeing = agreement_counts(candidates.packed, iou_threshold=settings.agreement_iou)
    return (quality + settings.agreement_weight * np.log(np.maximum(agreeing, 1))).astype(np.float32)
