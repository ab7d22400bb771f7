"""The chain for one picture: pixels -> segments -> vectors -> records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from segdex.core.protocols import Embedder, PromptableSegmenter
from segdex.core.records import (
    SEGMENT_VIEWS,
    EmbeddedSegments,
    ImageRecord,
    RGBImage,
    Segment,
    SegmentRecord,
    Vectors,
    make_segment_id,
)
from segdex.ingest.generate import GeneratorSettings, generate_masks
from segdex.ingest.ranker import ranker_fingerprint
from segdex.ingest.tree import ancestors_of
from segdex.ingest.views import (
    BLUR_SHARE,
    CROP_MARGIN,
    MIN_CROP_PX,
    POOL_SHARE,
    VIEWS_VERSION,
    mask_view,
    region_vectors,
    segment_views,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The models and settings that turn a picture into what the index stores of it."""

    segmenter: PromptableSegmenter
    embedder: Embedder
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that differ whenever a stored segment or vector can differ."""
        numbers = f"{CROP_MARGIN};{BLUR_SHARE:.6f};{POOL_SHARE};{MIN_CROP_PX}"
        views = f"views-v{VIEWS_VERSION}({','.join(SEGMENT_VIEWS)};{numbers})"
        ranker = f"ranker({ranker_fingerprint(self.segmenter.decoder_id)})"
        generator = self.generator.fingerprint()
        parts = (self.segmenter.fingerprint, self.embedder.fingerprint, generator, ranker, views)
        return sha256("|".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class AnalysedImage:
    """What a recipe makes of a picture.

    Attributes:
        segments: n segments, best score first.
        segment_vectors: View name to (n, dim) unit rows.
        image_vector: (1, dim) of the whole picture.
    """

    segments: Sequence[Segment]
    segment_vectors: Mapping[str, Vectors]
    image_vector: Vectors


def analyse_image(image: RGBImage, recipe: Recipe) -> AnalysedImage:
    """Segment one picture and embed the picture and every view of every segment."""
    segments = segment_image(image, recipe)
    regions = region_vectors(image, segments, recipe.embedder)
    return assemble(segments, recipe.embedder.embed_images(views_to_embed(image, segments)), regions)


def segment_image(image: RGBImage, recipe: Recipe) -> list[Segment]:
    """Return the segments of one picture, the first half of ``analyse_image``."""
    return generate_masks(image, segmenter=recipe.segmenter, settings=recipe.generator)


def views_to_embed(image: RGBImage, segments: Sequence[Segment]) -> list[RGBImage]:
    """Return the picture, then the crops of all segments, then their blurred crops."""
    return [image, *segment_views(image, segments)]


def assemble(segments: Sequence[Segment], rows: Vectors, regions: Vectors | None) -> AnalysedImage:
    """Return what the embedder made of ``views_to_embed`` with the segments it belongs to.

    Args:
        segments: n segments.
        rows: (1 + 2 n, dim) what it made of them.
        regions: (n, dim) of ``region_vectors``.
    """
    count = len(segments)
    crops, blurred = rows[1 : 1 + count], rows[1 + count : 1 + 2 * count]
    return AnalysedImage(
        segments=segments,
        segment_vectors={"crop": crops, "mask": mask_view(blurred, regions)},
        image_vector=rows[:1],
    )


def build_records(analysed: AnalysedImage, image: ImageRecord) -> EmbeddedSegments:
    """Return the segments of a picture as the index stores them, each id once."""
    height, width = image.size_hw
    parents = [segment.parent for segment in analysed.segments]
    ids = [make_segment_id(image.image_id, segment.mask) for segment in analysed.segments]
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
        for position, (segment_id, segment) in enumerate(zip(ids, analysed.segments, strict=True))
    ]
    return EmbeddedSegments(records=records, vectors=analysed.segment_vectors)
