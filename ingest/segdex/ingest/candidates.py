"""From points to candidate masks of one window: decode, threshold, and keep what selection needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdex.core.geometry import BoxXYXY
from segdex.core.protocols import (
    FOREGROUND,
    LOW_RES_PX,
    DecodedMasks,
    ImageFeatures,
    PromptableSegmenter,
    Prompts,
)
from segdex.ingest.select import PackedMasks, Scores, pack_masks, stability_scores

WHOLE = BoxXYXY(0, 0, LOW_RES_PX, LOW_RES_PX)

_PART_STEP_PX = 32  # parts start at multiples of this: whole cells, and whole bytes of packed masks
_OUTSIDE_LOGIT = -32.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """n masks of one window of one picture, before selection.

    Attributes:
        logits: n arrays (h, w) float16 of the part that was decoded; half precision moves a boundary by less
            than 0.001 of a logit.
        parts: n boxes in the 256x256 frame of the window: where the logits are. All else is background.
        predicted_iou: (n,) float32, the model's estimate.
        stability: (n,) float32, see ``stability_scores``.
        packed: The same masks in the whole frame, thresholded at 0 and packed to bits.
        level: (n,) int64, which of the masks of its prompt each is: 0, 1 or 2.
        tokens: (n, t) float16, see ``DecodedMasks``.
    """

    logits: Sequence[npt.NDArray[np.float16]]
    parts: Sequence[BoxXYXY]
    predicted_iou: Scores
    stability: Scores
    packed: PackedMasks
    level: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, rows: npt.NDArray[np.intp]) -> "Candidates":
        return Candidates(
            logits=[self.logits[i] for i in rows],
            parts=[self.parts[i] for i in rows],
            predicted_iou=self.predicted_iou[rows],
            stability=self.stability[rows],
            packed=self.packed[rows],
            level=self.level[rows],
            tokens=self.tokens[rows],
        )

    def frame_logits(self, position: int) -> npt.NDArray[np.float32]:
        """Return the (256, 256) logits of one mask."""
        part = self.parts[position]
        frame = np.full((LOW_RES_PX, LOW_RES_PX), _OUTSIDE_LOGIT, np.float32)
        frame[part.y1 : part.y2, part.x1 : part.x2] = self.logits[position]
        return frame


@dataclass(frozen=True, slots=True)
class Floors:
    """What a mask must reach to be looked at.

    Attributes:
        predicted_iou: Masks with this estimate or a lower one are dropped (Meta's rule is exclusive), 0 to 1.
        stability: Masks below this are dropped, 0 to 1.
        stability_offset: Logits by which the cut-offs of the stability differ from 0.
    """

    predicted_iou: float
    stability: float
    stability_offset: float


def join_candidates(parts: Sequence[Candidates]) -> Candidates:
    """Return the masks of all, in their order; there must be at least one part, which may be empty."""
    return Candidates(
        logits=[logits for part in parts for logits in part.logits],
        parts=[box for part in parts for box in part.parts],
        predicted_iou=np.concatenate([part.predicted_iou for part in parts]),
        stability=np.concatenate([part.stability for part in parts]),
        packed=np.concatenate([part.packed for part in parts]),
        level=np.concatenate([part.level for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
    )


def decode_points(
    segmenter: PromptableSegmenter,
    features: ImageFeatures,
    points_xy: npt.NDArray[np.float32],
    *,
    floors: Floors,
    part: BoxXYXY = WHOLE,
) -> Iterator[Candidates]:
    """Decode one foreground point after the other, three masks each, and yield what is above the floors.

    Args:
        segmenter: SAM 2 behind the port.
        features: What it made of the window, or of the part.
        points_xy: (n, 2) pixels of the window.
        floors: What to drop.
        part: Where the features were narrowed to. Masks that reach an edge of the part inside the window are
            dropped: they are cut off.
    """
    labels = np.full((len(points_xy), 1), FOREGROUND, dtype=np.int64)
    prompts = Prompts(points_xy=points_xy[:, None, :], labels=labels)
    batch = segmenter.prompts_per_batch(features)
    for start in range(0, len(prompts), batch):
        decoded = segmenter.decode(features, prompts[start : start + batch])
        yield _above(decoded, floors, part)


def decode_near_points(
    segmenter: PromptableSegmenter,
    features: ImageFeatures,
    points_xy: npt.NDArray[np.float32],
    *,
    floors: Floors,
    part_px: int,
) -> Iterator[Candidates]:
    """Decode every point in a part of the window around it: small things only, for a fraction of the cost.

    Args:
        segmenter: SAM 2 behind the port.
        features: What it made of the window.
        points_xy: (n, 2) pixels of the window.
        floors: What to drop.
        part_px: Side of a part in pixels of the 256x256 frame, a multiple of 32.
    """
    height, width = features.size_hw
    in_frame = points_xy * (LOW_RES_PX / np.array([width, height]))
    starts = np.round((in_frame - part_px / 2) / _PART_STEP_PX) * _PART_STEP_PX
    starts = starts.clip(0, LOW_RES_PX - part_px).astype(np.int64)
    for x, y in np.unique(starts, axis=0).tolist():
        part = BoxXYXY(x, y, x + part_px, y + part_px)
        near = points_xy[(starts == (x, y)).all(axis=1)]
        yield from decode_points(segmenter, segmenter.narrow(features, part), near, floors=floors, part=part)


def _above(decoded: DecodedMasks, floors: Floors, part: BoxXYXY) -> Candidates:
    count, levels = decoded.predicted_iou.shape
    predicted_iou = decoded.predicted_iou.reshape(-1)
    rows = np.flatnonzero(predicted_iou > floors.predicted_iou)
    logits = decoded.logits.reshape(-1, *decoded.logits.shape[2:])[rows]
    masks = logits > 0
    stability = stability_scores(logits, offset=floors.stability_offset)
    wanted = np.flatnonzero((stability >= floors.stability) & ~_cut_off(masks, part))
    rows, logits = rows[wanted], logits[wanted].astype(np.float16)
    return Candidates(
        logits=list(logits),
        parts=[part] * len(rows),
        predicted_iou=predicted_iou[rows],
        stability=stability[wanted],
        packed=pack_masks(masks[wanted], part=part),
        level=np.tile(np.arange(levels), count)[rows],
        tokens=decoded.tokens.reshape(count * levels, -1)[rows].astype(np.float16),
    )


def _cut_off(masks: npt.NDArray[np.bool_], part: BoxXYXY) -> npt.NDArray[np.bool_]:
    """Return which masks reach an edge of their part that is no edge of the frame."""
    edges = (
        (part.x1 > 0, masks[:, :, 0]),
        (part.y1 > 0, masks[:, 0, :]),
        (part.x2 < LOW_RES_PX, masks[:, :, -1]),
        (part.y2 < LOW_RES_PX, masks[:, -1, :]),
    )
    cut = np.zeros(len(masks), dtype=bool)
    for inner, pixels in edges:
        if inner:
            cut |= pixels.any(axis=1)
    return cut
