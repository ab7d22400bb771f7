"""Back up an index, and restore a backup into a new index."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from segdex.arguments import IngestProgress
from segdex_core.dump import DumpCounts, DumpedImages, IndexDump
from segdex_core.media.uris import display_path
from segdex_core.ports.backup import BackupFormat
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import ImageRecord
from segdex_core.wire.images import BackedUp, IngestedFile, Restored
from segdex_ingest.dump import check_restorable, dump_index, restore_into
from segdex_search.answer import require_filled


def back_up(index: SegmentIndex, form: BackupFormat, path: Path, *, progress: IngestProgress) -> BackedUp:
    """Write the whole content of an index to a new place.

    Args:
        index: Index to back up.
        form: Form of the backup.
        path: New place.
        progress: Callbacks that report the progress.
    """
    require_filled(index)
    progress.on_start(index.counts().images)
    dump = dump_index(index)
    counts = form.write(replace(dump, images=_told(dump, progress)), path)
    return BackedUp(**_counts(counts), path=str(path))


def restore(
    create_index: Callable[[], SegmentIndex], form: BackupFormat, path: Path, *, progress: IngestProgress
) -> Restored:
    """Restore a backup into an index that is new or holds a part of the backup.

    Args:
        create_index: Opens the index; called when the backup is verified.
        form: Form of the backup.
        path: Place of the backup.
        progress: Callbacks that report the progress.
    """
    backup = form.open(path)
    index = create_index()
    present = check_restorable(index, backup.records())
    progress.on_start(backup.counts.stored.images)
    counts = restore_into(index, backup.dump(), on_image=lambda record: _tell(record, "restored", progress))
    return Restored(**_counts(counts), path=str(path), present=present)


def _told(dump: IndexDump, progress: IngestProgress) -> Iterator[DumpedImages]:
    for batch in dump.images:
        yield batch
        for record in batch.records:
            _tell(record, "backed_up", progress)


def _tell(record: ImageRecord, outcome: str, progress: IngestProgress) -> None:
    uri = record.files[0].uri
    progress.on_file(
        IngestedFile(
            uri=uri,
            path=display_path(uri),
            outcome=outcome,
            detail="",
            image_id=record.image_id,
            segments=record.segment_count,
        )
    )


def _counts(counts: DumpCounts) -> dict[str, int]:
    return {
        "images": counts.stored.images,
        "segments": counts.stored.segments,
        "sets": counts.sets,
        "concepts": counts.concepts,
    }
