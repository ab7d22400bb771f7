"""Protocols of embedders, which embed images and texts in one vector space."""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from segdex_core.masks import BoolMask
from segdex_core.records import RGBImage, Vectors


class Embedder(Protocol):
    """A model that embeds images and texts in one vector space. Threads may share it."""

    @property
    def name(self) -> str:
        """Short name of model and source, for display."""
        ...

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever a vector can change: model, weights, preprocessing, prompt template."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        """Return (n, dim) unit vectors of n images or crops of any sizes; (0, dim) for an empty sequence."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return (n, dim) unit vectors of n texts.

        Raises:
            QueryError: If a text is empty or exceeds the model's limit, which the message states.
        """
        ...


@runtime_checkable
class DenseEmbedder(Protocol):
    """An embedder that can also compute the similarity of each part of an image to a text."""

    def relevance(self, image: RGBImage, texts: Vectors) -> npt.NDArray[np.float32]:
        """Return the similarity of each part of an image to each text.

        Args:
            image: (H, W, 3) uint8, an image or a part of an image.
            texts: (n, dim) unit vectors from ``embed_texts``.

        Returns:
            (n, h, w) float32 cosine similarities, about -1 to 1, on an even grid over the image.

        Raises:
            ModelError: If the model's architecture does not support relevance maps.
        """
        ...


@runtime_checkable
class Vocabulary(Protocol):
    """An embedder with a vocabulary, such as the labels of a classifier."""

    def knows(self, text: str) -> bool:
        """Return whether a text is in the vocabulary."""
        ...


@runtime_checkable
class ReadsTexts(Protocol):
    """An embedder that can say how well it reads a text."""

    def reading_hint(self, text: str) -> str | None:
        """Return in one line what of a text the model cannot read, or guesses; None if it reads all of it.

        A text of which the model reads nothing is an error of ``embed_texts``.
        """
        ...


@runtime_checkable
class RegionEmbedder(Protocol):
    """An embedder that can also embed all masks of an image from one forward pass."""

    @property
    def region_share(self) -> float | None:
        """Best measured weight, 0 to 1, of regions in the ``mask`` view; blurred crops have the rest.

        None if the model's architecture does not support regions.
        """
        ...

    def embed_regions(self, image: RGBImage, masks: Iterable[BoolMask]) -> Vectors:
        """Return (n, dim) unit vectors of n masks of an image; (0, dim) for no masks.

        Args:
            image: (H, W, 3) uint8, the whole image.
            masks: n non-empty (H, W) masks, which are read one at a time.

        Raises:
            ModelError: If ``region_share`` is None.
        """
        ...
