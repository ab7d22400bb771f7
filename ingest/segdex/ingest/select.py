"""Which masks to keep, decided on SAM 2's 256x256 masks: pure functions on numpy arrays.

Thresholds and ranks are computed before anything is upsampled: at 256x256 they cost a fortieth of what they
cost at 1200x1800. ``ranked`` decides by them alone; ``meta`` has to agree with Meta's generator mask by mask,
and decides at full size what is near its threshold (docs/mask-generation.md has the measurements).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PackedMasks = npt.NDArray[np.uint64]
"""(n, 1024) uint64: n masks of 256x256 bits, for fast intersections."""

Scores = npt.NDArray[np.float32]
"""(n,) float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """n masks of one window of one picture, before selection.

    Attributes:
        logits: (n, 256, 256) float16; half precision moves a boundary by less than 0.001 of a logit.
        predicted_iou: (n,) float32, the model's estimate.
        stability: (n,) float32, see ``stability_scores``.
        packed: The same masks, thresholded at 0 and packed to bits.
    """

    logits: npt.NDArray[np.float16]
    predicted_iou: Scores
    stability: Scores
    packed: PackedMasks

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Candidates":
        return Candidates(
            self.logits[rows], self.predicted_iou[rows], self.stability[rows], self.packed[rows]
        )


def stability_scores(logits: npt.NDArray[np.float32], *, offset: float) -> Scores:
    """Return the IoU of each (n, h, w) mask cut at ``+offset`` and at ``-offset`` logits.

    It is 0 where both are empty. The masks are nested, so the IoU is a ratio of areas
    (``calculate_stability_score`` of Meta's ``amg.py``).
    """
    inner = np.count_nonzero(logits > offset, axis=(1, 2))
    outer = np.count_nonzero(logits > -offset, axis=(1, 2))
    scores: Scores = (inner / np.maximum(outer, 1)).astype(np.float32)
    return scores


def pack_masks(masks: npt.NDArray[np.bool_]) -> PackedMasks:
    """Return (n, h*w/64) words of the bits of (n, h, w) masks; h*w must be a multiple of 64."""
    count, height, width = masks.shape
    bits = np.packbits(masks.reshape(count, height * width), axis=1)
    return bits.view(np.uint64)


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
        shared = np.bitwise_count(packed[order] & packed[best]).sum(axis=1, dtype=np.int64)
        iou = shared / (areas[order] + areas[best] - shared)
        order = order[iou <= iou_threshold]
    return np.asarray(kept, dtype=np.intp)


def agreement_counts(packed: PackedMasks, *, iou_threshold: float) -> npt.NDArray[np.int64]:
    """Return for each mask how many of the n masks, itself included, have about the same shape.

    A thing that is really there is found from most points on it, a chance outline from one. The IoU is that
    of masks averaged to 128x128, which one matrix product gives for all pairs.

    Args:
        packed: n masks of 256x256 bits.
        iou_threshold: Two masks agree above this IoU, 0 to 1.
    """
    bits = np.unpackbits(packed.view(np.uint8), axis=1).reshape(-1, 128, 2, 128, 2)
    small = bits.mean(axis=(2, 4), dtype=np.float32).reshape(len(packed), 128 * 128)
    areas = np.einsum("ij,ij->i", small, small)
    counts = np.empty(len(packed), dtype=np.int64)
    for start in range(0, len(packed), _AGREEMENT_ROWS):
        part = slice(start, start + _AGREEMENT_ROWS)
        shared = small[part] @ small.T
        union = areas[part, None] + areas[None, :] - shared
        counts[part] = np.count_nonzero(shared > iou_threshold * union, axis=1)
    return counts


_AGREEMENT_ROWS = 512  # rows of the pair matrix at a time: 6 MiB for the 3,072 masks of a 32x32 grid
