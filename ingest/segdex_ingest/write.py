"""The writers of an ingest: the only code that changes an index while images are ingested.

A picture is written in this order, so that a process may be killed at any moment: its record with a pending
``write``, the new segments, the deletion of the old ones, and the record without it. A later run writes a
picture with a pending change again.

Other processes may write to the index at the same time, such as an upload during a job or a worker on another
machine. A record is therefore read from the index right before it is changed, and files and tags are merged
by id. Old segments are deleted by the tokens of their writes, so that none of another process is deleted.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from threading import RLock
from typing import Protocol
from uuid import UUID

from segdex_core.errors import IndexConflictError
from segdex_core.media.uris import canonical_uri, uri_sources
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import (
    EmbeddedSegments,
    ImageFile,
    ImageRecord,
    PendingChange,
    SegmentFilter,
    SegmentRecord,
)
from segdex_core.sets import SetMember, sets_by_member, sets_of
from segdex_ingest.analyse import AnalysedImage, build_records
from segdex_ingest.finish import finish_changes
from segdex_ingest.ledger import Ledger
from segdex_ingest.marks import mark_segments
from segdex_ingest.places import Exists, KnownFiles
from segdex_ingest.report import Outcome


@dataclass(frozen=True, slots=True)
class Written:
    """The result of writing an image.

    Attributes:
        record: Record as it is now in the index.
        outcome: Outcome of the file.
        detail: One line that explains the outcome, or an empty string.
        segments: Number of segments stored.
    """

    record: ImageRecord
    outcome: Outcome
    detail: str = ""
    segments: int = 0


class Writer(Protocol):
    """Writes the results of an ingest, or only simulates it."""

    def store(self, analysed: AnalysedImage, file: ImageFile, tags: tuple[str, ...]) -> Written:
        """Store an image with a file that holds it.

        Files and tags that the index already has for the image are kept. If another writer has stored the
        image with the same recipe in the meantime, only files and tags change.
        """
        ...

    def change_files(self, image_id: UUID, files: KnownFiles, *, recipe: str | None) -> ImageRecord | None:
        """Write what changed of the files and tags of a known image; without a file it is deleted.

        Args:
            image_id: Id of the image.
            files: Its files, with the changes.
            recipe: Recipe that the record must have for its files to be noted; None for any.

        Returns:
            The record as it is now in the index. None if the image is not in the index, or was made by
            another recipe in the meantime.
        """
        ...


class PictureWriter:
    """Writes to an index.

    Args:
        index: Index to fill.
        exists: ``Source.exists`` of the source of the files.
        lock: ``RLock`` shared by all writers to the index in this process; None if there are no others.
        uploads: URI of the folder of uploads, whose files have the time of their arrival; None if there is
            none.
    """

    def __init__(
        self,
        index: SegmentIndex,
        *,
        exists: Exists,
        lock: AbstractContextManager[object] | None = None,
        uploads: str | None = None,
    ) -> None:
        self._index = index
        self._exists = exists
        self._uploads = uploads
        self._lock = lock or RLock()

    def store(self, analysed: AnalysedImage, file: ImageFile, tags: tuple[str, ...]) -> Written:
        """See ``Writer``."""
        with self._lock:
            lost = False
            while True:
                # Listed before the record is read: another process that writes segments from now on has
                # changed the record before, and is told that it is too late.
                old = {one.write for one in self._segments_of(analysed.image_id)}
                known = self._current(analysed.image_id)
                if known is not None and known.pending is not None and known.pending.kind == "delete":
                    # else the files, tags and labels of a picture that somebody deletes would stay
                    finish_changes(self._index, [known])
                    continue
                if known is not None and known.is_made_by(analysed.recipe):
                    noted = self._note(known, file, tags, anyway=lost)
                    if noted is not None:
                        return noted
                    continue
                written = stored(analysed, known, file, tags, exists=self._exists, uploads=self._uploads)
                try:
                    return self._store(written, analysed, known=known, old=old)
                except IndexConflictError:
                    lost = True  # another process stored it first, and our segments replaced its segments

    def _store(
        self, written: Written, analysed: AnalysedImage, *, known: ImageRecord | None, old: Collection[str]
    ) -> Written:
        image_id, change = analysed.image_id, PendingChange("write")
        marked = self._index.upsert_image(_begun(written.record, known, change), analysed.image_vector)
        members = self._index.members_of_images([image_id])
        records = build_records(analysed.segments, analysed.segment_vectors, written.record)
        segments = self._completed(records, image_id, change, members)
        if segments.records:
            self._index.upsert_segments(segments)
        if self._index.members_of_images([image_id]) != members:  # another process changed a set
            mark_segments(self._index, [image_id])
        # Segments of this image that another recipe or an interrupted run left behind. They go last: an
        # interrupted run loses no label of a mask that is found again.
        if old:
            self._index.delete_segments(image_id, writes=old)
        record = replace(written.record, revision=marked.revision)
        return replace(written, record=self._index.update_image(record))

    def _completed(
        self,
        segments: EmbeddedSegments,
        image_id: UUID,
        change: PendingChange,
        members: Sequence[SetMember],
    ) -> EmbeddedSegments:
        """Return the new segments of an image with the labels and sets that the index has for its masks."""
        labels = {one.segment_id: one.labels for one in self._segments_of(image_id) if one.labels}
        sets = sets_by_member(members)
        records = [
            replace(
                record,
                labels=labels.get(record.segment_id, ()),
                sets=sets_of(record, sets),
                write=change.token,
            )
            for record in segments.records
        ]
        return replace(segments, records=records)

    def _segments_of(self, image_id: UUID) -> Iterator[SegmentRecord]:
        return self._index.scroll_segments(SegmentFilter(image_ids=(image_id,)))

    def _note(
        self, known: ImageRecord, file: ImageFile, tags: tuple[str, ...], *, anyway: bool = False
    ) -> Written | None:
        """Note a file; ``anyway`` rewrites the segments' copied fields even if the record is unchanged."""
        while True:
            current = self._current(known.image_id)
            if current is None or not current.is_made_by(known.recipe):
                return None
            noted = noted_at(current, file, tags, exists=self._exists)
            if noted.record == current and current.pending is None and not anyway:
                return noted
            record = replace(noted.record, pending=PendingChange("copy")) if anyway else noted.record
            with suppress(IndexConflictError):
                return replace(noted, record=self._index.update_image(record))

    def change_files(self, image_id: UUID, files: KnownFiles, *, recipe: str | None) -> ImageRecord | None:
        """See ``Writer``."""
        with self._lock:
            while True:
                current = self._current(image_id)
                if current is None or (recipe is not None and not current.is_made_by(recipe)):
                    return None
                changed = files.merged(current)
                with suppress(IndexConflictError):
                    if changed is None:
                        self._index.delete_image(image_id, revision=current.revision)
                        return None
                    is_finished = changed == current and (current.pending is None or recipe is None)
                    return current if is_finished else self._index.update_image(changed)

    def _current(self, image_id: UUID) -> ImageRecord | None:
        return next(iter(self._index.get_images([image_id])), None)


