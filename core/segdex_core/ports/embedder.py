"""Pictures and texts in one vector space."""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from segdex_core.masks import BoolMask
from segdex_core.records import RGBImage, Vectors


class Embedder(Protocol):
    """A model that puts pictures and texts into one vector space; several threads may share one."""

    @property
    def name(self) -> str:
        """Short name of model and source, for people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever a vector can change: model, weights, preprocessing, prompt template."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        """Return one unit row for each picture or crop, of any sizes; (0, dim) for none."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return one unit row for each text.

        Raises:
            QueryError: If a text is empty or longer than the model reads; the message says how long.
        """
        ...


@runtime_checkable
class DenseEmbedder(Protocol):
    """An embedder that can also say how near each part of a picture is to a text."""

    def relevance(self, image: RGBImage, texts: Vectors) -> npt.NDArray[np.float32]:
        """Return how near each part of a picture is to each text.

        Args:
            image: (H, W, 3) uint8, a picture or a part of one.
            texts: (n, dim) unit rows of ``embed_texts``.

        Returns:
            (n, h, w) float32, cosines of about -1 to 1 in cells that cover the picture evenly.

        Raises:
            ModelError: If the architecture of the model has no such map.
        """
        ...


@runtime_checkable
class Vocabulary(Protocol):
    """An embedder that has words of its own, such as the labels of a classifier."""

    def knows(self, text: str) -> bool:
        """Return whether a text is one of them."""
        ...


@runtime_checkable
class RegionEmbedder(Protocol):
    """An embedder that can also average one pass over a picture inside masks: a view of all for one price."""

    @property
    def region_share(self) -> float | None:
        """Share of regions in the ``mask`` view, beside blurred crops, that was measured to be best, 0 to 1.

        None where the architecture of the model has no regions.
        """
        ...

    def embed_regions(self, image: RGBImage, masks: Iterable[BoolMask]) -> Vectors:
        """Return one unit row for each mask of a picture, (0, dim) for none.

        Args:
            image: (H, W, 3) uint8, the whole picture.
            masks: n masks (H, W), none empty; one is read at a time.

        Raises:
            ModelError: If ``region_share`` is None.
        """
        ...
