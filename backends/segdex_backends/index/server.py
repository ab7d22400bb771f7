"""The index on a Qdrant server, over gRPC: for many processes and machines at a time."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from uuid import UUID

import numpy as np
import numpy.typing as npt
from grpc import RpcError, StatusCode  # type: ignore[import-untyped]
from qdrant_client import models

from segdex_backends.index.fusing import (
    VIEWS_VECTOR,
    check_fused_query,
    join_query,
    join_rows,
    joined_size,
    split_row,
)
from segdex_backends.index.payloads import (
    FILTER_FIELDS,
    check_fingerprint,
    check_query,
    check_segments,
    check_vectors,
    fingerprint_from_payload,
    fingerprint_to_payload,
    image_from_payload,
    image_to_payload,
    repeated_payload,
    segment_from_payload,
    segment_to_payload,
)
from segdex_backends.index.server_connection import ServerConnection
from segdex_backends.index.server_filter import to_filter
from segdex_backends.index.server_fusing import (
    OVERSAMPLING,
    fused_answer,
    fused_request,
    views_answer,
    views_request,
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

_METADATA_KEY = "segdex"  # of the collection of segments: the fingerprint
_BATCH = 128  # points per upsert: Qdrant advises 64 to 256
_PAGE = 256  # points per request that reads by id or in order

_INT8 = models.ScalarQuantization(
    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
)
_INDEX_TYPES = {
    "uuid": models.PayloadSchemaType.UUID,
    "keyword": models.PayloadSchemaType.KEYWORD,
    "float": models.PayloadSchemaType.FLOAT,
}


class ServerIndex:
    """A ``SegmentIndex`` in two collections of a Qdrant server, ``PREFIX-segments`` and ``PREFIX-images``.

    The distance is the plain dot product: vectors are stored as they are given, zero vectors too, and score
    0 against everything. The views of a segment are one vector, side by side. Segments are searched by
    8-bit copies of their vectors once the server has built its HNSW graph, and the best are scored again
    with the full vectors; ``exact`` uses those alone. Writes are repeated when the server is away for a
    moment. Threads may share an index.

    Args:
        url: ``http://HOST:PORT`` or ``https://HOST:PORT``.
        api_key: Sent with each request when there is one.
        timeout_s: Longest time for one request, seconds; rounded up to whole ones.
        create: Make the index when it is absent; else that is an error.
        collection_prefix: Start of the names of the collections.
        grpc_port: Port of gRPC; None for the one after the port of ``url``.

    Raises:
        UsageError: If ``url`` is not of that form.
        IndexUnavailableError: If no server answers.
        IndexVersionError: If the server is too old, or a newer segdex made the index.
        IndexMissingError: If there is no index and ``create`` is False.
        SegmentIndexError: If the collections are not segdex's.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        create: bool,
        collection_prefix: str = "segdex",
        grpc_port: int | None = None,
    ) -> None:
        self._segments = f"{collection_prefix}-segments"
        self._images = f"{collection_prefix}-images"
        self._server = ServerConnection(url, api_key=api_key, timeout_s=timeout_s, grpc_port=grpc_port)
        self._client = self._server.client
        try:
            self._fingerprint = self._read_fingerprint()
            if self._fingerprint is None and not create:
                raise self._server.missing()
        except BaseException:
            self.close()
            raise

    @property
    def location(self) -> str:
        """See ``SegmentIndex``."""
        return self._server.location

    def fingerprint(self) -> IndexFingerprint | None:
        """See ``SegmentIndex``."""
        return self._fingerprint

    def ensure(self, wanted: IndexFingerprint) -> None:
        """See ``SegmentIndex``."""
        if self._fingerprint is None:
            # The segments come last, because their collection carries the fingerprint that says "made".
            self._create_collection(self._images, IMAGE_VIEW, wanted.dim, wanted)
            self._create_collection(self._segments, VIEWS_VECTOR, joined_size(wanted), wanted)
            self._fingerprint = self._read_fingerprint() or wanted  # another process may have been faster
        check_fingerprint(self._fingerprint, wanted, self.location)
        self._create_payload_indexes()

    def upsert_segments(self, segments: EmbeddedSegments) -> None:
        """See ``SegmentIndex``."""
        known = self._known()
        check_segments(segments, known)
        rows = join_rows(segments, known.views).tolist()
        points = [
            models.PointStruct(
                id=str(record.segment_id), vector={VIEWS_VECTOR: row}, payload=segment_to_payload(record)
            )
            for record, row in zip(segments.records, rows, strict=True)
        ]
        for start in range(0, len(points), _BATCH):
            self._upsert(self._segments, points[start : start + _BATCH])

    def upsert_image(self, record: ImageRecord, vector: Vectors) -> None:
        """See ``SegmentIndex``."""
        check_vectors(vector, (1, self._known().dim), "the vector of a picture")
        row = vector[0].astype(np.float32).tolist()
        point = models.PointStruct(
            id=str(record.image_id), vector={IMAGE_VIEW: row}, payload=image_to_payload(record)
        )
        self._upsert(self._images, [point])

    def update_image(self, record: ImageRecord) -> None:
        """See ``SegmentIndex``.

        Raises:
            SegmentIndexError: If the picture is not in the index.
        """
        if not self._retrieve(self._images, [record.image_id]):
            raise SegmentIndexError(f"picture {record.image_id} is not in {self.location}")
        payload = image_to_payload(record)
        repeated = repeated_payload(record)
        of_image = to_filter(SegmentFilter(image_ids=(record.image_id,)))
        self._server.write(lambda: self._client.set_payload(self._segments, repeated, of_image))
        self._server.write(
            lambda: self._client.overwrite_payload(self._images, payload, [str(record.image_id)])
        )

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
        points = self._query(self._segments, query, using=VIEWS_VECTOR, limit=limit, exact=exact, where=where)
        return [self._scored(point) for point in points]

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
        query = join_query(vectors, shares, known.views, object_weight=object_weight)
        request = fused_request(self._segments, query, limit=limit, where=where, exact=exact)
        with self._server.translated():
            answer = self._client.grpc_points.Query(request, timeout=self._server.request_timeout_s)
        return fused_answer(answer, self.location)

    def view_segments(
        self, segment_ids: Sequence[UUID], vectors: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[UUID, ViewedSegment]:
        """See ``SegmentIndex``."""
        known = self._known()
        for view, vector in vectors.items():
            check_query(vector, 1, known, view)
        queries = {view: join_query({view: row}, {view: 1.0}, known.views) for view, row in vectors.items()}
        viewed: dict[UUID, ViewedSegment] = {}
        for start in range(0, len(segment_ids), _PAGE):
            request = views_request(self._segments, segment_ids[start : start + _PAGE], queries)
            with self._server.translated():
                answer = self._client.grpc_points.QueryBatch(request, timeout=self._server.request_timeout_s)
            viewed |= views_answer(answer, tuple(queries), self.location)
        return viewed

    def query_images(
        self, vector: npt.NDArray[np.float32], *, limit: int, exact: bool = False
    ) -> list[ScoredImage]:
        """See ``SegmentIndex``."""
        check_query(vector, limit, self._known())
        query = vector.astype(np.float32).tolist()
        points = self._query(self._images, query, using=IMAGE_VIEW, limit=limit, exact=exact)
        return [
            ScoredImage(image_from_payload(point.id, point.payload, self.location), point.score)
            for point in points
        ]

    def get_segments(self, segment_ids: Sequence[UUID]) -> list[SegmentRecord]:
        """See ``SegmentIndex``."""
        found = self._retrieve(self._segments, segment_ids)
        records = {
            key: segment_from_payload(key, point.payload, self.location) for key, point in found.items()
        }
        return [records[key] for key in segment_ids if key in records]

    def get_vectors(
        self, segment_ids: Sequence[UUID]
    ) -> Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]]:
        """See ``SegmentIndex``."""
        views = self._known().views
        found = self._retrieve(self._segments, segment_ids, vectors=True)
        return {key: split_row(self._row(point, VIEWS_VECTOR), views) for key, point in found.items()}

    def get_images(self, image_ids: Sequence[UUID]) -> list[ImageRecord]:
        """See ``SegmentIndex``."""
        found = self._retrieve(self._images, image_ids)
        records = {key: image_from_payload(key, point.payload, self.location) for key, point in found.items()}
        return [records[key] for key in image_ids if key in records]

    def get_image_vectors(self, image_ids: Sequence[UUID]) -> Mapping[UUID, npt.NDArray[np.float32]]:
        """See ``SegmentIndex``."""
        found = self._retrieve(self._images, image_ids, vectors=True)
        return {key: self._row(point, IMAGE_VIEW) for key, point in found.items()}

    def scroll_segments(self, where: SegmentFilter = EVERYTHING) -> Iterator[SegmentRecord]:
        """See ``SegmentIndex``."""
        for point in self._scroll(self._segments, where):
            yield segment_from_payload(point.id, point.payload, self.location)

    def scroll_images(self) -> Iterator[ImageRecord]:
        """See ``SegmentIndex``."""
        for point in self._scroll(self._images, EVERYTHING):
            yield image_from_payload(point.id, point.payload, self.location)

    def delete_segments(self, image_id: UUID) -> None:
        """See ``SegmentIndex``."""
        self._known()
        of_image = to_filter(SegmentFilter(image_ids=(image_id,)))
        self._server.write(lambda: self._client.delete(self._segments, of_image))

    def delete_image(self, image_id: UUID) -> None:
        """See ``SegmentIndex``."""
        self._known()
        self._server.write(lambda: self._client.delete(self._images, [str(image_id)]))
        self.delete_segments(image_id)

    def counts(self, where: SegmentFilter = EVERYTHING) -> IndexCounts:
        """See ``SegmentIndex``."""
        self._known()
        with self._server.translated():
            return IndexCounts(
                images=self._client.count(self._images, exact=True).count,
                segments=self._client.count(self._segments, to_filter(where), exact=True).count,
            )

    def optimize(self) -> None:
        """See ``SegmentIndex``; the server does it by itself in the background."""

    def close(self) -> None:
        """See ``SegmentIndex``."""
        self._server.close()

    def _known(self) -> IndexFingerprint:
        if self._fingerprint is None:
            raise self._server.missing()
        return self._fingerprint

    def _read_fingerprint(self) -> IndexFingerprint | None:
        with self._server.translated():
            if not self._client.collection_exists(self._segments):
                return None
            metadata = self._client.get_collection(self._segments).config.metadata
        if metadata is None or _METADATA_KEY not in metadata:
            raise SegmentIndexError(
                f"collection {self._segments!r} of {self.location} was not made by segdex; "
                "use another server with --index"
            )
        return fingerprint_from_payload(metadata[_METADATA_KEY], self.location)

    def _create_collection(
        self, name: str, vector_name: str, size: int, fingerprint: IndexFingerprint
    ) -> None:
        is_segments = name == self._segments
        vector = models.VectorParams(
            size=size,
            distance=models.Distance.DOT,
            on_disk=is_segments,  # their 8-bit copies are in memory, and the few that are scored again cached
        )

        def create() -> None:
            try:
                self._client.create_collection(
                    name,
                    vectors_config={vector_name: vector},
                    quantization_config=_INT8 if is_segments else None,
                    metadata={_METADATA_KEY: fingerprint_to_payload(fingerprint)},
                )
            except RpcError as error:  # made by another process, or by an attempt whose answer got lost
                if error.code() != StatusCode.ALREADY_EXISTS:
                    raise

        self._server.write(create)

    def _create_payload_indexes(self) -> None:
        with self._server.translated():
            present = self._client.get_collection(self._segments).payload_schema
        for field in FILTER_FIELDS.keys() - present.keys():
            kind = _INDEX_TYPES[FILTER_FIELDS[field]]
            self._server.write(partial(self._client.create_payload_index, self._segments, field, kind))

    def _upsert(self, name: str, points: list[models.PointStruct]) -> None:
        self._server.write(lambda: self._client.upsert(name, points, wait=True))

    def _query(
        self,
        name: str,
        query: list[float],
        *,
        using: str,
        limit: int,
        exact: bool,
        where: SegmentFilter = EVERYTHING,
    ) -> list[models.ScoredPoint]:
        with self._server.translated():
            return self._client.query_points(
                name,
                query=query,
                using=using,
                query_filter=to_filter(where),
                search_params=_search_params(exact=exact),
                limit=limit,
            ).points

    def _retrieve(
        self, name: str, ids: Sequence[UUID], *, vectors: bool = False
    ) -> dict[UUID, models.Record]:
        self._known()
        found: dict[UUID, models.Record] = {}
        for start in range(0, len(ids), _PAGE):
            page = [str(key) for key in ids[start : start + _PAGE]]
            with self._server.translated():
                points = self._client.retrieve(name, page, with_payload=not vectors, with_vectors=vectors)
            found.update((UUID(str(point.id)), point) for point in points)
        return found

    def _scroll(self, name: str, where: SegmentFilter) -> Iterator[models.Record]:
        self._known()
        offset = None
        while True:
            with self._server.translated():
                points, offset = self._client.scroll(name, to_filter(where), limit=_PAGE, offset=offset)
            yield from points
            if offset is None:
                return

    def _scored(self, point: models.ScoredPoint) -> ScoredSegment:
        return ScoredSegment(segment_from_payload(point.id, point.payload, self.location), point.score)

    def _row(self, point: models.Record, name: str) -> npt.NDArray[np.float32]:
        if not isinstance(point.vector, dict) or name not in point.vector:
            raise SegmentIndexError(f"point {point.id} in {self.location} has no vector {name!r}")
        return np.asarray(point.vector[name], np.float32)


def _search_params(*, exact: bool) -> models.SearchParams:
    quantization = models.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=OVERSAMPLING)
    return models.SearchParams(exact=exact, quantization=quantization)
