"""An exact index in memory, which tests use as the reference for other indexes."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

import numpy as np
import numpy.typing as npt

from segdex_backends.index.fusing import check_examples, check_fused_query
from segdex_backends.index.payloads import (
    check_fingerprint,
    check_query,
    check_segments,
    check_vectors,
    concept_in_conflict,
    contested,
    in_conflict,
    needs_copies,
    superseded,
    unknown_picture,
    without_copying,
)
from segdex_core.colours import ColourShares
from segdex_core.concepts import Concept
from segdex_core.errors import IndexMissingError
from segdex_core.ports.examination import Found, IndexExamination, Leftovers, Part
from segdex_core.ports.index import VectorCopy
from segdex_core.records import (
    EVERYTHING,
    IMAGE_VIEW,
    EmbeddedSegments,
    FusedSegment,
    ImageRecord,
    ImageStatus,
    IndexCounts,
    IndexFingerprint,
    MaskRecipe,
    SegmentFilter,
    SegmentLabel,
    SegmentRecord,
    Vectors,
    ViewedSegment,
)
from segdex_core.sets import SegmentSet, SetMember


@dataclass(frozen=True, slots=True)
class _StoredSegment:
    record: SegmentRecord
    vectors: Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class _StoredImage:
    record: ImageRecord
    vector: npt.NDArray[np.float32]


@dataclass(slots=True)
class Held:
    """What a ``MemoryIndex`` holds."""

    fingerprint: IndexFingerprint | None = None
    segments: dict[UUID, _StoredSegment] = field(default_factory=dict)
    images: dict[UUID, _StoredImage] = field(default_factory=dict)
    sets: dict[UUID, SegmentSet] = field(default_factory=dict)
    members: dict[tuple[UUID, UUID], SetMember] = field(default_factory=dict)
    concepts: dict[str, Concept] = field(default_factory=dict)
    recipes: dict[str, MaskRecipe] = field(default_factory=dict)
    copies: dict[str, "Held"] = field(default_factory=dict)
    former: list["Held"] = field(default_factory=list)
    fenced_by: object | None = None
    is_replaced: bool = False
    is_dropped: bool = False


class MemoryIndex:
    """A ``SegmentIndex`` that holds everything in memory and always compares with every vector.

    Segments with equal scores are ordered by id. The index is not thread-safe.
    """

    def __init__(self, held: Held | None = None) -> None:
        self._held = Held() if held is None else held

    @property
    def location(self) -> str:
        """See ``IndexReader``."""
        return "memory"

    def fingerprint(self) -> IndexFingerprint | None:
        """See ``IndexReader``."""
        return self._held.fingerprint

    def ensure(self, wanted: IndexFingerprint) -> None:
        """See ``IndexAdmin``."""
        if self._held.fingerprint is None:
            self._held.fingerprint = wanted
        check_fingerprint(self._held.fingerprint, wanted, self.location)

    def upsert_segments(self, segments: EmbeddedSegments) -> None:
        """See ``IndexWriter``."""
        self._refuse_if_fenced()
        check_segments(segments, self._known())
        for row, record in enumerate(segments.records):
            vectors = {view: np.array(rows[row], np.float32) for view, rows in segments.vectors.items()}
            self._held.segments[record.segment_id] = _StoredSegment(record, vectors)

    def upsert_image(self, record: ImageRecord, vector: Vectors) -> ImageRecord:
        """See ``IndexWriter``."""
        self._refuse_if_fenced()
        check_vectors(vector, (1, self._known().dim), "the vector of a picture")
        held = self._held.images.get(record.image_id)
        if held is None or held.record.revision == record.revision:
            accepted = replace(record, revision=record.revision + 1)
            self._held.images[record.image_id] = _StoredImage(accepted, np.array(vector[0], np.float32))
        return self._accepted(record)

    def update_image(self, record: ImageRecord) -> ImageRecord:
        """See ``IndexWriter``."""
        self._refuse_if_fenced()
        self._known()
        if record.image_id not in self._held.images:
            raise unknown_picture(record.image_id, self.location)
        held = self._held.images[record.image_id]
        is_copied = needs_copies(held.record, record)
        record = without_copying(record)
        if held.record.revision == record.revision:
            for segment_id, stored in self._held.segments.items() if is_copied else ():
                if stored.record.image_id == record.image_id:
                    changed = replace(
                        stored.record, sources=record.sources, tags=record.tags, captured_s=record.captured_s
                    )
                    self._held.segments[segment_id] = replace(stored, record=changed)
            accepted = replace(record, revision=record.revision + 1)
            self._held.images[record.image_id] = replace(held, record=accepted)
        return self._accepted(record)

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
        """See ``IndexReader``."""
        shares = check_fused_query(vectors, limit, self._known(), weights, object_weight)
        found = [
            FusedSegment(
                segment_key=str(stored.record.segment_id),
                image_key=str(stored.record.image_id),
                ancestor_keys=tuple(map(str, stored.record.ancestor_ids)),
                score=sum(share * float(stored.vectors[v] @ vectors[v]) for v, share in shares.items())
                + object_weight * stored.record.object_score,
            )
            for stored in self._held.segments.values()
            if _matches(stored.record, where)
        ]
        return sorted(found, key=lambda hit: (-hit.score, hit.segment_key))[:limit]

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
        check_examples(towards)
        everything = max(len(self._held.segments), 1)
        likes, unlikes = (
            [
                self.query_fused(one, weights=weights, limit=everything, where=where, exact=exact)
                for one in some
            ]
            for some in (towards, away)
        )
        best: dict[str, FusedSegment] = {}
        for hit in (hit for hits in likes for hit in hits):
            known = best.get(hit.segment_key)
            if known is None or hit.score > known.score:
                best[hit.segment_key] = hit
        for hit in (hit for hits in unlikes for hit in hits):
            if hit.segment_key in best and hit.score >= best[hit.segment_key].score:
                del best[hit.segment_key]
        return sorted(best.values(), key=lambda hit: (-hit.score, hit.segment_key))[:limit]

    def view_segments(
        self, segment_ids: Sequence[UUID], vectors: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[UUID, ViewedSegment]:
        """See ``IndexReader``."""
        for view, vector in vectors.items():
            check_query(vector, self._known(), view)
        found = [self._held.segments[key] for key in segment_ids if key in self._held.segments]
        return {
            stored.record.segment_id: ViewedSegment(
                stored.record, {view: float(stored.vectors[view] @ vectors[view]) for view in vectors}
            )
            for stored in found
        }

    def get_segments(self, segment_ids: Sequence[UUID]) -> list[SegmentRecord]:
        """See ``IndexReader``."""
        self._known()
        return [self._held.segments[key].record for key in segment_ids if key in self._held.segments]

    def get_vectors(
        self, segment_ids: Sequence[UUID]
    ) -> Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]]:
        """See ``IndexReader``."""
        self._known()
        return {key: self._held.segments[key].vectors for key in segment_ids if key in self._held.segments}

    def get_images(self, image_ids: Sequence[UUID]) -> list[ImageRecord]:
        """See ``IndexReader``."""
        self._known()
        return [self._held.images[key].record for key in image_ids if key in self._held.images]

    def get_image_vectors(self, image_ids: Sequence[UUID]) -> Mapping[UUID, npt.NDArray[np.float32]]:
        """See ``IndexReader``."""
        self._known()
        return {key: self._held.images[key].vector for key in image_ids if key in self._held.images}

    def segment_ids(self, first: UUID, last: UUID, *, limit: int) -> list[UUID]:
        """See ``IndexReader``."""
        self._known()
        return sorted(key for key in self._held.segments if first <= key <= last)[:limit]

    def image_ids(self, first: UUID, last: UUID, *, limit: int) -> list[UUID]:
        """See ``IndexReader``."""
        self._known()
        return sorted(key for key in self._held.images if first <= key <= last)[:limit]

    def scroll_segments(self, where: SegmentFilter = EVERYTHING) -> Iterator[SegmentRecord]:
        """See ``IndexReader``."""
        self._known()
        for key in sorted(self._held.segments):
            if key in self._held.segments and _matches(self._held.segments[key].record, where):
                yield self._held.segments[key].record

    def scroll_vectors(self, where: SegmentFilter = EVERYTHING) -> Iterator[EmbeddedSegments]:
        """See ``IndexReader``."""
        for record in self.scroll_segments(where):
            vectors = self._held.segments[record.segment_id].vectors
            yield EmbeddedSegments([record], {view: row[None] for view, row in vectors.items()})

    def scroll_images(self) -> Iterator[ImageRecord]:
        """See ``IndexReader``."""
        self._known()
        for key in sorted(self._held.images):
            if key in self._held.images:
                yield self._held.images[key].record

    def set_labels(
        self, labels: Mapping[UUID, Sequence[SegmentLabel]], *, over: Mapping[UUID, str] | None = None
    ) -> list[UUID]:
        """See ``IndexWriter``."""
        self._refuse_if_fenced()
        self._known()
        others: list[UUID] = []
        for key in labels.keys() & self._held.segments.keys():
            stored = self._held.segments[key]
            if over is not None and over.get(key, "") != stored.record.labelling:
                others.append(key)
                continue
            changed = replace(stored.record, labels=tuple(labels[key]), labelling=uuid4().hex)
            self._held.segments[key] = replace(stored, record=changed)
        return others

    def set_colours(self, colours: Mapping[UUID, ColourShares]) -> None:
        """See ``IndexWriter``."""
        self._refuse_if_fenced()
        self._known()
        for key in colours.keys() & self._held.segments.keys():
            stored = self._held.segments[key]
            self._held.segments[key] = replace(stored, record=replace(stored.record, colours=colours[key]))

    def label_counts(self) -> Mapping[str, int]:
        """See ``IndexReader``."""
        self._known()
        names = Counter(
            name
            for stored in self._held.segments.values()
            for name in {one.name for one in stored.record.labels}
        )
        return dict(sorted(names.items()))

    def sets(self) -> list[SegmentSet]:
        """See ``SetStore``."""
        self._known()
        return sorted(self._held.sets.values(), key=lambda one: (one.name, one.created_s, one.set_id))

    def put_set(self, one: SegmentSet) -> None:
        """See ``SetStore``."""
        self._refuse_if_fenced()
        self._known()
        self._held.sets[one.set_id] = one

    def delete_set(self, set_id: UUID) -> None:
        """See ``SetStore``."""
        self._refuse_if_fenced()
        self._known()
        self._held.members = {key: one for key, one in self._held.members.items() if one.set_id != set_id}
        self._held.sets.pop(set_id, None)

    def add_members(self, members: Sequence[SetMember]) -> None:
        """See ``SetStore``."""
        self._refuse_if_fenced()
        self._known()
        self._held.members.update({(one.set_id, one.member_id): one for one in members})

    def remove_members(self, set_id: UUID, member_ids: Collection[UUID]) -> None:
        """See ``SetStore``."""
        self._refuse_if_fenced()
        self._known()
        for member_id in member_ids:
            self._held.members.pop((set_id, member_id), None)

    def set_members(self, set_id: UUID) -> Iterator[SetMember]:
        """See ``SetStore``."""
        self._known()
        return iter([one for one in self._held.members.values() if one.set_id == set_id])

    def members_of_images(self, image_ids: Sequence[UUID]) -> list[SetMember]:
        """See ``SetStore``."""
        self._known()
        return [one for one in self._held.members.values() if one.image_id in image_ids]

    def set_marks(self, marks: Mapping[UUID, Sequence[UUID]]) -> None:
        """See ``SetStore``."""
        self._refuse_if_fenced()
        self._known()
        for key in marks.keys() & self._held.segments.keys():
            stored = self._held.segments[key]
            changed = replace(stored.record, sets=tuple(sorted(marks[key])))
            self._held.segments[key] = replace(stored, record=changed)

    def concepts(self) -> list[Concept]:
        """See ``ConceptStore``."""
        self._known()
        return [one for _, one in sorted(self._held.concepts.items())]

    def concept(self, name: str) -> Concept | None:
        """See ``ConceptStore``."""
        self._known()
        return self._held.concepts.get(name)

    def put_concept(self, one: Concept) -> Concept:
        """See ``ConceptStore``."""
        self._refuse_if_fenced()
        self._known()
        held = self._held.concepts.get(one.name)
        if held is None or held.revision == one.revision:
            held = self._held.concepts[one.name] = replace(one, revision=one.revision + 1)
        if held != one:
            raise concept_in_conflict(one.name, self.location)
        return held

    def delete_concept(self, name: str) -> None:
        """See ``ConceptStore``."""
        self._refuse_if_fenced()
        self._known()
        self._held.concepts.pop(name, None)

    def delete_segments(self, image_id: UUID, *, writes: Collection[str] | None = None) -> None:
        """See ``IndexWriter``."""
        self._refuse_if_fenced()
        self._known()
        self._held.segments = {
            key: stored
            for key, stored in self._held.segments.items()
            if stored.record.image_id != image_id
            or (writes is not None and stored.record.write not in writes)
        }

    def delete_image(self, image_id: UUID, *, revision: int | None = None) -> None:
        """See ``IndexWriter``."""
        self._refuse_if_fenced()
        self._known()
        held = self._held.images.get(image_id)
        if held is not None and revision not in (None, held.record.revision):
            raise in_conflict(image_id, self.location)
        self._held.images.pop(image_id, None)
        self.delete_segments(image_id)

    def counts(self, where: SegmentFilter = EVERYTHING) -> IndexCounts:
        """See ``IndexReader``."""
        self._known()
        matching = sum(_matches(stored.record, where) for stored in self._held.segments.values())
        return IndexCounts(images=len(self._held.images), segments=matching)

    def count_images(self, status: ImageStatus) -> int:
        """See ``IndexReader``."""
        self._known()
        return sum(stored.record.status == status for stored in self._held.images.values())

    def remember(self, fingerprint: IndexFingerprint) -> None:
        """See ``IndexAdmin``."""
        check_fingerprint(self._known(), fingerprint, self.location)
        self._held.fingerprint = fingerprint

    def note_recipe(self, recipe: str, made: MaskRecipe) -> None:
        """See ``IndexAdmin``."""
        self._held.recipes[recipe] = made

    def recipes(self) -> Mapping[str, MaskRecipe]:
        """See ``IndexAdmin``."""
        return dict(self._held.recipes)

    def vector_copy(
        self, wanted: IndexFingerprint, *, key: str, update: Callable[[ImageRecord], ImageRecord]
    ) -> VectorCopy:
        """See ``IndexAdmin``."""
        if self._held.is_replaced:
            raise superseded(self.location)
        target = self._held.copies.setdefault(key, Held(fingerprint=wanted))
        return _MemoryCopy(self._held, target, update)

    def has_copy(self, key: str) -> bool:
        """See ``IndexAdmin``."""
        return key in self._held.copies

    def examination(self) -> IndexExamination:
        """See ``IndexAdmin``."""
        self._known()
        return _MemoryExamination(self)

    def drop_unused(self) -> int:
        """See ``IndexAdmin``."""
        dropped = len(self._held.copies) + len(self._held.former)
        for former in self._held.former:
            former.is_dropped = True
        self._held.copies, self._held.former = {}, []
        return dropped

    def optimize(self) -> None:
        """See ``IndexAdmin``; there is nothing to build."""

    def close(self) -> None:
        """See ``IndexAdmin``; there is nothing to release."""

    def _accepted(self, record: ImageRecord) -> ImageRecord:
        """Return the stored record of an image if it is equal to ``record``."""
        held = self._held.images.get(record.image_id)
        if held is None or held.record != record:
            raise in_conflict(record.image_id, self.location)
        return held.record

    def _refuse_if_fenced(self) -> None:
        if self._held.fenced_by is not None:
            raise superseded(self.location)

    def _known(self) -> IndexFingerprint:
        if self._held.fingerprint is None:
            raise IndexMissingError("the index in memory was not made yet")
        if self._held.is_dropped:
            raise superseded(self.location)
        return self._held.fingerprint


class _MemoryExamination:
    """An ``IndexExamination`` of what a ``MemoryIndex`` holds; every record of it can be read."""

    def __init__(self, index: MemoryIndex) -> None:
        self._index = index
        self._held = index._held  # noqa: SLF001 - of this module

    def images(self) -> Iterator[Found[ImageRecord]]:
        """See ``IndexExamination``."""
        for key in sorted(self._held.images):
            found = self.image(key)
            if found is not None:
                yield found

    def image(self, image_id: UUID) -> Found[ImageRecord] | None:
        """See ``IndexExamination``."""
        held = self._held.images.get(image_id)
        if held is None:
            return None
        return Found(image_id, held.record, image_id=image_id, vectors={IMAGE_VIEW: held.vector})

    def segments(self, image_ids: Sequence[UUID]) -> Iterator[Found[SegmentRecord]]:
        """See ``IndexExamination``."""
        return (one for one in self.all_segments() if one.image_id in image_ids)

    def all_segments(self) -> Iterator[Found[SegmentRecord]]:
        """See ``IndexExamination``."""
        for key in sorted(self._held.segments):
            held = self._held.segments.get(key)
            if held is None:
                continue
            score = held.record.object_score
            yield Found(
                key, held.record, image_id=held.record.image_id, vectors=held.vectors, vector_score=score
            )

    def members(self, image_ids: Sequence[UUID]) -> Iterator[Found[SetMember]]:
        """See ``IndexExamination``."""
        for one in self._index.members_of_images(image_ids):
            yield Found(one.member_id, one, image_id=one.image_id)

    def saved(self) -> Iterator[Found[SegmentSet | SetMember | Concept]]:
        """See ``IndexExamination``."""
        for one in self._held.sets.values():
            yield Found(one.set_id, one)
        for member in self._held.members.values():
            yield Found(member.member_id, member, image_id=member.image_id)
        for concept in self._held.concepts.values():
            yield Found(UUID(int=0), concept)

    def leftovers(self) -> Leftovers:
        """See ``IndexExamination``."""
        return Leftovers(
            unfinished=tuple(sorted(self._held.copies)), is_fenced=self._held.fenced_by is not None
        )

    def remove(self, part: Part, point_ids: Sequence[UUID]) -> None:
        """See ``IndexExamination``; what cannot be read is not here."""

    def drop(self, names: Sequence[str]) -> None:
        """See ``IndexExamination``; there are no halves of anything."""


class _MemoryCopy:
    """A ``VectorCopy`` in another ``MemoryIndex``."""

    def __init__(self, source: Held, target: Held, update: Callable[[ImageRecord], ImageRecord]) -> None:
        self._source = source
        self._target = target
        self._update = update

    def behind(self, *, align: bool = True) -> list[ImageRecord]:
        """See ``VectorCopy``."""
        source, target = self._source, self._target
        images, segments = source.images, source.segments
        finished = {key: stored for key, stored in segments.items() if stored.record.image_id in images}
        copied = {
            key: replace(target.segments[key], record=stored.record)
            for key, stored in finished.items()
            if key in target.segments
            and target.segments[key].record.object_score == stored.record.object_score
        }
        if align:
            self._refuse_if_replaced()
            target.segments = copied
            target.images = {
                key: replace(target.images[key], record=self._update(images[key].record))
                for key in target.images.keys() & images.keys()
            }
        behind = images.keys() - target.images.keys()
        behind |= {finished[key].record.image_id for key in finished.keys() - copied.keys()}
        return [images[key].record for key in sorted(behind)]

    def write(self, record: ImageRecord, segments: EmbeddedSegments, vector: Vectors) -> None:
        """See ``VectorCopy``."""
        self._refuse_if_replaced()
        MemoryIndex(self._target).upsert_segments(segments)
        copied = _StoredImage(self._update(record), np.array(vector[0], np.float32))
        self._target.images[record.image_id] = copied

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """See ``VectorCopy``."""
        self._source.fenced_by = self
        try:
            yield
        finally:
            if self._source.fenced_by is self and not self._source.is_replaced:
                self._source.fenced_by = None

    def switch(self, recipes: Mapping[str, MaskRecipe], *, left_out: Sequence[UUID] = ()) -> MemoryIndex:
        """See ``VectorCopy``."""
        source, target = self._source, self._target
        self._refuse_if_replaced()
        if self._source.fenced_by is not self:
            raise contested("memory")
        for image_id in left_out:
            MemoryIndex(target).delete_image(image_id)
        target.recipes = {**source.recipes, **recipes}
        target.sets, target.members, target.concepts = source.sets, source.members, source.concepts
        if source.fingerprint is not None and target.fingerprint is not None:
            target.fingerprint = source.fingerprint.with_vectors_of(target.fingerprint)
        source.copies = {key: other for key, other in source.copies.items() if other is not target}
        source.is_replaced = True
        target.former = [*source.former, source]
        return MemoryIndex(target)

    def _refuse_if_replaced(self) -> None:
        if self._source.is_replaced:
            raise superseded("memory")


def _matches(record: SegmentRecord, where: SegmentFilter) -> bool:
    return (
        (not where.image_ids or record.image_id in where.image_ids)
        and (where.min_area_fraction is None or record.area_fraction >= where.min_area_fraction)
        and (where.max_area_fraction is None or record.area_fraction <= where.max_area_fraction)
        and (where.min_depth is None or record.depth >= where.min_depth)
        and (not where.sources or not set(where.sources).isdisjoint(record.sources))
        and set(where.tags) <= set(record.tags)
        and (not where.labels or any(one.name in where.labels for one in record.labels))
        and (not where.sets or not set(where.sets).isdisjoint(record.sets))
        and (where.captured_from_s is None or record.captured_s >= where.captured_from_s)
        and (where.captured_until_s is None or record.captured_s < where.captured_until_s)
        and all(one.holds(record.colours) for one in where.colours)
    )
