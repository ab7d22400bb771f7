"""Automatic mask generation: prompt a grid, keep the best masks, bring them to the picture's size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from segdex.core.geometry import BoxXYXY, box_nms
from segdex.core.masks import BoolMask, MaskRLE, encode_mask, mask_box, rle_iou
from segdex.core.protocols import FOREGROUND, ImageFeatures, PromptableSegmenter, Prompts
from segdex.core.records import RGBImage, Segment
from segdex.ingest.fullsize import clean_small_regions, upsample_mask
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
    crop_layers: int = 0
    crop_points_downscale: int = 1
    crop_overlap_ratio: float = 512 / 1500
    predicted_iou_floor: float = 0.2
    stability_floor: float = 0.3
    stability_offset: float = 1.0
    nms_iou: float = 0.65
    agreement_iou: float = 0.8
    agreement_weight: float = 0.1
    min_region_px: int = 64
    min_area_px: int = 16
    min_containment: float = 0.9

    def __post_init__(self) -> None:
        for name, low, high in (
            ("segments_per_image", 1, 100_000),
            ("points_per_side", 1, 128),
            ("min_point_spacing_px", 0, 10_000),
            ("crop_layers", 0, 3),
            ("crop_points_downscale", 1, 128),
            ("crop_overlap_ratio", 0, 1),
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


def meta_settings() -> GeneratorSettings:
    """Return the defaults of Meta's ``SAM2AutomaticMaskGenerator`` (sam2 2b90b9f)."""
    return GeneratorSettings(
        selection="meta",
        points_per_side=32,
        min_point_spacing_px=0,
        predicted_iou_floor=0.8,
        stability_floor=0.95,
        nms_iou=0.7,
        min_region_px=0,
        min_area_px=1,
    )


@dataclass(frozen=True, slots=True)
class _FullMask:
    """A kept mask at full size: its pixels inside ``box`` of the picture, and its scores."""

    mask: BoolMask
    box: BoxXYXY
    predicted_iou: float
    stability: float
    score: float
    window: CropWindow


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
        size_hw, crop_layers=settings.crop_layers, overlap_ratio=settings.crop_overlap_ratio
    )
    found: list[_FullMask] = []
    for window in windows:
        box = window.box
        [features] = segmenter.encode([image[box.y1 : box.y2, box.x1 : box.x2]])
        points = point_grid(
            features.size_hw,
            min_spacing_px=settings.min_point_spacing_px,
            points_per_side=max(settings.points_per_side // settings.crop_points_downscale**window.layer, 1),
        )
        candidates = decode_points(segmenter, features, points, settings=settings)
        found += _select_in_window(candidates, window, size_hw, settings)
    segments = _to_segments(found, size_hw)
    if len(windows) > 1:
        segments = _merge_windows(segments, found, settings)
    best: dict[MaskRLE, Segment] = {}
    for segment in sorted(segments, key=lambda segment: -segment.score):
        best.setdefault(segment.mask, segment)  # different masks can be one at the size of a small picture
    segments = list(best.values())
    if settings.selection == "ranked":
        segments = segments[: settings.segments_per_image]
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


def _select_in_window(
    candidates: Candidates, window: CropWindow, size_hw: tuple[int, int], settings: GeneratorSettings
) -> list[_FullMask]:
    """Keep the best masks of one window and bring them to full size."""
    if settings.selection == "ranked":
        scores = ranked_scores(candidates, settings)
        kept = mask_nms(
            candidates.packed,
            scores,
            iou_threshold=settings.nms_iou,
            # some of these are lost below, at the edge of a window or by their size
            limit=2 * settings.segments_per_image,
        )
        candidates, scores = candidates[kept], scores[kept]
    else:
        scores = candidates.predicted_iou
    full = [
        _FullMask(mask, box, float(iou), float(stability), float(score), window)
        for logits, iou, stability, score in zip(
            candidates.logits, candidates.predicted_iou, candidates.stability, scores, strict=True
        )
        for mask, box in [_full_mask(logits, window, settings)]
        if np.count_nonzero(mask) >= settings.min_area_px and not _touches_inner_edge(box, window, size_hw)
    ]
    if settings.selection == "meta" and full:
        boxes = np.asarray([item.box for item in full], dtype=np.float32)
        boxes[:, 2:] -= 1  # Meta's boxes end at the last pixel
        iou = np.asarray([item.predicted_iou for item in full], dtype=np.float32)
        full = [full[i] for i in box_nms(boxes, iou, iou_threshold=settings.nms_iou)]
    return full


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


def _full_mask(
    logits: npt.NDArray[np.float16], window: CropWindow, settings: GeneratorSettings
) -> tuple[BoolMask, BoxXYXY]:
    """Return a mask at the size of the window, cut to its tight box in the picture."""
    width, height = window.box.size_wh
    mask, reach = upsample_mask(logits, (height, width))
    mask = clean_small_regions(mask, min_region_px=settings.min_region_px)
    tight = mask_box(mask)
    box = BoxXYXY(
        window.box.x1 + reach.x1 + tight.x1,
        window.box.y1 + reach.y1 + tight.y1,
        window.box.x1 + reach.x1 + tight.x2,
        window.box.y1 + reach.y1 + tight.y2,
    )
    return mask[tight.y1 : tight.y2, tight.x1 : tight.x2], box


_EDGE_PX = 20  # ``is_box_near_crop_edge`` of Meta's amg.py, atol


def _touches_inner_edge(box: BoxXYXY, window: CropWindow, size_hw: tuple[int, int]) -> bool:
    """Return whether a box ends at an edge of its window that is no edge of the picture: it is cut off."""
    last = BoxXYXY(box.x1, box.y1, box.x2 - 1, box.y2 - 1)  # Meta's boxes end at the last pixel
    picture = (0, 0, size_hw[1], size_hw[0])
    return any(
        abs(mine - edge) <= _EDGE_PX and not abs(mine - outer) <= _EDGE_PX
        for mine, edge, outer in zip(last, window.box, picture, strict=True)
    )


def _to_segments(found: Sequence[_FullMask], size_hw: tuple[int, int]) -> list[Segment]:
    segments = []
    for item in found:
        full = np.zeros(size_hw, dtype=bool, order="F")
        full[item.box.y1 : item.box.y2, item.box.x1 : item.box.x2] = item.mask
        segments.append(
            Segment(
                box=item.box,
                mask=encode_mask(full),
                area_px=int(np.count_nonzero(item.mask)),
                predicted_iou=item.predicted_iou,
                stability=item.stability,
                score=item.score,
            )
        )
    return segments


def _merge_windows(
    segments: list[Segment], found: Sequence[_FullMask], settings: GeneratorSettings
) -> list[Segment]:
    """Suppress twins from different windows.

    ``meta`` prefers the smaller window and compares boxes, as Meta does; ``ranked`` goes by score and
    compares masks.
    """
    if not segments:
        return segments
    if settings.selection == "meta":
        boxes = np.asarray([segment.box for segment in segments], dtype=np.float32)
        boxes[:, 2:] -= 1
        scores = np.asarray([1 / item.window.box.area_px for item in found], dtype=np.float32)
        return [segments[i] for i in box_nms(boxes, scores, iou_threshold=settings.nms_iou)]
    order = sorted(range(len(segments)), key=lambda i: -segments[i].score)
    masks: list[MaskRLE] = [segments[i].mask for i in order]
    iou = rle_iou(masks, masks)
    kept: list[int] = []
    for i in range(len(order)):
        if not kept or iou[i, kept].max() <= settings.nms_iou:
            kept.append(i)
    return [segments[order[i]] for i in kept]
