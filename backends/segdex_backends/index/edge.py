"""The embedded index: Qdrant Edge in this process, in one folder, for one process at a time."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt
from qdrant_edge import (
    CountRequest,
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    HasIdCondition,
    MatchAny,
    MatchValue,
    PayloadSchemaType,
    Point,
    Query,
    QueryBatchRequest,
    QueryRequest,
    RangeFloat,
    Record,
    ScoredPoint,
    ScrollRequest,
    SearchParams,
    UpdateOperation,
)

from segdex_backends.index.edge_folder import WRITE_FREE_BYTES, EdgeFolder
from segdex_backends.index.fusing import (
    FUSED_FIELDS,
    SEARCH_EF,
    VIEWS_VECTOR,
    check_fused_query,
    join_query,
    join_rows,
    joined_size,
    scores_by_view,
    split_row,
    unreadable,
)
from segdex_backends.index.payloads import (
    FILTER_FIELDS,
    check_fingerprint,
    check_query,
    check_segments,
    check_vectors,
    image_from_payload,
    image_to_payload,
    repeated_payload,
    segment_from_payload,
    segment_to_payload,
)
from segdex_core.errors import SegmentIndexError
from segdex_core.records import (
    EVERYTHING,
    IMAGE_VIEW,
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

_SEGMENTS, _IMAGES = "segments", "images"
_PAGE = 256  # points per request of a scroll
_WRITES_PER_FLUSH = 64
"""Writes between two flushes. A flush empties the write-ahead log, which grows by 0.4 MB for 100 segments of
two vectors of 384; it costs about 0.2 s, and replaying 16,000 such segments on opening about 0.7 s."""

_INDEX_TYPES = {
    "uuid": PayloadSchemaType.Uuid,
    "keyword": PayloadSchemaType.Keyword,
    "float": PayloadSchemaType.Float,
}


class EdgeIndex:
    """A ``SegmentIndex`` in a folder, by Qdrant Edge.

    The distance is the plain dot product: vectors are stored as they are given, zero vectors too, and score
    0 against everything. The views of a segment are one vector, side by side. Queries compare with every
    vector until ``optimize`` has built the HNSW graph.
    Qdrant Edge holds Python's global lock during each call: threads may share an index, but they wait for
    each other, and for ``optimize`` the whole process waits.

    Args:
        path: The folder.
        create: Make the index when it is absent; else that is an error.

    Raises:
        IndexMissingError: If there is no index and ``create`` is False.
        IndexLockedError: If another process has it open.
        IndexVersionError: If a newer segdex made it.
        IndexStorageError: If it cannot be written, or the disk is nearly full.
        SegmentIndexError: If the folder holds something else.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self._folder = EdgeFolder(path, create=create)
        self._shards: dict[str, EdgeShard] = {}
        self._writes = 0
        try:
            self._fingerprint = self._folder.read_fingerprint()
            if self._fingerprint is not None:
                self._open_shards(self._fingerprint)
        except BaseException:
            self.close()
            raise

    @property
    def location(self) -> str:
        """See ``SegmentIndex``."""
        return self._folder.location

    def fingerprint(self) -> IndexFingerprint | None:
        """See ``SegmentIndex``."""
        return self._fingerprint

    def ensure(self, wanted: IndexFingerprint) -> None:
        """See ``SegmentIndex``."""
        if self._fingerprint is None:
            self._folder.write_fingerprint(wanted)
            self._open_shards(wanted)
            self._fingerprint = wanted
        check_fingerprint(self._fingerprint, wanted, self.location)

    def upsert_segments(self, segments: EmbeddedSegments) -> None:
        """See ``SegmentIndex``."""
        known = self._known()
        check_segments(segments, known)
        rows = join_rows(segments, known.views).tolist()
        points = [
            Point(record.segment_id, {VIEWS_VECTOR: row}, segment_to_payload(record))
            for record, row in zip(segments.records, rows, strict=True)
        ]
        if points:
            self._write(_SEGMENTS, UpdateOperation.upsert_points(points))

    def upsert_image(self, record: ImageRecord, vector: Vectors) -> None:
        """See ``SegmentIndex``."""
        check_vectors(vector, (1, self._known().dim), "the vector of a picture")
        row = vector[0].astype(np.float32).tolist()
        point = Point(record.image_id, {IMAGE_VIEW: row}, image_to_payload(record))
        self._write(_IMAGES, UpdateOperation.upsert_points([point]))

    def update_image(self, record: ImageRecord) -> None:
        """See ``SegmentIndex``.

        Raises:
            SegmentIndexError: If the picture is not in the index.
        """
        if not self._retrieve(_IMAGES, [record.image_id]):
            raise SegmentIndexError(f"picture {record.image_id} is not in {self.location}")
        payload = image_to_payload(record)
        of_image = _to_filter(SegmentFilter(image_ids=(record.image_id,)))
        self._write(_SEGMENTS, UpdateOperation.set_payload_by_filter(of_image, repeated_payload(record)))
        self._write(_IMAGES, UpdateOperation.overwrite_payload([record.image_id], payload))

    def query(
        self,
        vector: npt.NDArray[np.float32],
        *,
        view: str,
        limit: int,
        where: SegmentFilter = EVERYTHING,
        exact: bool = False,
    ) -> list[ScoredSegment]:
        """See ``SegmentIndex``."""
        known = self._known()
        check_query(vector, limit, known, view)
        query = join_query({view: vector}, {view: 1.0}, known.views)
        points = self._query(_SEGMENTS, query, using=VIEWS_VECTOR, limit=limit, exact=exact, where=where)
        return [
            ScoredSegment(segment_from_payload(point.id, point.payload, self.location), point.score)
            for point in points
        ]

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
        """See ``SegmentIndex``."""
        known = self._known()
        shares = check_fused_query(vectors, limit, known, weights, object_weight)
        request = QueryRequest(
            limit=limit,
            query=Query.Nearest(
                join_query(vectors, shares, known.views, object_weight=object_weight), using=VIEWS_VECTOR
            ),
            filter=_to_filter(where),
            params=SearchParams(hnsw_ef=SEARCH_EF, exact=exact),
            with_payload=FUSED_FIELDS,
        )
        shard = self._shard(_SEGMENTS)
        with self._folder.translated():
            points = shard.query(request)
        return [self._fused(point) for point in points]

    def view_segments(
        self, segment_ids: Sequence[UUID], vectors: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[UUID, ViewedSegment]:
        """See ``SegmentIndex``."""
        known = self._known()
        for view, vector in vectors.items():
            check_query(vector, 1, known, view)
        if not segment_ids:
            return {}
        these = Filter(must=[HasIdCondition(set(segment_ids))])
        requests = [
            QueryRequest(
                limit=len(segment_ids),
                query=Query.Nearest(join_query({view: vector}, {view: 1.0}, known.views), using=VIEWS_VECTOR),
                filter=these,
                with_payload=place == 0,  # of the first view is enough
            )
            for place, (view, vector) in enumerate(vectors.items())
        ]
        shard = self._shard(_SEGMENTS)
        with self._folder.translated():
            answers = shard.query_batch(QueryBatchRequest(requests))
        records = (segment_from_payload(point.id, point.payload, self.location) for point in answers[0])
        scores = [{str(point.id): point.score for point in answer} for answer in answers]
        return scores_by_view(records, dict(zip(vectors, scores, strict=True)))

    def query_images(
        self, vector: npt.NDArray[np.float32], *, limit: int, exact: bool = False
    ) -> list[ScoredImage]:
        """See ``SegmentIndex``."""
        check_query(vector, limit, self._known())
        query = vector.astype(np.float32).tolist()
        points = self._query(_IMAGES, query, using=IMAGE_VIEW, limit=limit, exact=exact)
        return [
            ScoredImage(image_from_payload(point.id, point.payload, self.location), point.score)
            for point in points
        ]

    def get_segments(self, segment_ids: Sequence[UUID]) -> list[SegmentRecord]:
        """See ``SegmentIndex``."""
        found = self._retrieve(_SEGMENTS, segment_ids)
        records = {
            key: segment_from_payload(key, point.payload, self.location) for key, point in found.items()
        }
        return [records[key] for key in segment_ids if key in records]

    def get_vectors(
        self, segment_ids: Sequence[UUID]
    ) -> Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]]:
        """See ``SegmentIndex``."""
        views = self._known().views
        found = self._retrieve(_SEGMENTS, segment_ids, vectors=True)
        return {key: split_row(self._row(point, VIEWS_VECTOR), views) for key, point in found.items()}

    def get_images(self, image_ids: Sequence[UUID]) -> list[ImageRecord]:
        """See ``SegmentIndex``."""
        found = self._retrieve(_IMAGES, image_ids)
        records = {key: image_from_payload(key, point.payload, self.location) for key, point in found.items()}
        return [records[key] for key in image_ids if key in records]

    def get_image_vectors(self, image_ids: Sequence[UUID]) -> Mapping[UUID, npt.NDArray[np.float32]]:
        """See ``SegmentIndex``."""
        found = self._retrieve(_IMAGES, image_ids, vectors=True)
        return {key: self._row(point, IMAGE_VIEW) for key, point in found.items()}

    def scroll_segments(self, where: SegmentFilter = EVERYTHING) -> Iterator[SegmentRecord]:
        """See ``SegmentIndex``."""
        for point in self._scroll(_SEGMENTS, where):
            yield segment_from_payload(point.id, point.payload, self.location)

    def scroll_images(self) -> Iterator[ImageRecord]:
        """See ``SegmentIndex``."""
        for point in self._scroll(_IMAGES, EVERYTHING):
            yield image_from_payload(point.id, point.payload, self.location)

    def delete_segments(self, image_id: UUID) -> None:
        """See ``SegmentIndex``."""
        of_image = _to_filter(SegmentFilter(image_ids=(image_id,)))
        self._write(_SEGMENTS, UpdateOperation.delete_points_by_filter(of_image))

    def delete_image(self, image_id: UUID) -> None:
        """See ``SegmentIndex``."""
        self._write(_IMAGES, UpdateOperation.delete_points([image_id]))
        self.delete_segments(image_id)

    def counts(self, where: SegmentFilter = EVERYTHING) -> IndexCounts:
        """See ``SegmentIndex``."""
        images, segments = self._shard(_IMAGES), self._shard(_SEGMENTS)
        with self._folder.translated():
            return IndexCounts(
                images=images.count(CountRequest(exact=True)),
                segments=segments.count(CountRequest(exact=True, filter=_to_filter(where))),
            )

    def optimize(self) -> None:
        """See ``SegmentIndex``; blocks all threads.

        It took 27 s for 23,000 segments of two vectors of 384 on 2 cores. Qdrant builds no graph for a
        view with less than about 10 MB of vectors, where it would not pay.
        """
        for name in (_SEGMENTS, _IMAGES):
            shard = self._shard(name)
            # The optimizer writes a new copy of a shard before it drops the old one.
            self._folder.check_free(WRITE_FREE_BYTES + 2 * self._folder.size_bytes(name))
            with self._folder.translated():
                shard.optimize()
                shard.flush()

    def close(self) -> None:
        """See ``SegmentIndex``."""
        try:
            while self._shards:
                _, shard = self._shards.popitem()
                with self._folder.translated():
                    shard.close()  # which flushes
        finally:
            self._folder.close()

    def _known(self) -> IndexFingerprint:
        if self._fingerprint is None:
            raise self._folder.missing()
        return self._fingerprint

    def _shard(self, name: str) -> EdgeShard:
        self._known()
        if name not in self._shards:
            raise ValueError(f"the index {self.location} is closed")
        return self._shards[name]

    def _open_shards(self, fingerprint: IndexFingerprint) -> None:
        segment_size = joined_size(fingerprint)
        makers = {
            _SEGMENTS: partial(_make_shard, vector=VIEWS_VECTOR, size=segment_size, fields=FILTER_FIELDS),
            _IMAGES: partial(_make_shard, vector=IMAGE_VIEW, size=fingerprint.dim, fields={}),
        }
        for name, make in makers.items():
            self._shards[name] = self._folder.open_shard(name, make)

    def _write(self, name: str, operation: UpdateOperation) -> None:
        """Carry out a write; it survives the death of the process and of the machine when this returns."""
        shard = self._shard(name)
        self._folder.check_free(WRITE_FREE_BYTES)
        with self._folder.translated():
            shard.update(operation)
            self._writes += 1
            if self._writes % _WRITES_PER_FLUSH == 0:
                for each in self._shards.values():
                    each.flush()
        self._folder.sync_log(name)

    def _query(
        self,
        name: str,
        query: list[float],
        *,
        using: str,
        limit: int,
        exact: bool,
        where: SegmentFilter = EVERYTHING,
    ) -> list[ScoredPoint]:
        request = QueryRequest(
            limit=limit,
            query=Query.Nearest(query, using=using),
            filter=_to_filter(where),
            params=SearchParams(exact=exact),
            with_payload=True,
        )
        shard = self._shard(name)
        with self._folder.translated():
            return shard.query(request)

    def _fused(self, point: ScoredPoint) -> FusedSegment:
        payload = point.payload or {}
        if any(field not in payload for field in FUSED_FIELDS):
            raise unreadable(point.id, self.location)
        return FusedSegment(
            segment_id=str(point.id),
            image_id=payload["image_id"],
            ancestor_ids=tuple(payload["ancestor_ids"]),
            score=point.score,
        )

    def _retrieve(self, name: str, ids: Sequence[UUID], *, vectors: bool = False) -> dict[UUID, Record]:
        shard = self._shard(name)
        with self._folder.translated():
            found = shard.retrieve(list(ids), with_payload=not vectors, with_vector=vectors)
        return {UUID(str(point.id)): point for point in found}

    def _scroll(self, name: str, where: SegmentFilter) -> Iterator[Record]:
        offset = None
        while True:
            request = ScrollRequest(offset=offset, limit=_PAGE, filter=_to_filter(where), with_payload=True)
            shard = self._shard(name)
            with self._folder.translated():
                points, offset = shard.scroll(request)
            yield from points
            if offset is None:
                return

    def _row(self, point: Record, name: str) -> npt.NDArray[np.float32]:
        if not isinstance(point.vector, dict) or name not in point.vector:
            raise SegmentIndexError(f"point {point.id} in {self.location} has no vector {name!r}")
        return np.asarray(point.vector[name], np.float32)


