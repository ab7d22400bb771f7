"""Data sets for the evaluation: pictures with the true masks of what is in them."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segdex_core.errors import UsageError
from segdex_core.masks import MaskRLE

DEFAULT_SOURCE = "coco-instances-2017"
"""The annotations that count where a set has them and none are named: those that the COCO API counts."""

ALL_SOURCES = "all"
"""Stands for every source of a set."""


@dataclass(frozen=True, slots=True)
class EvalInstance:
    """One annotated thing, or patch of stuff.

    Attributes:
        id: Unique in its picture.
        category: Name of its class; None where the set has no classes.
        mask: The true mask, of the picture's size, at least one pixel.
        area_px: Pixels in the mask.
        source: Which annotations it comes from, such as ``coco-instances-2017``.
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
    """An annotated picture.

    Attributes:
        path: The file.
        name: The path inside the set, with which the annotations name the picture.
        size_hw: Height and width in pixels of the true masks.
        instances: What is annotated, without crowds.
        crowds: Masks of many things of a class together; they count as neither found nor missed.
        sources: Whose annotations the picture has, sorted; also of those who found nothing in it.
    """

    path: Path
    name: str
    size_hw: tuple[int, int]
    instances: tuple[EvalInstance, ...]
    crowds: tuple[EvalInstance, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClassQuery:
    """A class name as a text query to one picture, with all its instances there."""

    image: str
    text: str
    instance_ids: tuple[str, ...]

    @property
    def is_unique(self) -> bool:
        """Whether exactly one instance answers."""
        return len(self.instance_ids) == 1


@dataclass(frozen=True, slots=True)
class RefQuery:
    """What somebody wrote about one thing in a picture, such as "the man farthest from the camera".

    Attributes:
        image: The picture.
        text: The words.
        instance_id: The instance that is meant; None where it has no mask, or where nothing fits.
        is_absent: Whether nothing in the picture fits.
    """

    image: str
    text: str
    instance_id: str | None
    is_absent: bool


@dataclass(frozen=True, slots=True)
class Caption:
    """What somebody wrote about a whole picture."""

    image: str
    text: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture of a thing, and its name, that mean one picture of the set.

    Attributes:
        image: The picture that shows it.
        query_path: The picture to ask with.
        text: The name.
    """

    image: str
    query_path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Label:
    """A class that a source used at least once."""

    source: str
    category: str | None
    is_stuff: bool


@dataclass(frozen=True, slots=True)
class EvalDataset:
    """A data set, or some pictures of one.

    Attributes:
        path: The folder or the COCO JSON file that it was read from.
        images: The pictures, sorted by name, each name once.
        class_queries: Empty where the set does not say that classes are annotated exhaustively.
        labels: What the whole set was annotated with, also where this is a part of it.
        refs: Empty where the set has none; so are ``captions`` and ``pairs``.
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
        """Whose annotations the set has, sorted."""
        return tuple(sorted({source for image in self.images for source in image.sources}))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every distinct text of the class queries, sorted."""
        return tuple(sorted({query.text for query in self.class_queries}))


def labels_of(images: Iterable[EvalImage]) -> frozenset[Label]:
    """Return every label that is used in the pictures."""
    return frozenset(
        Label(one.source, one.category, one.is_stuff)
        for image in images
        for one in (*image.instances, *image.crowds)
    )


def choose_source(dataset: EvalDataset, source: str | None) -> EvalDataset:
    """Return the data set with the annotations of one source, and the pictures that have them.

    Args:
        dataset: As loaded.
        source: Whose; ``ALL_SOURCES`` for everybody's; None stands for ``DEFAULT_SOURCE`` where the set has
            it, otherwise for everybody's.

    Raises:
        UsageError: If the set has no annotations of this source.
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
    """Return at most ``limit`` pictures that have an instance, sorted by name; the same for the same seed.

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
    """Return the data set with the pictures of ``sample_images`` alone; all pictures where limit is None."""
    if limit is None:
        return dataset
    images = tuple(sample_images(dataset.images, limit, seed))
    names = {image.name for image in images}
    queries = tuple(query for query in dataset.class_queries if query.image in names)
    refs = tuple(ref for ref in dataset.refs if ref.image in names)
    captions = tuple(caption for caption in dataset.captions if caption.image in names)
    pairs = tuple(pair for pair in dataset.pairs if pair.image in names)
    return replace(dataset, images=images, class_queries=queries, refs=refs, captions=captions, pairs=pairs)
