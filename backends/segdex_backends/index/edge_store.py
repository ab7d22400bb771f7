"""``PointStore`` on Qdrant Edge in one folder: many processes read it, and one at a time changes it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock, RLock
from uuid import UUID

from qdrant_edge import (
    CountRequest,
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeVectorParams,
    FacetRequest,
    FieldCondition,
    Filter,
    HasIdCondition,
    IsEmptyCondition,
    MatchAny,
    MatchValue,
    PayloadSchemaType,
    Point,
    Query,
    QueryBatchRequest,
    QueryRequest,
    RangeFloat,
    RecommendQuery,
    ScoredPoint,
    ScrollRequest,
    SearchParams,
    UpdateOperation,
)

from segdex_backends.index.conditions import AnyOf, Between, Condition, Conditions, Equals, HasId, IsMissing
from segdex_backends.index.edge_access import EdgeAccess
from segdex_backends.index.edge_folder import WRITE_FREE_BYTES, EdgeFolder
from segdex_backends.index.edge_lock import WAIT_S
from segdex_backends.index.fusing import FUSED_FIELDS, SEARCH_EF, unreadable
from segdex_backends.index.layout import is_collection, is_of_this_schema, real_names
from segdex_backends.index.payloads import missing_index, superseded
from segdex_backends.index.point_store import (
    MAX_VALUES,
    NO_CONDITIONS,
    CollectionSpec,
    Row,
    StoredPoint,
    stored_point,
    to_uuid,
)
from segdex_core.records import FusedSegment

_PAGE = 256  # points per request of a scroll

WRITES_PER_FLUSH = 64
"""Writes between two flushes. A flush takes about 0.2 s and empties the write-ahead log, which grows by 0.4
MB for 100 segments of two vectors of length 384. Replaying 16,000 of these segments on opening takes about
0.7 s."""

_INDEX_TYPES = {
    "uuid": PayloadSchemaType.Uuid,
    "keyword": PayloadSchemaType.Keyword,
    "float": PayloadSchemaType.Float,
}


class EdgeStore:
    """A ``PointStore`` on Qdrant Edge in one folder.

    Queries compare with every vector until ``optimize`` has built the HNSW graph. Qdrant Edge holds Python's
    global interpreter lock during each call. Threads may share a store, but they wait for each other, and
    ``optimize`` blocks the whole process.

    The first write, or ``claim``, takes the index for this process alone, until it is closed. Until then, the
    store reads a private copy, as the index was when it was opened (see ``edge_view``).

    Args:
        path: Path of the folder.
        create: Whether a missing index may be created; if False, a missing index is an error.
        wait_s: Longest wait in seconds for another process that has the index open.

    Raises:
        IndexMissingError: If there is no index and ``create`` is False.
        IndexStorageError: If the folder cannot be created.
        SegmentIndexError: If the folder has other content.
    """

    def __init__(self, path: Path, *, create: bool, wait_s: float = WAIT_S) -> None:
        self._folder = EdgeFolder(path, create=create)
        self._access = EdgeAccess(self._folder, wait_s=wait_s)
        self._shards: dict[str, EdgeShard] = {}  # by real name
        self._specs: dict[str, CollectionSpec] = {}
        self._changing = RLock()  # one change at a time: each notes how many points there are
        self._writes = 0
        self._fenced: dict[str, str] = {}  # no other process has the index open, so memory will do
        self._noting = Lock()

    @property
    def location(self) -> str:
        """See ``PointStore``."""
        return self._folder.location

    def description(self) -> Mapping[str, object] | None:
        """See ``PointStore``."""
        return self._folder.read_description()

    def make(self, description: Mapping[str, object], collections: Mapping[str, CollectionSpec]) -> None:
        """See ``PointStore``. ``open`` creates the shards."""
        del collections
        self.claim()
        if self.description() is None:
            self.describe(description)

    def claim(self) -> None:
        """See ``PointStore``."""
        with self._changing:
            if self._access.is_held:
                return
            self._access.hold()
            opened: dict[str, EdgeShard] = {}
            try:
                description = self.description()
                names = {} if description is None else real_names(description, self.location)
                if not self._shards.keys() <= set(names.values()):
                    raise superseded(self.location)
                self._access.drop_view()
                for name in self._shards:
                    opened[name] = self._load(name)
            except BaseException:
                with self._folder.translated():
                    for shard in opened.values():
                        shard.close()
                self._access.release()
                raise
            # The former shards are not closed: another thread may be about to ask one of them.
            self._shards = opened

    def open(self, description: Mapping[str, object], collections: Mapping[str, CollectionSpec]) -> None:
        """See ``PointStore``.

        Raises:
            IndexLockedError: If another process has the index open for changes, and does not end.
            IndexStorageError: If the disk is nearly full.
        """
        names = real_names(description, self.location)
        with self._changing:
            if not self._access.is_held and not self._shards:
                if self._former(names) and self._folder.is_writable:
                    self._access.hold()  # to remove them
                else:
                    self._access.read(set(names.values()))
            if self._access.is_held:
                self._drop_former(names)
            for name, spec in collections.items():
                self._open(names[name], spec)

    def describe(self, description: Mapping[str, object]) -> None:
        """See ``PointStore``."""
        self.claim()
        self._folder.write_description(description)

    def create(self, real_name: str, spec: CollectionSpec) -> None:
        """See ``PointStore``."""
        with self._changing:
            self.claim()
            self._open(real_name, spec)

    def switch(self, description: Mapping[str, object]) -> None:
        """See ``PointStore``."""
        self.claim()
        with self._folder.translated():
            for shard in self._shards.values():
                shard.flush()
        self.describe(description)
        self._drop_former(real_names(description, self.location))

    def present(self) -> frozenset[str]:
        """See ``PointStore``."""
        return frozenset(filter(is_of_this_schema, self._folder.folder_names()))

    def drop(self, real_name: str) -> None:
        """See ``PointStore``."""
        self.claim()
        if real_name in self._folder.folder_names():
            self._remove(real_name)
        with self._noting:  # last: a collection without its notes could be taken for another one
            notes = self._folder.read_notes()
            if real_name in notes:
                self._folder.write_notes({key: value for key, value in notes.items() if key != real_name})

    def fence(self, real_name: str, *, by: str | None) -> None:
        """See ``PointStore``."""
        self.claim()
        if by is None:
            self._fenced.pop(real_name, None)
        else:
            self._fenced[real_name] = by

    def fenced_by(self, real_name: str) -> str | None:
        """See ``PointStore``."""
        self._shard(real_name)
        return self._fenced.get(real_name)

    def notes(self, real_name: str) -> Mapping[str, object]:
        """See ``PointStore``."""
        found = self._folder.read_notes().get(real_name)
        return found if isinstance(found, Mapping) else {}

    def note(self, real_name: str, notes: Mapping[str, object]) -> None:
        """See ``PointStore``."""
        self.claim()
        with self._noting:
            self._folder.write_notes(
                {**self._folder.read_notes(), real_name: {**self.notes(real_name), **notes}}
            )

    def upsert(self, name: str, points: Sequence[StoredPoint], *, vector: str, over: Conditions = ()) -> None:
        """See ``PointStore``."""
        rows = [
            Point(point.id, {} if point.row is None else {vector: point.row.tolist()}, dict(point.payload))
            for point in points
        ]
        self._write(name, UpdateOperation.upsert_points(rows, _filter(over) if over else None))

    def set_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        """See ``PointStore``."""
        self._write(name, UpdateOperation.set_payload_by_filter(_filter(where), dict(payload)))

    def set_payloads(
        self,
        name: str,
        payloads: Mapping[UUID, Mapping[str, object]],
        *,
        over: Mapping[UUID, Conditions] = NO_CONDITIONS,
    ) -> None:
        """See ``PointStore``."""
        found = self._present(name, list(payloads))  # Qdrant refuses ids that it does not know
        self._write(
            name,
            *(
                UpdateOperation.set_payload_by_filter(
                    _filter((HasId((key,)), *over[key])), dict(payloads[key])
                )
                if key in over
                else UpdateOperation.set_payload([key], dict(payloads[key]))
                for key in found
            ),
        )

    def overwrite_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        """See ``PointStore``."""
        self._write(name, UpdateOperation.overwrite_payload_by_filter(_filter(where), dict(payload)))

    def delete(self, name: str, where: Conditions) -> None:
        """See ``PointStore``."""
        with self._changing:
            self.claim()
            leaving = self.count(name, where)
            if leaving:  # a process that is killed after the delete leaves fewer points than now
                left = self._access.noted_points(name) - leaving
                self._access.note_points(name, max(left, 0), durably=True)
                self._write(name, UpdateOperation.delete_points_by_filter(_filter(where)))

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
        nearest = Query.Nearest(row.tolist(), using=vector)
        return self._best(name, nearest, limit=limit, where=where, exact=exact)

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
        examples = RecommendQuery([row.tolist() for row in towards], [row.tolist() for row in away])
        best = Query.RecommendBestScore(examples, using=vector)
        return self._best(name, best, limit=limit, where=where, exact=exact)

    def scores(
        self, name: str, ids: Sequence[UUID], rows: Sequence[Row], *, vector: str
    ) -> list[tuple[StoredPoint, list[float]]]:
        """See ``PointStore``."""
        if not ids or not rows:
            return []
        these = _filter((HasId(tuple(ids)),))
        requests = [
            QueryRequest(
                limit=len(ids),
                query=Query.Nearest(row.tolist(), using=vector),
                filter=these,
                with_payload=place == 0,  # the payloads of the first query are enough
            )
            for place, row in enumerate(rows)
        ]
        shard = self._shard(name)
        with self._folder.translated():
            answers = shard.query_batch(QueryBatchRequest(requests))
        scores = [{to_uuid(point.id): point.score for point in answer} for answer in answers]
        points = [StoredPoint(to_uuid(point.id), point.payload or {}) for point in answers[0]]
        return [
            (point, [each[point.id] for each in scores])
            for point in points
            if all(point.id in each for each in scores)
        ]

    def retrieve(
        self, name: str, ids: Sequence[UUID], *, vector: str | None = None
    ) -> Mapping[UUID, StoredPoint]:
        """See ``PointStore``."""
        shard = self._shard(name)
        with self._folder.translated():
            found = shard.retrieve(
                list(ids), with_payload=vector is None, with_vector=[vector] if vector else False
            )
        return {point.id: point for point in (stored_point(one, vector, self.location) for one in found)}

    def scroll(
        self, name: str, where: Conditions = (), *, vector: str | None = None, lenient: bool = False
    ) -> Iterator[StoredPoint]:
        """See ``PointStore``."""
        offset = None
        while True:
            request = ScrollRequest(
                offset=offset,
                limit=_PAGE,
                filter=_filter(where),
                with_payload=True,
                with_vector=[vector] if vector else False,
            )
            shard = self._shard(name)
            with self._folder.translated():
                points, offset = shard.scroll(request)
            yield from (stored_point(point, vector, self.location, lenient=lenient) for point in points)
            if offset is None:
                return

    def ids_from(self, name: str, first: UUID, *, limit: int) -> list[UUID]:
        """See ``PointStore``."""
        request = ScrollRequest(offset=first, limit=limit, with_payload=False, with_vector=False)
        shard = self._shard(name)
        with self._folder.translated():
            points, _ = shard.scroll(request)
        return [to_uuid(point.id) for point in points]

    def count(self, name: str, where: Conditions = ()) -> int:
        """See ``PointStore``."""
        shard = self._shard(name)
        with self._folder.translated():
            return shard.count(CountRequest(exact=True, filter=_filter(where)))

    def count_values(self, name: str, field: str) -> Mapping[str, int]:
        """See ``PointStore``."""
        shard = self._shard(name)
        with self._folder.translated():
            found = shard.facet(FacetRequest(field, limit=MAX_VALUES, exact=True))
        return {str(hit.value): hit.count for hit in found.hits if hit.count}  # former values too

    def optimize(self) -> None:
        """See ``IndexAdmin``. The call blocks all threads.

        It took 259 s for 100,000 segments of two views of length 512 on 2 cores
        (docs/research/performance.md). Qdrant builds no graph for less than about 10 MB of vectors, where it
        would not pay off.
        """
        self.claim()
        description = self.description()
        for name in real_names(description, self.location).values() if description is not None else ():
            shard = self._shard(name)
            # The optimizer writes a new copy of a shard before it drops the old one.
            self._folder.check_free(WRITE_FREE_BYTES + 2 * self._folder.size_bytes(name))
            with self._folder.translated():
                shard.optimize()
                shard.flush()

    def close(self) -> None:
        """See ``PointStore``."""
        is_whole = False
        try:
            description = self.description() if self._access.is_held else None
            names = {} if description is None else real_names(description, self.location)
            is_open = self._shards.keys() >= set(names.values())  # otherwise opening it has failed
            while self._shards:
                name, shard = self._shards.popitem()
                with self._folder.translated():
                    if self._access.is_held:  # after a write that failed, another number was noted
                        self._access.note_points(name, shard.info().points_count)
                    shard.close()  # which flushes
            is_whole = is_open
        finally:
            self._access.close(is_whole=is_whole)

    def _best(
        self, name: str, query: Query, *, limit: int, where: Conditions, exact: bool
    ) -> list[FusedSegment]:
        request = QueryRequest(
            limit=limit,
            query=query,
            filter=_filter(where),
            params=SearchParams(hnsw_ef=SEARCH_EF, exact=exact),
            with_payload=FUSED_FIELDS,
        )
        shard = self._shard(name)
        with self._folder.translated():
            points = shard.query(request)
        return [self._fused(point) for point in points]

    def _shard(self, name: str) -> EdgeShard:
        shard = self._shards.get(name)
        if shard is None and self._shards:
            raise missing_index(self.location)
        if shard is None:
            raise ValueError(f"the index {self.location} is closed")
        return shard

    def _present(self, name: str, ids: Sequence[UUID]) -> list[UUID]:
        """Return those of some ids that have a point."""
        shard = self._shard(name)
        with self._folder.translated():
            return [
                to_uuid(one.id) for one in shard.retrieve(list(ids), with_payload=False, with_vector=False)
            ]

    def _write(self, name: str, *operations: UpdateOperation) -> None:
        """Run writes. When it returns, they survive a crash of the process or the machine."""
        with self._changing:
            self.claim()
            shard = self._shard(name)
            self._folder.check_free(WRITE_FREE_BYTES)
            with self._folder.translated():
                for operation in operations:
                    shard.update(operation)
                self._writes += 1
                if self._writes % WRITES_PER_FLUSH == 0:
                    for each in self._shards.values():
                        each.flush()
            self._folder.sync_log(name)
            self._access.note_points(name, shard.info().points_count)

    def _open(self, real_name: str, spec: CollectionSpec) -> None:
        """Open a shard unless it is open; a missing one is created."""
        if real_name not in self._shards:
            self._specs[real_name] = spec
            self._shards[real_name] = self._load(real_name)

    def _load(self, real_name: str) -> EdgeShard:
        spec = self._specs[real_name]
        shard = self._access.open_shard(real_name, partial(_make_shard, spec=spec))
        with self._folder.translated():
            _index_fields(shard, spec)  # of a new shard, or those that an earlier segdex did not know
        return shard

    def _former(self, names: Mapping[str, str]) -> set[str]:
        """Return the shards of an older schema that the description does not name, and incomplete shards."""
        return {
            real_name
            for real_name in self._folder.folder_names() - set(names.values())
            if is_collection(real_name) and not is_of_this_schema(real_name)
        }

    def _drop_former(self, names: Mapping[str, str]) -> None:
        for real_name in self._former(names):
            self._remove(real_name)

    def _remove(self, real_name: str) -> None:
        shard = self._shards.pop(real_name, None)
        if shard is not None:
            with self._folder.translated():
                shard.close()
        self._access.remove_shard(real_name)

    def _fused(self, point: ScoredPoint) -> FusedSegment:
        payload = point.payload or {}
        if any(field not in payload for field in FUSED_FIELDS):
            raise unreadable(point.id, self.location)
        return FusedSegment(
            segment_key=str(point.id),
            image_key=payload["image_id"],
            ancestor_keys=tuple(payload["ancestor_ids"]),
            score=point.score,
        )


def _make_shard(path: str, *, spec: CollectionSpec) -> EdgeShard:
    return EdgeShard.create(
        path, EdgeConfig(vectors={spec.vector: EdgeVectorParams(spec.size, Distance.Dot)})
    )


def _index_fields(shard: EdgeShard, spec: CollectionSpec) -> None:
    """Make the payload indexes that a shard lacks."""
    for field in spec.fields.keys() - shard.info().payload_schema.keys():
        shard.update(UpdateOperation.create_field_index(field, _INDEX_TYPES[spec.fields[field]]))


def _filter(where: Conditions) -> Filter:
    return Filter(must=[_condition(each) for each in where])


def _condition(condition: Condition) -> FieldCondition | HasIdCondition | IsEmptyCondition:
    match condition:
        case HasId(ids):
            return HasIdCondition(set(ids))
        case IsMissing(field):
            return IsEmptyCondition(field)
        case Equals(field, value):
            return FieldCondition(field, match=MatchValue(value))
        case AnyOf(field, values):
            return FieldCondition(field, match=MatchAny(list(values)))
        case Between(field, gte, lte, lt):
            return FieldCondition(field, range=RangeFloat(gte=gte, lte=lte, lt=lt))
