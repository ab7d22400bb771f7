"""Place the masks of all windows of an image on one canvas, where they can be compared.

Windows see the image at different scales, so their mask frames do not match. The canvas is the image scaled
to at most 512 pixels on its longer side: fine enough for objects of ten pixels, and cheap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdex_core.masks import BoolMask
from segdex_ingest.masks.decode import Candidates, Scores
from segdex_ingest.masks.grid import CropWindow

CANVAS_PX = 512
"""Longer side of the canvas."""

_BLOCK_PX = 4  # side of the blocks of the coarse masks, in canvas pixels
_EXACT_BELOW_PX = 1200  # smaller masks are compared pixel by pixel, larger masks block by block
_ALIKE_IOU = 0.5  # pairs with a lower IoU are ignored
ROWS = 512  # rows of the pair matrix computed at a time: 6 MiB for 3,000 masks


@dataclass(frozen=True, slots=True, eq=False)
class CanvasMasks:
    """n masks on one canvas.

    Attributes:
        size_hw: Height and width of the canvas in pixels.
        boxes_xyxy: (n, 4) int64, boxes of the masks in canvas pixels.
        masks: n arrays (h, w) bool, each inside its box.
        areas_px: (n,) float32, areas in canvas pixels.
        blocks: (n, b) float32, share of each block of 4x4 canvas pixels that a mask covers.
    """

    size_hw: tuple[int, int]
    boxes_xyxy: npt.NDArray[np.int64]
    masks: Sequence[BoolMask]
    areas_px: npt.NDArray[np.float32]
    blocks: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.masks)


@dataclass(frozen=True, slots=True, eq=False)
class AlikePairs:
    """Pairs of masks with an IoU above 0.5. Each pair is listed twice, sorted by its first mask.

    Attributes:
        starts: (n + 1,) int64: the pairs of mask i are ``starts[i]`` to ``starts[i + 1]``.
        others: (p,) int64, the second mask of each pair.
        iou: (p,) float32, IoU of each pair.
    """

    starts: npt.NDArray[np.int64]
    others: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float32]

    def count_above(self, iou: float) -> npt.NDArray[np.int64]:
        """Return (n,) for each mask the number of masks, itself included, with an IoU above ``iou``."""
        ends = np.concatenate([[0], np.cumsum(self.iou > iou)])
        counts: npt.NDArray[np.int64] = 1 + ends[self.starts[1:]] - ends[self.starts[:-1]]
        return counts


def lay_out(found: Sequence[tuple[CropWindow, Candidates]], size_hw: tuple[int, int]) -> CanvasMasks:
    """Return the masks of all windows on the canvas of an image, in the order of ``found``.

    Args:
        found: Windows with their masks.
        size_hw: Height and width of the image in pixels.
    """
    height, width = size_hw
    scale = min(CANVAS_PX / max(height, width), 1.0)
    canvas_hw = (max(round(height * scale), 1), max(round(width * scale), 1))
    total = sum(len(candidates) for _, candidates in found)
    rows, columns = (-(-side // _BLOCK_PX) for side in canvas_hw)
    boxes = np.zeros((total, 4), np.int64)
    blocks = np.zeros((total, rows * columns), np.float32)
    masks: list[BoolMask] = []
    for window, candidates in found:
        window_w, window_h = window.box.size_wh
        across = _Axis(window.box.x1, window_w, candidates.mask_px, width, canvas_hw[1])
        down = _Axis(window.box.y1, window_h, candidates.mask_px, height, canvas_hw[0])
        for logits, part in zip(candidates.logits, candidates.parts, strict=True):
            positive = logits > 0
            in_rows, in_columns = (np.flatnonzero(positive.any(axis=axis)) for axis in (1, 0))
            x1, x2, from_x = across.reach(part.x1 + int(in_columns[0]), part.x1 + int(in_columns[-1]) + 1)
            y1, y2, from_y = down.reach(part.y1 + int(in_rows[0]), part.y1 + int(in_rows[-1]) + 1)
            mask = positive[(from_y - part.y1)[:, None], from_x - part.x1]
            position = len(masks)
            boxes[position] = (x1, y1, x2, y2)
            blocks[position] = _in_blocks(mask, x1, y1, rows, columns)
            masks.append(mask)
    areas = np.array([np.count_nonzero(mask) for mask in masks], np.float32)
    return CanvasMasks(canvas_hw, boxes, masks, areas, blocks)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a window, in the image and on the canvas."""

    start: int
    length: int
    mask_px: int
    picture: int
    canvas: int

    def reach(self, first: int, last: int) -> tuple[int, int, npt.NDArray[np.int64]]:
        """Return the canvas range of mask pixels ``first`` to ``last``, and the mask pixel under each."""
        per_pixel = self.length / self.mask_px * self.canvas / self.picture
        offset = self.start * self.canvas / self.picture
        low = min(max(round(offset + first * per_pixel), 0), self.canvas - 1)
        high = min(max(round(offset + last * per_pixel), low + 1), self.canvas)
        source = ((np.arange(low, high) + 0.5 - offset) / per_pixel).astype(np.int64)
        return low, high, source.clip(first, last - 1)


