"""What the embedder sees of a segment: pure functions on arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, decode_mask
from segdex_core.ports.embedder import Embedder, RegionEmbedder
from segdex_core.records import SEGMENT_VIEWS, RGBImage, Segment, Vectors

CROP_MARGIN = 1.1
"""Side of both views over the side of the box: 5 % of margin on each side."""

BLUR_SHARE = 1 / 60
"""Standard deviation of the blur over the picture's longer side; see docs/research/search.md."""

MIN_CROP_PX = 16
"""Boxes with shorter sides are grown to this, so that an embedder never sees a line of pixels."""

_ENOUGH_PX = 512
"""Blurred crops are copies: one with twice as many pixels along its longer side is reduced, for memory's
sake. Embedders look at 224 to 384."""

VIEWS_VERSION = 2
"""Raised whenever this file shows something else of the same segment."""


@dataclass(frozen=True, slots=True)
class ViewNumbers:
    """What the views depend on beside the picture and its segments; other numbers make other vectors.

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
        """Return a text that differs whenever views made of crops can differ.

        Args:
            region_share: What regions count in the ``mask`` view.
        """
        return self._text(f"{self.crop_margin};{self.blur_share:.6f};{region_share};{self.min_crop_px}")

    def pooled_fingerprint(self) -> str:
        """Return a text that differs whenever views of one pass over the picture can differ."""
        return self._text(f"pooled;{self.crop_margin};{self.min_crop_px}")

    def _text(self, numbers: str) -> str:
        return f"views-v{self.version}({','.join(self.names)};{numbers})"


@dataclass(frozen=True, slots=True, eq=False)
class SegmentViews:
    """What an embedder sees of the segments of one picture, made when it is asked for.

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
        """Return the part with all outside the (H, W) mask blurred; large ones are made smaller."""
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
    """Return (n, dim) unit rows of what masks show, from blurred crops and, where there are any, regions.

    Args:
        blurred: (n, dim) unit rows.
        regions: (n, dim) unit rows of ``RegionEmbedder.embed_regions``, or None.
        share: ``RegionEmbedder.region_share``: what the regions count; the rest is the blurred crops.
    """
    if regions is None:
        return blurred
    mixed = (1 - share) * blurred + share * regions
    view: Vectors = mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)
    return view.astype(np.float32)


def can_pool(embedder: Embedder) -> bool:
    """Return whether an embedder can make views from one pass over a picture."""
    return isinstance(embedder, RegionEmbedder) and embedder.region_share is not None


def region_share(embedder: Embedder) -> float:
    """Return what regions count in the ``mask`` view of an embedder, 0 where it has none."""
    return (embedder.region_share or 0.0) if isinstance(embedder, RegionEmbedder) else 0.0


def region_vectors(image: RGBImage, segments: Sequence[Segment], embedder: Embedder) -> Vectors | None:
    """Return (n, dim) unit rows of the segments from one pass over their picture; None where they count 0."""
    if not isinstance(embedder, RegionEmbedder) or not embedder.region_share:
        return None
    return embedder.embed_regions(image, (decode_mask(one.mask) for one in segments))


def pooled_views(image: RGBImage, segments: Sequence[Segment], embedder: RegionEmbedder) -> Vectors:
    """Return both views of the segments from one pass over their picture.

    Args:
        image: (H, W, 3) uint8.
        segments: With masks of its size.
        embedder: One whose ``region_share`` is not None.

    Returns:
        (2 n, dim) unit rows: the boxes with their margin, which stand for crops, then the masks.
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
    """Return the crops of all segments, then the blurred crops of all.

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
