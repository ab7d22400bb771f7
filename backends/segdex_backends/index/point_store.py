"""What an index needs of a vector database: points with payloads in named collections.

Everything that is the same for Qdrant in this process and for a Qdrant server is in ``QdrantIndex``; a store
knows how to say it to one of them, and turns its errors into ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_backends.index.conditions import Conditions
from segdex_core.errors import SegmentIndexError
from segdex_core.records import FusedSegment

FieldKind = Literal["uuid", "keyword", "float"]
Row = npt.NDArray[np.float32]
"""(size,) float32: one stored vector."""


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """What a collection holds. The distance is the plain dot product.

    Attributes:
        vector: Name of its vector.
        size: Length of the vector.
        fields: The fields of the payload that are looked up by a condition, and their kinds.
        is_large: Whether it pays to keep the full vectors on disk and to search 8-bit copies.
    """

    vector: str
    size: int
    fields: Mapping[str, FieldKind] = field(default_factory=dict)
    is_large: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class StoredPoint:
    """A point; ``row`` is the one vector that was asked for, None when none was."""

    id: UUID
    payload: Mapping[str, object]
    row: Row | None = None


class FoundPoint(Protocol):
    """A point as Qdrant Edge and the client of a server give it."""

    @property
    def id(self) -> object:
        """The id, see ``to_uuid``."""
        ...

    @property
    def payload(self) -> Mapping[str, object] | None:
        """The payload, if it was asked for."""
        ...

    @property
    def vector(self) -> object:
        """The vectors that were asked for, by name."""
        ...


def to_uuid(point_id: object) -> UUID:
    """Return the id of a point, which Qdrant gives as a UUID or as its text.

    Raises:
        ValueError: If it is something else.
    """
    return point_id if isinstance(point_id, UUID) else UUID(str(point_id))


def stored_point(point: FoundPoint, vector: str | None, place: str) -> StoredPoint:
    """Return a point that was found in the index at ``place``, with one of its vectors if that is named.

    Raises:
        SegmentIndexError: If it has no such vector.
    """
    row = None
    if vector is not None:
        if not isinstance(point.vector, Mapping) or vector not in point.vector:
            raise SegmentIndexError(f"point {point.id} in {place} has no vector {vector!r}")
        row = np.asarray(point.vector[vector], np.float32)
    return StoredPoint(to_uuid(point.id), point.payload or {}, row)


class PointStore(Protocol):
    """Collections of points and one description. All writes are idempotent, and durable when they return.

    A collection is meant by its name, and the description says which real collection that is, see ``layout``;
    one that is being made beside it is meant by its real name.
    Errors are those of ``SegmentIndexError``.
    """

    @property
    def location(self) -> str:
        """See ``IndexReader``."""
        ...

    def description(self) -> Mapping[str, object] | None:
        """Return the description as it is stored now, None while there is no index."""
        ...

    def make(self, description: Mapping[str, object], collections: Mapping[str, CollectionSpec]) -> None:
        """Begin an index, unless another process has begun one: then its description stays."""
        ...

    def open(self, description: Mapping[str, object], collections: Mapping[str, CollectionSpec]) -> None:
        """Open the collections that the description names.

        What a process that ended has not made is made, and what it has not removed is removed.

        Raises:
            SegmentIndexError: If it does not name both.
        """
        ...

    def describe(self, description: Mapping[str, object]) -> None:
        """Replace the description; it names the same real collections."""
        ...

    def create(self, real_name: str, spec: CollectionSpec) -> None:
        """Make a collection beside those in use; nothing happens if it is there already."""
        ...

    def switch(self, description: Mapping[str, object]) -> None:
        """Replace the description by one that names other real collections, and remove the former ones.

        A process that ends meanwhile leaves the old index, or the new one and something for ``open`` to do.
        """
        ...

    def upsert(self, name: str, points: Sequence[StoredPoint], *, vector: str, over: Conditions = ()) -> None:
        """Write points that are not there yet, and replace those that are there and fulfill ``over``."""
        ...

    def set_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        """Set some fields of the payload of all matching points."""
        ...

    def overwrite_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        """Replace the whole payload of all matching points."""
        ...

    def delete(self, name: str, where: Conditions) -> None:
        """Delete all matching points."""
        ...

    def query(
        self,
        name: str,
        row: Row,
        *,
        vector: str,
        limit: int,
        where: Conditions,
        exact: bool,
    ) -> list[FusedSegment]:
        """Return the segments with the largest dot products, best first.

        A store makes the records itself, out of ``FUSED_FIELDS`` alone: a point in between takes time where
        there are thousands of candidates.

        Raises:
            SegmentIndexError: If a point has not those fields.
        """
        ...

    def scores(
        self, name: str, ids: Sequence[UUID], rows: Sequence[Row], *, vector: str
    ) -> list[tuple[StoredPoint, list[float]]]:
        """Return those of some points that exist, each with its dot product with each of the rows."""
        ...

    def retrieve(
        self, name: str, ids: Sequence[UUID], *, vector: str | None = None
    ) -> Mapping[UUID, StoredPoint]:
        """Return those of some points that exist: with their payloads, or with a vector and no payload.

        Raises:
            SegmentIndexError: If a point has no such vector.
        """
        ...

    def scroll(
        self, name: str, where: Conditions = (), *, vector: str | None = None
    ) -> Iterator[StoredPoint]:
        """Yield all matching points in the order of their ids, with their payloads, and a vector if asked.

        Raises:
            SegmentIndexError: If a point has no such vector.
        """
        ...

    def count(self, name: str, where: Conditions = ()) -> int:
        """Return the exact number of matching points."""
        ...

    def optimize(self) -> None:
        """See ``IndexAdmin``."""
        ...

    def close(self) -> None:
        """Flush and release the store; calling it twice is harmless."""
        ...
