"""Re-decode the chosen masks from their boxes: SAM outlines an object better from a box than from a point."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from segdex_core.ports.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, Prompts
from segdex_core.ports.segmenter import ImageFeatures, NarrowsFeatures, Segmenter, prompts_per_batch
from segdex_ingest.masks.decode import Candidates, Edges, reaches_cut, stability_scores


def redraw(
    candidates: Candidates,
    chosen: npt.NDArray[np.intp],
    *,
    features: ImageFeatures,
    segmenter: Segmenter,
    cuts: Edges,
    stability_offset: float,
) -> Candidates:
    """Return the masks of a window, with the chosen masks re-decoded from their tight boxes.

    Of the three masks decoded from a box, the mask with the highest predicted IoU is used. The old mask stays
    if the new mask is empty or reaches an edge that cuts the image.

    Args:
        candidates: Masks of a window.
        chosen: Positions of the masks to re-decode.
        features: Features of the window.
        segmenter: Segmenter that made the features.
        cuts: Edges of the window that cut the image.
        stability_offset: See ``stability_scores``.

    Raises:
        ValueError: If a mask was decoded in a part of the window and the segmenter cannot narrow features.
    """
    logits, side = list(candidates.logits), candidates.mask_px
    predicted_iou, stability = candidates.predicted_iou.copy(), candidates.stability.copy()
    tokens = candidates.tokens.copy()
    height, width = features.size_hw
    to_pixels = np.array([width / side, height / side], np.float32)
    by_part: dict[tuple[int, int, int, int], list[int]] = {}
    for position in chosen.tolist():
        by_part.setdefault(tuple(candidates.parts[position]), []).append(position)
    for edges, positions in by_part.items():
        part = candidates.parts[positions[0]]
        here = features
        if edges != (0, 0, side, side):
            if not isinstance(segmenter, NarrowsFeatures):
                raise ValueError(f"{segmenter.name} cannot have decoded the part {part}: it has no narrow")
            here = segmenter.narrow(features, part)
        part_cuts = cuts.of_part(part, side)
        corner = np.array([part.x1, part.y1], np.float32)
        boxes = _tight_boxes([logits[position] for position in positions]) + corner
        batch = prompts_per_batch(segmenter, here)
        for start in range(0, len(positions), batch):
            some = slice(start, start + batch)
            count = len(positions[some])
            corners = np.tile(np.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]), (count, 1))
            decoded = segmenter.decode(here, Prompts((boxes[some] * to_pixels).astype(np.float32), corners))
            best = decoded.predicted_iou.argmax(axis=1)
            drawn = decoded.logits[np.arange(count), best]
            masks = drawn > 0
            usable = masks.any(axis=(1, 2)) & ~reaches_cut(masks, part_cuts)
            steady = stability_scores(drawn, offset=stability_offset)
            for row in np.flatnonzero(usable).tolist():
                position = positions[some][row]
                logits[position] = drawn[row].astype(np.float16)
                predicted_iou[position] = decoded.predicted_iou[row, best[row]]
                stability[position] = steady[row]
                tokens[position] = decoded.tokens[row, best[row]].astype(np.float16)
    return replace(candidates, logits=logits, predicted_iou=predicted_iou, stability=stability, tokens=tokens)


def _tight_boxes(logits: Sequence[npt.NDArray[np.float16]]) -> npt.NDArray[np.float32]:
    """Return (n, 2, 2) corners of the tight boxes of masks: x, y of the first pixel and past the last."""
    boxes = np.empty((len(logits), 2, 2), np.float32)
    for box, values in zip(boxes, logits, strict=True):
        positive = values > 0
        rows, columns = (np.flatnonzero(positive.any(axis=axis)) for axis in (1, 0))
        box[:] = (columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)
    return boxes