class DryWriter:
    """Simulates the writes, so that an ingest reports what it would do.

    Args:
        ledger: Images of the index.
        exists: ``Source.exists`` of the source of the files.
    """

    def __init__(self, ledger: Ledger, *, exists: Exists) -> None:
        self._ledger = ledger
        self._exists = exists

    def store(self, analysed: AnalysedImage, file: ImageFile, tags: tuple[str, ...]) -> Written:
        """Return the outcome of an image to analyse; the number of its segments is not known yet."""
        known = self._ledger.get(analysed.image_id)
        written = stored(analysed, known, file, tags, exists=self._exists)
        return _as_stored(written.record, known)

    def change_files(self, image_id: UUID, files: KnownFiles, *, recipe: str | None) -> ImageRecord | None:
        """See ``Writer``."""
        known = self._ledger.get(image_id)
        if known is None or (recipe is not None and not known.is_made_by(recipe)):
            return None
        return files.merged(known)


def stored(
    analysed: AnalysedImage,
    known: ImageRecord | None,
    file: ImageFile,
    tags: tuple[str, ...],
    *,
    exists: Exists,
    uploads: str | None = None,
) -> Written:
    """Return the record of an analysed image, merged with the files and tags in the index.

    Args:
        analysed: Analysed image.
        known: Record in the index, made by another recipe or not finished; None if there is none.
        file: File that was read.
        tags: Tags to add.
        exists: ``Source.exists`` of the source of the files.
        uploads: URI of the folder of uploads; None if there is none.
    """
    height, width = analysed.size_hw
    others = [other for other in _others(known, file.uri) if exists(other.uri)] if known else []
    captured_s, captured_from = _captured(analysed, known, file, uploads)
    count = len(analysed.segments)
    record = ImageRecord(
        image_id=analysed.image_id,
        sha256=analysed.sha256,
        size_bytes=analysed.size_bytes,
        files=_sorted([*others, file]),
        width=width,
        height=height,
        captured_s=captured_s,
        captured_from=captured_from,
        place_lat_lon=analysed.place_lat_lon,
        tags=_merged(known.tags if known else (), tags),
        status="done" if count else "no_segments",
        segment_count=count,
        recipe=analysed.recipe,
        revision=known.revision if known is not None else 0,
    )
    return _as_stored(record, known) if count else Written(record, Outcome.NO_SEGMENTS)


