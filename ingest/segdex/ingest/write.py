"""What an ingest writes: the only code that changes an index while pictures are ingested.

Others may write to the same index meanwhile: an upload beside a job, a worker on another machine. So a record
is read from the index right before it is changed, whatever was known of it when the ingest began.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from threading import RLock
from typing import Protocol
from uuid import UUID

from segdex.core.protocols import SegmentIndex
from segdex.core.records import ImageRecord
from segdex.ingest.pipeline import AnalysedImage, Recipe, build_records


class Writer(Protocol):
    """What becomes of the files: they are really ingested, or it is only said what would happen."""

    @property
    def recipe(self) -> Recipe | None:
        """What pictures are analysed with; None if they are not."""
        ...

    def alone(self) -> AbstractContextManager[object]:
        """Keep other writers of this process away between ``now`` and a change."""
        ...

    def now(self, image_id: UUID, known: ImageRecord | None) -> ImageRecord | None:
        """Return the record of a picture as the index has it now; None if it has none.

        Args:
            image_id: The picture.
            known: The record as it was when the ingest began, or as this ingest left it.
        """
        ...

    def store(self, record: ImageRecord, analysis: Callable[[], AnalysedImage]) -> ImageRecord:
        """Store a picture; return its record with status and number of segments.

        Args:
            record: The picture.
            analysis: Returns what the recipe makes of it. Not to be called without a recipe.
        """
        ...

    def update(self, record: ImageRecord) -> None:
        """Store a changed record of a known picture."""
        ...

    def delete(self, record: ImageRecord) -> None:
        """Delete a picture and its segments."""
        ...


class IndexWriter:
    """Ingest into an index.

    Two processes may change one picture at the same time. Between reading and writing a record are
    milliseconds, in which a change of the other process to the same picture is lost.

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

    def alone(self) -> AbstractContextManager[object]:
        """See ``Writer``."""
        return self._lock

    def now(self, image_id: UUID, known: ImageRecord | None) -> ImageRecord | None:
        """See ``Writer``."""
        del known
        return next(iter(self._index.get_images([image_id])), None)

    def store(self, record: ImageRecord, analysis: Callable[[], AnalysedImage]) -> ImageRecord:
        """Segments first, the picture's record last: a crash in between does the picture again."""
        analysed = analysis()
        count = len(analysed.segments)
        record = replace(record, segment_count=count, status="done" if count else "no_segments")
        # what another recipe or an interrupted run left of the same picture
        self._index.delete_segments(record.image_id)
        if count:
            self._index.upsert_segments(build_records(analysed, record))
        self._index.upsert_image(record, analysed.image_vector)
        return record

    def update(self, record: ImageRecord) -> None:
        """Change the payload in the index."""
        self._index.update_image(record)

    def delete(self, record: ImageRecord) -> None:
        """Delete from the index."""
        self._index.delete_image(record.image_id)


class DryWriter:
    """Say what an ingest would do, without models and without writing."""

    @property
    def recipe(self) -> None:
        """Nothing is analysed."""
        return None

    def alone(self) -> AbstractContextManager[object]:
        """Nobody is disturbed."""
        return nullcontext()

    def now(self, image_id: UUID, known: ImageRecord | None) -> ImageRecord | None:
        """Return what was known."""
        del image_id
        return known

    def store(self, record: ImageRecord, analysis: Callable[[], AnalysedImage]) -> ImageRecord:
        """Return the record as it is."""
        del analysis
        return record

    def update(self, record: ImageRecord) -> None:
        """Do nothing."""

    def delete(self, record: ImageRecord) -> None:
        """Do nothing."""