def _make_shard(path: str, *, vector: str, size: int, fields: Mapping[str, str]) -> EdgeShard:
    config = EdgeConfig(vectors={vector: EdgeVectorParams(size, Distance.Dot)})
    shard = EdgeShard.create(path, config)
    for field, kind in fields.items():
        shard.update(UpdateOperation.create_field_index(field, _INDEX_TYPES[kind]))
    return shard


def _to_filter(where: SegmentFilter) -> Filter:
    must: list[FieldCondition] = [FieldCondition("tags", match=MatchValue(tag)) for tag in where.tags]
    if where.image_ids:
        ids = [str(image_id) for image_id in where.image_ids]
        must.append(FieldCondition("image_id", match=MatchAny(ids)))
    if where.sources:
        must.append(FieldCondition("sources", match=MatchAny(list(where.sources))))
    if where.min_area_fraction is not None or where.max_area_fraction is not None:
        area = RangeFloat(gte=where.min_area_fraction, lte=where.max_area_fraction)
        must.append(FieldCondition("area_fraction", range=area))
    if where.min_depth is not None:
        must.append(FieldCondition("depth", range=RangeFloat(gte=where.min_depth)))
    if where.captured_from_s is not None or where.captured_until_s is not None:
        captured = RangeFloat(gte=where.captured_from_s, lt=where.captured_until_s)
        must.append(FieldCondition("captured_s", range=captured))
    return Filter(must=list(must))
