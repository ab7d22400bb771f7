"""The steps for one image: bytes -> pixels -> segments -> vectors -> records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol
from uuid import UUID

import numpy as np

from segdex_core.choices import ViewMode
from segdex_core.errors import UsageError
from segdex_core.ids import make_image_id, make_segment_id, sha256_hex
from segdex_core.media.decode import decode_image
from segdex_core.ports.decoder import Decode
from segdex_core.ports.embedder import Embedder, RegionEmbedder
from segdex_core.ports.segmenter import Segmenter, decoder_id_of
from segdex_core.records import (
    EmbeddedSegments,
    ImageRecord,
    MaskRecipe,
    RGBImage,
    Segment,
    SegmentRecord,
    Vectors,
)
from segdex_core.wire.limits import CapturedFrom
from segdex_ingest.colours import with_colours
from segdex_ingest.failures import failures_of
from segdex_ingest.masks.generate import GeneratorSettings, generate_masks
from segdex_ingest.masks.rank import ranker_fingerprint
from segdex_ingest.masks.tree import ancestors_of
from segdex_ingest.views import (
    ViewNumbers,
    can_pool,
    mask_view,
    pooled_views,
    region_share,
    region_vectors,
    segment_views,
)


@dataclass(frozen=True, slots=True)
class Embedding:
    """An embedder and the views of a segment that it embeds: the part of a recipe that makes vectors.

    Attributes:
        embedder: Model that embeds the image and its segments.
        views: See ``Recipe``.

    Raises:
        UsageError: If ``views`` is ``pooled`` and the embedder has no regions.
    """

    embedder: Embedder
    views: ViewMode = "crops"

    def __post_init__(self) -> None:
        if self.views == "pooled" and not can_pool(self.embedder):
            raise UsageError(
                f"views cannot be pooled with {self.embedder.name}: it has no map of a whole picture; "
                "use --views crops"
            )

    def key(self) -> str:
        """Return 12 hexadecimal digits that differ whenever a vector of the same mask can differ."""
        return sha256(f"{self.embedder.fingerprint}|{self._views()}".encode()).hexdigest()[:12]

    def recipe_of(self, masks: MaskRecipe) -> str:
        """Return ``Recipe.fingerprint`` of masks that are embedded in this way."""
        return recipe_fingerprint(masks, self.embedder.fingerprint, self._views())

    def _views(self) -> str:
        numbers = ViewNumbers()
        if self.views == "pooled":
            return numbers.pooled_fingerprint()
        return numbers.fingerprint(region_share=region_share(self.embedder))


def recipe_fingerprint(masks: MaskRecipe, embedder: str, views: str) -> str:
    """Return 16 hexadecimal digits for what made masks, the fingerprint of an embedder, and its views."""
    parts = (masks.segmenter, embedder, masks.generator, masks.ranker, views)
    return sha256("|".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The models and settings that turn an image into segments and vectors.

    Attributes:
        segmenter: Model that finds the masks.
        embedder: Model that embeds the image and its segments.
        generator: Settings of the mask generator.
        views: ``crops`` embeds two crops of each segment; ``pooled`` computes both views from one pass over
            the image, at a fraction of the cost, and needs a ``RegionEmbedder``.

    Raises:
        UsageError: If ``views`` is ``pooled`` and the embedder has no regions.
    """

    segmenter: Segmenter
    embedder: Embedder
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    views: ViewMode = "crops"

    def __post_init__(self) -> None:
        Embedding(self.embedder, self.views)  # checks that they go together

    def load(self) -> "Recipe":
        """Return the recipe itself, whose models are already loaded; see ``RecipeSource``."""
        return self

    @property
    def embedding(self) -> Embedding:
        """The part of the recipe that makes vectors."""
        return Embedding(self.embedder, self.views)

    @property
    def masks(self) -> MaskRecipe:
        """Fingerprints of the part of the recipe that makes masks."""
        return MaskRecipe(
            segmenter=self.segmenter.fingerprint,
            generator=self.generator.fingerprint(),
            ranker=f"ranker({ranker_fingerprint(decoder_id_of(self.segmenter))})",
        )

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that differ whenever a stored mask or vector can differ."""
        return self.embedding.recipe_of(self.masks)


class RecipeSource(Protocol):
    """A recipe whose models are loaded only when an image has to be analysed."""

    def fingerprint(self) -> str:
        """Return ``Recipe.fingerprint``; load the models only if it is not remembered."""
        ...

    def load(self) -> Recipe:
        """Return the recipe.

        Raises:
            ModelError: If a model cannot be fetched or loaded.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class AnalysedImage:
    """The result of a recipe for the bytes of one image. It can be pickled, so any process may compute it.

    Attributes:
        sha256: SHA-256 of the bytes, 64 hexadecimal digits.
        size_bytes: Number of bytes.
        size_hw: Height and width in pixels after EXIF orientation.
        captured_s: Time of the metadata in seconds since 1970 UTC, or None.
        place_lat_lon: EXIF position in degrees, or None.
        recipe: ``Recipe.fingerprint``.
        segments: n segments with their colours, best score first.
        segment_vectors: View name to (n, dim) unit rows.
        image_vector: (1, dim) unit row of the whole image.
        captured_from: Kind of metadata that ``captured_s`` is from, or None.
    """

    sha256: str
    size_bytes: int
    size_hw: tuple[int, int]
    captured_s: float | None
    place_lat_lon: tuple[float, float] | None
    recipe: str
    segments: Sequence[Segment]
    segment_vectors: Mapping[str, Vectors]
    image_vector: Vectors
    captured_from: CapturedFrom | None = None

    @property
    def image_id(self) -> UUID:
        """Id of the image, ``make_image_id`` of the hash."""
        return make_image_id(self.sha256)


