"""The chain for one picture: bytes -> pixels -> segments -> vectors -> records."""

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
from segdex_core.ports.embedder import Embedder, RegionEmbedder
from segdex_core.ports.segmenter import Segmenter, decoder_id_of
from segdex_core.records import (
    EmbeddedSegments,
    ImageRecord,
    RGBImage,
    Segment,
    SegmentRecord,
    Vectors,
)
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
class Recipe:
    """The models and settings that turn a picture into what the index stores of it.

    Attributes:
        segmenter: Cuts pictures.
        embedder: Embeds pictures and segments.
        generator: How much is looked for.
        views: ``crops`` embeds two crops of each segment; ``pooled`` makes both views from one pass over the
            picture, which costs a fraction and needs a ``RegionEmbedder``.

    Raises:
        UsageError: If the views are to be pooled and the embedder has no regions.
    """

    segmenter: Segmenter
    embedder: Embedder
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    views: ViewMode = "crops"

    def __post_init__(self) -> None:
        if self.views == "pooled" and not can_pool(self.embedder):
            raise UsageError(
                f"views cannot be pooled with {self.embedder.name}: it has no map of a whole picture; "
                "use --views crops"
            )

    def load(self) -> "Recipe":
        """Return itself: the models are loaded. See ``RecipeSource``."""
        return self

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that differ whenever a stored segment or vector can differ."""
        numbers = ViewNumbers()
        views = (
            numbers.pooled_fingerprint()
            if self.views == "pooled"
            else numbers.fingerprint(region_share=region_share(self.embedder))
        )
        ranker = f"ranker({ranker_fingerprint(decoder_id_of(self.segmenter))})"
        generator = self.generator.fingerprint()
        parts = (self.segmenter.fingerprint, self.embedder.fingerprint, generator, ranker, views)
        return sha256("|".join(parts).encode()).hexdigest()[:16]


class RecipeSource(Protocol):
    """A recipe whose models are loaded only when a picture has to be analysed."""

    def fingerprint(self) -> str:
        """Return ``Recipe.fingerprint``; loads the models only where it is not remembered."""
        ...

    def load(self) -> Recipe:
        """Return the recipe.

        Raises:
            ModelError: If a model cannot be fetched or loaded.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class AnalysedImage:
    """What a recipe makes of the bytes of a picture. It can be pickled, so that any process may make it.

    Attributes:
        sha256: Of the bytes, 64 hexadecimal digits.
        size_bytes: How many they are.
        size_hw: Height and width in pixels after EXIF orientation.
        captured_s: EXIF time in seconds since 1970 UTC, or None.
        place_lat_lon: EXIF position in degrees, or None.
        recipe: ``Recipe.fingerprint``.
        segments: n segments, best score first.
        segment_vectors: View name to (n, dim) unit rows.
        image_vector: (1, dim) of the whole picture.
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

    @property
    def image_id(self) -> UUID:
        """``make_image_id`` of the bytes."""
        return make_image_id(self.sha256)


def analyse(
    data: bytes,
    models: RecipeSource,
    *,
    name: str,
    max_pixels: int,
    checkpoint: Callable[[], None] = lambda: None,
) -> AnalysedImage:
    """Decode a picture, segment it, and embed it with every view of every segment.

    The result depends on the bytes and the recipe alone. Several threads may share a recipe.

    Args:
        data: A whole file.
        models: The models and settings; a ``Recipe``, or what loads one. They are asked for when the picture
            was decoded.
        name: What messages call the picture, usually its path.
        max_pixels: Larger pictures are refused.
        checkpoint: Called between calls of the models, about every second on a CPU; what it raises ends the
            analysis.

    Raises:
        ImageError: If the bytes are no picture that can be read, or it is too large.
        ModelError: If a model fails.
    """
    image = decode_image(data, name=name, max_pixels=max_pixels)
    pixels, recipe = image.pixels, models.load()
    segments = segment_image(pixels, recipe, checkpoint=checkpoint)
    image_vector, segment_vectors = embed_image(pixels, segments, recipe, checkpoint=checkpoint)
    return AnalysedImage(
        sha256=sha256_hex(data),
        size_bytes=len(data),
        size_hw=(pixels.shape[0], pixels.shape[1]),
        captured_s=image.captured_s,
        place_lat_lon=image.place_lat_lon,
        recipe=recipe.fingerprint(),
        segments=segments,
        segment_vectors=segment_vectors,
        image_vector=image_vector,
    )


def segment_image(
    image: RGBImage, recipe: Recipe, *, checkpoint: Callable[[], None] = lambda: None
) -> list[Segment]:
    """Return the segments of one picture."""
    return generate_masks(image, segmenter=recipe.segmenter, settings=recipe.generator, checkpoint=checkpoint)


def embed_image(
    image: RGBImage,
    segments: Sequence[Segment],
    recipe: Recipe,
    *,
    checkpoint: Callable[[], None] = lambda: None,
) -> tuple[Vectors, dict[str, Vectors]]:
    """Return the vector of a picture and those of its segments.

    Args:
        image: (H, W, 3) uint8.
        segments: n segments with masks of its size.
        recipe: With the embedder and the way of its views.
        checkpoint: Called before each call of the embedder.

    Returns:
        (1, dim) unit row of the picture, and view name to (n, dim) unit rows.
    """
    embedder, count = recipe.embedder, len(segments)
    checkpoint()
    if recipe.views == "pooled" and isinstance(embedder, RegionEmbedder):
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
"""Fills the batches of an embedder, and is done in a second on a CPU, so that Ctrl-C is answered."""


def build_records(
    segments: Sequence[Segment], vectors: Mapping[str, Vectors], image: ImageRecord
) -> EmbeddedSegments:
    """Return the segments of a picture as the index stores them, each id once.

    Args:
        segments: n segments with masks of the picture's size.
        vectors: View name to (n, dim) unit rows.
        image: Their picture.
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
        )
        for position, (segment_id, segment) in enumerate(zip(ids, segments, strict=True))
    ]
    return EmbeddedSegments(records=records, vectors=vectors)
