"""Which masks to keep, decided on SAM 2's 256x256 masks: pure functions on numpy arrays.

Thresholds and ranks are computed before anything is upsampled: at 256x256 they cost a fortieth of what they
cost at 1200x1800. ``ranked`` decides by them alone; ``meta`` has to agree with Meta's generator mask by mask,
and decides at full size what is near its threshold (docs/mask-generation.md has the measurements).
"""

import numpy as np
import numpy.typing as npt

from segdex.core.geometry import BoxXYXY
from segdex.core.protocols import LOW_RES_PX

PackedMasks = npt.NDArray[np.uint64]
"""(n, 1024) uint64: n masks of 256x256 bits, for fast intersections."""

Scores = npt.NDArray[np.float32]
"""(n,) float32."""


def stability_scores(logits: npt.NDArray[np.float32], *, offset: float) -> Scores:
    """Return the IoU of each (n, h, w) mask cut at ``+offset`` and at ``-offset`` logits.

    It is 0 where both are empty. The masks are nested, so the IoU is a ratio of areas
    (``calculate_stability_score`` of Meta's ``amg.py``).
    """
    inner = np.count_nonzero(logits > offset, axis=(1, 2))
    outer = np.count_nonzero(logits > -offset, axis=(1, 2))
    scores: Scores = (inner / np.maximum(outer, 1)).astype(np.float32)
    return scores


def pack_masks(masks: npt.NDArray[np.bool_], *, part: BoxXYXY | None = None) -> PackedMasks:
    """Return (n, h*w/64) words of the bits of (n, h, w) masks; h*w must be a multiple of 64.

    Args:
        masks: Whole masks, or parts of masks of 256x256.
        part: Where in the 256x256 frame the masks lie; its x edges are multiples of 8.
    """
    count, height, width = masks.shape
    if part is None:
        return np.packbits(masks.reshape(count, height * width), axis=1).view(np.uint64)
    frame = np.zeros((count, LOW_RES_PX, LOW_RES_PX // 8), np.uint8)
    frame[:, part.y1 : part.y2, part.x1 // 8 : part.x2 // 8] = np.packbits(masks, axis=2)
    return frame.reshape(count, LOW_RES_PX * LOW_RES_PX // 8).view(np.uint64)


def unpack_masks(packed: PackedMasks) -> npt.NDArray[np.bool_]:
    """Return the (n, 256, 256) masks."""
    bits = np.unpackbits(packed.view(np.uint8), axis=1)
    return bits.reshape(len(packed), LOW_RES_PX, LOW_RES_PX).view(np.bool_)


def packed_areas(packed: PackedMasks) -> npt.NDArray[np.int64]:
    """Return the number of set bits of each mask."""
    areas: npt.NDArray[np.int64] = np.bitwise_count(packed).sum(axis=1, dtype=np.int64)
    return areas


def mask_nms(
    packed: PackedMasks, scores: Scores, *, iou_threshold: float, limit: int | None = None
) -> npt.NDArray[np.intp]:
    """Return the indices that greedy suppression by mask IoU keeps, best score first.

    A mask is dropped when its IoU with a kept mask of higher score is above ``iou_threshold``; empty masks
    are dropped. Unlike box NMS this does not drop a thing because another one has the same box.

    Args:
        packed: n masks.
        scores: (n,) float32, higher is better; ties go to the lower index.
        iou_threshold: 0 to 1.
        limit: Stop after this many; the result is the same as cutting the full result.
    """
    areas = packed_areas(packed)
    order = np.argsort(-scores, kind="stable")
    order = order[areas[order] > 0]
    kept: list[int] = []
    while order.size and (limit is None or len(kept) < limit):
        best, order = int(order[0]), order[1:]
        kept.append(best)
        # The IoU is at most the ratio of the areas: only masks of about the same size have to be compared.
        smaller = np.minimum(areas[order], areas[best])
        alike = np.flatnonzero(smaller > iou_threshold * np.maximum(areas[order], areas[best]))
        shared = np.bitwise_count(packed[order[alike]] & packed[best]).sum(axis=1, dtype=np.int64)
        iou = shared / (areas[order[alike]] + areas[best] - shared)
        order = np.delete(order, alike[iou > iou_threshold])
    return np.asarray(kept, dtype=np.intp)


def agreement_counts(packed: PackedMasks, *, iou_threshold: float) -> npt.NDArray[np.int64]:
    """Return for each mask how many of the n masks, itself included, have about the same shape.

    A thing that is really there is found from most points on it, a chance outline from one. The IoU is that
    of masks averaged to 128x128, which one matrix product gives for all pairs.

    Args:
        packed: n masks of 256x256 bits.
        iou_threshold: Two masks agree above this IoU, 0 to 1.
    """
    bits = unpack_masks(packed).view(np.uint8)
    rows = bits[:, ::2] + bits[:, 1::2]
    blocks = rows[:, :, ::2] + rows[:, :, 1::2]
    small = (blocks.reshape(len(packed), 128 * 128) * np.float32(0.25)).astype(np.float32)
    areas = np.einsum("ij,ij->i", small, small)
    counts = np.empty(len(packed), dtype=np.int64)
    for start in range(0, len(packed), _AGREEMENT_ROWS):
        part = slice(start, start + _AGREEMENT_ROWS)
        shared = small[part] @ small.T
        union = areas[part, None] + areas[None, :] - shared
        counts[part] = np.count_nonzero(shared > iou_threshold * union, axis=1)
    return counts


_AGREEMENT_ROWS = 512  # rows of the pair matrix at a time: 6 MiB for the 3,072 masks of a 32x32 grid