def _begun(record: ImageRecord, known: ImageRecord | None, change: PendingChange) -> ImageRecord:
    """Return the record of an image while its segments are written: that of the former ones, or of none."""
    if known is not None:
        return replace(known, pending=change)
    return replace(record, status="no_segments", segment_count=0, recipe="", pending=change)


def _captured(
    analysed: AnalysedImage, known: ImageRecord | None, file: ImageFile, uploads: str | None
) -> tuple[float, str | None]:
    """Return when an image was taken, and what says so.

    An upload without a date keeps the time of its arrival, as a person looks for what was sent today; that
    it is no more than that can be read from ``captured_from``.
    """
    if analysed.captured_s is not None:
        return analysed.captured_s, analysed.captured_from
    if known is not None:
        return known.captured_s, known.captured_from
    return file.mtime_ns / 1e9, "upload" if uploads in uri_sources(file.uri) else "file"


def _as_stored(record: ImageRecord, known: ImageRecord | None) -> Written:
    """Return the outcome of an image: added, or replaced if another recipe made it before."""
    if known is None or known.recipe in ("", record.recipe):  # the latter: a run that was killed
        return Written(record, Outcome.ADDED, segments=record.segment_count)
    why = "made with other models or settings before"
    return Written(record, Outcome.REPLACED, why, segments=record.segment_count)


def noted_at(known: ImageRecord, file: ImageFile, tags: tuple[str, ...], *, exists: Exists) -> Written:
    """Return a known image with another file that holds it, and the outcome of the file."""
    files = KnownFiles(known, exists)
    outcome, detail = files.note(file, tags)
    return Written(files.merged(known) or known, outcome, detail)


def _others(known: ImageRecord, uri: str) -> list[ImageFile]:
    """Return the files of an image except ``uri``, also where ``uri`` was stored in a non-canonical form."""
    return [file for file in known.files if file.uri != uri and canonical_uri(file.uri) != uri]


def _sorted(files: list[ImageFile]) -> tuple[ImageFile, ...]:
    return tuple(sorted(files, key=lambda file: file.uri))


def _merged(known: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*known, *more}))
