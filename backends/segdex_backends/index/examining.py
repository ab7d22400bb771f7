"""``IndexExamination`` over a ``PointStore``: points as they are stored, readable or not."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

import numpy as np

from segdex_backends.index.conditions import AnyOf, Conditions, HasId
from segdex_backends.index.copying import was_in_use
from segdex_backends.index.fusing import OBJECT_SCALE, joined_size, split_row
from segdex_backends.index.in_use import InUse
from segdex_backends.index.layout import EMBEDDED, IMAGES, SEGMENTS, SETS, image_vector, segment_vector
from segdex_backends.index.payloads import (
    concept_from_payload,
    image_from_payload,
    member_from_payload,
    segment_from_payload,
    set_from_payload,
)
from segdex_backends.index.point_store import PointStore, StoredPoint
from segdex_core.concepts import Concept
from segdex_core.errors import SegmentIndexError
from segdex_core.ports.examination import Found, Leftovers, Part
from segdex_core.records import IMAGE_VIEW, ImageRecord, IndexFingerprint, SegmentRecord
from segdex_core.sets import SegmentSet, SetMember

_PARTS: Mapping[Part, str] = {"segments": SEGMENTS, "images": IMAGES, "sets": SETS}

T = TypeVar("T")
_Read = Callable[[object, Mapping[str, object], str], T]


class QdrantExamination:
    """An ``IndexExamination`` of the collections that an index has opened.

    Args:
        place: Store of the points.
        store: The collections in use.
        fingerprint: Fingerprint of the index.
    """

    def __init__(self, place: PointStore, store: InUse, fingerprint: IndexFingerprint) -> None:
        self._place = place
        self._store = store
        self._fingerprint = fingerprint

    def images(self) -> Iterator[Found[ImageRecord]]:
        """See ``IndexExamination``."""
        return map(self._image, self._scroll(IMAGES, vector=image_vector(self._fingerprint)))

    def image(self, image_id: UUID) -> Found[ImageRecord] | None:
        """See ``IndexExamination``."""
        vector = image_vector(self._fingerprint)
        return next(map(self._image, self._scroll(IMAGES, (HasId((image_id,)),), vector=vector)), None)

    def segments(self, image_ids: Sequence[UUID]) -> Iterator[Found[SegmentRecord]]:
        """See ``IndexExamination``."""
        where = _of_images(image_ids)
        return map(self._segment, self._scroll(SEGMENTS, where, vector=segment_vector(self._fingerprint)))

    def all_segments(self) -> Iterator[Found[SegmentRecord]]:
        """See ``IndexExamination``."""
        return (self._found(point, segment_from_payload) for point in self._scroll(SEGMENTS))

    def members(self, image_ids: Sequence[UUID]) -> Iterator[Found[SetMember]]:
        """See ``IndexExamination``."""
        found = self._scroll(SETS, _of_images(image_ids))
        return (self._found(point, member_from_payload) for point in found)

    def saved(self) -> Iterator[Found[SegmentSet | SetMember | Concept]]:
        """See ``IndexExamination``."""
        for point in self._scroll(SETS):
            match point.payload.get("kind"):
                case "set":
                    yield self._found(point, set_from_payload)
                case "concept":
                    yield self._found(point, concept_from_payload)
                case _:
                    yield self._found(point, member_from_payload)

    def leftovers(self) -> Leftovers:
        """See ``IndexExamination``."""
        in_use = self._store.names
        unused = self._place.present() - set(in_use.values())
        parts: list[str] = []
        unfinished: list[str] = []
        for key in sorted(set(map(_key_of, unused))):
            names = [name for name in sorted(unused) if _key_of(name) == key]
            halves = {name.partition("-")[0] for name in names}
            if not halves >= set(EMBEDDED):
                parts += names
            elif not any(was_in_use(self._place, name) for name in names if name.startswith(SEGMENTS)):
                unfinished.append(key)
        is_fenced = self._place.fenced_by(in_use[SEGMENTS]) is not None
        return Leftovers(tuple(parts), tuple(unfinished), is_fenced)

    def remove(self, part: Part, point_ids: Sequence[UUID]) -> None:
        """See ``IndexExamination``."""
        if point_ids:
            self._store.delete(_PARTS[part], (HasId(tuple(point_ids)),))

    def drop(self, names: Sequence[str]) -> None:
        """See ``IndexExamination``."""
        for name in set(names) & set(self.leftovers().parts):
            self._place.drop(name)

    def _scroll(
        self, name: str, where: Conditions = (), *, vector: str | None = None
    ) -> Iterator[StoredPoint]:
        return self._store.scroll(name, where, vector=vector, lenient=True)

    def _image(self, point: StoredPoint) -> Found[ImageRecord]:
        found = self._found(point, image_from_payload)
        dim, row = self._fingerprint.dim, point.row
        problem = _vector_problem(row, dim, image_vector(self._fingerprint))
        vectors = {} if problem or row is None else {IMAGE_VIEW: row}
        return Found(
            found.point_id,
            found.record,
            found.problem,
            found.payload,
            image_id=point.id,
            vectors=vectors,
            vector_problem=problem,
        )

    def _segment(self, point: StoredPoint) -> Found[SegmentRecord]:
        found = self._found(point, segment_from_payload)
        row = point.row
        problem = _vector_problem(row, joined_size(self._fingerprint), segment_vector(self._fingerprint))
        readable = not problem and row is not None
        return Found(
            found.point_id,
            found.record,
            found.problem,
            found.payload,
            image_id=found.image_id,
            vectors=split_row(row, self._fingerprint.views) if readable and row is not None else {},
            vector_problem=problem,
            vector_score=float(row[-1]) / OBJECT_SCALE if readable and row is not None else None,
        )

    def _found(self, point: StoredPoint, read: _Read[T]) -> Found[T]:
        record, problem = None, ""
        try:
            record = read(point.id, point.payload, self._place.location)
        except (SegmentIndexError, ValueError, TypeError) as error:  # whatever the damage is
            problem = str(error)
        return Found(point.id, record, problem, point.payload, image_id=_id_in(point.payload, "image_id"))


def _vector_problem(
    row: "np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None", size: int, name: str
) -> str:
    if row is None:
        return f"it has no vector {name!r}, which the embedder of this index makes"
    if row.shape != (size,):
        return f"its vector has shape {row.shape}, not {(size,)}"
    return ""


def _of_images(image_ids: Sequence[UUID]) -> Conditions:
    return (AnyOf("image_id", tuple(map(str, image_ids))),)


def _id_in(payload: Mapping[str, object], field: str) -> UUID | None:
    try:
        return UUID(str(payload.get(field)))
    except ValueError:
        return None


def _key_of(real_name: str) -> str:
    """Return the key of a re-embedding in the name of a collection; empty if it has none."""
    return "".join(real_name.split("-", 2)[2:])
