"""Protocol of a vector database: points with payloads in named collections.

``QdrantIndex`` has the code that Qdrant Edge and a Qdrant server share. A store calls one of the two, and
converts its errors to segdex errors.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_backends.index.conditions import Conditions
from segdex_core.errors import SegmentIndexError
from segdex_core.records import FusedSegment

NO_CONDITIONS: Mapping[UUID, Conditions] = MappingProxyType({})

MAX_VALUES = 100_000
"""Distinct values of a field that are counted."""

FieldKind = Literal["uuid", "keyword", "float"]
Row = npt.NDArray[np.float32]
"""(size,) float32: one stored vector."""


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """Specification of a collection. The distance is the dot product.

    Attributes:
        vector: Name of the vector.
        size: Length of the vector.
        fields: Payload fields that conditions look up, and their kinds.
        is_large: Whether to keep the full vectors on disk and to search 8-bit copies.
    """

    vector: str
    size: int
    fields: Mapping[str, FieldKind] = field(default_factory=dict)
    is_large: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class StoredPoint:
    """A point. ``row`` is the requested vector, or None if no vector was requested."""

    id: UUID
    payload: Mapping[str, object]
    row: Row | None = None


class FoundPoint(Protocol):
    """A point as Qdrant Edge and the server client return it."""

    @property
    def id(self) -> object:
        """The id (see ``to_uuid``)."""
        ...

    @property
    def payload(self) -> Mapping[str, object] | None:
        """The payload, or None if it was not requested."""
        ...

    @property
    def vector(self) -> object:
        """The requested vectors, by name."""
        ...


def to_uuid(point_id: object) -> UUID:
    """Return the id of a point, which Qdrant returns as a UUID or its text.

    Raises:
        ValueError: If ``point_id`` is neither.
    """
    return point_id if isinstance(point_id, UUID) else UUID(str(point_id))


def stored_point(point: FoundPoint, vector: str | None, place: str, *, lenient: bool = False) -> StoredPoint:
    """Convert a point from the index at ``place``, with the vector named ``vector`` if it is not None.

    Args:
        point: The point.
        vector: Name of the vector.
        place: Location of the index, for the error.
        lenient: Whether a point may lack the vector; its row is None then.

    Raises:
        SegmentIndexError: If the point does not have the vector.
    """
    row = None
    if vector is not None:
        if isinstance(point.vector, Mapping) and vector in point.vector:
            row = np.asarray(point.vector[vector], np.float32)
        elif not lenient:
            raise SegmentIndexError(f"point {point.id} in {place} has no vector {vector!r}")
    return StoredPoint(to_uuid(point.id), point.payload or {}, row)


class PointStore(Protocol):
    """Collections of points and one description. All writes are idempotent, and durable when they return.

    Methods take the real name of a collection (see ``layout``); ``InUse`` maps names to them. Errors are
    ``SegmentIndexError`` and its subclasses. ``IndexMissingError`` means that the collection was dropped.
    """

    @property
    def location(self) -> str:
        """See ``IndexReader``."""
        ...

    def description(self) -> Mapping[str, object] | None:
        """Return the stored description, or None if there is no index."""
        ...

    def make(self, description: Mapping[str, object], collections: Mapping[str, CollectionSpec]) -> None:
        """Start an index. If another process has started one, its description is kept."""
        ...

    def open(self, description: Mapping[str, object], collections: Mapping[str, CollectionSpec]) -> None:
        """Open the collections that the description names.

        Collections that a terminated process did not create are created, and collections that it did not
        remove are removed.

        Raises:
            SegmentIndexError: If the description does not name all collections of its schema.
        """
        ...

    def claim(self) -> None:
        """Make sure that this process may write. One that only reads need not, and leaves it to others.

        Raises:
            IndexLockedError: If another process is the only one that may.
            IndexMismatchError: If a re-embedding has replaced the collections meanwhile.
        """
        ...

    def describe(self, description: Mapping[str, object]) -> None:
        """Replace the description with one that names the same real collections."""
        ...

    def create(self, real_name: str, spec: CollectionSpec) -> None:
        """Create a collection next to the collections in use, unless it exists."""
        ...

    def switch(self, description: Mapping[str, object]) -> None:
        """Replace the description atomically with one that names other real collections.

        Collections of an older schema are removed. If the process terminates meanwhile, the index is the old
        one, or the new one with work left for ``open``.
        """
        ...

    def present(self) -> frozenset[str]:
        """Return the real names of all collections of this schema, whether or not they are in use."""
        ...

    def drop(self, real_name: str) -> None:
        """Remove a collection that is not in use. A missing collection is ignored."""
        ...

    def fence(self, real_name: str, *, by: str | None) -> None:
        """Raise the fence of a collection of segments, the mark that another one replaces it, or lift it.

        Args:
            real_name: Name of the collection.
            by: Who raises it, also in place of somebody else; None lifts it.
        """
        ...

    def fenced_by(self, real_name: str) -> str | None:
        """Return who raised the fence of a collection of segments, or None if it is not up.

        Raises:
            IndexMissingError: If the collection was dropped.
        """
        ...

    def notes(self, real_name: str) -> Mapping[str, object]:
        """Return the notes of a collection of segments, by key."""
        ...

    def note(self, real_name: str, notes: Mapping[str, object]) -> None:
        """Add or replace notes. Several processes may add notes at the same time."""
        ...

    def upsert(self, name: str, points: Sequence[StoredPoint], *, vector: str, over: Conditions = ()) -> None:
        """Write new points, and replace existing points that meet the conditions ``over``."""
        ...

    def set_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        """Set some fields of the payload of all matching points."""
        ...

    def set_payloads(
        self,
        name: str,
        payloads: Mapping[UUID, Mapping[str, object]],
        *,
        over: Mapping[UUID, Conditions] = NO_CONDITIONS,
    ) -> None:
        """Set some fields of the payload of each of some points; a point that is not there is skipped.

        Args:
            name: Real name of the collection.
            payloads: Fields by point.
            over: Conditions that some of the points must meet, else they are skipped.
        """
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

        A store creates the records directly, from only ``FUSED_FIELDS``, because intermediate points take
        time with thousands of candidates.

        Raises:
            SegmentIndexError: If a point lacks one of the fields.
        """
        ...

    def recommend(
        self,
        name: str,
        towards: Sequence[Row],
        away: Sequence[Row],
        *,
        vector: str,
        limit: int,
        where: Conditions,
        exact: bool,
    ) -> list[FusedSegment]:
        """Return the segments that Qdrant's strategy ``best_score`` ranks first; see ``fusing.best_scores``.

        Raises:
            SegmentIndexError: If a point lacks one of ``FUSED_FIELDS``.
        """
        ...

    def scores(
        self, name: str, ids: Sequence[UUID], rows: Sequence[Row], *, vector: str
    ) -> list[tuple[StoredPoint, list[float]]]:
        """Return the existing points among ``ids``, each with its dot products with all rows."""
        ...

    def retrieve(
        self, name: str, ids: Sequence[UUID], *, vector: str | None = None
    ) -> Mapping[UUID, StoredPoint]:
        """Return the existing points among ``ids``, with payloads, or with a vector and no payload.

        Raises:
            SegmentIndexError: If a point does not have the vector.
        """
        ...

    def scroll(
        self, name: str, where: Conditions = (), *, vector: str | None = None, lenient: bool = False
    ) -> Iterator[StoredPoint]:
        """Yield all matching points with payloads, ordered by id.

        Args:
            name: Real name of the collection.
            where: Conditions that the points meet.
            vector: Name of a vector to include.
            lenient: Whether points may lack the vector.

        Raises:
            SegmentIndexError: If a point does not have the vector.
        """
        ...

    def ids_from(self, name: str, first: UUID, *, limit: int) -> list[UUID]:
        """Return the ids of the first ``limit`` points whose id is ``first`` or larger, in order."""
        ...

    def count(self, name: str, where: Conditions = ()) -> int:
        """Return the exact number of matching points."""
        ...

    def count_values(self, name: str, field: str) -> Mapping[str, int]:
        """Return the exact number of points by value of a keyword of the payload, up to ``MAX_VALUES``."""
        ...

    def optimize(self) -> None:
        """See ``IndexAdmin``."""
        ...

    def close(self) -> None:
        """Flush and release the store; calling it twice is harmless."""
        ...
