"""Protocols of promptable segmenters. Optional capabilities have protocols of their own."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from segdex_core.geometry import MaskBoxXYXY
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_core.records import RGBImage

FRAME_PX = 1024
"""Side in pixels of SAM 2's square training images. Images are resized to it, each axis by its own factor."""

DEFAULT_PROMPTS_PER_BATCH = 16
"""Prompts per call for a segmenter that does not implement ``TunesBatches``."""


class ImageFeatures(Protocol):
    """Features of an encoded image. Only the segmenter that made them can decode them."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the encoded image in pixels."""
        ...

    @property
    def mask_px(self) -> int:
        """Side in pixels of the square masks decoded from the features: a quarter of the frame's side."""
        ...

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes."""
        ...


class Segmenter(Protocol):
    """A promptable segmentation model, such as SAM 2. Threads may share it, each with its own images."""

    @property
    def name(self) -> str:
        """Short name of model and source, for display."""
        ...

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever the masks can change: model, weights, adapter version and precision."""
        ...

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        """Return the features of each image. Images may have different sizes.

        Args:
            images: The images, each (H, W, 3) uint8.
            frame_px: Side in pixels of the square that each image is resized to, a multiple of 32. A smaller
                side is faster and loses detail.

        Raises:
            ValueError: If ``frame_px`` is not a multiple of 32.
        """
        ...

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        """Return the masks for a batch of prompts.

        Raises:
            ValueError: If ``features`` come from another segmenter, or a prompt has no point.
        """
        ...


@runtime_checkable
class NarrowsFeatures(Protocol):
    """A segmenter that decodes a part of an image faster than the whole image."""

    def narrow(self, features: ImageFeatures, box: MaskBoxXYXY) -> ImageFeatures:
        """Return the features of a part of the image.

        Points and ``size_hw`` still refer to the whole image. A mask well inside the part is about equal to
        the mask decoded from the whole image. A mask that reaches the edge of the part is cut off there.

        Args:
            features: Features of the whole image.
            box: Box of the part in mask pixels, 0 to ``mask_px``; edges are multiples of 4.

        Raises:
            ValueError: If the edges of ``box`` are not multiples of 4 or lie outside the frame, or
                ``features`` come from another segmenter.
        """
        ...


@runtime_checkable
class StoresFeatures(Protocol):
    """A segmenter whose image features can be stored in files."""

    def dump(self, features: ImageFeatures) -> bytes:
        """Return the features of a whole image as the content of a file.

        Raises:
            ValueError: If ``features`` come from another segmenter or cover only a part of the image.
        """
        ...

    def restore(self, data: bytes) -> ImageFeatures:
        """Return features from the output of ``dump`` of a segmenter with an equal fingerprint.

        Raises:
            ValueError: If ``data`` is not the output of ``dump``.
        """
        ...


@runtime_checkable
class TunesBatches(Protocol):
    """A segmenter that chooses the number of prompts per call for its device."""

    def prompts_per_batch(self, features: ImageFeatures) -> int:
        """Return the number of prompts to decode in one call, which is higher for narrowed features."""
        ...


@runtime_checkable
class NamesDecoder(Protocol):
    """A segmenter that identifies its decoder, because mask rankers are fitted for one decoder."""

    @property
    def decoder_id(self) -> str:
        """Id of the decoder weights, independent of the file that they come from."""
        ...


def prompts_per_batch(segmenter: Segmenter, features: ImageFeatures) -> int:
    """Return the number of prompts to decode in one call: the segmenter's choice, or a default."""
    if isinstance(segmenter, TunesBatches):
        return segmenter.prompts_per_batch(features)
    return DEFAULT_PROMPTS_PER_BATCH


def decoder_id_of(segmenter: Segmenter) -> str | None:
    """Return the ``decoder_id`` of a segmenter, or None if it has none."""
    return segmenter.decoder_id if isinstance(segmenter, NamesDecoder) else None
