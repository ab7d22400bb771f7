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
    IndexCounts,
    IndexFingerprint,
    ScoredImage,
    ScoredSegment,
    SegmentFilter,
    SegmentRecord,
    Vectors,
    ViewedSegment,
)


class SegmentIndex(Protocol):
    """Segments with a vector for each view, and the ledger of pictures. All writes are idempotent."""

    @property
    def location(self) -> str:
        """Where it is, for people: ``edge:PATH``, ``http://HOST:PORT`` or ``memory``."""
        ...

    def fingerprint(self) -> IndexFingerprint | None:
        """Return what filled the index, None when there is none yet."""
        ...

    def ensure(self, wanted: IndexFingerprint) -> None:
        """Create the index for ``wanted``, or check that it already is one for it.

        Raises:
            IndexMismatchError: If it was filled by another embedder, or with other views.
            IndexVersionError: If it has a newer schema.
        """
        ...

    def upsert_segments(self, segments: EmbeddedSegments) -> None:
        """Write segments with their vectors; the same id again overwrites. Durable when it returns."""
        ...

    def upsert_image(self, record: ImageRecord, vector: Vectors) -> None:
        """Write a line of the ledger with the (1, dim) vector of the whole picture."""
        ...

    def update_image(self, record: ImageRecord) -> None:
        """Replace the payload of a known picture, and what its segments repeat of it.

        Those are ``sources`` (``uri_sources`` of all its files), ``tags`` and ``captured_s``. Vectors stay.
        The segments are written first and the ledger last, so that a crash is repaired by doing it again.
        """
        ...

    def query(
        self,
        vector: npt.NDArray[np.float32],
        *,
        view: str,
        limit: int,
        where: SegmentFilter = EVERYTHING,
        exact: bool = False,
    ) -> list[ScoredSegment]:
        """Return the segments with the largest dot product, best first.

        Args:
            vector: (dim,) float32, not zero; its length scales the scores.
            view: Which vector of a segment to compare with.
            limit: At most this many.
            where: Conditions on the payload.
            exact: Compare with every vector instead of walking the HNSW graph.
        """
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

    def query_images(
        self, vector: npt.NDArray[np.float32], *, limit: int, exact: bool = False
    ) -> list[ScoredImage]:
        """Return the pictures whose whole-picture vector has the largest dot product, best first."""
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

    def delete_segments(self, image_id: UUID) -> None:
        """Delete all segments of a picture."""
        ...

    def delete_image(self, image_id: UUID) -> None:
        """Delete a picture: its line of the ledger first, then its segments.

        So a crash in between leaves a picture that the next ingest does again.
        """
        ...

    def counts(self, where: SegmentFilter = EVERYTHING) -> IndexCounts:
        """Return the exact numbers of pictures and of matching segments."""
        ...

    def optimize(self) -> None:
        """Build what makes queries fast (the HNSW graph); may take minutes on a large embedded index."""
        ...

    def close(self) -> None:
        """Flush and release the index; calling it twice is harmless."""
        ...
