"""Delete images from an index, and synchronize it with the files that still exist."""

from collections.abc import Sequence
from uuid import UUID

from segdex_core.errors import UsageError
from segdex_core.media.uris import canonical_uri, display_path, spellings
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord
from segdex_core.wire.images import Deleted, Synced
from segdex_ingest.sync import apply_sync, plan_sync
from segdex_search.answer import require_filled


def delete_images(index: SegmentIndex, targets: Sequence[str]) -> Deleted:
    """Delete images and their segments from an index; the files are kept.

    Args:
        index: Index to change.
        targets: Ids of images, files, or folders. An image with further files elsewhere is also deleted.

    Raises:
        UsageError: If a target matches no image; then nothing is deleted.
    """
    require_filled(index)
    ids = {given: image_id for given in targets if (image_id := _as_id(given)) is not None}
    by_id = {record.image_id: record for record in index.get_images(list(ids.values()))}
    # files and folders are compared with every image; ids are looked up
    ledger = list(index.scroll_images()) if len(ids) < len(set(targets)) else []
    doomed: dict[UUID, ImageRecord] = {}
    for given in targets:
        if given in ids:
            found = [by_id[ids[given]]] if ids[given] in by_id else []
        else:
            found = _matching(given, ledger)
        if not found:
            raise UsageError(
                f"{given!r} names no picture of {index.location}: give a file, a folder or a picture id"
            )
        doomed.update((record.image_id, record) for record in found)
    for record in doomed.values():
        index.delete_image(record.image_id)
    return Deleted(images=list(doomed), segments=sum(record.segment_count for record in doomed.values()))


def sync_index(index: SegmentIndex, *, source: Source, dry_run: bool, force: bool) -> Synced:
    """Remove images whose files are missing, and finish or remove what interrupted runs left behind.

    Args:
        index: Index to change.
        source: Source of the files.
        dry_run: Change nothing.
        force: Continue even if every image is missing.

    Raises:
        UsageError: If every image is missing, as with an unmounted disk, unless ``force`` or ``dry_run`` is
            set.
    """
    require_filled(index)
    plan = plan_sync(index, source=source)
    if plan.images and len(plan.gone) == plan.images and not (dry_run or force):
        raise UsageError(
            f"all {plan.images:,} pictures of {index.location} are gone, the first from "
            f"{display_path(plan.gone[0].files[0].uri)}; is a disk not mounted? --force removes them all"
        )
    if not dry_run:
        apply_sync(plan, index)
    return Synced(
        gone=[display_path(record.files[0].uri) for record in plan.gone],
        moved=len(plan.moved),
        orphans=len(plan.orphans) + len(plan.leftovers),
        unfinished=plan.unfinished,
        images=plan.images,
        dry_run=dry_run,
    )


def _as_id(given: str) -> UUID | None:
    try:
        return UUID(given)
    except ValueError:
        return None


def _matching(place: str, ledger: list[ImageRecord]) -> list[ImageRecord]:
    """Return the images at a file or inside a folder."""
    uri = canonical_uri(place)
    named = {uri, *spellings(uri)}
    here = [record for record in ledger if any(canonical_uri(file.uri) in named for file in record.files)]
    return here or [record for record in ledger if named & set(record.sources)]
