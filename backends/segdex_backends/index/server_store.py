"""``PointStore`` on a Qdrant server over gRPC, for many processes and machines at a time.

``server_messages`` builds the gRPC messages of queries. This module reads their responses.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from uuid import UUID

from grpc import RpcError, StatusCode  # type: ignore[import-untyped]
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import GrpcToRest

from segdex_backends.index.conditions import Conditions, HasId
from segdex_backends.index.fusing import FUSED_FIELDS, unreadable
from segdex_backends.index.layout import REAL_NAMES, SEGMENTS, is_of_this_schema, real_names
from segdex_backends.index.payloads import missing_index
from segdex_backends.index.point_store import (
    MAX_VALUES,
    NO_CONDITIONS,
    CollectionSpec,
    Row,
    StoredPoint,
    stored_point,
    to_uuid,
)
from segdex_backends.index.server_connection import ServerConnection
from segdex_backends.index.server_messages import fused_request, nearest, recommend, scores_request, to_filter
from segdex_core.errors import SegmentIndexError
from segdex_core.records import FusedSegment

_METADATA_KEY = "segdex"  # key of the description in the metadata of the segments collection
_FENCE_KEY = "segdex_fence"  # key of the fence in the same metadata
_NOTE_PREFIX = "segdex_note_"  # a server merges metadata key by key, so two processes can both add notes
_BATCH = 128  # points per upsert: Qdrant advises 64 to 256
_PAGE = 256  # points per request that reads by id or scrolls

_INT8 = models.ScalarQuantization(
    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
)
_INDEX_TYPES = {
    "uuid": models.PayloadSchemaType.UUID,
    "keyword": models.PayloadSchemaType.KEYWORD,
    "float": models.PayloadSchemaType.FLOAT,
}


class ServerStore:
    """A ``PointStore`` on a Qdrant server.

    The aliases ``PREFIX-segments``, ``PREFIX-images`` and ``PREFIX-sets`` refer to its collections.

    Once the server has built its HNSW graph, segments are searched by 8-bit copies of their vectors, and the
    best segments are rescored with the full vectors; ``exact`` uses only the full vectors. Writes are retried
    if the server is unavailable for a moment. Threads may share a store.

    Args:
        server: Connection to the server. It is closed with the store, or if the store cannot be opened.
        create: Whether a missing index may be created; if False, a missing index is an error.
        collection_prefix: Prefix of the names of the collections.

    Raises:
        IndexUnavailableError: If the server does not answer.
        IndexMissingError: If there is no index and ``create`` is False.
        SegmentIndexError: If segdex did not create the collections.
    """

    def __init__(self, server: ServerConnection, *, create: bool, collection_prefix: str = "segdex") -> None:
        self._prefix = collection_prefix
        self._server = server
        self._client = server.client
        try:
            if self.description() is None and not create:
                raise missing_index(self.location)
        except BaseException:
            self.close()
            raise

    @property
    def location(self) -> str:
        """See ``PointStore``."""
        return self._server.location

    def description(self) -> Mapping[str, object] | None:
        """See ``PointStore``.

        The description is metadata of the segments collection: of the collection in use or, if there is none,
        of a collection that a terminated process left before it was in use.
        """
        for name in (self._name(SEGMENTS), self._name(REAL_NAMES[SEGMENTS])):
            if self._exists(name):
                return self._metadata(name)
        return None

    def make(self, description: Mapping[str, object], collections: Mapping[str, CollectionSpec]) -> None:
        """See ``PointStore``. ``open`` creates the other collections and the aliases."""
        # A server creates a collection once, so that one of several processes wins.
        self._create_collection(
            real_names(description, self.location)[SEGMENTS],
            collections[SEGMENTS],
            metadata={_METADATA_KEY: dict(description)},
        )

    def open(self, description: Mapping[str, object], collections: Mapping[str, CollectionSpec]) -> None:
        """See ``PointStore``."""
        names = real_names(description, self.location)
        for name, spec in collections.items():
            self.create(names[name], spec)
        self._alias(names)

    def claim(self) -> None:
        """See ``PointStore``. All processes may write to a server."""

    def describe(self, description: Mapping[str, object]) -> None:
        """See ``PointStore``."""
        real_name = real_names(description, self.location)[SEGMENTS]
        self._add_metadata(real_name, {_METADATA_KEY: dict(description)})

    def create(self, real_name: str, spec: CollectionSpec) -> None:
        """See ``PointStore``."""
        if not self._exists(self._name(real_name)):
            self._create_collection(real_name, spec)
        self._create_payload_indexes(real_name, spec)

    def switch(self, description: Mapping[str, object]) -> None:
        """See ``PointStore``."""
        self.describe(description)
        names = real_names(description, self.location)
        present = self._aliases()
        changes: list[models.AliasOperations] = []
        for name, real_name in names.items():
            alias = self._name(name)
            if alias in present:
                changes.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
                changes.append(self._alias_operation(name, real_name))
        if changes:  # one request, which a server carries out as a whole
            self._server.write(lambda: self._client.update_collection_aliases(changes))
        self._alias(names)

    def present(self) -> frozenset[str]:
        """See ``PointStore``."""
        found = [one.name for one in self._server.read(self._client.get_collections).collections]
        start = self._name("")
        ours = (name.removeprefix(start) for name in found if name.startswith(start))
        return frozenset(filter(is_of_this_schema, ours))

    def drop(self, real_name: str) -> None:
        """See ``PointStore``."""
        self._server.write(partial(self._client.delete_collection, self._name(real_name)))

    def fence(self, real_name: str, *, by: str | None) -> None:
        """See ``PointStore``."""
        self._add_metadata(real_name, {_FENCE_KEY: by or ""})

    def fenced_by(self, real_name: str) -> str | None:
        """See ``PointStore``."""
        # a part of every write, which waits for a server that restarts
        found = self._server.retried(lambda: self._client.get_collection(self._name(real_name)))
        by = (found.config.metadata or {}).get(_FENCE_KEY)
        return str(by) if by else None

    def notes(self, real_name: str) -> Mapping[str, object]:
        """See ``PointStore``."""
        found = self._all_metadata(self._name(real_name))
        return {
            key.removeprefix(_NOTE_PREFIX): value
            for key, value in found.items()
            if key.startswith(_NOTE_PREFIX)
        }

    def note(self, real_name: str, notes: Mapping[str, object]) -> None:
        """See ``PointStore``."""
        self._add_metadata(real_name, {f"{_NOTE_PREFIX}{key}": value for key, value in notes.items()})

    def upsert(self, name: str, points: Sequence[StoredPoint], *, vector: str, over: Conditions = ()) -> None:
        """See ``PointStore``."""
        rows = [
            models.PointStruct(
                id=str(point.id),
                vector={} if point.row is None else {vector: point.row.tolist()},
                payload=dict(point.payload),
            )
            for point in points
        ]
        update_filter = to_filter(over) if over else None
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            self._server.write(
                partial(self._client.upsert, self._name(name), batch, update_filter=update_filter)
            )

    def set_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        """See ``PointStore``."""
        self._server.write(
            lambda: self._client.set_payload(self._name(name), dict(payload), to_filter(where))
        )

    def set_payloads(
        self,
        name: str,
        payloads: Mapping[UUID, Mapping[str, object]],
        *,
        over: Mapping[UUID, Conditions] = NO_CONDITIONS,
    ) -> None:
        """See ``PointStore``."""
        changes = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(
                    payload=dict(payload), filter=to_filter((HasId((key,)), *over.get(key, ())))
                )
            )
            for key, payload in payloads.items()
        ]
        for start in range(0, len(changes), _BATCH):
            batch = changes[start : start + _BATCH]
            self._server.write(partial(self._client.batch_update_points, self._name(name), batch))

    def overwrite_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        """See ``PointStore``."""
        self._server.write(
            lambda: self._client.overwrite_payload(self._name(name), dict(payload), to_filter(where))
        )

    def delete(self, name: str, where: Conditions) -> None:
        """See ``PointStore``."""
        self._server.write(lambda: self._client.delete(self._name(name), to_filter(where)))

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
        """See ``PointStore``."""
        return self._best(name, nearest(row), vector=vector, limit=limit, where=where, exact=exact)

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
        """See ``PointStore``."""
        best = recommend(towards, away)
        return self._best(name, best, vector=vector, limit=limit, where=where, exact=exact)

    def scores(
        self, name: str, ids: Sequence[UUID], rows: Sequence[Row], *, vector: str
    ) -> list[tuple[StoredPoint, list[float]]]:
        """See ``PointStore``."""
        found: list[tuple[StoredPoint, list[float]]] = []
        for start in range(0, len(ids) if rows else 0, _PAGE):
            found += self._page_of_scores(name, ids[start : start + _PAGE], rows, vector=vector)
        return found

    def retrieve(
        self, name: str, ids: Sequence[UUID], *, vector: str | None = None
    ) -> Mapping[UUID, StoredPoint]:
        """See ``PointStore``."""
        found: dict[UUID, StoredPoint] = {}
        for start in range(0, len(ids), _PAGE):
            page = [str(key) for key in ids[start : start + _PAGE]]
            points = self._server.read(
                partial(
                    self._client.retrieve,
                    self._name(name),
                    page,
                    with_payload=vector is None,
                    with_vectors=[vector] if vector else False,
                )
            )
            stored = (stored_point(one, vector, self.location) for one in points)
            found.update((point.id, point) for point in stored)
        return found

    def scroll(
        self, name: str, where: Conditions = (), *, vector: str | None = None, lenient: bool = False
    ) -> Iterator[StoredPoint]:
        """See ``PointStore``."""
        offset = None
        while True:
            points, offset = self._server.read(
                partial(
                    self._client.scroll,
                    self._name(name),
                    to_filter(where),
                    limit=_PAGE,
                    offset=offset,
                    with_vectors=[vector] if vector else False,
                )
            )
            yield from (stored_point(point, vector, self.location, lenient=lenient) for point in points)
            if offset is None:
                return

    def ids_from(self, name: str, first: UUID, *, limit: int) -> list[UUID]:
        """See ``PointStore``."""
        points, _ = self._server.read(
            partial(
                self._client.scroll,
                self._name(name),
                limit=limit,
                offset=str(first),
                with_payload=False,
                with_vectors=False,
            )
        )
        return [to_uuid(point.id) for point in points]

    def count(self, name: str, where: Conditions = ()) -> int:
        """See ``PointStore``."""
        counted = partial(self._client.count, self._name(name), to_filter(where), exact=True)
        return self._server.read(counted).count

    def count_values(self, name: str, field: str) -> Mapping[str, int]:
        """See ``PointStore``."""
        found = self._server.read(
            partial(self._client.facet, self._name(name), field, limit=MAX_VALUES, exact=True)
        )
        return {str(hit.value): hit.count for hit in found.hits if hit.count}  # former values too

    def optimize(self) -> None:
        """See ``IndexAdmin``. The server optimizes in the background, so this method does nothing."""

    def close(self) -> None:
        """See ``PointStore``."""
        self._server.close()

    def _name(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def _exists(self, full_name: str) -> bool:
        return self._server.retried(lambda: self._client.collection_exists(full_name))

    def _add_metadata(self, real_name: str, metadata: Mapping[str, object]) -> None:
        full_name, added = self._name(real_name), dict(metadata)
        self._server.write(lambda: self._client.update_collection(full_name, metadata=added))

    def _all_metadata(self, full_name: str) -> Mapping[str, object]:
        # a re-embedding asks before each write, which waits for a server that restarts
        return self._server.retried(lambda: self._client.get_collection(full_name)).config.metadata or {}

    def _metadata(self, full_name: str) -> Mapping[str, object]:
        found = self._all_metadata(full_name).get(_METADATA_KEY)
        if not isinstance(found, dict):
            raise SegmentIndexError(
                f"collection {full_name!r} of {self.location} was not made by segdex; "
                "use another server with --index"
            )
        return found

    def _aliases(self) -> set[str]:
        return {each.alias_name for each in self._server.read(self._client.get_aliases).aliases}

    def _alias(self, names: Mapping[str, str]) -> None:
        """Point the aliases to the collections. A collection with the name of an alias is removed first.

        An existing alias is not changed, because another process may have switched it in the meantime.
        """
        present = self._aliases()
        for name, real_name in names.items():
            alias = self._name(name)
            if alias == self._name(real_name) or alias in present:
                continue
            if not self._create_alias(name, real_name):
                self._metadata(alias)  # raises if it is not ours
                self._server.write(partial(self._client.delete_collection, alias))
                if not self._create_alias(name, real_name):
                    raise SegmentIndexError(
                        f"another process made collection {alias!r} of {self.location} meanwhile; try again"
                    )

    def _alias_operation(self, name: str, real_name: str) -> models.CreateAliasOperation:
        return models.CreateAliasOperation(
            create_alias=models.CreateAlias(
                collection_name=self._name(real_name), alias_name=self._name(name)
            )
        )

    def _create_alias(self, name: str, real_name: str) -> bool:
        """Point an alias to a collection; return False if a collection has the name of the alias."""
        create = self._alias_operation(name, real_name)
        made = True

        def write() -> None:
            nonlocal made
            try:
                self._client.update_collection_aliases([create])
            except RpcError as error:
                if error.code() != StatusCode.ALREADY_EXISTS:
                    raise
                made = False

        self._server.write(write)
        return made

    def _create_collection(
        self, real_name: str, spec: CollectionSpec, *, metadata: dict[str, object] | None = None
    ) -> None:
        vector = models.VectorParams(
            size=spec.size,
            distance=models.Distance.DOT,
            on_disk=spec.is_large,  # 8-bit copies are in memory, and the few rescored vectors are cached
        )

        def create() -> None:
            try:
                self._client.create_collection(
                    self._name(real_name),
                    vectors_config={spec.vector: vector},
                    quantization_config=_INT8 if spec.is_large else None,
                    metadata=metadata,
                )
            except RpcError as error:  # created by another process, or by an attempt whose response was lost
                if error.code() != StatusCode.ALREADY_EXISTS:
                    raise

        self._server.write(create)

    def _create_payload_indexes(self, real_name: str, spec: CollectionSpec) -> None:
        if not spec.fields:
            return
        full_name = self._name(real_name)
        present = self._server.read(lambda: self._client.get_collection(full_name)).payload_schema
        for field in spec.fields.keys() - present.keys():
            kind = _INDEX_TYPES[spec.fields[field]]
            self._server.write(partial(self._client.create_payload_index, full_name, field, kind))

    def _page_of_scores(
        self, name: str, ids: Sequence[UUID], rows: Sequence[Row], *, vector: str
    ) -> list[tuple[StoredPoint, list[float]]]:
        request = scores_request(self._name(name), ids, rows, vector=vector)
        with self._server.translated():
            answer = self._client.grpc_points.QueryBatch(request, timeout=self._server.request_timeout_s)
        scores = [{point.id.uuid: point.score for point in batch.result} for batch in answer.result]
        return [
            (
                StoredPoint(UUID(point.id.uuid), GrpcToRest.convert_payload(point.payload)),
                [each[point.id.uuid] for each in scores],
            )
            for point in answer.result[0].result
            if all(point.id.uuid in each for each in scores)
        ]

    def _best(
        self, name: str, query: grpc.Query, *, vector: str, limit: int, where: Conditions, exact: bool
    ) -> list[FusedSegment]:
        request = fused_request(self._name(name), query, vector=vector, limit=limit, where=where, exact=exact)
        with self._server.translated():
            answer = self._client.grpc_points.Query(request, timeout=self._server.request_timeout_s)
        return [self._fused(point) for point in answer.result]

    def _fused(self, point: grpc.ScoredPoint) -> FusedSegment:
        if any(field not in point.payload for field in FUSED_FIELDS):
            raise unreadable(point.id.uuid, self.location)
        return FusedSegment(
            segment_key=point.id.uuid,
            image_key=point.payload["image_id"].string_value,
            ancestor_keys=tuple(
                each.string_value for each in point.payload["ancestor_ids"].list_value.values
            ),
            score=point.score,
        )
