"""The whole content of an index as values, for backups and moves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from segdex_core.concepts import Concept
from segdex_core.records import (
    EmbeddedSegments,
    ImageRecord,
    IndexCounts,
    IndexFingerprint,
    MaskRecipe,
    Vectors,
)
from segdex_core.sets import SegmentSet, SetMember


@dataclass(frozen=True, slots=True)
class DumpedImages:
    """Some images with everything that the index holds of them.

    Attributes:
        records: The n images.
        vectors: Whole-image vectors (n, dim), in the order of ``records``.
        segments: All segments of these images with their vectors, image by image.
    """

    records: Sequence[ImageRecord]
    vectors: Vectors
    segments: EmbeddedSegments


@dataclass(frozen=True, slots=True)
class IndexDump:
    """The content of an index. ``images`` is read once, from start to end; memory does not grow with it.

    Attributes:
        fingerprint: Models and settings that filled the index.
        recipes: What made the masks, by recipe.
        images: All images, some at a time.
        sets: The named sets.
        members: The members of all sets.
        concepts: The saved concepts.
    """

    fingerprint: IndexFingerprint
    recipes: Mapping[str, MaskRecipe]
    images: Iterable[DumpedImages]
    sets: Sequence[SegmentSet]
    members: Sequence[SetMember]
    concepts: Sequence[Concept]


@dataclass(frozen=True, slots=True)
class DumpCounts:
    """Sizes of a dump.

    Attributes:
        stored: Numbers of images and segments.
        sets: Number of named sets.
        concepts: Number of saved concepts.
    """

    stored: IndexCounts
    sets: int
    concepts: int
