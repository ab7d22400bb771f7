"""Masks from prompts: points, a box, or an earlier mask."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from segdex_core.errors import QueryError
from segdex_core.full_size import upsample_mask
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, MaskRLE, encode_mask, mask_box
from segdex_core.ports.prompts import BACKGROUND, BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, FOREGROUND, Prompts
from segdex_core.ports.segmenter import ImageFeatures, Segmenter
from segdex_core.wire.limits import MAX_POINTS

MASK_LOGIT = 10.0
"""Largest absolute logit of a mask that has no logits of its own; see ``mask_prompt``."""


@dataclass(frozen=True, slots=True, eq=False)
class ThingPrompt:
    """A prompt for one object in an image.

    Attributes:
        points_xy: Points in pixels of the image, x first; a scribble is given as points along it.
        labels: Label of each point: 1 for the object, 0 for the background.
        box_xyxy: Box around the object in pixels; x2 and y2 are exclusive.
        mask_logits: (s, s) float32 logits of an earlier mask, from ``PromptedMask.logits`` or
            ``mask_prompt``; requires a point on the object or a box.
    """

    points_xy: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box_xyxy: tuple[float, float, float, float] | None = None
    mask_logits: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if len(self.points_xy) != len(self.labels):
            raise QueryError(
                f"each point needs a label, but there are {len(self.points_xy)} points and "
                f"{len(self.labels)} labels"
            )
        if len(self.points_xy) > MAX_POINTS:
            raise QueryError(
                f"at most {MAX_POINTS} points are read, but there are {len(self.points_xy)}; leave some out"
            )
        for label in self.labels:
            if label not in (FOREGROUND, BACKGROUND):
                reason = "; -1 is SAM's padding, background is 0" if label == -1 else ""
                raise QueryError(f"a label must be 1 (the object) or 0 (background), but is {label}{reason}")
        numbers = [*(number for point in self.points_xy for number in point), *(self.box_xyxy or ())]
        if not all(math.isfinite(number) for number in numbers):
            raise QueryError("points and boxes must be finite numbers of pixels")
        if self.box_xyxy is not None:
            x1, y1, x2, y2 = self.box_xyxy
            if not (x1 < x2 and y1 < y2):
                raise QueryError(
                    f"a box must be x1,y1,x2,y2 with x1 < x2 and y1 < y2, but is {self.box_xyxy}"
                )
        if FOREGROUND not in self.labels and self.box_xyxy is None:
            raise QueryError("say where the object is: at least one point on it, or a box")

    @property
    def is_ambiguous(self) -> bool:
        """Whether the prompt is a single point, which may mean a part or the whole object."""
        return len(self.points_xy) == 1 and self.box_xyxy is None and self.mask_logits is None

    def with_mask(self, mask_logits: npt.NDArray[np.float32]) -> "ThingPrompt":
        """Return the prompt with the logits of an earlier mask."""
        return replace(self, mask_logits=mask_logits)

    def shift(self, x: float, y: float) -> "ThingPrompt":
        """Return the prompt with points and box moved by x pixels to the right and y pixels down."""
        box = self.box_xyxy
        return replace(
            self,
            points_xy=tuple((px + x, py + y) for px, py in self.points_xy),
            box_xyxy=None if box is None else (box[0] + x, box[1] + y, box[2] + x, box[3] + y),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PromptedMask:
    """A mask decoded from a prompt.

    Attributes:
        mask: Mask at the size of the image; may be empty.
        box: Tight box of the mask.
        area_px: Number of pixels in the mask.
        predicted_iou: The model's estimate of the IoU of the mask.
        logits: (s, s) float32 logits, to pass back with a further point.
    """

    mask: MaskRLE
    box: BoxXYXY
    area_px: int
    predicted_iou: float
    logits: npt.NDArray[np.float32]


def segment_thing(
    features: ImageFeatures, prompt: ThingPrompt, *, segmenter: Segmenter, masks: int = 1
) -> list[PromptedMask]:
    """Return one mask of a prompt, or all three masks of SAM, best predicted IoU first.

    Args:
        features: Features of the image.
        prompt: Prompt in pixels of the image.
        segmenter: Segmenter that made the features.
        masks: Number of masks, 1 or 3. One mask is the best of three for a single point, and SAM's single
            mask for other prompts, as Meta advises for unambiguous prompts.

    Raises:
        QueryError: If a point or the box lies outside the image, or ``masks`` is not 1 or 3.
    """
    if masks not in (1, 3):
        raise QueryError(f"one or three masks can be asked for, but got {masks}")
    multimask = masks == 3 or prompt.is_ambiguous
    return prompted_masks(features, prompt, segmenter=segmenter, multimask=multimask)[:masks]


def prompted_masks(
    features: ImageFeatures, prompt: ThingPrompt, *, segmenter: Segmenter, multimask: bool
) -> list[PromptedMask]:
    """Return SAM's single mask, or its three masks with ``multimask``, best predicted IoU first.

    Raises:
        QueryError: If a point or the box lies outside the image.
    """
    decoded = segmenter.decode(features, to_prompts(prompt, features.size_hw), multimask=multimask)
    return [
        full_mask(decoded.logits[0, row], float(decoded.predicted_iou[0, row]), features.size_hw)
        for row in np.argsort(-decoded.predicted_iou[0], kind="stable").tolist()
    ]


def full_mask(
    logits: npt.NDArray[np.float32], predicted_iou: float, size_hw: tuple[int, int]
) -> PromptedMask:
    """Return a decoded mask at the size of the image."""
    part, reach = upsample_mask(logits, size_hw)
    full: BoolMask = np.zeros(size_hw, dtype=bool)
    full[reach.y1 : reach.y2, reach.x1 : reach.x2] = part
    return PromptedMask(
        mask=encode_mask(full),
        box=mask_box(full),
        area_px=int(np.count_nonzero(full)),
        predicted_iou=predicted_iou,
        logits=logits,
    )


def to_prompts(prompt: ThingPrompt, size_hw: tuple[int, int]) -> Prompts:
    """Return a prompt in the segmenter's format; the box comes first, as in ``SAM2ImagePredictor``.

    Raises:
        QueryError: If a point or the box lies outside the image.
    """
    _check_inside(prompt, size_hw)
    corners = [] if prompt.box_xyxy is None else [prompt.box_xyxy[:2], prompt.box_xyxy[2:]]
    labels = [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT][: len(corners)] + list(prompt.labels)
    return Prompts(
        points_xy=np.asarray([[*corners, *prompt.points_xy]], np.float32),
        labels=np.asarray([labels], np.int64),
        mask_logits=None if prompt.mask_logits is None else prompt.mask_logits[None].astype(np.float32),
    )


def mask_prompt(mask: BoolMask, mask_px: int) -> npt.NDArray[np.float32]:
    """Return a mask without logits, such as a mask from a file, as the (s, s) logits of a prompt.

    Args:
        mask: (H, W) bool, of the size of the image.
        mask_px: Side of the masks that the segmenter reads, ``ImageFeatures.mask_px``.
    """
    share = Image.fromarray(mask.astype(np.uint8) * 255).resize((mask_px, mask_px), Image.Resampling.BOX)
    logits: npt.NDArray[np.float32] = (np.asarray(share, np.float32) / 127.5 - 1) * MASK_LOGIT
    return logits


def _check_inside(prompt: ThingPrompt, size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    for x, y in prompt.points_xy:
        if not (0 <= x < width and 0 <= y < height):
            raise QueryError(f"the point {x:g},{y:g} is outside the picture, {width} x {height} pixels")
    if prompt.box_xyxy is not None:
        x1, y1, x2, y2 = prompt.box_xyxy
        if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
            shown = ",".join(f"{edge:g}" for edge in prompt.box_xyxy)
            raise QueryError(f"the box {shown} is outside the picture, {width} x {height} pixels")
