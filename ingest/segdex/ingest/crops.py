"""What the embedder sees of a segment: pure functions on arrays."""

from collections.abc import Mapping, Sequence

from segdex.core.geometry import BoxXYXY
from segdex.core.records import RGBImage

CROP_MARGIN = 1.1
"""Side of the ``crop`` view over the side of the box: 5 % of margin on each side."""

CONTEXT_SCALE = 1.5
"""Side of the ``context`` view over the side of the box (tokenize-anything's crop, a strong baseline)."""

MIN_CROP_PX = 16
"""Boxes with shorter sides are grown to this, so that an embedder never sees a line of pixels."""

_SCALES: Mapping[str, float] = {"crop": CROP_MARGIN, "context": CONTEXT_SCALE}


def crop_views(image: RGBImage, boxes: Sequence[BoxXYXY], *, view: str) -> list[RGBImage]:
    """Return what one view shows of each box: a part of the picture, as an array without a copy.

    The background stays in: black or white in its place embeds worse (AlphaCLIP issue 23, FastSAM
    issue 132).

    Args:
        image: (H, W, 3) uint8.
        boxes: Boxes in pixels of the picture.
        view: ``crop`` or ``context``.
    """
    size_hw = (image.shape[0], image.shape[1])
    grown = (box.scale_about_centre(_SCALES[view], size_hw, min_side_px=MIN_CROP_PX) for box in boxes)
    return [image[box.y1 : box.y2, box.x1 : box.x2] for box in grown]
