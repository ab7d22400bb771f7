"""Inputs and outputs of the mask decoder of a segmenter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FOREGROUND, BACKGROUND, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, PADDING = 1, 0, 2, 3, -1
"""Point labels of SAM's prompt encoder (segment-anything, ``prompt_encoder.py``)."""


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """A batch of n prompts for one image.

    Attributes:
        points_xy: (n, p, 2) float32 points in pixels of the encoded image, x first. A box is two points.
        labels: (n, p) int64: 1 foreground, 0 background, 2 and 3 the corners of a box, -1 padding.
        mask_logits: (n, s, s) float32 logits of earlier masks (about -32 to 32), or None; s is ``mask_px`` of
            the image features.
    """

    points_xy: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    mask_logits: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n, p = self.labels.shape
        if self.points_xy.shape != (n, p, 2):
            raise ValueError(f"points_xy must have shape {(n, p, 2)}, but got {self.points_xy.shape}")
        if not np.isin(self.labels, (1, 0, 2, 3, -1)).all():
            raise ValueError("labels must be 1 foreground, 0 background, 2 and 3 box corners or -1 padding")
        if self.mask_logits is not None:
            side = self.mask_logits.shape[-1]
            if self.mask_logits.shape != (n, side, side):
                raise ValueError(f"mask_logits must have shape ({n}, s, s), but got {self.mask_logits.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> "Prompts":
        masks = None if self.mask_logits is None else self.mask_logits[part]
        return Prompts(self.points_xy[part], self.labels[part], masks)


@dataclass(frozen=True, slots=True, eq=False)
class DecodedMasks:
    """Decoded masks of n prompts.

    Attributes:
        logits: (n, m, s, s) float32 mask logits of the whole image, clamped to -32..32; values above 0 are
            the object. m is 3 with ``multimask`` and 1 without; s is ``mask_px``. Masks of narrowed features
            cover only their part of the image.
        predicted_iou: (n, m) float32, the model's estimate of each mask's IoU.
        tokens: (n, m, t) float32 decoder tokens of each mask; in SAM 2, the mask token and the IoU token, 512
            numbers.
    """

    logits: npt.NDArray[np.float32]
    predicted_iou: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.float32]

    @classmethod
    def join(cls, parts: Sequence["DecodedMasks"]) -> "DecodedMasks":
        """Return the masks of several batches as one batch."""
        return cls(
            logits=np.concatenate([part.logits for part in parts]),
            predicted_iou=np.concatenate([part.predicted_iou for part in parts]),
            tokens=np.concatenate([part.tokens for part in parts]),
        )
