"""SAM 2 behind two calls: encode pictures, decode prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from segdex_core.geometry import MaskBoxXYXY
from segdex_core.records import (
    RGBImage,
)

FRAME_PX = 1024
"""Side of the square that SAM 2 was trained on: pictures are squashed to it, each axis by its own factor."""


FOREGROUND, BACKGROUND, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, PADDING = 1, 0, 2, 3, -1
"""Point labels of SAM's prompt encoder (segment-anything, ``prompt_encoder.py``)."""


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """A batch of n prompts for one picture.

    Attributes:
        points_xy: (n, p, 2) float32, pixels of the picture that was encoded, x first. A box is two points.
        labels: (n, p) int64: 1 foreground, 0 background, 2 and 3 the corners of a box, -1 padding.
        mask_logits: (n, s, s) float32 logits of an earlier mask (about -32 to 32), or None; s is the
            ``mask_px`` of the features that they are decoded of.
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
    """What a decoder made of n prompts.

    Attributes:
        logits: (n, m, s, s) float32 mask logits over the whole picture, clamped to -32..32; above 0 is the
            thing. m is 3 with ``multimask``, else 1; s is ``mask_px``. Of narrowed features, only their part.
        predicted_iou: (n, m) float32, the model's estimate of each mask's IoU.
        tokens: (n, m, t) float32, what the decoder knows about each mask; in SAM 2 its mask token and the
            IoU token, 512 numbers.
    """

    logits: npt.NDArray[np.float32]
    predicted_iou: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.float32]

    @classmethod
    def join(cls, parts: Sequence["DecodedMasks"]) -> "DecodedMasks":
        """Return the masks of several batches as one."""
        return cls(
            logits=np.concatenate([part.logits for part in parts]),
            predicted_iou=np.concatenate([part.predicted_iou for part in parts]),
            tokens=np.concatenate([part.tokens for part in parts]),
        )


class ImageFeatures(Protocol):
    """A picture as a segmenter encoded it; only the segmenter that made it can read it."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels of the picture that was encoded."""
        ...

    @property
    def mask_px(self) -> int:
        """Side of the square masks that are decoded of it: a quarter of its frame."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds."""
        ...


class PromptableSegmenter(Protocol):
    """SAM 2 behind two calls. Several threads may share one, each with pictures of its own."""

    @property
    def name(self) -> str:
        """Short name of model and source, for people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the masks can change: model, weights, adapter version and precision."""
        ...

    @property
    def decoder_id(self) -> str:
        """Says whose tokens these are: equal for the same weights of the decoder, wherever they are from."""
        ...

    def prompts_per_batch(self, features: ImageFeatures) -> int:
        """Return how many prompts to decode in one call on this device; more of a narrow part."""
        ...

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        """Return the features of each picture; they may have different sizes.

        Args:
            images: The pictures.
            frame_px: Side of the square that each is squashed to; a smaller one costs less and sees less.
                A multiple of 32.

        Raises:
            ValueError: If it is not.
        """
        ...

    def dump(self, features: ImageFeatures) -> bytes:
        """Return the features of a whole picture for a file.

        Raises:
            ValueError: If they are another's, or of a part.
        """
        ...

    def restore(self, data: bytes) -> ImageFeatures:
        """Return what ``dump`` of a segmenter with the same fingerprint made bytes of.

        Raises:
            ValueError: If they are something else.
        """
        ...

    def narrow(self, features: ImageFeatures, box: MaskBoxXYXY) -> ImageFeatures:
        """Return the features of a part of the picture, of which masks are decoded faster.

        Points and ``size_hw`` stay those of the whole picture. A mask that lies well inside the part comes
        out about as it does of the whole; one that reaches its edge is cut off there.

        Args:
            features: Of the whole picture.
            box: In pixels of the masks, 0 to ``mask_px``; edges are multiples of 4.

        Raises:
            ValueError: If the box has other edges or leaves the frame, or the features are another's.
        """
        ...

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        """Return the masks for a batch of prompts.

        Raises:
            ValueError: If ``features`` come from another segmenter, or a prompt has no point.
        """
        ...
