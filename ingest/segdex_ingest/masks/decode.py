"""Decode points into candidate masks of one window, and apply the thresholds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdex_core.geometry import MaskBoxXYXY
from segdex_core.ports.prompts import FOREGROUND, DecodedMasks, Prompts
from segdex_core.ports.segmenter import ImageFeatures, NarrowsFeatures, Segmenter, prompts_per_batch

Scores = npt.NDArray[np.float32]
"""(n,) float32."""

_PART_STEP_PX = 32  # parts start at multiples of this, so that nearby points share a part and fill batches
_OUTSIDE_LOGIT = -32.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """n masks of one window of one image, before selection.

    Attributes:
        mask_px: Side s of the square frame of the masks, which covers the whole window.
        logits: n arrays (h, w) float16, logits of the decoded parts; half precision moves a boundary by less
            than 0.001 of a logit.
        parts: n boxes in the frame, where the logits lie. The rest of the frame is background.
        predicted_iou: (n,) float32, the model's estimate.
        stability: (n,) float32, see ``stability_scores``.
        areas_px: (n,) int64, area of each mask in pixels of the frame.
        level: (n,) int64, index of each mask among the masks of its prompt: 0, 1 or 2.
        tokens: (n, t) float16, see ``DecodedMasks``.
    """

    mask_px: int
    logits: Sequence[npt.NDArray[np.float16]]
    parts: Sequence[MaskBoxXYXY]
    predicted_iou: Scores
    stability: Scores
    areas_px: npt.NDArray[np.int64]
    level: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.parts)

    def frame_logits(self, position: int) -> npt.NDArray[np.float32]:
        """Return the (s, s) logits of one mask."""
        part = self.parts[position]
        frame = np.full((self.mask_px, self.mask_px), _OUTSIDE_LOGIT, np.float32)
        frame[part.y1 : part.y2, part.x1 : part.x2] = self.logits[position]
        return frame


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds that a mask must pass to become a candidate.

    Attributes:
        predicted_iou: Masks must have a higher predicted IoU (exclusive, as in Meta's code), 0 to 1.
        stability: Minimum stability, 0 to 1.
        stability_offset: Offset of the stability cut-offs from 0, in logits.
    """

    predicted_iou: float
    stability: float
    stability_offset: float


