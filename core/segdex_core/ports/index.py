"""Protocols of an index: segments with their vectors, and the ledger of images."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.colours import ColourShares
from segdex_core.concepts import Concept
from segdex_core.ports.examination import IndexExamination
from segdex_core.records import (
    EVERYTHING,
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


class IndexReader(Protocol):
    """Read operations of an index."""

    @property
    def location(self) -> str:
        """Location of the index, for display: ``edge:PATH``, ``http://HOST:PORT`` or ``memory``."""
        ...

    def fingerprint(self) -> IndexFingerprint | None:
        """Return the fingerprint of the index, or None if there is no index yet."""
        ...

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
        """Return the segments with the largest weighted mean of dot products plus object score, best first.

        Args:
            vectors: Query vector (dim,) float32 of each view.
            weights: Weight of each view, 0 or more, not all 0.
            object_weight: Weight of the object score that is added to the mean, 0 or more.
            limit: Maximum number of segments.
            where: Conditions that segments must meet.
            exact: Whether to compare with every vector instead of searching the HNSW graph.
        """
        ...

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
        """Return the segments that score most with any of several examples, best first.

        A segment scores the weighted mean of the dot products of its views with an example; the object score
        does not count. Segments that score at least as much with an example of ``away`` as with every example
        of ``towards`` are left out.

        Args:
            towards: Vector (dim,) float32 of each view, of each example to look like; at least one.
            away: Those of the examples to be unlike.
            weights: Weight of each view, 0 or more, not all 0.
            limit: Maximum number of segments.
            where: Conditions that segments must meet.
            exact: Whether to compare with every vector instead of searching the HNSW graph.
        """
        ...

    def view_segments(
        self, segment_ids: Sequence[UUID], vectors: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[UUID, ViewedSegment]:
        """Return the existing segments among ``segment_ids``, with the dot product of each view."""
        ...

    def get_segments(self, segment_ids: Sequence[UUID]) -> list[SegmentRecord]:
        """Return the existing segments, in the order of ``segment_ids``."""
        ...

    def get_vectors(
        self, segment_ids: Sequence[UUID]
    ) -> Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]]:
        """Return the (dim,) vectors of the existing segments, by view."""
        ...

    def get_images(self, image_ids: Sequence[UUID]) -> list[ImageRecord]:
        """Return the records of the existing images, in the order of ``image_ids``."""
        ...

    def get_image_vectors(self, image_ids: Sequence[UUID]) -> Mapping[UUID, npt.NDArray[np.float32]]:
        """Return the (dim,) whole-image vectors of the existing images."""
        ...

    def segment_ids(self, first: UUID, last: UUID, *, limit: int) -> list[UUID]:
        """Return the ids of stored segments from ``first`` to ``last``, in order, at most ``limit``.

        No record is read, and the time does not grow with the index.
        """
        ...

    def image_ids(self, first: UUID, last: UUID, *, limit: int) -> list[UUID]:
        """Return the ids of stored images from ``first`` to ``last``, in order, at most ``limit``."""
        ...

    def scroll_segments(self, where: SegmentFilter = EVERYTHING) -> Iterator[SegmentRecord]:
        """Yield all matching segments, ordered by id."""
        ...

    def scroll_vectors(self, where: SegmentFilter = EVERYTHING) -> Iterator[EmbeddedSegments]:
        """Yield all matching segments with their vectors in the order of their ids, some hundreds at a time.

        Memory does not grow with the index. A batch has (n, dim) float32 rows by view, and is never empty.
        """
        ...

    def scroll_images(self) -> Iterator[ImageRecord]:
        """Yield all image records, ordered by id."""
        ...

    def counts(self, where: SegmentFilter = EVERYTHING) -> IndexCounts:
        """Return the exact numbers of all images and of matching segments."""
        ...

    def count_images(self, status: ImageStatus) -> int:
        """Return the exact number of images with a status."""
        ...

    def label_counts(self) -> Mapping[str, int]:
        """Return the exact number of segments that carry each label, by its name, sorted by name."""
        ...


