"""Remove images whose files are gone, and segments that an interrupted ingest left behind."""

from dataclasses import dataclass, replace
from uuid import UUID

from segdex_core.ports.index import IndexReader, IndexWriter
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """Differences between an index and the files of a source.

    Attributes:
        gone: Images without any existing file.
        moved: Images with some missing files; the records list only the existing files.
        orphans: Ids of images with segments but without a record, left by an interrupted ingest.
        images: Number of images in the index.
    """

    gone: tuple[ImageRecord, ...]
    moved: tuple[ImageRecord, ...]
    orphans: tuple[UUID, ...]
    images: int


def plan_sync(index: IndexReader, *, source: Source) -> SyncPlan:
    """Compare the images of an index with the files of a source. Nothing is changed."""
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
        IndexConflictError: If an image has changed since ``plan_sync``; the next sync completes the work.
    """
    for record in plan.gone:
        index.delete_image(record.image_id, revision=record.revision)
    for record in plan.moved:
        index.update_image(record)
    for image_id in plan.orphans:
        index.delete_segments(image_id)
