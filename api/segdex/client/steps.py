"""Methods with several calls, as generators that yield calls, receive results, and return the final result.

``Client`` and ``AsyncClient`` run them, so that each method is written once.
"""

import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from segdex.arguments import Id, IngestProgress
from segdex.client import calls
from segdex.client.calls import Call
from segdex.client.errors import NotThereError, RequestError
from segdex.sources import open_source
from segdex_core.errors import (
    ImageError,
    ImageTooLargeError,
    ImageUnreadableError,
    NotAnImageError,
    UsageError,
)
from segdex_core.ids import make_image_id, sha256_hex
from segdex_core.media.uris import display_path, named_path, uri_to_path
from segdex_core.outcomes import outcome_of
from segdex_core.ports.source import Listing, Source
from segdex_core.slices import slices
from segdex_core.wire.images import (
    ANALYSED,
    FAILED,
    Deleted,
    ImageOut,
    IngestedFile,
    IngestReportOut,
    KeptPicture,
    Outcome,
    SkippedFolder,
    report_files,
)
from segdex_core.wire.segments import SegmentOut

if TYPE_CHECKING:
    from segdex_core.media.not_pictures import NotPictures, Scan

T = TypeVar("T")

Steps = Generator[Call[Any], Any, T]

_REFUSED: dict[int, type[ImageError]] = {
    413: ImageTooLargeError,
    415: NotAnImageError,
    422: ImageUnreadableError,
}
_OF_THE_FILE = "the upload"
"""Start of a service's message about a file; any other 422 concerns the whole request."""

_PLACES_IN_A_CALL = 20
"""Servers take addresses of 64 KiB, and most paths are below 1 KiB as URIs."""


def show(segment_id: Id) -> Steps[tuple[SegmentOut, ImageOut]]:
    """Get a segment, then its image."""
    segment: SegmentOut = yield calls.segment(segment_id)
    image: ImageOut = yield calls.image(segment.image_id)
    return segment, image


def image_segments(image_id: Id) -> Steps[tuple[list[SegmentOut], ImageOut]]:
    """Get an image, then its segments."""
    image: ImageOut = yield calls.image(image_id)
    segments: list[SegmentOut] = yield calls.image_segments(image_id)
    return segments, image


def delete(targets: Sequence[Id | Path], *, server: str) -> Steps[Deleted]:
    """Find the images that the targets name, then delete them.

    Args:
        targets: Ids, or files and folders of this machine; their content identifies images wherever the
            service keeps them.
        server: Address of the service, for messages.

    Raises:
        UsageError: If a target matches no image of the service; then nothing is deleted.
    """
    whole: dict[UUID, None] = {}
    some: dict[UUID, dict[str, None]] = {}
    for target in targets:
        is_found = False
        for image_id, uris in _named(str(target)).items():
            image = yield from _find(image_id)
            if image is None:
                continue
            is_found = True
            mine = [uri for uri in image.uris if uri in uris]
            if not uris or len(image.uris) == 1:  # an id, or the one file that the service keeps of an upload
                whole[image_id] = None
            elif mine:
                some.setdefault(image_id, {}).update(dict.fromkeys(mine))
            else:
                raise UsageError(
                    f"{str(target)!r} is picture {image_id} of {server}, which lies there at "
                    f"{len(image.uris):,} places and at none of this machine: give its id to delete them all"
                )
        if not is_found:
            raise UsageError(
                f"{str(target)!r} names no picture of {server}: give a picture id, or a file or folder here "
                "with the same content"
            )
    done: list[Deleted] = []
    for image_id in whole:
        done.append((yield calls.delete_image(image_id)))  # noqa: PERF401 - a comprehension cannot yield
    for image_id, places in some.items():
        if image_id not in whole:
            for part in slices(list(places), _PLACES_IN_A_CALL):
                done.append((yield calls.delete_image(image_id, part)))  # noqa: PERF401
    return _together(done)


def _together(done: Sequence[Deleted]) -> Deleted:
    images = dict.fromkeys(image_id for one in done for image_id in one.images)
    kept: dict[UUID, KeptPicture] = {}
    for picture in (picture for one in done for picture in one.kept):
        before = kept[picture.id].removed if picture.id in kept else 0
        kept[picture.id] = picture.model_copy(update={"removed": before + picture.removed})
    return Deleted(
        images=list(images),
        segments=sum(one.segments for one in done),
        places=sum(one.places for one in done),
        kept=[picture for image_id, picture in kept.items() if image_id not in images],
    )


def refuse_choices(**choices: object) -> None:
    """Raise if an argument was given that only the service can choose.

    Raises:
        UsageError: If an argument was given; the message names it.
    """
    given = [name for name, value in choices.items() if value]
    if given:
        raise UsageError(
            f"{', '.join(given)} cannot be chosen here: the service segments with its own models and settings"
        )


