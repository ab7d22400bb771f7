"""Erase what was derived from a picture, and its upload, before the picture is deleted from the index."""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from segdex.usecases.models import Models
from segdex.usecases.uploads import forget_upload
from segdex_core.errors import IndexConflictError, StorageError
from segdex_core.media.uris import canonical_uri, uri_to_path
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import ImageRecord
from segdex_core.settings import Settings
from segdex_search.refine.encodings import forget_encodings

if TYPE_CHECKING:
    from segdex.jobs.queue import Jobs


class Eraser:
    """Erases all that is derived from pictures, except what the index deletes with them.

    It runs before the picture is deleted: what is interrupted is completed by deleting it again. Files of
    people, outside the upload folder, stay.

    Args:
        settings: Settings with the folders.
        index: Index with the pictures, the sets and the concepts.
        models: Models whose caches may hold encoded pictures.
        queue: Returns the job queue; None if there is none, so that there is nothing to erase in it.
        writing: Held while sets and concepts change.
    """

    def __init__(
        self,
        settings: Settings,
        index: SegmentIndex,
        models: Models,
        *,
        queue: "Callable[[], Jobs | None]",
        writing: AbstractContextManager[object],
    ) -> None:
        self._settings, self._index, self._models = settings, index, models
        self._queue, self._writing = queue, writing

    def __call__(self, record: ImageRecord) -> None:
        """Erase what is derived from a picture.

        Raises:
            StorageError: If a file cannot be deleted.
            JobsUnavailableError: If the job queue does not answer.
        """
        uris = {canonical_uri(file.uri) for file in record.files}
        queue = self._queue()
        if queue is not None:
            queue.erase(lambda place: canonical_uri(place) in uris)
        for uri in uris:
            forget_upload(uri_to_path(uri), record.sha256, self._settings)
        self._models.forget(record.image_id)
        if self._settings.encodings_dir is not None:
            try:
                forget_encodings(self._settings.encodings_dir, record.image_id)
            except OSError as error:
                raise StorageError(f"an encoded picture cannot be deleted: {error}") from error
        with self._writing:
            self._leave_sets(record)
            self._leave_concepts(record)

    def _leave_sets(self, record: ImageRecord) -> None:
        members = self._index.members_of_images([record.image_id])
        by_set = groupby(sorted(members, key=lambda one: one.set_id), key=lambda one: one.set_id)
        for set_id, some in by_set:
            self._index.remove_members(set_id, [one.member_id for one in some])

    def _leave_concepts(self, record: ImageRecord) -> None:
        for name in [one.name for one in self._index.concepts()]:
            is_done = False
            while not is_done:
                known = self._index.concept(name)
                if known is None or all(mark.image_id != record.image_id for mark in known.marks):
                    break
                marks = tuple(mark for mark in known.marks if mark.image_id != record.image_id)
                if known.text is None and not any(mark.is_right for mark in marks):
                    self._index.delete_concept(name)  # nothing is left that says what to look for
                    break
                with suppress(IndexConflictError):  # another process marked something meanwhile
                    self._index.put_concept(replace(known, marks=marks))
                    is_done = True