def join_candidates(parts: Sequence[Candidates]) -> Candidates:
    """Return the masks of all parts, in order; at least one part is needed, which may be empty."""
    return Candidates(
        mask_px=parts[0].mask_px,
        logits=[logits for part in parts for logits in part.logits],
        parts=[box for part in parts for box in part.parts],
        predicted_iou=np.concatenate([part.predicted_iou for part in parts]),
        stability=np.concatenate([part.stability for part in parts]),
        areas_px=np.concatenate([part.areas_px for part in parts]),
        level=np.concatenate([part.level for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class Edges:
    """The edges of a window or part that cut the image. Masks that reach these edges are cut off."""

    left: bool = False
    top: bool = False
    right: bool = False
    bottom: bool = False

    def of_part(self, part: MaskBoxXYXY, mask_px: int) -> "Edges":
        """Return the edges of a part of this window, whose masks have sides of ``mask_px`` pixels."""
        return Edges(
            left=part.x1 > 0 or self.left,
            top=part.y1 > 0 or self.top,
            right=part.x2 < mask_px or self.right,
            bottom=part.y2 < mask_px or self.bottom,
        )


def decode_points(
    segmenter: Segmenter,
    features: ImageFeatures,
    points_xy: npt.NDArray[np.float32],
    *,
    thresholds: Thresholds,
    cuts: Edges = Edges(),
    part: MaskBoxXYXY | None = None,
) -> Iterator[Candidates]:
    """Decode foreground points in batches, three masks per point, and yield the masks above the thresholds.

    Args:
        segmenter: Segmenter that made the features.
        features: Features of the window, or of a part of the window.
        points_xy: (n, 2) points in pixels of the window.
        thresholds: Thresholds of the masks.
        cuts: Masks that reach these edges of the window or part are dropped.
        part: Part that the features were narrowed to, in mask pixels; None for the whole window.
    """
    side = features.mask_px
    labels = np.full((len(points_xy), 1), FOREGROUND, dtype=np.int64)
    prompts = Prompts(points_xy=points_xy[:, None, :], labels=labels)
    batch = prompts_per_batch(segmenter, features)
    for start in range(0, len(prompts), batch):
        decoded = segmenter.decode(features, prompts[start : start + batch])
        yield _above(decoded, thresholds, part or MaskBoxXYXY.whole(side), cuts, mask_px=side)


def decode_in_rounds(
    segmenter: Segmenter,
    features: ImageFeatures,
    points_xy: npt.NDArray[np.float32],
    *,
    is_first: npt.NDArray[np.bool_],
    explained_above: float,
    thresholds: Thresholds,
    cuts: Edges = Edges(),
) -> Iterator[Candidates]:
    """Decode some points first, then the points that no good mask of the first round covers.

    Args:
        segmenter: Segmenter that made the features.
        features: Features of the window.
        points_xy: (n, 2) points in pixels of the window.
        is_first: (n,) bool, points of the first round.
        explained_above: A mask is good if its predicted IoU times stability is above this.
        thresholds: Thresholds of the masks.
        cuts: Masks that reach these edges of the window are dropped.
    """
    first = join_candidates(
        list(decode_points(segmenter, features, points_xy[is_first], thresholds=thresholds, cuts=cuts))
    )
    yield first
    rest = points_xy[~is_first]
    height, width = features.size_hw
    x, y = (rest * (first.mask_px / np.array([width, height]))).astype(np.int64).T
    explained = np.zeros(len(rest), dtype=bool)
    for position in np.flatnonzero(first.predicted_iou * first.stability > explained_above).tolist():
        explained |= first.logits[position][y, x] > 0
    if not explained.all():
        yield from decode_points(segmenter, features, rest[~explained], thresholds=thresholds, cuts=cuts)


def decode_near_points(
    segmenter: Segmenter,
    features: ImageFeatures,
    points_xy: npt.NDArray[np.float32],
    *,
    thresholds: Thresholds,
    part_px: int,
    cuts: Edges = Edges(),
) -> Iterator[Candidates]:
    """Decode each point in the part of the window around it: only small objects, for a fraction of the cost.

    A segmenter that cannot narrow features decodes all points over the whole window.

    Args:
        segmenter: Segmenter that made the features.
        features: Features of the window.
        points_xy: (n, 2) points in pixels of the window.
        thresholds: Thresholds of the masks.
        part_px: Side of a part in mask pixels, a multiple of 8; no larger than the window.
        cuts: Edges of the window that cut the image.
    """
    if not isinstance(segmenter, NarrowsFeatures):
        yield from decode_points(segmenter, features, points_xy, thresholds=thresholds, cuts=cuts)
        return
    height, width = features.size_hw
    last = features.mask_px - part_px
    in_frame = points_xy * (features.mask_px / np.array([width, height]))
    starts = np.round((in_frame - part_px / 2) / _PART_STEP_PX) * _PART_STEP_PX
    starts = starts.clip(0, last).astype(np.int64)
    for x, y in np.unique(starts, axis=0).tolist():
        part = MaskBoxXYXY(x, y, x + part_px, y + part_px)
        yield from decode_points(
            segmenter,
            segmenter.narrow(features, part),
            points_xy[(starts == (x, y)).all(axis=1)],
            thresholds=thresholds,
            part=part,
            cuts=cuts.of_part(part, features.mask_px),
        )


def stability_scores(logits: npt.NDArray[np.float32], *, offset: float) -> Scores:
    """Return (n,) IoU of each of (n, h, w) masks cut at ``+offset`` and at ``-offset`` logits.

    The score is 0 if both masks are empty. The masks are nested, so the IoU is a ratio of areas
    (``calculate_stability_score`` of Meta's ``amg.py``).
    """
    inner = np.count_nonzero(logits > offset, axis=(1, 2))
    outer = np.count_nonzero(logits > -offset, axis=(1, 2))
    scores: Scores = (inner / np.maximum(outer, 1)).astype(np.float32)
    return scores


def _above(
    decoded: DecodedMasks, thresholds: Thresholds, part: MaskBoxXYXY, cuts: Edges, *, mask_px: int
) -> Candidates:
    count, levels = decoded.predicted_iou.shape
    predicted_iou = decoded.predicted_iou.reshape(-1)
    rows = np.flatnonzero(predicted_iou > thresholds.predicted_iou)
    logits = decoded.logits.reshape(-1, *decoded.logits.shape[2:])[rows]
    masks = logits > 0
    stability = stability_scores(logits, offset=thresholds.stability_offset)
    # a mask without a logit above 0 is empty, regardless of its stability
    is_mask = masks.any(axis=(1, 2))
    wanted = np.flatnonzero((stability >= thresholds.stability) & is_mask & ~reaches_cut(masks, cuts))
    rows, logits = rows[wanted], logits[wanted].astype(np.float16)
    return Candidates(
        mask_px=mask_px,
        logits=list(logits),
        parts=[part] * len(rows),
        predicted_iou=predicted_iou[rows],
        stability=stability[wanted],
        areas_px=np.count_nonzero(masks[wanted], axis=(1, 2)),
        level=np.tile(np.arange(levels), count)[rows],
        tokens=decoded.tokens.reshape(count * levels, -1)[rows].astype(np.float16),
    )


def reaches_cut(masks: npt.NDArray[np.bool_], cuts: Edges) -> npt.NDArray[np.bool_]:
    """Return (n,) whether each of (n, h, w) masks reaches an edge that cuts the image."""
    cut = np.zeros(len(masks), dtype=bool)
    for is_cut, pixels in (
        (cuts.left, masks[:, :, 0]),
        (cuts.top, masks[:, 0, :]),
        (cuts.right, masks[:, :, -1]),
        (cuts.bottom, masks[:, -1, :]),
    ):
        if is_cut:
            cut |= pixels.any(axis=1)
    return cut