def ingest(
    listing: Listing,
    *,
    source: Source,
    tags: Sequence[str],
    limit: int | None,
    progress: IngestProgress,
    not_pictures: "NotPictures",
) -> Steps[IngestReportOut]:
    """Upload the files of a listing one by one; images that the service has with these tags are skipped.

    Of files that are no images only the first bytes are read. Ctrl-C ends the upload and returns the report
    of what was done.

    Raises:
        ServiceError: If the service fails; uploaded images are kept, and the next run continues.
    """
    started_s = time.perf_counter()
    progress.on_start(len(listing.uris))
    files: list[IngestedFile] = []
    analysed = 0
    interrupted = False
    scan, named = not_pictures.scan(listing.places), frozenset(listing.named)
    try:
        for uri in listing.uris:
            file = yield from _upload(uri, tags, source=source, scan=scan, is_named=uri in named)
            files.append(file)
            progress.on_file(file)
            analysed += file.outcome in ANALYSED
            if limit is not None and analysed >= limit:
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        scan.save()
    return report_files(
        files,
        skipped_folders=[
            SkippedFolder(path=display_path(problem.uri), uri=problem.uri, reason=problem.reason)
            for problem in listing.problems
        ],
        elapsed_s=time.perf_counter() - started_s,
        interrupted=interrupted,
        notes=listing.notes,
    )


def _upload(
    uri: str, tags: Sequence[str], *, source: Source, scan: "Scan", is_named: bool
) -> Steps[IngestedFile]:
    name = uri_to_path(uri).name.encode("utf-8", "replace").decode()
    try:
        data = _read(uri, source, None if is_named else scan)
    except ImageError as error:
        return _refused(uri, error, is_named=is_named)
    image_id = make_image_id(sha256_hex(data))
    image = yield from _find(image_id)
    if image is not None and set(tags) <= set(image.tags):
        return _file(uri, Outcome.UNCHANGED, image_id=image_id)
    try:
        done = yield calls.upload(data, tags, wait=True, name=name)
    except RequestError as error:
        return _refused(uri, _error_of(error, uri), is_named=is_named)
    return _file(uri, done.outcome, done.detail, segments=done.segments, image_id=done.image_id)


def _read(uri: str, source: Source, scan: "Scan | None") -> bytes:
    """Return the bytes of an image; a file that is known to be none is not opened.

    Raises:
        ImageError: If the file is no image, or cannot be read.
    """
    from segdex_core.media.limits import MAX_BYTES

    version = source.version(uri)
    known = None if scan is None else scan.refusal(uri, version)
    if known is not None:
        raise known
    try:
        return source.read(uri, max_bytes=MAX_BYTES)
    except NotAnImageError as error:
        is_expected = outcome_of(error, uri_to_path(uri).name, is_asked_for=scan is None)[0] in FAILED
        if scan is not None and not is_expected and source.version(uri) == version:
            scan.note(uri, version, error.kind)
        raise


def _refused(uri: str, error: ImageError, *, is_named: bool) -> IngestedFile:
    outcome, kind = outcome_of(error, uri_to_path(uri).name, is_asked_for=is_named)
    return _file(uri, outcome, str(error), kind=kind)


def _file(
    uri: str,
    outcome: str,
    detail: str = "",
    *,
    segments: int = 0,
    image_id: UUID | None = None,
    kind: str | None = None,
) -> IngestedFile:
    return IngestedFile(
        uri=uri,
        path=display_path(uri),
        outcome=outcome,
        detail=detail,
        image_id=image_id,
        segments=segments,
        kind=kind,
    )


def _find(image_id: UUID) -> Steps[ImageOut | None]:
    try:
        image: ImageOut = yield calls.image(image_id)
    except NotThereError:
        return None
    return image


def _named(given: str) -> dict[UUID, set[str]]:
    """Return the images that an id, a file or a folder names, with the files; none for an id."""
    try:
        return {UUID(given): set()}
    except ValueError:
        if not named_path(given).exists():
            return {}
    from segdex_core.media.limits import MAX_BYTES

    found: dict[UUID, set[str]] = {}
    source = open_source()
    for uri in source.list([given]).uris:
        try:
            data = source.read(uri, max_bytes=MAX_BYTES)
        except (ImageTooLargeError, NotAnImageError):  # of these the service has no picture
            continue
        except ImageError as error:
            raise UsageError(str(error)) from error
        found.setdefault(make_image_id(sha256_hex(data)), set()).add(uri)
    return found


def _error_of(error: RequestError, uri: str) -> ImageError:
    """Return the error of a file that was refused; raise an error that concerns every file."""
    if error.status not in _REFUSED or (error.status == 422 and not error.detail.startswith(_OF_THE_FILE)):
        raise error
    return _REFUSED[error.status](_detail(error, uri))


def _detail(error: RequestError, uri: str) -> str:
    """Return the message of the service, with the name of the file, which the service does not know."""
    name, detail = display_path(uri), error.detail
    return (
        f"{name}{detail.removeprefix(_OF_THE_FILE)}"
        if detail.startswith(_OF_THE_FILE)
        else f"{name}: {detail}"
    )
