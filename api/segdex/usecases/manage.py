"""Delete images from an index, and synchronize it with the files that still exist."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from uuid import UUID

from segdex_core.errors import UsageError
from segdex_core.media.uris import canonical_uri, display_path, spellings
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord
from segdex_core.wire.images import Deleted, HeldFolderOut, KeptPicture, Synced, Unreachable
from segdex_ingest.places import KnownFiles
from segdex_ingest.sync import SyncPlan, apply_sync, plan_sync
from segdex_ingest.write import PictureWriter
from segdex_search.answer import require_filled

Erase = Callable[[ImageRecord], None]
"""Erases what is derived from an image that will be deleted."""


def delete_images(
    index: SegmentIndex,
    targets: Sequence[str],
    *,
    erase: Erase = lambda _: None,
    writing: AbstractContextManager[object] | None = None,
) -> Deleted:
    """Delete images, or some of their files, from an index.

    An id names an image with all its files. A file or folder names only itself: an image that also lies
    elsewhere keeps its other files and its segments.

    Args:
        index: Index to change.
        targets: Ids of images, files, or folders.
        erase: Called with each image before it is deleted, see ``Eraser``.
        writing: ``RLock`` shared by all writers to the index in this process; None if there are no others.

    Raises:
        UsageError: If a target matches no image; then nothing is deleted.
    """
    require_filled(index)
    ids = {given: image_id for given in targets if (image_id := _as_id(given)) is not None}
    by_id = {record.image_id: record for record in index.get_images(list(ids.values()))}
    # files and folders are compared with every image; ids are looked up
    places = _Places(index.scroll_images() if len(ids) < len(set(targets)) else ())
    doomed: dict[UUID, set[str]] = {}
    for given in targets:
        if given in ids:
            record = by_id.get(ids[given])
            found = {} if record is None else {record.image_id: {file.uri for file in record.files}}
        else:
            found = places.below(given)
        if not found:
            raise UsageError(
                f"{given!r} names no picture of {index.location}: give a file, a folder or a picture id"
            )
        for image_id, uris in found.items():
            doomed.setdefault(image_id, set()).update(uris)
    return _forget(index, doomed, whole=set(ids.values()), erase=erase, writing=writing)


def forget_places(
    index: SegmentIndex,
    image_id: UUID,
    places: Sequence[str],
    *,
    erase: Erase = lambda _: None,
    writing: AbstractContextManager[object] | None = None,
) -> Deleted:
    """Take files off one image, which is deleted with its last file.

    Raises:
        UsageError: If the image is not in the index, or a place is none of its files.
    """
    require_filled(index)
    held = _Places(index.get_images([image_id]))
    doomed: set[str] = set()
    for given in places:
        found = held.below(given).get(image_id)
        if not found:
            raise UsageError(f"{given!r} is no file of picture {image_id} in {index.location}")
        doomed |= found
    return _forget(index, {image_id: doomed}, whole=(), erase=erase, writing=writing)


def sync_index(index: SegmentIndex, *, source: Source, dry_run: bool, force: bool) -> Synced:
    """Remove images whose files are missing, and finish or remove what interrupted runs left behind.

    Files that may be out of reach are not forgotten: those that went with their folder, and any loss that is
    a large part of the index. The rest is synchronized.

    Args:
        index: Index to change.
        source: Source of the files.
        dry_run: Change nothing.
        force: Forget these too.

    Raises:
        UsageError: If every image is missing, unless ``force`` or ``dry_run`` is set.
    """
    require_filled(index)
    plan = plan_sync(index, source=source, force=force)
    if plan.missing.is_everything and not (dry_run or force):
        raise UsageError(_all_missing(plan, index.location))
    if not dry_run:
        apply_sync(plan, index)
    return Synced(
        gone=[display_path(record.files[0].uri) for record in plan.gone],
        gone_uris=[record.files[0].uri for record in plan.gone],
        moved=len(plan.moved),
        orphans=len(plan.orphans) + len(plan.leftovers),
        unfinished=plan.unfinished,
        images=plan.images,
        dry_run=dry_run,
        held=[
            HeldFolderOut(path=display_path(one.uri), uri=one.uri, images=one.images, reason=one.reason)
            for one in plan.missing.held
        ],
        unreachable=[
            Unreachable(path=display_path(uri), uri=uri, files=count, reason=reason)
            for uri, count, reason in plan.missing.unreachable
        ],
    )


def _all_missing(plan: SyncPlan, location: str) -> str:
    roots = ", ".join(f"{display_path(one.uri)} ({one.reason})" for one in plan.missing.held)
    first = "" if plan.missing.first is None else display_path(plan.missing.first)
    return (
        f"all {plan.images:,} pictures of {location} are gone, the first from {first}: {roots}; is a disk "
        "not mounted? mount it, forget a folder with `segdex delete FOLDER`, or remove them all with --force"
    )


def _forget(
    index: SegmentIndex,
    doomed: dict[UUID, set[str]],
    *,
    whole: Collection[UUID],
    erase: Erase,
    writing: AbstractContextManager[object] | None,
) -> Deleted:
    writer = PictureWriter(index, exists=lambda _: True, lock=writing)
    images: list[UUID] = []
    kept: list[KeptPicture] = []
    segments = places = 0
    for image_id, uris in doomed.items():
        before = next(iter(index.get_images([image_id])), None)
        if before is None:  # deleted meanwhile
            continue
        if image_id in whole or uris.issuperset(file.uri for file in before.files):
            erase(before)
        if image_id in whole:
            index.delete_image(image_id)
            left = None
        else:
            files = KnownFiles(before, exists=lambda _: True)
            for uri in uris:
                files.leave(uri)
            left = writer.change_files(image_id, files, recipe=None)
        removed = len(before.files) - (0 if left is None else len(left.files))
        places += removed
        if left is None:
            images.append(image_id)
            segments += before.segment_count
        else:
            uri = left.files[0].uri
            kept.append(KeptPicture(id=image_id, path=display_path(uri), uri=uri, removed=removed))
    return Deleted(images=images, segments=segments, places=places, kept=kept)


class _Places:
    """The files of images, by which a person may name these."""

    def __init__(self, records: Iterable[ImageRecord]) -> None:
        self._images_at: dict[str, set[UUID]] = {}
        for record in records:
            for file in record.files:
                self._images_at.setdefault(file.uri, set()).add(record.image_id)
        self._stored_as: dict[str, set[str]] | None = None

    def below(self, place: str) -> dict[UUID, set[str]]:
        """Return the URIs of the files at a place, or below it, by their image.

        Raises:
            UsageError: If the place is no path.
        """
        try:
            uri = canonical_uri(place)
        except ValueError as error:  # a null byte, or another machine
            raise UsageError(f"{place!r} is neither a picture id nor a path: {error}") from error
        named = {uri, *spellings(uri)}
        uris = _inside(named, self._images_at)
        if not uris:
            if self._stored_as is None:  # an earlier version wrote some in other forms
                self._stored_as = {}
                for stored in self._images_at:
                    self._stored_as.setdefault(canonical_uri(stored), set()).add(stored)
            canonical = self._stored_as
            uris = {stored for found in _inside(named, canonical) for stored in canonical[found]}
        found: dict[UUID, set[str]] = {}
        for one in uris:
            for image_id in self._images_at[one]:
                found.setdefault(image_id, set()).add(one)
        return found


def _inside(named: Collection[str], uris: Collection[str]) -> set[str]:
    """Return the URIs that are named, or else those below a folder that is named."""
    folders = tuple(f"{uri.rstrip('/')}/" for uri in named)
    return {uri for uri in named if uri in uris} or {uri for uri in uris if uri.startswith(folders)}


def _as_id(given: str) -> UUID | None:
    try:
        return UUID(given)
    except ValueError:
        return None