class IndexWriter(Protocol):
    """Write operations on images and segments.

    All writes are idempotent, and durable when they return.

    Several processes may write to one index. The record of an image has a ``revision`` that the index
    increments: a write succeeds only if the index still has the revision that was read. Change a record with
    ``dataclasses.replace``, which keeps its revision. After an ``IndexConflictError``, read the record again,
    merge, and write again.
    """

    def upsert_segments(self, segments: EmbeddedSegments) -> None:
        """Write segments with their vectors. An existing segment with an equal id is overwritten."""
        ...

    def upsert_image(self, record: ImageRecord, vector: Vectors) -> ImageRecord:
        """Write the record of an image with the (1, dim) vector of the whole image.

        The record is written if the image has no stored record, or a stored record with the revision of
        ``record``. A new record has revision 0 and never replaces a stored one. A stored record with equal
        content is left unchanged.

        Returns:
            The stored record, with its new revision.

        Raises:
            IndexConflictError: If the stored record has another revision and other content.
        """
        ...

    def update_image(self, record: ImageRecord) -> ImageRecord:
        """Replace the record of a stored image and its copies in the segments. Vectors are kept.

        Segments have copies of ``sources`` (``uri_sources`` of all files), ``tags`` and ``captured_s``. If
        they change, the record is written first, with a pending ``copy``, then the copies, and the record
        without it last. A record that is given with a pending ``copy`` has its copies written in any case.
        While the image has a pending ``write`` or ``delete``, or gets one, only the record is written.

        Returns:
            The stored record, with its new revision.

        Raises:
            IndexConflictError: If the stored record has another revision and other content, or does not
                exist.
        """
        ...

    def set_labels(
        self, labels: Mapping[UUID, Sequence[SegmentLabel]], *, over: Mapping[UUID, str] | None = None
    ) -> list[UUID]:
        """Replace the labels of some segments; all else of them stays. A segment that is gone is skipped.

        Args:
            labels: New labels by segment.
            over: ``SegmentRecord.labelling`` that each segment must still have; None replaces any labels.

        Returns:
            Segments that another process labelled meanwhile: read them again, merge, and write again.
        """
        ...

    def set_colours(self, colours: Mapping[UUID, ColourShares]) -> None:
        """Replace the colours of some segments; all else of them stays. A segment that is gone is skipped."""
        ...

    def delete_segments(self, image_id: UUID, *, writes: Collection[str] | None = None) -> None:
        """Delete the segments of an image, or only those of some writes (``SegmentRecord.write``)."""
        ...

    def delete_image(self, image_id: UUID, *, revision: int | None = None) -> None:
        """Delete an image: its record gets a pending ``delete`` first, and is deleted after its segments.

        Segments that another process writes meanwhile stay. It is not an error if the image does not exist;
        segments without a record are deleted.

        Args:
            image_id: Id of the image.
            revision: Revision that the stored record must have; None deletes any revision.

        Raises:
            IndexConflictError: If the image has another revision.
        """
        ...


class SetStore(Protocol):
    """The named sets of an index, and their members.

    All writes are idempotent, and durable when they return.

    Memberships stay when the index deletes a segment or a picture. Segments carry the ids of their sets for
    filters; whoever changes members, or writes segments, brings these marks in line (``set_marks``).
    """

    def sets(self) -> list[SegmentSet]:
        """Return all sets, sorted by name."""
        ...

    def put_set(self, one: SegmentSet) -> None:
        """Write a set, or replace that of the same id."""
        ...

    def delete_set(self, set_id: UUID) -> None:
        """Delete a set and its members; marks of segments stay. No set of the id is deleted already."""
        ...

    def add_members(self, members: Sequence[SetMember]) -> None:
        """Write members; the same one again overwrites."""
        ...

    def remove_members(self, set_id: UUID, member_ids: Collection[UUID]) -> None:
        """Remove some members of a set; one that is not there is removed already."""
        ...

    def set_members(self, set_id: UUID) -> Iterator[SetMember]:
        """Yield all members of a set, in no order that means anything."""
        ...

    def members_of_images(self, image_ids: Sequence[UUID]) -> list[SetMember]:
        """Return the members, of any set, that are some pictures or segments of them."""
        ...

    def set_marks(self, marks: Mapping[UUID, Sequence[UUID]]) -> None:
        """Replace the ids of the sets that some segments carry. A segment that is gone is skipped."""
        ...


class ConceptStore(Protocol):
    """The saved concepts of an index.

    Like sets, they stay when segments or pictures are deleted, and when vectors are replaced.
    """

    def concepts(self) -> list[Concept]:
        """Return all concepts, sorted by name."""
        ...

    def concept(self, name: str) -> Concept | None:
        """Return the concept of a name; None if there is none."""
        ...

    def put_concept(self, one: Concept) -> Concept:
        """Write a concept, if its name has no stored concept or one with the revision of ``one``.

        Returns:
            The stored concept, with its new revision.

        Raises:
            IndexConflictError: If the stored concept has another revision and other content.
        """
        ...

    def delete_concept(self, name: str) -> None:
        """Delete a concept. No concept of the name is deleted already."""
        ...


