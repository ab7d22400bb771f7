"""What the embedder sees of a segment: pure functions on arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from segdex.core.geometry import BoxXYXY
from segdex.core.masks import BoolMask, decode_mask
from segdex.core.records import RGBImage, Segment

CROP_MARGIN = 1.1
"""Side of both views over the side of the box: 5 % of margin on each side."""

BLUR_SHARE = 1 / 60
"""Standard deviation of the blur over the longer side of the picture; docs/search.md has what was tried."""

MIN_CROP_PX = 16
"""Boxes with shorter sides are grown to this, so that an embedder never sees a line of pixels."""

VIEWS_VERSION = 2
"""Raised whenever this file shows something else of the same segment."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentViews:
    """The views of the segments of one picture, made when they are asked for.

    ``crop`` is the box with a margin, as it is: the surroundings help to tell what is small or hidden.
    ``blur`` is the same with everything but the mask blurred: it tells the object from its parts and its
    surroundings, whose boxes are nearly the same (FGVP, Yang et al. 2023, arXiv 2306.04356). Black or white
    in its place embeds worse (AlphaCLIP issue 23, FastSAM issue 132).

    Attributes:
        image: (H, W, 3) uint8, the whole picture.
        blurred: The same, blurred.
    """

    image: RGBImage
    blurred: RGBImage

    @classmethod
    def of(cls, image: RGBImage) -> "SegmentViews":
        """Return the views of a picture; blurs it."""
        radius = max(image.shape[:2]) * BLUR_SHARE
        blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))
        return cls(image, np.asarray(blurred))

    def crop(self, box: BoxXYXY) -> RGBImage:
        """Return the box with its margin, a part of the picture without a copy."""
        grown = self._grown(box)
        return self.image[grown.y1 : grown.y2, grown.x1 : grown.x2]

    def blur(self, box: BoxXYXY, mask: BoolMask) -> RGBImage:
        """Return the same part with everything outside the (H, W) mask blurred."""
        grown = self._grown(box)
        part = (slice(grown.y1, grown.y2), slice(grown.x1, grown.x2))
        return np.where(mask[part][..., None], self.image[part], self.blurred[part])

    def _grown(self, box: BoxXYXY) -> BoxXYXY:
        size_hw = (self.image.shape[0], self.image.shape[1])
        return box.scale_about_centre(CROP_MARGIN, size_hw, min_side_px=MIN_CROP_PX)


def segment_views(image: RGBImage, segments: Sequence[Segment]) -> list[RGBImage]:
    """Return the ``crop`` view of all segments, then the ``blur`` view of all.

    Args:
        image: (H, W, 3) uint8.
        segments: With masks of its size.
    """
    if not segments:
        return []
    views = SegmentViews.of(image)
    return [
        *(views.crop(segment.box) for segment in segments),
        *(views.blur(segment.box, decode_mask(segment.mask)) for segment in segments),
    ]
