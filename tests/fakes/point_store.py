"""A ``PointStore`` in memory that can be copied, and one in which something happens at a chosen write."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from segdex_backends.index.conditions import AnyOf, Between, Condition, Conditions, Equals, HasId, IsMissing
from segdex_backends.index.layout import is_collection, is_of_this_schema, real_names
from segdex_backends.index.payloads import missing_index
from segdex_backends.index.point_store import NO_CONDITIONS, CollectionSpec, PointStore, Row, StoredPoint
from segdex_core.records import FusedSegment

Points = dict[UUID, StoredPoint]


@dataclass(slots=True)
class Stored:
    """What a ``MemoryStore`` holds, as a disk would: it outlives the store.

    Attributes:
        description: Of the index.
        collections: Points by id, by real name.
        fences: Who raised the fence, by real name.
        notes: By real name.
    """

    description: Mapping[str, object] | None = None
    collections: dict[str, Points] = field(default_factory=dict)
    fences: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Mapping[str, object]] = field(default_factory=dict)

    def copy(self) -> "Stored":
        """Return a copy that can be written to; points are values and are shared."""
        collections = {name: dict(points) for name, points in self.collections.items()}
        return Stored(self.description, collections, dict(self.fences), dict(self.notes))


class MemoryStore:
    """A ``PointStore`` over ``Stored``."""

    location = "memory"

    def __init__(self, stored: Stored) -> None:
        self.stored = stored

    def description(self) -> Mapping[str, object] | None:
        return self.stored.description

    def make(self, description: Mapping[str, object], collections: Mapping[str, CollectionSpec]) -> None:
        del collections
        if self.stored.description is None:
            self.stored.description = description

    def open(self, description: Mapping[str, object], collections: Mapping[str, CollectionSpec]) -> None:
        names = real_names(description, self.location)
        self._drop_former(names)
        for name, spec in collections.items():
            self.create(names[name], spec)

    def claim(self) -> None:
        """All objects of this process may write."""

    def describe(self, description: Mapping[str, object]) -> None:
        self.stored.description = description

    def create(self, real_name: str, spec: CollectionSpec) -> None:
        del spec
        self.stored.collections.setdefault(real_name, {})

    def switch(self, description: Mapping[str, object]) -> None:
        self.describe(description)
        self._drop_former(real_names(description, self.location))

    def present(self) -> frozenset[str]:
        return frozenset(filter(is_of_this_schema, self.stored.collections))

    def drop(self, real_name: str) -> None:
        self.stored.collections.pop(real_name, None)
        self.stored.fences.pop(real_name, None)
        self.stored.notes.pop(real_name, None)

    def fence(self, real_name: str, *, by: str | None) -> None:
        if by is None:
            self.stored.fences.pop(real_name, None)
        else:
            self.stored.fences[real_name] = by

    def fenced_by(self, real_name: str) -> str | None:
        self._points(real_name)
        return self.stored.fences.get(real_name)

    def notes(self, real_name: str) -> Mapping[str, object]:
        return self.stored.notes.get(real_name, {})

    def note(self, real_name: str, notes: Mapping[str, object]) -> None:
        self.stored.notes[real_name] = {**self.notes(real_name), **notes}

    def upsert(self, name: str, points: Sequence[StoredPoint], *, vector: str, over: Conditions = ()) -> None:
        del vector
        held = self._points(name)
        for point in points:
            if point.id not in held or _meets(held[point.id], over):
                held[point.id] = point

    def set_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        for point in self._matching(name, where):
            self._put(name, point, {**point.payload, **payload})

    def set_payloads(
        self,
        name: str,
        payloads: Mapping[UUID, Mapping[str, object]],
        *,
        over: Mapping[UUID, Conditions] = NO_CONDITIONS,
    ) -> None:
        for key, payload in payloads.items():
            self.set_payload(name, payload, (HasId((key,)), *over.get(key, ())))

    def overwrite_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        for point in self._matching(name, where):
            self._put(name, point, payload)

    def delete(self, name: str, where: Conditions) -> None:
        for point in self._matching(name, where):
            del self._points(name)[point.id]

    def query(
        self, name: str, row: Row, *, vector: str, limit: int, where: Conditions, exact: bool
    ) -> list[FusedSegment]:
        del vector, exact
        found = [_fused(point, row) for point in self._matching(name, where)]
        return sorted(found, key=lambda one: (-one.score, one.segment_key))[:limit]

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
        raise NotImplementedError

    def scores(
        self, name: str, ids: Sequence[UUID], rows: Sequence[Row], *, vector: str
    ) -> list[tuple[StoredPoint, list[float]]]:
        del vector
        found = self._matching(name, (HasId(tuple(ids)),))
        return [(point, [_fused(point, row).score for row in rows]) for point in found]

    def retrieve(
        self, name: str, ids: Sequence[UUID], *, vector: str | None = None
    ) -> Mapping[UUID, StoredPoint]:
        del vector
        held = self._points(name)
        return {key: held[key] for key in ids if key in held}

    def scroll(
        self, name: str, where: Conditions = (), *, vector: str | None = None, lenient: bool = False
    ) -> Iterator[StoredPoint]:
        del vector, lenient
        yield from self._matching(name, where)

    def ids_from(self, name: str, first: UUID, *, limit: int) -> list[UUID]:
        return sorted(key for key in self._points(name) if key >= first)[:limit]

    def count(self, name: str, where: Conditions = ()) -> int:
        return len(self._matching(name, where))

    def count_values(self, name: str, field: str) -> Mapping[str, int]:
        return Counter(str(value) for point in self._matching(name, ()) for value in _values(point, field))

    def optimize(self) -> None: ...

    def close(self) -> None: ...

    def _points(self, name: str) -> Points:
        if name not in self.stored.collections:
            raise missing_index(self.location)
        return self.stored.collections[name]

    def _matching(self, name: str, where: Conditions) -> list[StoredPoint]:
        held = self._points(name)
        return [held[key] for key in sorted(held) if _meets(held[key], where)]

    def _put(self, name: str, point: StoredPoint, payload: Mapping[str, object]) -> None:
        self._points(name)[point.id] = StoredPoint(point.id, payload, point.row)

    def _drop_former(self, names: Mapping[str, str]) -> None:
        for real_name in self.stored.collections.keys() - set(names.values()):
            if is_collection(real_name) and not is_of_this_schema(real_name):
                self.drop(real_name)


class Killed(BaseException):
    """The process is gone; nothing of it runs any more."""


Moment = Literal["before", "half", "after"]
"""When a process dies at a write. After half of it, some of its points are written: a server gets batches."""

_WRITES = {
    "create",
    "delete",
    "describe",
    "drop",
    "fence",
    "make",
    "note",
    "open",
    "optimize",
    "overwrite_payload",
    "set_payload",
    "set_payloads",
    "switch",
    "upsert",
}


class KilledStore:
    """Any ``PointStore`` in a process that dies at its n-th write.

    Args:
        store: What the process uses.
        last: Number of the write, from 1; None if the process lives.
        moment: When it dies.
    """

    def __init__(self, store: PointStore, *, last: int | None = None, moment: Moment = "before") -> None:
        self._store = store
        self._last = last
        self._moment = moment
        self.writes = 0

    def __getattr__(self, name: str) -> object:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*arguments: object, **options: object) -> object:
            self._die_if(self._last is not None and self.writes >= self._last)
            if name not in _WRITES:
                return found(*arguments, **options)
            self.writes += 1
            is_last = self.writes == self._last
            self._die_if(is_last and self._moment == "before")
            if is_last and self._moment == "half":
                self._die_if(len(arguments) < 2)
                found(arguments[0], _first_half(name, arguments[1]), **options)
                raise Killed
            result = found(*arguments, **options)
            self._die_if(is_last)
            return result

        return call

    def _die_if(self, is_dead: bool) -> None:
        if is_dead:
            raise Killed


class MeetingStore:
    """Any ``PointStore``, where another process acts once, right before the n-th write of this one.

    Args:
        store: What both use.
        at: Number of the write, from 1.
        act: What the other process does.
    """

    def __init__(self, store: PointStore, *, at: int, act: Callable[[], object]) -> None:
        self._store = store
        self._at = at
        self._act = act
        self.writes = 0

    def __getattr__(self, name: str) -> object:
        found = getattr(self._store, name)
        if name not in _WRITES:
            return found

        def call(*arguments: object, **options: object) -> object:
            self.writes += 1
            if self.writes == self._at:
                self._act()
            return found(*arguments, **options)

        return call


def _first_half(name: str, points: object) -> object:
    """Return some of the points of a write; one of a single point is not done by halves."""
    if name == "upsert" and isinstance(points, Sequence) and len(points) > 1:
        return points[: len(points) // 2]
    if name == "set_payloads" and isinstance(points, Mapping) and len(points) > 1:
        return dict(list(points.items())[: len(points) // 2])
    raise Killed


def _fused(point: StoredPoint, row: Row) -> FusedSegment:
    assert point.row is not None
    ancestors = point.payload["ancestor_ids"]
    assert isinstance(ancestors, Sequence)
    return FusedSegment(
        segment_key=str(point.id),
        image_key=str(point.payload["image_id"]),
        ancestor_keys=tuple(ancestors),
        score=float(point.row @ row),
    )


def _meets(point: StoredPoint, where: Conditions) -> bool:
    return all(_holds(point, condition) for condition in where)


def _holds(point: StoredPoint, condition: Condition) -> bool:
    match condition:
        case HasId(ids):
            return point.id in ids
        case IsMissing(field):
            return not _values(point, field)
        case Equals(field, value):
            return value in _values(point, field)
        case AnyOf(field, values):
            return not set(values).isdisjoint(_values(point, field))
        case Between(field, gte, lte, lt):
            return any(
                isinstance(value, float | int)
                and (gte is None or value >= gte)
                and (lte is None or value <= lte)
                and (lt is None or value < lt)
                for value in _values(point, field)
            )


def _values(point: StoredPoint, field: str) -> list[str | float]:
    found: object = point.payload
    for name in field.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return list(found) if isinstance(found, list | tuple) else [] if found is None else [found]  # type: ignore[list-item]
