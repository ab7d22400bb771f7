"""An exact index in memory: the truth that the tests compare the other indexes with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_backends.index.fusing import check_fused_query
from segdex_backends.index.payloads import check_fingerprint, check_query, check_segments, check_vectors
from segdex_core.errors import IndexMissingError, SegmentIndexError
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


@dataclass(frozen=True, slots=True)
class _StoredSegment:
    record: SegmentRecord
    vectors: Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class _StoredImage:
    record: ImageRecord
    vector: npt.NDArray[np.float32]


class MemoryIndex:
    """A ``SegmentIndex`` that holds everything in memory and always compares with every vector.

    Equal scores come in the order of their ids. Not thread-safe.
    """

    def __init__(self) -> None:
        self._fingerprint: IndexFingerprint | None = None
        self._segments: dict[UUID, _StoredSegment] = {}
        self._images: dict[UUID, _StoredImage] = {}

    @property
    def location(self) -> str:
        """See ``SegmentIndex``."""
        return "memory"

    def fingerprint(self) -> IndexFingerprint | None:
        """See ``SegmentIndex``."""
        return self._fingerprint

    def ensure(self, wanted: IndexFingerprint) -> None:
        """See ``SegmentIndex``."""
        if self._fingerprint is None:
            self._fingerprint = wanted
        check_fingerprint(self._fingerprint, wanted, self.location)

    def upsert_segments(self, segments: EmbeddedSegments) -> None:
        """See ``SegmentIndex``."""
        check_segments(segments, self._known())
        for row, record in enumerate(segments.records):
            vectors = {view: np.array(rows[row], np.float32) for view, rows in segments.vectors.items()}
            self._segments[record.segment_id] = _StoredSegment(record, vectors)

    def upsert_image(self, record: ImageRecord, vector: Vectors) -> None:
        """See ``SegmentIndex``."""
        check_vectors(vector, (1, self._known().dim), "the vector of a picture")
        self._images[record.image_id] = _StoredImage(record, np.array(vector[0], np.float32))

    def update_image(self, record: ImageRecord) -> None:
        """See ``SegmentIndex``.

        Raises:
            SegmentIndexError: If the picture is not in the index.
        """
        self._known()
        if record.image_id not in self._images:
            raise SegmentIndexError(f"picture {record.image_id} is not in {self.location}")
        for segment_id, stored in self._segments.items():
            if stored.record.image_id == record.image_id:
                changed = replace(
                    stored.record, sources=record.sources, tags=record.tags, captured_s=record.captured_s
                )
                self._segments[segment_id] = replace(stored, record=changed)
        self._images[record.image_id] = replace(self._images[record.image_id], record=record)

    def query(
        self,
        vector: npt.NDArray[np.float32],
        *,
        view: str,
        limit: int,
        where: SegmentFilter = EVERYTHING,
        exact: bool = False,  # noqa: ARG002 - it always is
    ) -> list[ScoredSegment]:
        """See ``SegmentIndex``."""
        check_query(vector, limit, self._known(), view)
        return self._ranked(vector, view, where)[:limit]

    def query_fused(
        self,
        vectors: Mapping[str, npt.NDArray[np.float32]],
        *,
        weights: Mapping[str, float],
        object_weight: float = 0.0,
        limit: int,
        where: SegmentFilter = EVERYTHING,
        exact: bool = False,  # noqa: ARG002 - it always is
    ) -> list[FusedSegment]:
        """See ``SegmentIndex``."""
        shares = check_fused_query(vectors, limit, self._known(), weights, object_weight)
        found = [
            FusedSegment(
                segment_id=str(stored.record.segment_id),
                image_id=str(stored.record.image_id),
                ancestor_ids=tuple(map(str, stored.record.ancestor_ids)),
                score=sum(share * float(stored.vectors[v] @ vectors[v]) for v, share in shares.items())
                + object_weight * stored.record.object_score,
            )
            for stored in self._segments.values()
            if _matches(stored.record, where)
        ]
        return sorted(found, key=lambda hit: (-hit.score, hit.segment_id))[:limit]

    def view_segments(
        self, segment_ids: Sequence[UUID], vectors: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[UUID, ViewedSegment]:
        """See ``SegmentIndex``."""
        for view, vector in vectors.items():
            check_query(vector, 1, self._known(), view)
        found = [self._segments[key] for key in segment_ids if key in self._segments]
        return {
            stored.record.segment_id: ViewedSegment(
                stored.record, {view: float(stored.vectors[view] @ vectors[view]) for view in vectors}
            )
            for stored in found
        }

    def query_images(
        self,
        vector: npt.NDArray[np.float32],
        *,
        limit: int,
        exact: bool = False,  # noqa: ARG002 - it always is
    ) -> list[ScoredImage]:
        """See ``SegmentIndex``."""
        check_query(vector, limit, self._known())
        hits = [ScoredImage(stored.record, float(stored.vector @ vector)) for stored in self._images.values()]
        return sorted(hits, key=lambda hit: (-hit.score, hit.record.image_id))[:limit]

    def get_segments(self, segment_ids: Sequence[UUID]) -> list[SegmentRecord]:
        """See ``SegmentIndex``."""
        self._known()
        return [self._segments[key].record for key in segment_ids if key in self._segments]

    def get_vectors(
        self, segment_ids: Sequence[UUID]
    ) -> Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]]:
        """See ``SegmentIndex``."""
        self._known()
        return {key: self._segments[key].vectors for key in segment_ids if key in self._segments}

    def get_images(self, image_ids: Sequence[UUID]) -> list[ImageRecord]:
        """See ``SegmentIndex``."""
        self._known()
        return [self._images[key].record for key in image_ids if key in self._images]

    def get_image_vectors(self, image_ids: Sequence[UUID]) -> Mapping[UUID, npt.NDArray[np.float32]]:
        """See ``SegmentIndex``."""
        self._known()
        return {key: self._images[key].vector for key in image_ids if key in self._images}

    def scroll_segments(self, where: SegmentFilter = EVERYTHING) -> Iterator[SegmentRecord]:
        """See ``SegmentIndex``."""
        self._known()
        for key in sorted(self._segments):
            if key in self._segments and _matches(self._segments[key].record, where):
                yield self._segments[key].record

    def scroll_images(self) -> Iterator[ImageRecord]:
        """See ``SegmentIndex``."""
        self._known()
        for key in sorted(self._images):
            if key in self._images:
                yield self._images[key].record

    def delete_segments(self, image_id: UUID) -> None:
        """See ``SegmentIndex``."""
        self._known()
        self._segments = {
            key: stored for key, stored in self._segments.items() if stored.record.image_id != image_id
        }

    def delete_image(self, image_id: UUID) -> None:
        """See ``SegmentIndex``."""
        self._known()
        self._images.pop(image_id, None)
        self.delete_segments(image_id)

    def counts(self, where: SegmentFilter = EVERYTHING) -> IndexCounts:
        """See ``SegmentIndex``."""
        self._known()
        matching = sum(_matches(stored.record, where) for stored in self._segments.values())
        return IndexCounts(images=len(self._images), segments=matching)

    def optimize(self) -> None:
        """See ``SegmentIndex``; there is nothing to build."""

    def close(self) -> None:
        """See ``SegmentIndex``; there is nothing to release."""

    def _known(self) -> IndexFingerprint:
        if self._fingerprint is None:
            raise IndexMissingError("the index in memory was not made yet")
        return self._fingerprint

    def _ranked(
        self, vector: npt.NDArray[np.float32], view: str, where: SegmentFilter
    ) -> list[ScoredSegment]:
        found = [stored for stored in self._segments.values() if _matches(stored.record, where)]
        hits = [ScoredSegment(stored.record, float(stored.vectors[view] @ vector)) for stored in found]
        return sorted(hits, key=lambda hit: (-hit.score, hit.record.segment_id))


def _matches(record: SegmentRecord, where: SegmentFilter) -> bool:
    return (
        (not where.image_ids or record.image_id in where.image_ids)
        and (where.min_area_fraction is None or record.area_fraction >= where.min_area_fraction)
        and (where.max_area_fraction is None or record.area_fraction <= where.max_area_fraction)
        and (where.min_depth is None or record.depth >= where.min_depth)
        and (not where.sources or not set(where.sources).isdisjoint(record.sources))
        and set(where.tags) <= set(record.tags)
        and (where.captured_from_s is None or record.captured_s >= where.captured_from_s)
        and (where.captured_until_s is None or record.captured_s < where.captured_until_s)
    )
