"""Finish changes of images that a killed process has begun: copies of fields, and deletions.

Segments that were written in part are not finished here: an ingest writes the image again.
"""

from collections.abc import Iterable
from dataclasses import replace

from segdex_core.errors import IndexConflictError
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import ImageRecord


def finish_changes(index: SegmentIndex, records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Finish pending copies and deletions.

    The process that has begun a change may be alive: both then do the same, and neither undoes the other.

    Args:
        index: Index that the images are in.
        records: Records of images; those without a pending copy or deletion are ignored.

    Returns:
        The images with such a change that are still in the index, as they are now.
    """
    found: list[ImageRecord] = []
    for record in records:
        kind = None if record.pending is None else record.pending.kind
        try:
            if kind == "copy":
                found.append(index.update_image(record))
            elif kind == "delete":
                index.delete_image(record.image_id, revision=record.revision)
        except IndexConflictError:  # another process has just finished it, or changed the image
            found += index.get_images([record.image_id])
    return found


def as_finished(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Return images as they are after ``finish_changes``; nothing is written."""
    finished = []
    for record in records:
        kind = None if record.pending is None else record.pending.kind
        if kind != "delete":
            finished.append(replace(record, pending=None) if kind == "copy" else record)
    return finished
