"""Protocol of an index that is examined: what is stored as it is, readable or not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.concepts import Concept
from segdex_core.records import ImageRecord, SegmentRecord
from segdex_core.sets import SegmentSet, SetMember

RecordT_co = TypeVar("RecordT_co", covariant=True)

Part = Literal["segments", "images", "sets"]
"""Parts of an index: segments, the ledger of images, and sets with their members and the concepts."""


@dataclass(frozen=True, slots=True, eq=False)
class Found(Generic[RecordT_co]):
    """What is stored under one id. Reading it never fails.

    Attributes:
        point_id: Id under which it is stored.
        record: The record; None if it cannot be read.
        problem: Why it cannot be read, in one line; empty if it can.
        payload: What is stored, as far as there is a payload.
        image_id: Its image; None if that cannot be read, or if it belongs to none.
        vectors: Vector (dim,) of each view; empty if vectors were not asked for or cannot be read.
        vector_problem: Why its vectors cannot be read, in one line; empty if they can.
        vector_score: Object score that its vector repeats; None if it has none.
    """

    point_id: UUID
    record: RecordT_co | None
    problem: str = ""
    payload: Mapping[str, object] = field(default_factory=dict)
    image_id: UUID | None = None
    vectors: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    vector_problem: str = ""
    vector_score: float | None = None


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What re-embeddings left behind.

    Attributes:
        parts: Names of collections that are parts of nothing: their other half is missing.
        unfinished: Names of sets of vectors that a re-embedding began and did not finish.
        is_fenced: Whether writes are refused because a re-embedding is at its end, or was stopped there.
    """

    parts: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    is_fenced: bool = False


class IndexExamination(Protocol):
    """Reads everything that an index stores, also what ``IndexReader`` refuses to read.

    Memory does not grow with the index.
    """

    def images(self) -> Iterator[Found[ImageRecord]]:
        """Yield every record of an image with the vector of the whole image, ordered by id."""
        ...

    def image(self, image_id: UUID) -> Found[ImageRecord] | None:
        """Return the record of an image with its vector; None if there is none."""
        ...

    def segments(self, image_ids: Sequence[UUID]) -> Iterator[Found[SegmentRecord]]:
        """Yield the segments of some images with their vectors, ordered by id."""
        ...

    def all_segments(self) -> Iterator[Found[SegmentRecord]]:
        """Yield every segment without its vectors, ordered by id."""
        ...

    def members(self, image_ids: Sequence[UUID]) -> Iterator[Found[SetMember]]:
        """Yield the members, of any set, that are some images or segments of them."""
        ...

    def saved(self) -> Iterator[Found[SegmentSet | SetMember | Concept]]:
        """Yield every set, member and concept, ordered by id."""
        ...

    def leftovers(self) -> Leftovers:
        """Return what re-embeddings left behind."""
        ...

    def remove(self, part: Part, point_ids: Sequence[UUID]) -> None:
        """Delete what is stored under some ids."""
        ...

    def drop(self, names: Sequence[str]) -> None:
        """Delete collections of ``Leftovers.parts``; one that is part of something by now stays."""
        ...
