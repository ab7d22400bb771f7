"""What an ingest writes: the only code that changes an index while pictures are ingested.

Others may write to the same index meanwhile: an upload beside a job, a worker on another machine. So a record
is read from the index right before it is changed, whatever was known of it when the ingest began.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from threading import RLock
from typing import Protocol
from uuid import UUID

from segdex_core.ports.index import SegmentIndex
from segdex_core.records import ImageRecord
from segdex_ingest.analyse import AnalysedImage, Recipe, build_records


class Writer(Protocol):
    """Writes what an ingest makes of pictures, or only pretends to."""

    @property
    def recipe(self) -> Recipe | None:
        """What pictures are analysed with; None if no picture is analysed."""
        ...

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep other writers of this process away between ``current`` and a change."""
        ...

    def current(self, image_id: UUID, known: ImageRecord | None) -> ImageRecord | None:
        """Return the record of a picture as it is in the index; None if there is none.

        Args:
            image_id: The picture.
            known: The record as it was when the ingest began, or as this ingest left it.
        """
        ...

    def store(self, record: ImageRecord, analysed: AnalysedImage | None) -> ImageRecord:
        """Store a picture; return its record with status and number of segments.

        Args:
            record: The picture.
            analysed: What the recipe makes of it; None where the writer has no recipe.
        """
        ...

    def update(self, record: ImageRecord) -> ImageRecord:
        """Store a changed record of a known picture; return it as it is stored."""
        ...

    def delete(self, record: ImageRecord) -> None:
        """Delete a picture and its segments."""
        ...


class IndexWriter:
    """Writes into an index.

    The lock holds within one process. If another process changes the same picture between ``current`` and the
    end of the change, the change is refused with ``IndexConflictError``.

    Args:
        index: What to fill.
        recipe: The models and settings.
        lock: An ``RLock`` of all in this process that write to the index; None where nobody else does.
    """

    def __init__(
        self, index: SegmentIndex, recipe: Recipe, *, lock: AbstractContextManager[object] | None = None
    ) -> None:
        self._index = index
        self._recipe = recipe
        self._lock = lock or RLock()

    @property
    def recipe(self) -> Recipe:
        """The models and settings."""
        return self._recipe

    def exclusive(self) -> AbstractContextManager[object]:
        """See ``Writer``."""
        return self._lock

    def current(self, image_id: UUID, known: ImageRecord | None) -> ImageRecord | None:
        """See ``Writer``."""
        del known
        return next(iter(self._index.get_images([image_id])), None)

    def store(self, record: ImageRecord, analysed: AnalysedImage | None) -> ImageRecord:
        """Write the segments first and the picture's record last: after a crash the picture is done again.

        Raises:
            ValueError: If the picture was not analysed.
        """
        if analysed is None:
            raise ValueError("a picture that was not analysed cannot be stored")
        count = len(analysed.segments)
        record = replace(record, segment_count=count, status="done" if count else "no_segments")
        # what another recipe or an interrupted run left of the same picture
        self._index.delete_segments(record.image_id)
        if count:
            self._index.upsert_segments(build_records(analysed, record))
        return self._index.upsert_image(record, analysed.image_vector)

    def update(self, record: ImageRecord) -> ImageRecord:
        """Change the payload in the index."""
        return self._index.update_image(record)

    def delete(self, record: ImageRecord) -> None:
        """Delete from the index."""
        self._index.delete_image(record.image_id, revision=record.revision)


class DryWriter:
    """Pretends to write, so that an ingest says what it would do."""

    @property
    def recipe(self) -> None:
        """Nothing is analysed."""
        return None

    def exclusive(self) -> AbstractContextManager[object]:
        """Return a context that does nothing."""
        return nullcontext()

    def current(self, image_id: UUID, known: ImageRecord | None) -> ImageRecord | None:
        """Return the record that was known."""
        del image_id
        return known

    def store(self, record: ImageRecord, analysed: AnalysedImage | None) -> ImageRecord:
        """Return the record as it is."""
        del analysed
        return record

    def update(self, record: ImageRecord) -> ImageRecord:
        """Return the record as it is."""
        return record

    def delete(self, record: ImageRecord) -> None:
        """Do nothing."""
