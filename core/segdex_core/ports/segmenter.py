"""Masks of what points and boxes say: encode pictures, decode prompts. What only some models can is apart."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from segdex_core.geometry import MaskBoxXYXY
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_core.records import RGBImage

FRAME_PX = 1024
"""Side of the square that SAM 2 was trained on: pictures are squashed to it, each axis by its own factor."""

DEFAULT_PROMPTS_PER_BATCH = 16
"""Prompts in one call of a segmenter that does not say how many suit it."""


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


class Segmenter(Protocol):
    """A promptable model of masks, such as SAM 2. Several threads may share one, each with its pictures."""

    @property
    def name(self) -> str:
        """Short name of model and source, for people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the masks can change: model, weights, adapter version and precision."""
        ...

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        """Return the features of each picture; they may have different sizes.

        Args:
            images: The pictures, (H, W, 3) uint8 each.
            frame_px: Side of the square that each is squashed to; a smaller one costs less and sees less.
                A multiple of 32.

        Raises:
            ValueError: If the side is no multiple of 32.
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
    """A segmenter that decodes a part of a picture faster than the whole."""

    def narrow(self, features: ImageFeatures, box: MaskBoxXYXY) -> ImageFeatures:
        """Return the features of a part of the picture.

        Points and ``size_hw`` stay those of the whole picture. A mask that lies well inside the part comes
        out about as it does of the whole; one that reaches its edge is cut off there.

        Args:
            features: Of the whole picture.
            box: The part, 0 to ``mask_px``; edges are multiples of 4.

        Raises:
            ValueError: If the box has other edges or leaves the frame, or the features are another's.
        """
        ...


@runtime_checkable
class StoresFeatures(Protocol):
    """A segmenter whose encoded pictures can be kept in files."""

    def dump(self, features: ImageFeatures) -> bytes:
        """Return the features of a whole picture as the content of a file.

        Raises:
            ValueError: If they are another segmenter's, or of a part.
        """
        ...

    def restore(self, data: bytes) -> ImageFeatures:
        """Return the features that ``dump`` of a segmenter with this fingerprint wrote.

        Raises:
            ValueError: If the bytes are something else.
        """
        ...


@runtime_checkable
class TunesBatches(Protocol):
    """A segmenter that knows how many prompts suit its device."""

    def prompts_per_batch(self, features: ImageFeatures) -> int:
        """Return how many prompts to decode in one call; more of a narrow part."""
        ...


@runtime_checkable
class NamesDecoder(Protocol):
    """A segmenter that says whose mask tokens it returns: rankers of masks are fitted for one decoder."""

    @property
    def decoder_id(self) -> str:
        """Equal for the same weights of the decoder, whatever file they come from."""
        ...


def prompts_per_batch(segmenter: Segmenter, features: ImageFeatures) -> int:
    """Return how many prompts to decode in one call: what the segmenter says, else a default."""
    if isinstance(segmenter, TunesBatches):
        return segmenter.prompts_per_batch(features)
    return DEFAULT_PROMPTS_PER_BATCH


def decoder_id_of(segmenter: Segmenter) -> str | None:
    """Return whose mask tokens a segmenter returns; None if it does not say."""
    return segmenter.decoder_id if isinstance(segmenter, NamesDecoder) else None
