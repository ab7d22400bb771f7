"""New vectors next to those in use: ``VectorCopy`` for collections in a ``PointStore``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import UUID, uuid4

from segdex_backends.index.conditions import HasId, of_image
from segdex_backends.index.fusing import join_rows
from segdex_backends.index.in_use import InUse
from segdex_backends.index.layout import (
    COLLECTIONS_KEY,
    EMBEDDED,
    IMAGES,
    SEGMENTS,
    collections,
    image_vector,
    names_beside,
    real_names,
    segment_vector,
)
from segdex_backends.index.payloads import (
    check_segments,
    check_vectors,
    contested,
    fingerprint_from_payload,
    fingerprint_to_payload,
    image_from_payload,
    image_to_payload,
    masks_to_payload,
    superseded,
    with_exact_floats,
)
from segdex_backends.index.point_store import PointStore, StoredPoint
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import (
    EmbeddedSegments,
    ImageRecord,
    IndexFingerprint,
    MaskRecipe,
    Vectors,
)

_WAS_IN_USE = "was_in_use"
"""Note of collections that a re-embedding has replaced. They are not filled again: ingests may have added
vectors of other views, and an open index may still read them."""

_DELETED_AT_ONCE = 256
_RECIPE_FIELD = "recipe"  # the one field of a payload that differs between the copy and its source
_SCORE_FIELD = "object_score"  # the one field that the vector of a segment repeats


def names_of_copy(store: PointStore, in_use: Mapping[str, str], key: str) -> Mapping[str, str]:
    """Return the real names of an index after a re-embedding, by name.

    Args:
        store: Store of the points.
        in_use: Real names of the collections in use, by name.
        key: Hexadecimal digits, a hash of the embedder and its views.
    """
    present = store.present()
    while True:
        names = names_beside(in_use, key)
        target = names[SEGMENTS]
        if names != in_use and not (target in present and was_in_use(store, target)):
            return names
        key = f"{key}0"


def was_in_use(store: PointStore, segments: str) -> bool:
    """Return whether a re-embedding has replaced a collection of segments.

    Args:
        store: Store of the points.
        segments: Real name of the collection.
    """
    return bool(store.notes(segments).get(_WAS_IN_USE))


class QdrantCopy:
    """A ``VectorCopy`` in collections of its own.

    Nothing but the two collections says how far it is, so that a process that is killed loses at most one
    image. Scrolls return points in the order of their ids, and the copy is compared with its source by one
    pass over both.

    Args:
        store: Store of the points.
        source: The collections in use.
        fingerprint: Fingerprint of the new vectors.
        key: Hexadecimal digits that name the embedder and the views.
        update: Returns the record of an image as the new index has it.
        reopen: Opens the index after the switch.
    """

    def __init__(
        self,
        store: PointStore,
        source: InUse,
        fingerprint: IndexFingerprint,
        *,
        key: str,
        update: Callable[[ImageRecord], ImageRecord],
        reopen: Callable[[], SegmentIndex],
    ) -> None:
        self._store = store
        self._source = source
        self._names = names_of_copy(store, source.names, key)
        self._fingerprint = fingerprint
        self._update = update
        self._reopen = reopen
        self._me = uuid4().hex
        self._is_switching = False
        for name in EMBEDDED:
            store.create(self._names[name], collections(fingerprint)[name])

    def behind(self, *, align: bool = True) -> list[ImageRecord]:
        """See ``VectorCopy``."""
        images: set[UUID] = set()
        behind: set[UUID] = set()
        extra: list[UUID] = []
        for key, mine, copied in self._both(IMAGES):
            if mine is None:
                extra.append(key)
                continue
            images.add(key)
            if copied is None:
                behind.add(key)
            elif align:
                self._align(IMAGES, copied, self._image_payload(mine))
        if align:
            self._delete(IMAGES, extra)
        extra = []
        for key, mine, copied in self._both(SEGMENTS):
            image_id = None if mine is None else UUID(str(mine.payload["image_id"]))
            if mine is None or image_id not in images:  # without a record, an ingest has not finished it
                if copied is not None:
                    extra.append(key)
            elif copied is None or _score(copied) != _score(mine):
                behind.add(image_id)
            elif align:
                self._align(SEGMENTS, copied, with_exact_floats(mine.payload))
        if align:
            self._delete(SEGMENTS, extra)
        found = self._source.retrieve(IMAGES, sorted(behind))
        return [image_from_payload(key, found[key].payload, self._store.location) for key in sorted(found)]

    def write(self, record: ImageRecord, segments: EmbeddedSegments, vector: Vectors) -> None:
        """See ``VectorCopy``."""
        new = self._fingerprint
        self._refuse_if_replaced()
        check_segments(segments, new)
        check_vectors(vector, (1, new.dim), "the vector of a picture")
        ids = [one.segment_id for one in segments.records]
        stored = self._source.retrieve(SEGMENTS, ids)
        points = [
            StoredPoint(key, with_exact_floats(stored[key].payload), row)
            for key, row in zip(ids, join_rows(segments, new.views), strict=True)
            if key in stored
        ]
        if points:
            self._store.upsert(self._names[SEGMENTS], points, vector=segment_vector(new))
        for image in self._source.retrieve(IMAGES, [record.image_id]).values():
            point = StoredPoint(image.id, self._image_payload(image), vector[0])
            self._store.upsert(self._names[IMAGES], [point], vector=image_vector(new))

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """See ``VectorCopy``."""
        fence = self._source.names[SEGMENTS]
        self._store.fence(fence, by=self._me)
        try:
            yield
        finally:
            # After a switch that failed, nobody knows which vectors are in use: the fence stays up until the
            # next run. Another re-embedding that is at its end has raised the fence in its own name.
            if not self._is_switching and self._store.fenced_by(fence) == self._me:
                self._store.fence(fence, by=None)

    def switch(self, recipes: Mapping[str, MaskRecipe], *, left_out: Sequence[UUID] = ()) -> SegmentIndex:
        """See ``VectorCopy``."""
        source, target = self._source.names[SEGMENTS], self._names[SEGMENTS]
        for image_id in left_out:
            self._refuse_if_replaced()
            self._store.delete(self._names[IMAGES], (HasId((image_id,)),))
            self._store.delete(self._names[SEGMENTS], of_image(image_id))
        kept = {key: note for key, note in self._store.notes(source).items() if key != _WAS_IN_USE}
        self._store.note(target, {**kept, **masks_to_payload(recipes)})
        self._store.note(source, {_WAS_IN_USE: True})  # holds for the vectors in use too if the switch fails
        self._refuse_if_replaced()
        if self._store.fenced_by(source) != self._me:
            raise contested(self._store.location)
        description = self._store.description() or {}
        found = fingerprint_from_payload(description, self._store.location)  # an ingest may have changed it
        new = fingerprint_to_payload(found.with_vectors_of(self._fingerprint))
        self._is_switching = True
        self._store.switch({**description, **new, COLLECTIONS_KEY: dict(self._names)})
        return self._reopen()

    def _refuse_if_replaced(self) -> None:
        """Raise an error if another re-embedding has replaced the vectors: the copy may be in use by now."""
        if self._in_use() != self._source.names:
            raise superseded(self._store.location)

    def _in_use(self) -> Mapping[str, str]:
        description = self._store.description()
        return {} if description is None else real_names(description, self._store.location)

    def _image_payload(self, mine: StoredPoint) -> dict[str, object]:
        """Return the payload of an image in the copy: everything that is stored, with the new recipe."""
        record = image_from_payload(mine.id, mine.payload, self._store.location)
        changed = image_to_payload(self._update(record))
        return {**with_exact_floats(mine.payload), _RECIPE_FIELD: changed[_RECIPE_FIELD]}

    def _align(self, name: str, copied: StoredPoint, payload: Mapping[str, object]) -> None:
        if payload != with_exact_floats(copied.payload):
            self._refuse_if_replaced()
            self._store.overwrite_payload(self._names[name], payload, (HasId((copied.id,)),))

    def _both(self, name: str) -> Iterator[tuple[UUID, StoredPoint | None, StoredPoint | None]]:
        """Yield each id with its point in the source and its point in the copy, in the order of the ids."""
        mine, copied = self._source.scroll(name), self._store.scroll(self._names[name])
        left, right = next(mine, None), next(copied, None)
        while left is not None or right is not None:
            key = min(point.id for point in (left, right) if point is not None)
            here = left is not None and left.id == key
            there = right is not None and right.id == key
            yield key, left if here else None, right if there else None
            left = next(mine, None) if here else left
            right = next(copied, None) if there else right

    def _delete(self, name: str, ids: Sequence[UUID]) -> None:
        for start in range(0, len(ids), _DELETED_AT_ONCE):
            some = tuple(ids[start : start + _DELETED_AT_ONCE])
            self._refuse_if_replaced()
            self._store.delete(self._names[name], (HasId(some),))


def _score(point: StoredPoint) -> object:
    return with_exact_floats(point.payload).get(_SCORE_FIELD)
