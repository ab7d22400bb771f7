"""Remove pictures whose files are gone, and segments that an interrupted ingest left behind."""

from dataclasses import dataclass, replace
from uuid import UUID

from segdex_core.ports.index import IndexReader, IndexWriter
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What an index holds without a file.

    Attributes:
        gone: Pictures none of whose files exist.
        moved: Pictures some of whose files are gone, as they are to be stored.
        orphans: Pictures with segments but no line in the ledger: an ingest was stopped in them.
        images: How many pictures the index holds.
    """

    gone: tuple[ImageRecord, ...]
    moved: tuple[ImageRecord, ...]
    orphans: tuple[UUID, ...]
    images: int


def plan_sync(index: IndexReader, *, source: Source) -> SyncPlan:
    """Compare the ledger with the files of a source; changes nothing."""
    gone: list[ImageRecord] = []
    moved: list[ImageRecord] = []
    known: set[UUID] = set()
    for record in index.scroll_images():
        known.add(record.image_id)
        files = tuple(file for file in record.files if source.exists(file.uri))
        if not files:
            gone.append(record)
        elif files != record.files:
            moved.append(replace(record, files=files))
    orphans = {segment.image_id for segment in index.scroll_segments()} - known
    return SyncPlan(tuple(gone), tuple(moved), tuple(sorted(orphans)), len(known))


def apply_sync(plan: SyncPlan, index: IndexWriter) -> None:
    """Delete and update what ``plan_sync`` found.

    Raises:
        IndexConflictError: If a picture was changed since; the next sync goes on.
    """
    for record in plan.gone:
        index.delete_image(record.image_id, revision=record.revision)
    for record in plan.moved:
        index.update_image(record)
    for image_id in plan.orphans:
        index.delete_segments(image_id)