def _in_blocks(mask: BoolMask, x: int, y: int, rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Return the (rows * columns,) share of each block that a mask at (x, y) covers."""
    top, left = y // _BLOCK_PX, x // _BLOCK_PX
    bottom, right = -(-(y + mask.shape[0]) // _BLOCK_PX), -(-(x + mask.shape[1]) // _BLOCK_PX)
    padded = np.zeros(((bottom - top) * _BLOCK_PX, (right - left) * _BLOCK_PX), np.uint8)
    padded[y - top * _BLOCK_PX :, x - left * _BLOCK_PX :][: mask.shape[0], : mask.shape[1]] = mask
    sums = padded.reshape(bottom - top, _BLOCK_PX, right - left, _BLOCK_PX).sum(axis=(1, 3), dtype=np.uint16)
    covered = np.zeros((rows, columns), np.float32)
    covered[top:bottom, left:right] = sums * np.float32(1 / _BLOCK_PX**2)
    return covered.ravel()


def alike_pairs(canvas: CanvasMasks, *, rows_at_once: int = ROWS) -> AlikePairs:
    """Return all pairs of masks with an IoU above 0.5.

    Intersections come from one matrix product of the blocks. If either mask is small, the intersection is
    counted in pixels.
    """
    areas, count = canvas.areas_px, len(canvas)
    if count == 0:
        return AlikePairs(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    # a half-covered block overlaps itself by less than its area, so the union also takes areas from blocks
    own = np.einsum("ij,ij->i", canvas.blocks, canvas.blocks) * np.float32(_BLOCK_PX**2)
    firsts, seconds, ious = [], [], []
    for start in range(0, count, rows_at_once):
        rows = slice(start, min(start + rows_at_once, count))
        shared = canvas.blocks[rows] @ canvas.blocks.T * np.float32(_BLOCK_PX**2)
        union = own[rows, None] + own[None] - shared
        # blocks blur the edges of small masks, so likely pairs are compared pixel by pixel
        small = np.minimum(areas[rows, None], areas[None]) < _EXACT_BELOW_PX
        likely = shared > np.where(small, _ALIKE_IOU / 2, _ALIKE_IOU) * union
        likely &= np.minimum(areas[rows, None], areas[None]) > _ALIKE_IOU * np.maximum(
            areas[rows, None], areas[None]
        )
        i, j = np.nonzero(likely)
        later = j > i + start
        i, j = i[later], j[later]
        iou = (shared[i, j] / union[i, j]).astype(np.float32)
        for position in np.flatnonzero(small[i, j]):
            iou[position] = _exact_iou(canvas, int(i[position]) + start, int(j[position]))
        alike = iou > _ALIKE_IOU
        firsts.append(i[alike] + start)
        seconds.append(j[alike])
        ious.append(iou[alike])
    first, second = np.concatenate([*firsts, *seconds]), np.concatenate([*seconds, *firsts])
    both = np.concatenate([*ious, *ious])
    order = np.argsort(first, kind="stable")
    starts = np.searchsorted(first[order], np.arange(count + 1))
    return AlikePairs(starts.astype(np.int64), second[order].astype(np.int64), both[order])


def _exact_iou(canvas: CanvasMasks, i: int, j: int) -> float:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = canvas.boxes_xyxy[i].tolist(), canvas.boxes_xyxy[j].tolist()
    x1, y1, x2, y2 = max(ax1, bx1), max(ay1, by1), min(ax2, bx2), min(ay2, by2)
    if x1 >= x2 or y1 >= y2:
        return 0.0
    a = canvas.masks[i][y1 - ay1 : y2 - ay1, x1 - ax1 : x2 - ax1]
    b = canvas.masks[j][y1 - by1 : y2 - by1, x1 - bx1 : x2 - bx1]
    shared = int(np.count_nonzero(a & b))
    return shared / float(canvas.areas_px[i] + canvas.areas_px[j] - shared)


def suppress_alike(pairs: AlikePairs, scores: Scores, *, iou: float, limit: int) -> npt.NDArray[np.intp]:
    """Return the positions of the masks that greedy suppression keeps, best score first.

    A mask is dropped if its IoU with a kept mask of higher score is above ``iou``. Of masks with equal
    scores, the lower position wins.

    Args:
        pairs: Pairs of the n masks.
        scores: (n,) float32, higher is better.
        iou: IoU threshold, 0.5 to 1.
        limit: Maximum number of masks to keep.
    """
    dropped = np.zeros(len(scores), dtype=bool)
    kept: list[int] = []
    for best in np.argsort(-scores, kind="stable").tolist():
        if len(kept) == limit:
            break
        if not dropped[best]:
            kept.append(best)
            near = slice(pairs.starts[best], pairs.starts[best + 1])
            dropped[pairs.others[near][pairs.iou[near] > iou]] = True
    return np.asarray(kept, dtype=np.intp)
