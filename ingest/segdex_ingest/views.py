"""The views of a segment that the embedder sees: pure functions on arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, decode_mask
from segdex_core.ports.embedder import Embedder, RegionEmbedder
from segdex_core.records import SEGMENT_VIEWS, RGBImage, Segment, Vectors

CROP_MARGIN = 1.1
"""Ratio of the side of both views to the side of the box: a margin of 5 % on each side."""

BLUR_SHARE = 1 / 60
"""Standard deviation of the blur as a share of the image's longer side; see docs/research/search.md."""

MIN_CROP_PX = 16
"""Shorter box sides are enlarged to this, so that an embedder never sees a single line of pixels."""

_ENOUGH_PX = 512
"""Blurred crops are copies, so crops whose longer side is at least twice this are downscaled to save memory.
Embedders read 224 to 384 pixels."""

VIEWS_VERSION = 2
"""Increased whenever this file changes the views of a segment."""


@dataclass(frozen=True, slots=True)
class ViewNumbers:
    """The parameters of the views. Other values produce other vectors.

    Attributes:
        version: ``VIEWS_VERSION``.
        names: ``SEGMENT_VIEWS``.
        crop_margin: ``CROP_MARGIN``.
        blur_share: ``BLUR_SHARE``.
        min_crop_px: ``MIN_CROP_PX``.
    """

    version: int = VIEWS_VERSION
    names: tuple[str, ...] = SEGMENT_VIEWS
    crop_margin: float = CROP_MARGIN
    blur_share: float = BLUR_SHARE
    min_crop_px: int = MIN_CROP_PX

    def fingerprint(self, *, region_share: float) -> str:
        """Return a text that differs whenever views made from crops can differ.

        Args:
            region_share: Weight of the regions in the ``mask`` view, 0 to 1.
        """
        return self._text(f"{self.crop_margin};{self.blur_share:.6f};{region_share};{self.min_crop_px}")

    def pooled_fingerprint(self) -> str:
        """Return a text that differs whenever pooled views can differ."""
        return self._text(f"pooled;{self.crop_margin};{self.min_crop_px}")

    def _text(self, numbers: str) -> str:
        return f"views-v{self.version}({','.join(self.names)};{numbers})"


@dataclass(frozen=True, slots=True, eq=False)
class SegmentViews:
    """The views of the segments of one image, computed on request.

    ``crop`` is the box with a margin: the surroundings help to recognize small or hidden objects. ``blur`` is
    the crop with everything outside the mask blurred: it separates the object from its parts and its
    surroundings, whose boxes are nearly equal (FGVP, Yang et al. 2023, arXiv 2306.04356). A black or white
    background embeds worse (AlphaCLIP issue 23, FastSAM issue 132).

    Attributes:
        image: (H, W, 3) uint8, the whole image.
        blurred: (H, W, 3) uint8, the whole image blurred.
    """

    image: RGBImage
    blurred: RGBImage

    @classmethod
    def of(cls, image: RGBImage) -> "SegmentViews":
        """Return the views of an image. This blurs the image once."""
        radius = max(image.shape[:2]) * BLUR_SHARE
        blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))
        return cls(image, np.asarray(blurred))

    def crop(self, box: BoxXYXY) -> RGBImage:
        """Return the box with its margin, as a slice of the image without a copy."""
        grown = self._grown(box)
        return self.image[grown.y1 : grown.y2, grown.x1 : grown.x2]

    def blur(self, box: BoxXYXY, mask: BoolMask) -> RGBImage:
        """Return the crop with everything outside the (H, W) mask blurred; large crops are downscaled."""
        grown = self._grown(box)
        part = (slice(grown.y1, grown.y2), slice(grown.x1, grown.x2))
        shown = np.where(mask[part][..., None], self.image[part], self.blurred[part])
        factor = max(shown.shape[:2]) // _ENOUGH_PX
        return shown if factor < 2 else np.asarray(Image.fromarray(shown).reduce(factor))

    def _grown(self, box: BoxXYXY) -> BoxXYXY:
        return _grown(box, (self.image.shape[0], self.image.shape[1]))


def _grown(box: BoxXYXY, size_hw: tuple[int, int]) -> BoxXYXY:
    return box.scale_about_centre(CROP_MARGIN, size_hw, min_side_px=MIN_CROP_PX)


def mask_view(blurred: Vectors, regions: Vectors | None, *, share: float) -> Vectors:
    """Return the (n, dim) unit rows of the ``mask`` view: a mix of blurred crops and, if given, regions.

    Args:
        blurred: (n, dim) unit rows of the blurred crops.
        regions: (n, dim) unit rows of ``RegionEmbedder.embed_regions``, or None.
        share: Weight of the regions, ``RegionEmbedder.region_share``; the blurred crops have ``1 - share``.
    """
    if regions is None:
        return blurred
    mixed = (1 - share) * blurred + share * regions
    view: Vectors = mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)
    return view.astype(np.float32)


def can_pool(embedder: Embedder) -> bool:
    """Return whether an embedder can compute views from one pass over an image."""
    return isinstance(embedder, RegionEmbedder) and embedder.region_share is not None


def region_share(embedder: Embedder) -> float:
    """Return the weight of the regions in the ``mask`` view of an embedder; 0 if it has no regions."""
    return (embedder.region_share or 0.0) if isinstance(embedder, RegionEmbedder) else 0.0


def region_vectors(image: RGBImage, segments: Sequence[Segment], embedder: Embedder) -> Vectors | None:
    """Return (n, dim) unit rows of the segments from one pass over the image; None if their weight is 0."""
    if not isinstance(embedder, RegionEmbedder) or not embedder.region_share:
        return None
    return embedder.embed_regions(image, (decode_mask(one.mask) for one in segments))


def pooled_views(image: RGBImage, segments: Sequence[Segment], embedder: RegionEmbedder) -> Vectors:
    """Return both views of the segments from one pass over the image.

    Args:
        image: (H, W, 3) uint8.
        segments: n segments with masks of the image's size.
        embedder: Embedder whose ``region_share`` is not None.

    Returns:
        (2 n, dim) unit rows: n boxes with their margin, in place of crops, then n masks.
    """
    size_hw = (image.shape[0], image.shape[1])

    def masks() -> Iterator[BoolMask]:
        for segment in segments:
            box = _grown(segment.box, size_hw)
            shown = np.zeros(size_hw, np.bool_)
            shown[box.y1 : box.y2, box.x1 : box.x2] = True
            yield shown
        for segment in segments:
            yield decode_mask(segment.mask)

    return embedder.embed_regions(image, masks())


def segment_views(image: RGBImage, segments: Sequence[Segment]) -> list[RGBImage]:
    """Return the crops of all segments, then the blurred crops of all segments.

    Args:
        image: (H, W, 3) uint8.
        segments: n segments with masks of the image's size.
    """
    if not segments:
        return []
    views = SegmentViews.of(image)
    return [
        *(views.crop(segment.box) for segment in segments),
        *(views.blur(segment.box, decode_mask(segment.mask)) for segment in segments),
    ]
