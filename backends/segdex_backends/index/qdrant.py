"""``SegmentIndex`` on Qdrant, which runs in this process or as a server."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from uuid import UUID, uuid4

import numpy as np
import numpy.typing as npt

from segdex_backends.index.conditions import (
    AnyOf,
    Conditions,
    Equals,
    HasId,
    IsMissing,
    of_image,
    segment_conditions,
)
from segdex_backends.index.copying import QdrantCopy, names_of_copy
from segdex_backends.index.examining import QdrantExamination
from segdex_backends.index.fusing import (
    best_scores,
    check_examples,
    check_fused_query,
    join_query,
    join_rows,
    split_row,
    split_rows,
)
from segdex_backends.index.in_use import InUse
from segdex_backends.index.layout import (
    COLLECTIONS_KEY,
    IMAGES,
    REAL_NAMES,
    SEGMENTS,
    SETS,
    collections,
    image_vector,
    real_names,
    segment_vector,
)
from segdex_backends.index.migrations import migrate
from segdex_backends.index.payloads import (
    LABELLING_FIELD,
    PENDING_FIELD,
    WRITE_FIELD,
    check_fingerprint,
    check_query,
    check_segments,
    check_vectors,
    colours_to_payload,
    concept_from_payload,
    concept_in_conflict,
    concept_point_id,
    concept_to_payload,
    fingerprint_from_payload,
    fingerprint_to_payload,
    image_from_payload,
    image_to_payload,
    in_conflict,
    labels_to_payload,
    marks_to_payload,
    masks_from_payload,
    masks_to_payload,
    member_from_payload,
    member_point_id,
    member_to_payload,
    missing_index,
    needs_copies,
    repeated_payload,
    segment_from_payload,
    segment_to_payload,
    set_from_payload,
    set_to_payload,
    superseded,
    unknown_picture,
    without_copying,
)
from segdex_backends.index.point_store import PointStore, Row, StoredPoint
from segdex_core.colours import ColourShares
from segdex_core.concepts import Concept
from segdex_core.errors import IndexConflictError
from segdex_core.ports.examination import IndexExamination
from segdex_core.ports.index import VectorCopy
from segdex_core.records import (
    EVERYTHING,
    EmbeddedSegments,
    FusedSegment,
    ImageRecord,
    ImageStatus,
    IndexCounts,
    IndexFingerprint,
    MaskRecipe,
    PendingChange,
    SegmentFilter,
    SegmentLabel,
    SegmentRecord,
    Vectors,
    ViewedSegment,
)
from segdex_core.sets import SegmentSet, SetMember

_NO_VECTOR = ""
"""Of points that have none."""

_BATCH = 512
"""Segments that ``scroll_vectors`` yields at a time."""


class QdrantIndex:
    """A ``SegmentIndex`` in a ``PointStore``.

    The distance is the dot product. Vectors are stored unchanged; a zero vector scores 0 with every query.
    The views of a segment are concatenated into one vector. Threads may share an index.

    An index with an older schema is migrated when it is opened, even if it is only read.

    Args:
        store: Store of the points. It is closed with the index, or if the index cannot be opened.

    Raises:
        IndexVersionError: If a newer segdex made the index, or one so old that it cannot be migrated.
        SegmentIndexError: If the store does not have an index of segdex, or does not work.
    """

    def __init__(self, store: PointStore) -> None:
        self._place = store
        self._store = InUse(store, {})
        self._fingerprint: IndexFingerprint | None = None
        try:
            description = migrate(store)
            if description is not None:
                self._open(description)
        except BaseException:
            store.close()
            raise

    @property
    def location(self) -> str:
        """See ``IndexReader``."""
        return self._place.location

    def fingerprint(self) -> IndexFingerprint | None:
        """See ``IndexReader``."""
        return self._fingerprint

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
        """See ``IndexReader``."""
        known = self._known()
        shares = check_fused_query(vectors, limit, known, weights, object_weight)
        return self._store.query(
            SEGMENTS,
            join_query(vectors, shares, known.views, object_weight=object_weight),
            vector=segment_vector(known),
            limit=limit,
            where=segment_conditions(where),
            exact=exact,
        )

    def query_best(
        self,
        towards: Sequence[Mapping[str, npt.NDArray[np.float32]]],
        away: Sequence[Mapping[str, npt.NDArray[np.float32]]] = (),
        *,
        weights: Mapping[str, float],
        limit: int,
        where: SegmentFilter = EVERYTHING,
        exact: bool = False,
    ) -> list[FusedSegment]:
        """See ``IndexReader``."""
        known = self._known()
        check_examples(towards)
        # the query has 0 in the place of the object score
        rows = [
            join_query(one, check_fused_query(one, limit, known, weights, 0.0), known.views)
            for one in (*towards, *away)
        ]
        found = self._store.recommend(
            SEGMENTS,
            rows[: len(towards)],
            rows[len(towards) :],
            vector=segment_vector(known),
            limit=limit,
            where=segment_conditions(where),
            exact=exact,
        )
        return best_scores(found)

    def view_segments(
        self, segment_ids: Sequence[UUID], vectors: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[UUID, ViewedSegment]:
        """See ``IndexReader``."""
        known = self._known()
        for view, vector in vectors.items():
            check_query(vector, known, view)
        rows = [join_query({view: vector}, {view: 1.0}, known.views) for view, vector in vectors.items()]
        found = self._store.scores(SEGMENTS, segment_ids, rows, vector=segment_vector(known))
        return {
            point.id: ViewedSegment(self._segment(point), dict(zip(vectors, scores, strict=True)))
            for point, scores in found
        }

    def get_segments(self, segment_ids: Sequence[UUID]) -> list[SegmentRecord]:
        """See ``IndexReader``."""
        self._known()
        found = self._store.retrieve(SEGMENTS, segment_ids)
        return [self._segment(found[key]) for key in segment_ids if key in found]

    def get_vectors(
        self, segment_ids: Sequence[UUID]
    ) -> Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]]:
        """See ``IndexReader``."""
        known = self._known()
        found = self._store.retrieve(SEGMENTS, segment_ids, vector=segment_vector(known))
        return {key: split_row(row, known.views) for key, row in _rows(found).items()}

    def get_images(self, image_ids: Sequence[UUID]) -> list[ImageRecord]:
        """See ``IndexReader``."""
        self._known()
        found = self._store.retrieve(IMAGES, image_ids)
        return [self._image(found[key]) for key in image_ids if key in found]

    def get_image_vectors(self, image_ids: Sequence[UUID]) -> Mapping[UUID, npt.NDArray[np.float32]]:
        """See ``IndexReader``."""
        known = self._known()
        return _rows(self._store.retrieve(IMAGES, image_ids, vector=image_vector(known)))

    def segment_ids(self, first: UUID, last: UUID, *, limit: int) -> list[UUID]:
        """See ``IndexReader``."""
        return self._ids(SEGMENTS, first, last, limit)

    def image_ids(self, first: UUID, last: UUID, *, limit: int) -> list[UUID]:
        """See ``IndexReader``."""
        return self._ids(IMAGES, first, last, limit)

    def scroll_segments(self, where: SegmentFilter = EVERYTHING) -> Iterator[SegmentRecord]:
        """See ``IndexReader``."""
        self._known()
        return map(self._segment, self._store.scroll(SEGMENTS, segment_conditions(where)))

    def scroll_vectors(self, where: SegmentFilter = EVERYTHING) -> Iterator[EmbeddedSegments]:
        """See ``IndexReader``."""
        known = self._known()
        points = self._store.scroll(SEGMENTS, segment_conditions(where), vector=segment_vector(known))
        while some := list(islice(points, _BATCH)):
            rows = np.stack([point.row for point in some if point.row is not None])
            yield EmbeddedSegments([self._segment(point) for point in some], split_rows(rows, known.views))

    def scroll_images(self) -> Iterator[ImageRecord]:
        """See ``IndexReader``."""
        self._known()
        return map(self._image, self._store.scroll(IMAGES))

    def counts(self, where: SegmentFilter = EVERYTHING) -> IndexCounts:
        """See ``IndexReader``."""
        self._known()
        return IndexCounts(
            images=self._store.count(IMAGES),
            segments=self._store.count(SEGMENTS, segment_conditions(where)),
        )

    def count_images(self, status: ImageStatus) -> int:
        """See ``IndexReader``."""
        self._known()
        return self._store.count(IMAGES, (Equals("status", status),))

    def label_counts(self) -> Mapping[str, int]:
        """See ``IndexReader``."""
        self._known()
        return dict(sorted(self._store.count_values(SEGMENTS, "labels").items()))

    def upsert_segments(self, segments: EmbeddedSegments) -> None:
        """See ``IndexWriter``."""
        known = self._known()
        check_segments(segments, known)
        points = [
            StoredPoint(record.segment_id, segment_to_payload(record), row)
            for record, row in zip(segments.records, join_rows(segments, known.views), strict=True)
        ]
        if points:
            self._store.upsert(SEGMENTS, points, vector=segment_vector(known))

    def upsert_image(self, record: ImageRecord, vector: Vectors) -> ImageRecord:
        """See ``IndexWriter``."""
        known = self._known()
        check_vectors(vector, (1, known.dim), "the vector of a picture")
        payload = image_to_payload(replace(record, revision=record.revision + 1))
        point = StoredPoint(record.image_id, payload, vector[0].astype(np.float32))
        # No stored record has revision 0, so a record that was not read replaces no stored record.
        self._store.upsert(IMAGES, [point], vector=image_vector(known), over=_revision(record.revision))
        return self._accepted(record)

    def update_image(self, record: ImageRecord) -> ImageRecord:
        """See ``IndexWriter``."""
        held = next(iter(self.get_images([record.image_id])), None)
        if held is None:
            raise unknown_picture(record.image_id, self.location)
        if held.revision != record.revision:
            return self._accepted(without_copying(record))
        if needs_copies(held, record):
            finished = without_copying(record)
            held = self._replaced(held, replace(finished, pending=PendingChange("copy")))
            self._repeat(finished)
            record = replace(finished, revision=held.revision)
        return self._replaced(held, record)

    def set_labels(
        self, labels: Mapping[UUID, Sequence[SegmentLabel]], *, over: Mapping[UUID, str] | None = None
    ) -> list[UUID]:
        """See ``IndexWriter``."""
        self._known()
        if not labels:
            return []
        token = uuid4().hex
        payloads = {key: labels_to_payload(some, token) for key, some in labels.items()}
        if over is None:
            self._store.set_payloads(SEGMENTS, payloads)
            return []
        still = {key: _labelled_by(over.get(key, "")) for key in payloads}
        self._store.set_payloads(SEGMENTS, payloads, over=still)
        return [one.segment_id for one in self.get_segments(list(labels)) if one.labelling != token]

    def set_colours(self, colours: Mapping[UUID, ColourShares]) -> None:
        """See ``IndexWriter``."""
        self._known()
        payloads = {key: colours_to_payload(shares) for key, shares in colours.items()}
        if payloads:
            self._store.set_payloads(SEGMENTS, payloads)

    def sets(self) -> list[SegmentSet]:
        """See ``SetStore``."""
        self._known()
        points = self._store.scroll(SETS, (Equals("kind", "set"),))
        found = [set_from_payload(point.id, point.payload, self.location) for point in points]
        return sorted(found, key=lambda one: (one.name, one.created_s, one.set_id))

    def put_set(self, one: SegmentSet) -> None:
        """See ``SetStore``."""
        self._known()
        self._store.upsert(SETS, [StoredPoint(one.set_id, set_to_payload(one))], vector=_NO_VECTOR)

    def delete_set(self, set_id: UUID) -> None:
        """See ``SetStore``."""
        self._known()
        members: Conditions = (Equals("set_id", str(set_id)),)
        self._store.delete(SETS, members)
        self._store.delete(SETS, (HasId((set_id,)),))
        self._store.delete(SETS, members)  # those that another process added while the set was there

    def add_members(self, members: Sequence[SetMember]) -> None:
        """See ``SetStore``."""
        self._known()
        points = [
            StoredPoint(member_point_id(one.set_id, one.member_id), member_to_payload(one)) for one in members
        ]
        if points:
            self._store.upsert(SETS, points, vector=_NO_VECTOR)

    def remove_members(self, set_id: UUID, member_ids: Collection[UUID]) -> None:
        """See ``SetStore``."""
        self._known()
        ids = tuple(member_point_id(set_id, member_id) for member_id in member_ids)
        if ids:
            self._store.delete(SETS, (HasId(ids),))

    def set_members(self, set_id: UUID) -> Iterator[SetMember]:
        """See ``SetStore``."""
        self._known()
        return map(self._member, self._store.scroll(SETS, (Equals("set_id", str(set_id)),)))

    def members_of_images(self, image_ids: Sequence[UUID]) -> list[SetMember]:
        """See ``SetStore``."""
        self._known()
        if not image_ids:
            return []
        where = (AnyOf("image_id", tuple(map(str, image_ids))),)
        return list(map(self._member, self._store.scroll(SETS, where)))

    def set_marks(self, marks: Mapping[UUID, Sequence[UUID]]) -> None:
        """See ``SetStore``."""
        self._known()
        payloads = {key: marks_to_payload(sets) for key, sets in marks.items()}
        if payloads:
            self._store.set_payloads(SEGMENTS, payloads)

    def concepts(self) -> list[Concept]:
        """See ``ConceptStore``."""
        self._known()
        found = map(self._concept, self._store.scroll(SETS, (Equals("kind", "concept"),)))
        return sorted(found, key=lambda one: one.name)

    def concept(self, name: str) -> Concept | None:
        """See ``ConceptStore``."""
        self._known()
        return next(map(self._concept, self._store.retrieve(SETS, [concept_point_id(name)]).values()), None)

    def put_concept(self, one: Concept) -> Concept:
        """See ``ConceptStore``."""
        self._known()
        payload = concept_to_payload(replace(one, revision=one.revision + 1))
        point = StoredPoint(concept_point_id(one.name), payload)
        self._store.upsert(SETS, [point], vector=_NO_VECTOR, over=_revision(one.revision))
        held = self.concept(one.name)
        if held is None or held != one:
            raise concept_in_conflict(one.name, self.location)
        return held

    def delete_concept(self, name: str) -> None:
        """See ``ConceptStore``."""
        self._known()
        self._store.delete(SETS, (HasId((concept_point_id(name),)),))

    def delete_segments(self, image_id: UUID, *, writes: Collection[str] | None = None) -> None:
        """See ``IndexWriter``."""
        self._known()
        if writes is None:
            self._store.delete(SEGMENTS, of_image(image_id))
            return
        tokens = tuple(sorted(token for token in writes if token))
        if tokens:
            self._store.delete(SEGMENTS, (*of_image(image_id), AnyOf(WRITE_FIELD, tokens)))
        if "" in writes:
            self._store.delete(SEGMENTS, (*of_image(image_id), IsMissing(WRITE_FIELD)))

    def delete_image(self, image_id: UUID, *, revision: int | None = None) -> None:
        """See ``IndexWriter``."""
        while True:
            # Listed before the record is read: what another process writes from now on stays, because the
            # record that it writes first is not the one that is read here.
            writes = {one.write for one in self.scroll_segments(SegmentFilter(image_ids=(image_id,)))}
            held = next(iter(self.get_images([image_id])), None)
            if held is None:
                self.delete_segments(image_id, writes=writes)
                return
            if revision not in (None, held.revision):
                raise in_conflict(image_id, self.location)
            try:
                self._delete(held, writes)
            except IndexConflictError:
                if revision is not None:
                    raise
            else:
                return

    def ensure(self, wanted: IndexFingerprint) -> None:
        """See ``IndexAdmin``."""
        self._place.claim()
        if self._fingerprint is None:
            description = {**fingerprint_to_payload(wanted), COLLECTIONS_KEY: dict(REAL_NAMES)}
            self._place.make(description, collections(wanted))
            known = self._open(self._description())
        else:
            known = self._open(self._description_in_use())
        check_fingerprint(known, wanted, self.location)

    def remember(self, fingerprint: IndexFingerprint) -> None:
        """See ``IndexAdmin``."""
        check_fingerprint(self._known(), fingerprint, self.location)
        self._place.describe({**self._description_in_use(), **fingerprint_to_payload(fingerprint)})
        self._fingerprint = fingerprint

    def note_recipe(self, recipe: str, made: MaskRecipe) -> None:
        """See ``IndexAdmin``."""
        self._known()
        self._place.note(self._store.names[SEGMENTS], masks_to_payload({recipe: made}))

    def recipes(self) -> Mapping[str, MaskRecipe]:
        """See ``IndexAdmin``."""
        self._known()
        return masks_from_payload(self._place.notes(self._store.names[SEGMENTS]))

    def vector_copy(
        self, wanted: IndexFingerprint, *, key: str, update: Callable[[ImageRecord], ImageRecord]
    ) -> VectorCopy:
        """See ``IndexAdmin``."""
        self._known()
        self._description_in_use()
        return QdrantCopy(
            self._place,
            self._store,
            wanted,
            key=key,
            update=update,
            reopen=lambda: QdrantIndex(self._place),
        )

    def has_copy(self, key: str) -> bool:
        """See ``IndexAdmin``."""
        self._known()
        return names_of_copy(self._place, self._store.names, key)[SEGMENTS] in self._place.present()

    def examination(self) -> IndexExamination:
        """See ``IndexAdmin``."""
        return QdrantExamination(self._place, self._store, self._known())

    def drop_unused(self) -> int:
        """See ``IndexAdmin``."""
        self._known()
        names = self._store.names
        self._description_in_use()
        unused = self._place.present() - set(names.values())
        for real_name in sorted(unused):
            self._place.drop(real_name)
        self._place.fence(names[SEGMENTS], by=None)  # by a re-embedding that was stopped while it switched
        return len({real_name.partition("-")[2] for real_name in unused})

    def optimize(self) -> None:
        """See ``IndexAdmin``."""
        self._known()
        self._place.optimize()

    def close(self) -> None:
        """See ``IndexAdmin``."""
        self._place.close()

    def _ids(self, name: str, first: UUID, last: UUID, limit: int) -> list[UUID]:
        self._known()
        return [found for found in self._store.ids_from(name, first, limit=limit) if found <= last]

    def _description(self) -> Mapping[str, object]:
        description = self._place.description()
        if description is None:
            raise missing_index(self.location)
        return description

    def _description_in_use(self) -> Mapping[str, object]:
        """Return the description of the collections that this index has opened.

        Raises:
            IndexMismatchError: If a re-embedding has replaced them.
        """
        description = self._description()
        if real_names(description, self.location) != self._store.names:
            raise superseded(self.location)
        return description

    def _open(self, description: Mapping[str, object]) -> IndexFingerprint:
        self._fingerprint = fingerprint_from_payload(description, self.location)
        self._place.open(description, collections(self._fingerprint))
        self._store = InUse(self._place, real_names(description, self.location))
        return self._fingerprint

    def _known(self) -> IndexFingerprint:
        if self._fingerprint is None:
            raise missing_index(self.location)
        return self._fingerprint

    def _accepted(self, record: ImageRecord) -> ImageRecord:
        """Return the stored record of an image if it is equal to ``record``.

        Raises:
            IndexConflictError: If the stored record differs or does not exist. The segments then get the
                fields of the stored record.
        """
        held = next(iter(self.get_images([record.image_id])), None)
        if held == record:
            return held
        if held is not None:
            self._repeat(held)
        raise in_conflict(record.image_id, self.location)

    def _replaced(self, held: ImageRecord, record: ImageRecord) -> ImageRecord:
        """Replace the record of an image that is stored as ``held``, and return it as it is stored then.

        Raises:
            IndexConflictError: See ``_accepted``.
        """
        payload = image_to_payload(replace(record, revision=held.revision + 1))
        self._store.overwrite_payload(IMAGES, payload, _still(held))
        return self._accepted(record)

    def _delete(self, held: ImageRecord, writes: Collection[str]) -> None:
        """Delete an image: its record says so first and goes last, so that each segment always has one.

        Raises:
            IndexConflictError: If another process changed the record before or meanwhile.
        """
        marked = self._replaced(held, replace(held, pending=PendingChange("delete")))
        self.delete_segments(held.image_id, writes=writes)
        self._store.delete(IMAGES, _still(marked))
        if self.get_images([held.image_id]):
            raise in_conflict(held.image_id, self.location)

    def _repeat(self, record: ImageRecord) -> None:
        """Write the fields that segments copy from an image record into the segments of the image."""
        self._store.set_payload(SEGMENTS, repeated_payload(record), of_image(record.image_id))

    def _segment(self, point: StoredPoint) -> SegmentRecord:
        return segment_from_payload(point.id, point.payload, self.location)

    def _member(self, point: StoredPoint) -> SetMember:
        return member_from_payload(point.id, point.payload, self.location)

    def _concept(self, point: StoredPoint) -> Concept:
        return concept_from_payload(point.id, point.payload, self.location)

    def _image(self, point: StoredPoint) -> ImageRecord:
        return image_from_payload(point.id, point.payload, self.location)


def _revision(number: int) -> Conditions:
    return (Equals("revision", number),)


def _labelled_by(token: str) -> Conditions:
    return (Equals(LABELLING_FIELD, token),) if token else (IsMissing(LABELLING_FIELD),)


def _still(held: ImageRecord) -> Conditions:
    """Return the condition for a record that has not changed since it was read.

    The token tells the record from that of an image that was deleted and stored again meanwhile.
    """
    same = (HasId((held.image_id,)), *_revision(held.revision))
    return same if held.pending is None else (*same, Equals(PENDING_FIELD, held.pending.token))


def _rows(points: Mapping[UUID, StoredPoint]) -> dict[UUID, Row]:
    return {key: point.row for key, point in points.items() if point.row is not None}
