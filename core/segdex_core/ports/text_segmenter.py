"""Protocols of text-prompted segmenters, such as EVF-SAM2."""

from collections.abc import Sequence
from typing import Protocol

from segdex_core.ports.prompts import DecodedMasks
from segdex_core.records import RGBImage


class TextFeatures(Protocol):
    """Features of an image for a text-prompted segmenter, usable with any number of texts."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the encoded image in pixels."""
        ...

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes."""
        ...


class TextSegmenter(Protocol):
    """A model that segments the objects that a text names, such as EVF-SAM2."""

    @property
    def name(self) -> str:
        """Short name of model and source, for display."""
        ...

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever the masks can change."""
        ...

    def encode(self, images: Sequence[RGBImage]) -> Sequence[TextFeatures]:
        """Return the features of each image."""
        ...

    def decode(
        self, features: Sequence[TextFeatures], texts: Sequence[str], *, semantic: bool = False
    ) -> DecodedMasks:
        """Return one mask for each pair of an image and a text.

        Args:
            features: Features of n images; an image may occur several times.
            texts: n texts.
            semantic: Whether to segment all objects of a kind instead of one object.

        Raises:
            QueryError: If a text is empty or too long.
            ValueError: If ``features`` come from another segmenter.
        """
        ...
