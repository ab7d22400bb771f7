"""Remove images whose files are gone, and finish or remove what interrupted runs left behind."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

from segdex_core.errors import IndexConflictError
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord
from segdex_core.sets import sets_by_member, sets_of
from segdex_ingest.marks import mark_segments
from segdex_ingest.missing import MissingFiles, missing_files


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """Differences between an index and the files of a source.

    Attributes:
        gone: Images without any existing file.
        moved: Images with some missing files; the records list only the existing files.
        leftovers: Images with files whose segments were never written completely, or whose deletion was
            interrupted.
        copied: Images whose segments lack copies of fields of the record.
        unfinished: Number of images whose segments were replaced in part; only an ingest can finish them.
        unmarked: Ids of images whose segments do not carry the sets that they are in.
        orphans: Tokens of the writes of segments without a record, by the id of their image.
        images: Number of images in the index.
        missing: The missing files, with those that are not forgotten.
    """

    gone: tuple[ImageRecord, ...]
    moved: tuple[ImageRecord, ...]
    leftovers: tuple[ImageRecord, ...]
    copied: tuple[ImageRecord, ...]
    unfinished: int
    unmarked: frozenset[UUID]
    orphans: Mapping[UUID, frozenset[str]]
    images: int
    missing: MissingFiles


def plan_sync(index: SegmentIndex, *, source: Source, force: bool = False) -> SyncPlan:
    """Compare the images of an index with the files of a source. Nothing is changed.

    Args:
        index: Index to compare.
        source: Source of the files.
        force: Forget also what may be out of reach; see ``missing_files``.
    """
    missing = missing_files(index.scroll_images(), source=source, force=force)
    gone: list[ImageRecord] = []
    moved: list[ImageRecord] = []
    leftovers: list[ImageRecord] = []
    copied: list[ImageRecord] = []
    unfinished = 0
    known: set[UUID] = set()
    for record in index.scroll_images():
        known.add(record.image_id)
        files = tuple(file for file in record.files if file.uri not in missing.gone)
        if not files:
            gone.append(record)
            continue
        if not record.is_shown:
            leftovers.append(record)
            continue
        if files != record.files:
            moved.append(replace(record, files=files))
        elif record.pending is not None and record.pending.kind == "copy":
            copied.append(record)
        unfinished += not record.is_made_by(record.recipe)
    sets = sets_by_member(member for one in index.sets() for member in index.set_members(one.set_id))
    unmarked: set[UUID] = set()
    orphans: dict[UUID, set[str]] = {}
    for found in index.examination().all_segments():
        segment = found.record
        if segment is None:
            continue  # `segdex doctor` names and mends it
        if segment.image_id not in known:
            orphans.setdefault(segment.image_id, set()).add(segment.write)
        elif segment.sets != sets_of(segment, sets):
            unmarked.add(segment.image_id)
    return SyncPlan(
        gone=tuple(gone),
        moved=tuple(moved),
        leftovers=tuple(leftovers),
        copied=tuple(copied),
        unfinished=unfinished,
        unmarked=frozenset(unmarked),
        orphans={key: frozenset(orphans[key]) for key in sorted(orphans)},
        images=len(known),
        missing=missing,
    )


def apply_sync(plan: SyncPlan, index: SegmentIndex) -> None:
    """Delete, update and finish what ``plan_sync`` found.

    An image that somebody changed since ``plan_sync`` is left as it is; the next sync completes the work.
    """
    for record in (*plan.gone, *plan.leftovers):
        with suppress(IndexConflictError):
            index.delete_image(record.image_id, revision=record.revision)
    for record in (*plan.moved, *plan.copied):
        with suppress(IndexConflictError):
            index.update_image(record)
    mark_segments(index, plan.unmarked)
    for image_id, writes in plan.orphans.items():
        if not index.get_images([image_id]):  # else an ingest has begun with it meanwhile
            index.delete_segments(image_id, writes=writes)