def analyse(
    data: bytes,
    models: RecipeSource,
    *,
    name: str,
    max_pixels: int,
    decode: Decode = decode_image,
    checkpoint: Callable[[], None] = lambda: None,
) -> AnalysedImage:
    """Decode an image, segment it, measure colours, and embed the image and every view of every segment.

    The result depends only on the bytes and the recipe. Several threads may share a recipe.

    Args:
        data: Bytes of a whole file.
        models: A ``Recipe``, or a source that loads one after the image is decoded.
        name: Name of the image in error messages, usually its path.
        max_pixels: Maximum number of pixels; larger images are refused.
        decode: Decodes the file.
        checkpoint: Called between model calls, about once a second on a CPU. ``StoppedError`` from it ends
            the analysis.

    Raises:
        ImageError: If the bytes cannot be read as an image, the image is too large, or a model fails on it.
        ModelError: If a model cannot be loaded.
        StoppedError: If ``checkpoint`` raises it.
        OSError: If the system has no room or no more files to open, which is no fault of the image.
    """
    image = decode(data, name=name, max_pixels=max_pixels)
    pixels, recipe = image.pixels, models.load()
    with failures_of(name):
        segments = with_colours(pixels, segment_image(pixels, recipe, checkpoint=checkpoint))
        image_vector, segment_vectors = embed_image(pixels, segments, recipe.embedding, checkpoint=checkpoint)
    return AnalysedImage(
        sha256=sha256_hex(data),
        size_bytes=len(data),
        size_hw=(pixels.shape[0], pixels.shape[1]),
        captured_s=image.captured_s,
        captured_from=image.captured_from,
        place_lat_lon=image.place_lat_lon,
        recipe=recipe.fingerprint(),
        segments=segments,
        segment_vectors=segment_vectors,
        image_vector=image_vector,
    )


def segment_image(
    image: RGBImage, recipe: Recipe, *, checkpoint: Callable[[], None] = lambda: None
) -> list[Segment]:
    """Return the segments of one image."""
    return generate_masks(image, segmenter=recipe.segmenter, settings=recipe.generator, checkpoint=checkpoint)


def embed_image(
    image: RGBImage,
    segments: Sequence[Segment],
    embedding: Embedding,
    *,
    checkpoint: Callable[[], None] = lambda: None,
) -> tuple[Vectors, dict[str, Vectors]]:
    """Return the vector of an image and the vectors of its segments.

    Args:
        image: (H, W, 3) uint8.
        segments: n segments with masks of the image's size.
        embedding: Embedder and views.
        checkpoint: Called at the start and before each batch of crops.

    Returns:
        (1, dim) unit row of the image, and view name to (n, dim) unit rows.
    """
    embedder, count = embedding.embedder, len(segments)
    checkpoint()
    if embedding.views == "pooled" and isinstance(embedder, RegionEmbedder):
        regions = pooled_views(image, segments, embedder)
        return embedder.embed_images([image]), {"crop": regions[:count], "mask": regions[count:]}
    in_masks = region_vectors(image, segments, embedder)
    crops = [image, *segment_views(image, segments)]
    parts = []
    for start in range(0, len(crops), _CROPS_PER_CALL):
        checkpoint()
        parts.append(embedder.embed_images(crops[start : start + _CROPS_PER_CALL]))
    rows = np.concatenate(parts)
    mask = mask_view(rows[1 + count :], in_masks, share=region_share(embedder))
    return rows[:1], {"crop": rows[1 : 1 + count], "mask": mask}


_CROPS_PER_CALL = 64
"""Enough crops to fill an embedder's batches, and about a second of work on a CPU, so that Ctrl-C stays
responsive."""


def build_records(
    segments: Sequence[Segment], vectors: Mapping[str, Vectors], image: ImageRecord
) -> EmbeddedSegments:
    """Return the segments of an image in the form that the index stores.

    Args:
        segments: n segments with distinct masks of the image's size.
        vectors: View name to (n, dim) unit rows.
        image: Record of the image.
    """
    height, width = image.size_hw
    parents = [segment.parent for segment in segments]
    ids = [make_segment_id(image.image_id, segment.mask) for segment in segments]
    records = [
        SegmentRecord(
            segment_id=segment_id,
            image_id=image.image_id,
            box=segment.box,
            mask=segment.mask,
            area_px=segment.area_px,
            area_fraction=segment.area_px / (height * width),
            predicted_iou=segment.predicted_iou,
            stability=segment.stability,
            object_score=segment.object_score,
            touches_border=(
                segment.box.x1 == 0
                or segment.box.y1 == 0
                or segment.box.x2 == width
                or segment.box.y2 == height
            ),
            ancestor_ids=tuple(ids[ancestor] for ancestor in ancestors_of(position, parents)),
            sources=image.sources,
            tags=image.tags,
            captured_s=image.captured_s,
            colours=segment.colours,
        )
        for position, (segment_id, segment) in enumerate(zip(ids, segments, strict=True))
    ]
    return EmbeddedSegments(records=records, vectors=vectors)
