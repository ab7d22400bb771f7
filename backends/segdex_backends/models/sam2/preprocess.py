"""Preprocessing for the network: image tensors, and prompts relative to the image."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from segdex_core.ports.prompts import PADDING, Prompts
from segdex_core.ports.segmenter import FRAME_PX
from segdex_core.records import RGBImage

MASKS_PER_PROMPT = 3
"""Number of masks with ``multimask``: whole, part and subpart (Kirillov et al. 2023)."""

LOGIT_LIMIT = 32.0
"""Low-resolution logits are clamped to plus or minus this value (``SAM2ImagePredictor._predict``)."""

# ImageNet statistics, SAM2Transforms in sam2/utils/transforms.py (commit 2b90b9f5).
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def preprocess(image: RGBImage, *, frame_px: int = FRAME_PX, device: str = "cpu") -> torch.Tensor:
    """Return the (1, 3, s, s) float32 tensor of an image, bit-identical to Meta's ``SAM2Transforms``.

    The resize is bilinear and antialiased, on float values in 0..1. Resizing the bytes, as transformers'
    processor does, changes the values by up to 0.0175.
    """
    channels = []
    for channel in range(3):  # one at a time: 100 megapixels of float RGB take 1.2 GB
        values = torch.from_numpy(np.ascontiguousarray(image[:, :, channel]))[None, None].to(device)
        channels.append(
            torch.nn.functional.interpolate(
                values.to(torch.float32).div_(255),
                size=(frame_px, frame_px),
                mode="bilinear",
                align_corners=False,
                antialias=True,
            )
        )
    squashed = torch.cat(channels, dim=1)
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (_MEAN, _STD))
    return squashed.sub_(mean).div_(std)


@dataclass(frozen=True, slots=True, eq=False)
class FramedPrompts:
    """Prompts with p points each, in units of the image's sides.

    Attributes:
        rows: (k,) positions of the prompts in their batch.
        points_xy: (k, p, 2) float32 points, 0 to 1.
        labels: (k, p) int64 labels, without padding.
        mask_logits: (k, s, s) float32 logits of earlier masks, or None.
    """

    rows: npt.NDArray[np.intp]
    points_xy: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    mask_logits: npt.NDArray[np.float32] | None


def frame_prompts(prompts: Prompts, size_hw: tuple[int, int]) -> Iterator[FramedPrompts]:
    """Yield the prompts in groups with an equal number of points, without padding.

    SAM reads a padding point as one more token, so padding a prompt would change its masks. Prompts of
    different lengths are therefore decoded separately.

    Raises:
        ValueError: If a prompt has no point.
    """
    real = prompts.labels != PADDING
    counts = real.sum(axis=1)
    if (counts == 0).any():
        raise ValueError("each prompt needs at least one point or box that is not padding")
    height, width = size_hw
    scaled = prompts.points_xy / np.array([width, height], np.float32)
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        chosen = real[rows]
        yield FramedPrompts(
            rows=rows,
            points_xy=scaled[rows][chosen].reshape(len(rows), count, 2).astype(np.float32),
            labels=prompts.labels[rows][chosen].reshape(len(rows), count),
            mask_logits=None if prompts.mask_logits is None else prompts.mask_logits[rows],
        )
