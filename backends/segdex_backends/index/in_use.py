"""The collections that an index had in use when it was opened, by name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import UUID

from segdex_backends.index.conditions import Conditions
from segdex_backends.index.layout import SEGMENTS
from segdex_backends.index.payloads import superseded
from segdex_backends.index.point_store import NO_CONDITIONS, PointStore, Row, StoredPoint
from segdex_core.errors import IndexMissingError
from segdex_core.records import FusedSegment


class InUse:
    """Reads and writes the collections of one description, also after a re-embedding has replaced them.

    An open index therefore never mixes vectors of two embedders: reads continue with the collections that the
    index was opened with, until these are dropped. A write that succeeds is in the index that is in use after
    the re-embedding, because the fence is checked after each write. It is raised before the last comparison
    of both sets of collections, so a write that finds no fence afterwards was made before that comparison.

    Args:
        store: Store of the points.
        names: Real names by name.
    """

    def __init__(self, store: PointStore, names: Mapping[str, str]) -> None:
        self._store = store
        self.names = names

    def upsert(self, name: str, points: Sequence[StoredPoint], *, vector: str, over: Conditions = ()) -> None:
        """See ``PointStore``.

        Raises:
            IndexMismatchError: If a re-embedding replaces the collections, for this and all other writes.
        """
        with self._written():
            self._store.upsert(self.names[name], points, vector=vector, over=over)

    def set_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        """See ``PointStore``."""
        with self._written():
            self._store.set_payload(self.names[name], payload, where)

    def set_payloads(
        self,
        name: str,
        payloads: Mapping[UUID, Mapping[str, object]],
        *,
        over: Mapping[UUID, Conditions] = NO_CONDITIONS,
    ) -> None:
        """See ``PointStore``."""
        with self._written():
            self._store.set_payloads(self.names[name], payloads, over=over)

    def overwrite_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        """See ``PointStore``."""
        with self._written():
            self._store.overwrite_payload(self.names[name], payload, where)

    def delete(self, name: str, where: Conditions) -> None:
        """See ``PointStore``."""
        with self._written():
            self._store.delete(self.names[name], where)

    def query(
        self, name: str, row: Row, *, vector: str, limit: int, where: Conditions, exact: bool
    ) -> list[FusedSegment]:
        """See ``PointStore``.

        Raises:
            IndexMismatchError: If the collections were dropped, for this and all other reads.
        """
        with self._read():
            return self._store.query(
                self.names[name], row, vector=vector, limit=limit, where=where, exact=exact
            )

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
        with self._read():
            return self._store.recommend(
                self.names[name], towards, away, vector=vector, limit=limit, where=where, exact=exact
            )

    def scores(
        self, name: str, ids: Sequence[UUID], rows: Sequence[Row], *, vector: str
    ) -> list[tuple[StoredPoint, list[float]]]:
        """See ``PointStore``."""
        with self._read():
            return self._store.scores(self.names[name], ids, rows, vector=vector)

    def retrieve(
        self, name: str, ids: Sequence[UUID], *, vector: str | None = None
    ) -> Mapping[UUID, StoredPoint]:
        """See ``PointStore``."""
        with self._read():
            return self._store.retrieve(self.names[name], ids, vector=vector)

    def scroll(
        self, name: str, where: Conditions = (), *, vector: str | None = None, lenient: bool = False
    ) -> Iterator[StoredPoint]:
        """See ``PointStore``."""
        with self._read():
            yield from self._store.scroll(self.names[name], where, vector=vector, lenient=lenient)

    def ids_from(self, name: str, first: UUID, *, limit: int) -> list[UUID]:
        """See ``PointStore``."""
        with self._read():
            return self._store.ids_from(self.names[name], first, limit=limit)

    def count(self, name: str, where: Conditions = ()) -> int:
        """See ``PointStore``."""
        with self._read():
            return self._store.count(self.names[name], where)

    def count_values(self, name: str, field: str) -> Mapping[str, int]:
        """See ``PointStore``."""
        with self._read():
            return self._store.count_values(self.names[name], field)

    @contextmanager
    def _written(self) -> Iterator[None]:
        with self._read():
            self._refuse_if_fenced()  # so that those who still read the old vectors see no change
            yield
            self._refuse_if_fenced()

    def _refuse_if_fenced(self) -> None:
        if self._store.fenced_by(self.names[SEGMENTS]) is not None:
            raise superseded(self._store.location)

    @contextmanager
    def _read(self) -> Iterator[None]:
        try:
            yield
        except IndexMissingError as error:
            if self._store.description() is None:
                raise
            raise superseded(self._store.location) from error