class VectorCopy(Protocol):
    """New vectors of another embedder or other views, next to the vectors that are in use.

    Masks and everything else that is stored of images and segments are copied unchanged, with fields that
    this version does not know. A copy is persistent: after a crash, a copy for the same embedder and views
    continues with what is already there.
    """

    def behind(self, *, align: bool = True) -> list[ImageRecord]:
        """Return the images that have to be embedded for the copy, in the order of their ids.

        Segments whose image has no record are not copied.

        Args:
            align: Whether to bring everything else up to date: images and segments that were deleted are
                deleted in the copy, and changed fields are copied. Without it, nothing is written.

        Raises:
            IndexMismatchError: If another re-embedding has replaced the vectors, for this and all other
                writes.
        """
        ...

    def write(self, record: ImageRecord, segments: EmbeddedSegments, vector: Vectors) -> None:
        """Copy an image with new vectors, segments first.

        Args:
            record: Record of the image.
            segments: All segments of the image with their new vectors.
            vector: (1, dim) vector of the whole image.
        """
        ...

    def fenced(self) -> AbstractContextManager[None]:
        """Refuse writes to the vectors in use, in all processes, until the block ends or for good.

        Every write to the index that succeeds was made before the block, and ``behind`` in the block sees it.
        A write that raises ``IndexMismatchError`` may be missing in the copy, and has to be repeated after
        the switch.
        """
        ...

    def switch(self, recipes: Mapping[str, MaskRecipe], *, left_out: Sequence[UUID] = ()) -> "SegmentIndex":
        """Replace the vectors in use by the copy in one step, inside ``fenced``.

        Open indexes continue to read the old vectors, which are kept until ``IndexAdmin.drop_unused``, and
        refuse writes.

        Args:
            recipes: What made the masks, by recipe of the new index.
            left_out: Images that the new vectors do not contain.

        Returns:
            The index with the new vectors. It shares the store of the old one, so closing either closes both.

        Raises:
            IndexMismatchError: If another re-embedding has replaced the vectors in the meantime.
            IndexConflictError: If another re-embedding has begun its own switch in the meantime.
        """
        ...


class IndexAdmin(Protocol):
    """Operations on a whole index. An index with an older schema is migrated when it is opened."""

    def ensure(self, wanted: IndexFingerprint) -> None:
        """Create the index for ``wanted``, or check that the existing index matches ``wanted``.

        Raises:
            IndexMismatchError: If the index was filled by another embedder, or with other views.
            IndexVersionError: If the index has a newer schema.
        """
        ...

    def remember(self, fingerprint: IndexFingerprint) -> None:
        """Store a fingerprint with other defaults for the next ingest. Vectors are kept.

        Raises:
            IndexMismatchError: If ``fingerprint`` has another embedder, dimension or views.
        """
        ...

    def note_recipe(self, recipe: str, made: MaskRecipe) -> None:
        """Remember what made the masks of the images with a recipe."""
        ...

    def recipes(self) -> Mapping[str, MaskRecipe]:
        """Return what made the masks, by recipe, as far as it was noted."""
        ...

    def vector_copy(
        self, wanted: IndexFingerprint, *, key: str, update: Callable[[ImageRecord], ImageRecord]
    ) -> VectorCopy:
        """Return the copy of this index for other vectors; it is created if there is none.

        Args:
            wanted: Fingerprint of the index with the new vectors.
            key: 12 hexadecimal digits, a hash of the embedder and the views.
            update: Returns the record of an image with its recipe in the new index.
        """
        ...

    def has_copy(self, key: str) -> bool:
        """Return whether there is an unfinished copy for a key."""
        ...

    def examination(self) -> IndexExamination:
        """Return what reads everything that is stored, also what cannot be read as a record.

        Raises:
            IndexMissingError: If there is no index.
        """
        ...

    def drop_unused(self) -> int:
        """Delete the vectors that are not in use: former vectors and unfinished copies.

        Returns:
            Number of sets of vectors that were deleted.
        """
        ...

    def optimize(self) -> None:
        """Build the HNSW graph, which makes queries fast. It may take minutes for a large embedded index."""
        ...

    def close(self) -> None:
        """Flush and release the index; calling it twice is harmless."""
        ...


class SegmentIndex(IndexReader, IndexWriter, SetStore, ConceptStore, IndexAdmin, Protocol):
    """An index of segments with a vector for each view, and the ledger of images."""
