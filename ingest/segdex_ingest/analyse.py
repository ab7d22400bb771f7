"""The chain for one picture: pixels -> segments -> vectors -> records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from segdex_core.errors import UsageError
from segdex_core.ports.embedder import Embedder, RegionEmbedder
from segdex_core.ports.segmenter import Segmenter, decoder_id_of
from segdex_core.records import (
    SEGMENT_VIEWS,
    EmbeddedSegments,
    ImageRecord,
    RGBImage,
    Segment,
    SegmentRecord,
    Vectors,
    make_segment_id,
)
from segdex_core.settings import ViewMode
from segdex_ingest.masks.generate import GeneratorSettings, generate_masks
from segdex_ingest.masks.rank import ranker_fingerprint
from segdex_ingest.masks.tree import ancestors_of
from segdex_ingest.views import (
    BLUR_SHARE,
    CROP_MARGIN,
    MIN_CROP_PX,
    VIEWS_VERSION,
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

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that differ whenever a stored segment or vector can differ."""
        numbers = f"{CROP_MARGIN};{BLUR_SHARE:.6f};{region_share(self.embedder)};{MIN_CROP_PX}"
        if self.views == "pooled":
            numbers = f"pooled;{CROP_MARGIN};{MIN_CROP_PX}"
        views = f"views-v{VIEWS_VERSION}({','.join(SEGMENT_VIEWS)};{numbers})"
        ranker = f"ranker({ranker_fingerprint(decoder_id_of(self.segmenter))})"
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
    views = views_of(image, segment_image(image, recipe), recipe)
    return assemble(views, recipe.embedder.embed_images(views.crops))


@dataclass(frozen=True, slots=True, eq=False)
class ImageViews:
    """A segmented picture as its embedder sees it.

    Attributes:
        segments: n segments, best score first.
        crops: What ``Embedder.embed_images`` has to see: the picture; unless the views are pooled, also the
            crops of all segments, then their blurred crops.
        regions: (n, dim) of the masks, or None; where the views are pooled (2 n, dim) of boxes, then masks.
        region_share: What regions of masks count in the ``mask`` view.
        pooled: Whether the regions are the views.
    """

    segments: Sequence[Segment]
    crops: Sequence[RGBImage]
    regions: Vectors | None
    region_share: float = 0.0
    pooled: bool = False


def segment_image(image: RGBImage, recipe: Recipe) -> list[Segment]:
    """Return the segments of one picture."""
    return generate_masks(image, segmenter=recipe.segmenter, settings=recipe.generator)


def views_of(image: RGBImage, segments: Sequence[Segment], recipe: Recipe) -> ImageViews:
    """Return what there is to embed of a segmented picture; regions are embedded here."""
    embedder = recipe.embedder
    if recipe.views == "pooled" and isinstance(embedder, RegionEmbedder):
        return ImageViews(segments, [image], pooled_views(image, segments, embedder), pooled=True)
    return ImageViews(
        segments,
        [image, *segment_views(image, segments)],
        region_vectors(image, segments, embedder),
        region_share=region_share(embedder),
    )


def assemble(views: ImageViews, rows: Vectors) -> AnalysedImage:
    """Return the vectors of a picture and its segments.

    Args:
        views: Of n segments.
        rows: (len(views.crops), dim) unit rows of the crops.
    """
    count = len(views.segments)
    if views.pooled and views.regions is not None:
        vectors = {"crop": views.regions[:count], "mask": views.regions[count:]}
    else:
        mask = mask_view(rows[1 + count :], views.regions, share=views.region_share)
        vectors = {"crop": rows[1 : 1 + count], "mask": mask}
    return AnalysedImage(segments=views.segments, segment_vectors=vectors, image_vector=rows[:1])


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
