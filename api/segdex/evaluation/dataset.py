"""Data sets for the evaluation: images with true masks."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segdex_core.errors import UsageError
from segdex_core.masks import MaskRLE

DEFAULT_SOURCE = "coco-instances-2017"
"""Source that is used by default if a data set has it: the annotations that the COCO API evaluates."""

ALL_SOURCES = "all"
"""Name that stands for every source of a data set."""


@dataclass(frozen=True, slots=True)
class EvalInstance:
    """An annotated object, or a region of stuff.

    Attributes:
        id: Id of the instance, unique in its image.
        category: Name of the class; None if the data set has no classes.
        mask: True mask at the size of the image, at least one pixel.
        area_px: Area of the mask in pixels.
        source: Source of the annotation, such as ``coco-instances-2017``.
        is_stuff: Whether the class is a material or region without instances, such as sky.
    """

    id: str
    category: str | None
    mask: MaskRLE
    area_px: int
    source: str
    is_stuff: bool = False


@dataclass(frozen=True, slots=True)
class EvalImage:
    """An annotated image.

    Attributes:
        path: File of the image.
        name: Path inside the data set, by which the annotations name the image.
        size_hw: Height and width of the true masks in pixels.
        instances: Annotated instances, without crowds.
        crowds: Masks of many objects of a class together; they count as neither found nor missed.
        sources: Sources that annotated the image, sorted; also sources that found nothing in it.
    """

    path: Path
    name: str
    size_hw: tuple[int, int]
    instances: tuple[EvalInstance, ...]
    crowds: tuple[EvalInstance, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClassQuery:
    """A class name as a text query for one image, with all instances of the class in it."""

    image: str
    text: str
    instance_ids: tuple[str, ...]

    @property
    def is_unique(self) -> bool:
        """Whether exactly one instance matches."""
        return len(self.instance_ids) == 1


@dataclass(frozen=True, slots=True)
class RefQuery:
    """A human description of one object in an image, such as "the man farthest from the camera".

    Attributes:
        image: Name of the image.
        text: Text of the description.
        instance_id: Id of the described instance; None if it has no mask, or if nothing matches.
        is_absent: Whether nothing in the image matches.
    """

    image: str
    text: str
    instance_id: str | None
    is_absent: bool


@dataclass(frozen=True, slots=True)
class Caption:
    """A human description of a whole image."""

    image: str
    text: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A query image of an object, and the name of the object; both refer to one image of the data set.

    Attributes:
        image: Name of the image that shows the object.
        query_path: File of the query image.
        text: Name of the object.
    """

    image: str
    query_path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Label:
    """A class that a source uses at least once."""

    source: str
    category: str | None
    is_stuff: bool


@dataclass(frozen=True, slots=True)
class EvalDataset:
    """A data set, or some images of one.

    Attributes:
        path: Folder or COCO JSON file of the data set.
        images: Images, sorted by name, each name once.
        class_queries: Class queries; empty if the data set does not say that classes are annotated
            exhaustively.
        labels: Labels of the whole data set, even if this is only a part of it.
        refs: Descriptions of single objects; empty if the data set has none.
        captions: Captions; empty if the data set has none.
        pairs: Pairs of a query image and a name; empty if the data set has none.
    """

    path: Path
    images: tuple[EvalImage, ...]
    class_queries: tuple[ClassQuery, ...]
    labels: frozenset[Label]
    refs: tuple[RefQuery, ...] = ()
    captions: tuple[Caption, ...] = ()
    pairs: tuple[Pair, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources of the annotations, sorted."""
        return tuple(sorted({source for image in self.images for source in image.sources}))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Distinct texts of the class queries, sorted."""
        return tuple(sorted({query.text for query in self.class_queries}))


def labels_of(images: Iterable[EvalImage]) -> frozenset[Label]:
    """Return every label that occurs in the images."""
    return frozenset(
        Label(one.source, one.category, one.is_stuff)
        for image in images
        for one in (*image.instances, *image.crowds)
    )


def choose_source(dataset: EvalDataset, source: str | None) -> EvalDataset:
    """Return the data set with the annotations of one source, and the images that have them.

    Args:
        dataset: Data set with all sources.
        source: Name of the source; ``ALL_SOURCES`` for every source; None for ``DEFAULT_SOURCE`` if the data
            set has it, otherwise for every source.

    Raises:
        UsageError: If the data set has no annotations of this source.
    """
    if source is None:
        source = DEFAULT_SOURCE if DEFAULT_SOURCE in dataset.sources else ALL_SOURCES
    if source == ALL_SOURCES:
        return dataset
    if source not in dataset.sources:
        allowed = ", ".join((*dataset.sources, ALL_SOURCES))
        raise UsageError(
            f"{dataset.path} has no annotations of source {source!r}; --source can be: {allowed}"
        )
    images = tuple(
        replace(
            image,
            instances=tuple(one for one in image.instances if one.source == source),
            crowds=tuple(one for one in image.crowds if one.source == source),
            sources=(source,),
        )
        for image in dataset.images
        if source in image.sources
    )
    kept = {(image.name, one.id) for image in images for one in image.instances}
    queries = tuple(
        query
        for query in dataset.class_queries
        if all((query.image, instance_id) in kept for instance_id in query.instance_ids)
    )
    return replace(dataset, images=images, class_queries=queries)


def sample_images(images: Sequence[EvalImage], limit: int | None, seed: int = 0) -> list[EvalImage]:
    """Return at most ``limit`` images that have an instance, sorted by name; equal for equal seeds.

    Raises:
        UsageError: If ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be 1 or more, but got {limit}")
    by_name = {image.name: image for image in images if image.instances}
    names = sorted(by_name)
    if limit is not None and limit < len(names):
        names = sorted(random.Random(seed).sample(names, limit))  # noqa: S311 - not for secrets
    return [by_name[name] for name in names]


def sample_dataset(dataset: EvalDataset, limit: int | None, seed: int = 0) -> EvalDataset:
    """Return the data set with the images of ``sample_images``; all images if ``limit`` is None."""
    if limit is None:
        return dataset
    images = tuple(sample_images(dataset.images, limit, seed))
    names = {image.name for image in images}
    queries = tuple(query for query in dataset.class_queries if query.image in names)
    refs = tuple(ref for ref in dataset.refs if ref.image in names)
    captions = tuple(caption for caption in dataset.captions if caption.image in names)
    pairs = tuple(pair for pair in dataset.pairs if pair.image in names)
    return replace(dataset, images=images, class_queries=queries, refs=refs, captions=captions, pairs=pairs)
