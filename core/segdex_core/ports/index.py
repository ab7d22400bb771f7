"""Segments with their vectors, and the ledger of pictures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.records import (
    EVERYTHING,
    EmbeddedSegments,
    FusedSegment,
    ImageRecord,
    ImageStatus,
    IndexCounts,
    IndexFingerprint,
    SegmentFilter,
    SegmentRecord,
    Vectors,
    ViewedSegment,
)


class IndexReader(Protocol):
    """What is asked of an index."""

    @property
    def location(self) -> str:
        """Where it is, for people: ``edge:PATH``, ``http://HOST:PORT`` or ``memory``."""
        ...

    def fingerprint(self) -> IndexFingerprint | None:
        """Return what filled the index, None when there is none yet."""
        ...

    def query_fused(
        self,
        vectors: Mapping[str, npt.NDArray[np.float32]],
        *,
        weights: Mapping[str, float],
        object_weight: float = 0.0,
        limit: int,
        where: SegmentFilter = EVERYTHING,
        exact: bool = False,
    ) -> list[FusedSegment]:
        """Return the segments with the largest weighted mean of dot products plus object score, best first.

        Args:
            vectors: (dim,) float32 by view.
            weights: Share of each view, 0 or more, not all 0.
            object_weight: What the object score counts beside that mean, 0 or more.
            limit: At most this many.
            where: Conditions on the payload.
            exact: Compare with every vector instead of walking the HNSW graph.
        """
        ...

    def view_segments(
        self, segment_ids: Sequence[UUID], vectors: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[UUID, ViewedSegment]:
        """Return those of some segments that exist, with the dot product of each view."""
        ...

    def get_segments(self, segment_ids: Sequence[UUID]) -> list[SegmentRecord]:
        """Return the segments that exist, in the order asked for."""
        ...

    def get_vectors(
        self, segment_ids: Sequence[UUID]
    ) -> Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]]:
        """Return the (dim,) vectors by view of the segments that exist."""
        ...

    def get_images(self, image_ids: Sequence[UUID]) -> list[ImageRecord]:
        """Return the pictures that exist, in the order asked for."""
        ...

    def get_image_vectors(self, image_ids: Sequence[UUID]) -> Mapping[UUID, npt.NDArray[np.float32]]:
        """Return the (dim,) whole-picture vectors of the pictures that exist."""
        ...

    def scroll_segments(self, where: SegmentFilter = EVERYTHING) -> Iterator[SegmentRecord]:
        """Yield all matching segments in the order of their ids."""
        ...

    def scroll_images(self) -> Iterator[ImageRecord]:
        """Yield the whole ledger in the order of the ids."""
        ...

    def counts(self, where: SegmentFilter = EVERYTHING) -> IndexCounts:
        """Return the exact numbers of pictures and of matching segments."""
        ...

    def count_images(self, status: ImageStatus) -> int:
        """Return the exact number of pictures with a status."""
        ...


class IndexWriter(Protocol):
    """What changes the pictures and segments of an index.

    All writes are idempotent, and durable when they return.

    Several processes may write to one index. The record of a picture has a ``revision`` that the index counts
    up: a write holds only if the index still has the revision that the record was read with. So change a
    record with ``dataclasses.replace``, which keeps its revision, and where ``IndexConflictError`` is raised,
    read the record again, merge, and write again.
    """

    def upsert_segments(self, segments: EmbeddedSegments) -> None:
        """Write segments with their vectors; the same id again overwrites."""
        ...

    def upsert_image(self, record: ImageRecord, vector: Vectors) -> ImageRecord:
        """Write a line of the ledger with the (1, dim) vector of the whole picture.

        It is written if the picture has no line yet, or the line has the revision of ``record``. A record
        with revision 0, as a new one has, replaces none. A line that says the same already is left as it is.

        Returns:
            The record as it is stored, with its new revision.

        Raises:
            IndexConflictError: If the picture has a line that says something else.
        """
        ...

    def update_image(self, record: ImageRecord) -> ImageRecord:
        """Replace the payload of a known picture, and what its segments repeat of it. Vectors stay.

        Its segments repeat ``sources`` (``uri_sources`` of all its files), ``tags`` and ``captured_s``. They
        are written first and the ledger last, so that a crash is repaired by doing it again.

        Returns:
            The record as it is stored, with its new revision.

        Raises:
            IndexConflictError: If its line has another revision and says something else, or is not there.
        """
        ...

    def delete_segments(self, image_id: UUID) -> None:
        """Delete all segments of a picture."""
        ...

    def delete_image(self, image_id: UUID, *, revision: int | None = None) -> None:
        """Delete a picture: its line of the ledger first, then its segments.

        So a crash in between leaves a picture that the next ingest does again. A picture that is not there is
        deleted already.

        Args:
            image_id: The picture.
            revision: Delete only what was read with this revision; None deletes whatever is there.

        Raises:
            IndexConflictError: If the picture has another revision.
        """
        ...


class IndexAdmin(Protocol):
    """What is done to an index as a whole. An index of an older schema is migrated when it is opened."""

    def ensure(self, wanted: IndexFingerprint) -> None:
        """Create the index for ``wanted``, or check that it already is one for it.

        Raises:
            IndexMismatchError: If it was filled by another embedder, or with other views.
            IndexVersionError: If it has a newer schema.
        """
        ...

    def remember(self, fingerprint: IndexFingerprint) -> None:
        """Store a changed fingerprint: other defaults for the next ingest, the same vectors.

        Raises:
            IndexMismatchError: If the vectors would be others.
        """
        ...

    def optimize(self) -> None:
        """Build what makes queries fast (the HNSW graph); may take minutes on a large embedded index."""
        ...

    def close(self) -> None:
        """Flush and release the index; calling it twice is harmless."""
        ...


class SegmentIndex(IndexReader, IndexWriter, IndexAdmin, Protocol):
    """Segments with a vector for each view, and the ledger of pictures."""
