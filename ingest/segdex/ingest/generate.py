"""Automatic mask generation: prompt a grid, keep the best masks, bring them to the picture's size."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from segdex.core.protocols import PromptableSegmenter
from segdex.core.records import RGBImage, Segment
from segdex.ingest.candidates import (
    Candidates,
    Floors,
    decode_near_points,
    decode_points,
    join_candidates,
)
from segdex.ingest.finish import FullSize, WindowCandidates, select_meta, select_ranked
from segdex.ingest.prompts import CropWindow, crop_windows, point_grid
from segdex.ingest.ranker import find_ranker, ranking_features
from segdex.ingest.select import agreement_counts, mask_nms
from segdex.ingest.tree import find_parents

Selection = Literal["ranked", "meta"]


@dataclass(frozen=True, slots=True)
class GeneratorSettings:
    """How masks are generated and which are kept. The defaults are measured: docs/mask-generation.md.

    Attributes:
        selection: ``ranked`` keeps the best by score up to a budget; ``meta`` applies the rules of Meta's
            ``SAM2AutomaticMaskGenerator`` and has no budget.
        segments_per_image: Budget of ``ranked``, 1 or more.
        points_per_side: The grid on the whole picture has this many points along each side, 1 to 128.
            Meta: 32.
        near_points_per_side: A second grid on it, whose masks are decoded in the part around each point: for
            small things, at a fifth of the cost; 0 to 128, 0 for none.
        min_point_spacing_px: Points never lie closer than this, so that small pictures cost less; 0 or more.
        crop_layers: Further layers of 4, 16, ... windows, each encoded alone, for small things; 0 to 3.
        crop_points_per_side: The grid on each of their windows, 0 to 128.
        crop_near_points_per_side: The second grid on each of their windows, 0 to 128.
        part_px: Side of a part around a point in pixels of SAM's 256x256 masks; 32, 64, ... 256.
        crop_overlap_ratio: Overlap of windows in the first layer, share of the shorter side. Meta: 512/1500.
        min_window_px: No windows whose shorter side has fewer pixels; 0 or more. Meta has no such limit.
        predicted_iou_floor: Drop masks with a lower estimate, 0 to 1. ``meta``: 0.8, exclusive.
        stability_floor: Drop masks with a lower stability, 0 to 1. ``meta``: 0.95, inclusive.
        stability_offset: Logits by which the stability cut-offs differ from 0. Meta: 1.
        nms_iou: Of two masks with a larger IoU the lower-ranked is dropped, 0 to 1: mask IoU in ``ranked``,
            box IoU in ``meta`` (0.7).
        agreement_iou: Masks with a larger IoU agree with each other, 0 to 1 (``ranked``).
        agreement_weight: Weight of log(number that agree) in the score, 0 or more (``ranked``).
        likelihood_weight: Weight of the learned likelihood of being a thing in the score, 0 or more, where
            there is a ranker for the segmenter's weights (``ranked``).
        min_region_px: Holes and islands with fewer pixels of the picture are removed; 0 leaves them.
        min_area_px: Masks with fewer pixels of the picture are dropped, 1 or more.
        min_containment: A mask is a child of a larger one that covers this share of it, above 0.5 to 1.
    """

    selection: Selection = "ranked"
    segments_per_image: int = 100
    points_per_side: int = 16
    near_points_per_side: int = 0
    min_point_spacing_px: int = 8
    crop_layers: int = 1
    crop_points_per_side: int = 0
    crop_near_points_per_side: int = 16
    part_px: int = 96
    crop_overlap_ratio: float = 512 / 1500
    min_window_px: int = 200
    predicted_iou_floor: float = 0.1
    stability_floor: float = 0.1
    stability_offset: float = 1.0
    nms_iou: float = 0.7
    agreement_iou: float = 0.9
    agreement_weight: float = 0.1
    likelihood_weight: float = 1.0
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
            ("near_points_per_side", 0, 128),
            ("crop_points_per_side", 0, 128),
            ("crop_near_points_per_side", 0, 128),
            ("part_px", 32, 256),
            ("likelihood_weight", 0, 100),
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
        if self.part_px % 32:
            raise ValueError(f"part_px must be a multiple of 32, but got {self.part_px}")

    def fingerprint(self) -> str:
        """Return a text that differs whenever the masks can differ."""
        values = ",".join(f"{name}={getattr(self, name)}" for name in sorted(self.__dataclass_fields__))
        return f"generate-v{_GENERATOR_VERSION}({values})"


_GENERATOR_VERSION = 2  # raised whenever this file changes what it returns for the same settings


_STABILITY_MARGIN = 0.1  # at 256x256 the stability was up to 0.043 off that at 512x512


def meta_settings() -> GeneratorSettings:
    """Return the defaults of Meta's ``SAM2AutomaticMaskGenerator`` (sam2 2b90b9f)."""
    return GeneratorSettings(
        selection="meta",
        points_per_side=32,
        min_point_spacing_px=0,
        crop_layers=0,
        crop_points_per_side=32,
        crop_near_points_per_side=0,
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
    found: list[WindowCandidates] = []
    for window in windows:
        candidates = window_candidates(image, window, segmenter=segmenter, settings=settings)
        if settings.selection == "ranked":
            scores = ranked_scores(candidates, window, size_hw, segmenter.decoder_id, settings)
            found.append(_best_of_window(WindowCandidates(window, candidates, scores), settings))
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


def window_candidates(
    image: RGBImage, window: CropWindow, *, segmenter: PromptableSegmenter, settings: GeneratorSettings
) -> Candidates:
    """Return all masks of one window of a picture that are above the floors, in the order of the points."""
    box = window.box
    [features] = segmenter.encode([image[box.y1 : box.y2, box.x1 : box.x2]])
    whole, near = settings.points_per_side, settings.near_points_per_side
    if window.layer > 0:
        whole, near = settings.crop_points_per_side, settings.crop_near_points_per_side
    stability_floor = settings.stability_floor
    if settings.selection == "meta":  # Meta's floor holds at full size: ``select_meta`` decides
        stability_floor = max(stability_floor - _STABILITY_MARGIN, 0)
    floors = Floors(settings.predicted_iou_floor, stability_floor, settings.stability_offset)

    def grid(points_per_side: int) -> npt.NDArray[np.float32]:
        return point_grid(
            features.size_hw,
            points_per_side=points_per_side,
            min_spacing_px=settings.min_point_spacing_px,
        )

    parts: list[Candidates] = []
    if whole > 0:
        parts += decode_points(segmenter, features, grid(whole), floors=floors)
    if near > 0:
        parts += decode_near_points(segmenter, features, grid(near), floors=floors, part_px=settings.part_px)
    return join_candidates(parts)


def ranked_scores(
    candidates: Candidates,
    window: CropWindow,
    size_hw: tuple[int, int],
    decoder_id: str,
    settings: GeneratorSettings,
) -> npt.NDArray[np.float32]:
    """Return the score of the ``ranked`` selection, higher is better.

    Predicted IoU times stability, plus a weight times the logarithm of how many masks of the same window
    agree with it, plus a weight times the learned likelihood. docs/mask-generation.md has the table of what
    was tried.
    """
    scores = candidates.predicted_iou * candidates.stability
    if len(candidates) == 0:
        return scores
    agreeing = agreement_counts(candidates.packed, iou_threshold=settings.agreement_iou)
    scores = scores + settings.agreement_weight * np.log(np.maximum(agreeing, 1))
    ranker = find_ranker(decoder_id) if settings.likelihood_weight > 0 else None
    if ranker is not None:
        share = window.box.area_px / (size_hw[0] * size_hw[1])
        features = ranking_features(candidates, agreeing, frame_share=share, layer=window.layer)
        scores = scores + settings.likelihood_weight * ranker.likelihood(features)
    return scores.astype(np.float32)


def _best_of_window(found: WindowCandidates, settings: GeneratorSettings) -> WindowCandidates:
    """Drop twins, so that few masks of a window have to be kept in memory."""
    kept = mask_nms(
        found.candidates.packed,
        found.scores,
        iou_threshold=settings.nms_iou,
        # some are lost at full size: cut off by the window, too small, or found in another window too
        limit=2 * settings.segments_per_image,
    )
    return WindowCandidates(found.window, found.candidates[kept], scores=found.scores[kept])
