"""The last step of mask generation: bring the best masks of all windows to the size of the image.

Masks are upsampled only in this step; ``ranked`` upsamples only the best masks, one at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segdex_core.full_size import clean_small_regions, full_size_stability, upsample_mask
from segdex_core.geometry import BoxXYXY, box_nms
from segdex_core.masks import BoolMask, encode_mask, mask_box, rle_iou
from segdex_core.records import Segment
from segdex_ingest.masks.decode import Candidates, Scores
from segdex_ingest.masks.grid import CropWindow


@dataclass(frozen=True, slots=True)
class FullSize:
    """Converts masks to segments at the size of the image.

    Attributes:
        size_hw: Height and width of the image in pixels.
        min_region_px: Holes and islands with fewer pixels are removed.
        min_area_px: Masks with fewer pixels are dropped.
    """

    size_hw: tuple[int, int]
    min_region_px: int
    min_area_px: int

    def finish(
        self, window: CropWindow, candidates: Candidates, position: int, score: float
    ) -> Segment | None:
        """Return one mask as a segment, or None if the mask is too small."""
        mask, box = _upsample(window, candidates, position, min_region_px=self.min_region_px)
        area_px = int(np.count_nonzero(mask))
        if area_px < self.min_area_px:
            return None
        full = np.zeros(self.size_hw, dtype=bool, order="F")
        full[box.y1 : box.y2, box.x1 : box.x2] = mask
        return Segment(
            box=box,
            mask=encode_mask(full),
            area_px=area_px,
            predicted_iou=float(candidates.predicted_iou[position]),
            stability=float(candidates.stability[position]),
            score=float(score),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """A mask at full size.

    Attributes:
        position: Position among the masks of all windows.
        segment: The mask as a segment.
        tokens: (t,) decoder tokens.
    """

    position: int
    segment: Segment
    tokens: npt.NDArray[np.float16]


def finish_in_order(
    found: Sequence[tuple[CropWindow, Candidates]],
    order: npt.NDArray[np.intp],
    scores: Scores,
    full_size: FullSize,
) -> list[Finished]:
    """Return masks of all windows at full size, in the given order, without masks that are too small.

    Args:
        found: Windows with their masks.
        order: Positions among the masks of all windows, best first.
        scores: (n,) scores of all masks.
        full_size: Converts the masks to segments.
    """
    starts = np.cumsum([0, *(len(candidates) for _, candidates in found)])
    done: list[Finished] = []
    for position in order.tolist():
        part = int(np.searchsorted(starts, position, side="right")) - 1
        window, candidates = found[part]
        row = position - int(starts[part])
        segment = full_size.finish(window, candidates, row, scores[position])
        if segment is not None:
            done.append(Finished(position, segment, candidates.tokens[row]))
    return done


def without_twins(segments: Sequence[Segment], *, nms_iou: float, limit: int) -> list[Segment]:
    """Return the first ``limit`` segments that do not duplicate an earlier segment.

    Args:
        segments: Segments, best first.
        nms_iou: Of two masks with a larger IoU, the later is dropped.
        limit: Maximum number of segments.
    """
    kept: list[Segment] = []
    for segment in segments:
        if len(kept) == limit:
            break
        if not kept or rle_iou([segment.mask], [other.mask for other in kept]).max() <= nms_iou:
            kept.append(segment)
    return kept


def select_meta(
    found: Sequence[tuple[CropWindow, Candidates]],
    full_size: FullSize,
    *,
    box_nms_iou: float,
    stability_threshold: float,
    stability_offset: float,
) -> list[Segment]:
    """Return the segments that Meta's ``SAM2AutomaticMaskGenerator`` keeps, best predicted IoU first.

    Masks below the stability threshold at full size are dropped. Box NMS runs inside each window by predicted
    IoU, then over all windows, where smaller windows win (``_process_crop`` and ``_generate_masks``, sam2
    2b90b9f).
    """
    kept: list[Segment] = []
    window_areas: list[float] = []
    for window, candidates in found:
        segments = list(
            _stable(window, candidates, full_size, threshold=stability_threshold, offset=stability_offset)
        )
        for i in _nms(segments, [segment.predicted_iou for segment in segments], box_nms_iou):
            kept.append(segments[i])
            window_areas.append(window.box.area_px)
    if len(found) > 1:
        kept = [kept[i] for i in _nms(kept, [1 / area for area in window_areas], box_nms_iou)]
    unique = {segment.mask: segment for segment in sorted(kept, key=lambda segment: segment.score)}
    return sorted(unique.values(), key=lambda segment: -segment.score)


def _stable(
    window: CropWindow, candidates: Candidates, full_size: FullSize, *, threshold: float, offset: float
) -> Iterator[Segment]:
    width, height = window.box.size_wh
    for position, estimate in enumerate(candidates.predicted_iou):
        logits = candidates.frame_logits(position)
        stability = full_size_stability(logits, (height, width), offset=offset)
        if stability < threshold:
            continue
        segment = full_size.finish(window, candidates, position, estimate)
        if segment is not None and not _touches_inner_edge(segment.box, window, full_size.size_hw):
            yield replace(segment, stability=stability)


def _nms(segments: Sequence[Segment], scores: Sequence[float], iou_threshold: float) -> list[int]:
    if not segments:
        return []
    boxes = np.asarray([segment.box for segment in segments], dtype=np.float32)
    boxes[:, 2:] -= 1  # Meta's boxes include the last pixel
    kept = box_nms(boxes, np.asarray(scores, dtype=np.float32), iou_threshold=iou_threshold)
    return [int(i) for i in kept]


def _upsample(
    window: CropWindow, candidates: Candidates, position: int, *, min_region_px: int
) -> tuple[BoolMask, BoxXYXY]:
    """Return a mask at the resolution of the image, cropped to its tight box, and the box in the image."""
    width, height = window.box.size_wh
    mask, reach = upsample_mask(candidates.frame_logits(position), (height, width))
    mask = clean_small_regions(mask, min_region_px=min_region_px)
    tight = mask_box(mask)
    x, y = window.box.x1 + reach.x1, window.box.y1 + reach.y1
    box = BoxXYXY(x + tight.x1, y + tight.y1, x + tight.x2, y + tight.y2)
    return mask[tight.y1 : tight.y2, tight.x1 : tight.x2], box


_EDGE_PX = 20  # ``is_box_near_crop_edge`` of Meta's amg.py, atol


def _touches_inner_edge(box: BoxXYXY, window: CropWindow, size_hw: tuple[int, int]) -> bool:
    """Return whether a box is cut off: it ends at an edge of its window that is not an edge of the image."""
    last = BoxXYXY(box.x1, box.y1, box.x2 - 1, box.y2 - 1)  # Meta's boxes include the last pixel
    picture = (0, 0, size_hw[1], size_hw[0])
    return any(
        abs(mine - edge) <= _EDGE_PX and not abs(mine - outer) <= _EDGE_PX
        for mine, edge, outer in zip(last, window.box, picture, strict=True)
    )
