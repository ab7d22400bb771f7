"""Models of a run that can be stopped: their threads end at the next call of a model."""

from collections.abc import Callable, Iterable, Sequence

from segdex_core.geometry import MaskBoxXYXY
from segdex_core.masks import BoolMask
from segdex_core.ports.embedder import Embedder, RegionEmbedder
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_core.ports.segmenter import (
    FRAME_PX,
    ImageFeatures,
    NarrowsFeatures,
    Segmenter,
    decoder_id_of,
    prompts_per_batch,
)
from segdex_core.records import RGBImage, Vectors

Check = Callable[[], None]
"""Raises once the run is over."""


def stoppable_segmenter(segmenter: Segmenter, check: Check) -> Segmenter:
    """Return a segmenter that asks ``check`` before each call; it narrows features if the given one does."""
    if isinstance(segmenter, NarrowsFeatures):
        return _NarrowingSegmenter(segmenter, segmenter.narrow, check)
    return _Segmenter(segmenter, check)


def stoppable_embedder(embedder: Embedder, check: Check) -> Embedder:
    """Return an embedder that asks ``check`` before each call; it embeds regions if the given one does."""
    if isinstance(embedder, RegionEmbedder):
        return _RegionEmbedder(embedder, embedder, check)
    return _Embedder(embedder, check)


class _Segmenter:
    def __init__(self, segmenter: Segmenter, check: Check) -> None:
        self._segmenter, self._check = segmenter, check

    @property
    def name(self) -> str:
        return self._segmenter.name

    @property
    def fingerprint(self) -> str:
        return self._segmenter.fingerprint

    @property
    def decoder_id(self) -> str | None:
        return decoder_id_of(self._segmenter)

    def prompts_per_batch(self, features: ImageFeatures) -> int:
        return prompts_per_batch(self._segmenter, features)

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        self._check()
        return self._segmenter.encode(images, frame_px=frame_px)

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        self._check()
        return self._segmenter.decode(features, prompts, multimask=multimask)


class _NarrowingSegmenter(_Segmenter):
    def __init__(
        self,
        segmenter: Segmenter,
        narrow: Callable[[ImageFeatures, MaskBoxXYXY], ImageFeatures],
        check: Check,
    ) -> None:
        super().__init__(segmenter, check)
        self._narrow = narrow

    def narrow(self, features: ImageFeatures, box: MaskBoxXYXY) -> ImageFeatures:
        self._check()
        return self._narrow(features, box)


class _Embedder:
    def __init__(self, embedder: Embedder, check: Check) -> None:
        self._embedder, self._check = embedder, check

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    @property
    def dim(self) -> int:
        return self._embedder.dim

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        self._check()
        return self._embedder.embed_images(images)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        self._check()
        return self._embedder.embed_texts(texts)


class _RegionEmbedder(_Embedder):
    def __init__(self, embedder: Embedder, regions: RegionEmbedder, check: Check) -> None:
        super().__init__(embedder, check)
        self._regions = regions

    @property
    def region_share(self) -> float | None:
        return self._regions.region_share

    def embed_regions(self, image: RGBImage, masks: Iterable[BoolMask]) -> Vectors:
        self._check()
        return self._regions.embed_regions(image, masks)
