"""EVF-SAM2 behind two calls: masks of what a text names."""

from collections.abc import Sequence
from typing import Protocol

from segdex_core.ports.prompts import DecodedMasks
from segdex_core.records import RGBImage


class TextFeatures(Protocol):
    """A picture as a text-prompted segmenter encoded it; serves any number of texts."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels of the picture that was encoded."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds."""
        ...


class TextSegmenter(Protocol):
    """EVF-SAM2 behind two calls: masks of what a text names."""

    @property
    def name(self) -> str:
        """Short name of model and source, for people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the masks can change."""
        ...

    def encode(self, images: Sequence[RGBImage]) -> Sequence[TextFeatures]:
        """Return the features of each picture."""
        ...

    def decode(
        self, features: Sequence[TextFeatures], texts: Sequence[str], *, semantic: bool = False
    ) -> DecodedMasks:
        """Return one mask for each pair of a picture and a text.

        Args:
            features: n pictures; the same one may come several times.
            texts: n texts.
            semantic: Ask for all objects of a kind instead of one.

        Raises:
            QueryError: If a text is empty or too long.
            ValueError: If ``features`` come from another segmenter.
        """
        ...
