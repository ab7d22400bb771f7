"""Pictures sent to a service, one by one."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from segdex.cli.manage_service import content_id, find_image
from segdex_core.media.uris import display_path, uri_to_path
from segdex_core.ports.source import Listing
from segdex_ingest.report import ANALYSED, FileOutcome, IngestReport, Outcome

if TYPE_CHECKING:
    from segdex.client import Client, RequestError

_FAILED = {413: Outcome.TOO_LARGE, 415: Outcome.NOT_AN_IMAGE, 422: Outcome.UNREADABLE}
_OF_THE_FILE = "the upload"
"""How a service begins what it says of a file; any other 422 is of the whole request."""


def upload_files(
    listing: Listing,
    client: "Client",
    *,
    tags: Sequence[str],
    limit: int | None,
    on_file: Callable[[FileOutcome], None],
) -> IngestReport:
    """Send the files of a listing, and say what became of each.

    A picture that the service has, with these tags, is not sent again. Ctrl-C returns what was done.

    Args:
        listing: The files.
        client: Of the service.
        tags: Labels for every file.
        limit: Stop after this many pictures were segmented; None for all.
        on_file: Called after each file.

    Raises:
        ServiceError: If the service fails; what was sent before stays, and the next run goes on.
    """
    started_s = time.perf_counter()
    outcomes: list[FileOutcome] = []
    analysed = 0
    interrupted = False
    try:
        for uri in listing.uris:
            begun_s = time.perf_counter()
            outcome = _upload(uri, client, tags)
            outcome = replace(outcome, elapsed_s=time.perf_counter() - begun_s)
            outcomes.append(outcome)
            on_file(outcome)
            analysed += outcome.outcome in ANALYSED
            if limit is not None and analysed >= limit:
                break
    except KeyboardInterrupt:
        interrupted = True
    return IngestReport(
        files=outcomes,
        skipped_folders=[(display_path(problem.uri), problem.reason) for problem in listing.problems],
        elapsed_s=time.perf_counter() - started_s,
        interrupted=interrupted,
    )


def _upload(uri: str, client: "Client", tags: Sequence[str]) -> FileOutcome:
    from segdex.client import RequestError

    path = uri_to_path(uri)
    try:
        if _has(client, path, tags):
            return FileOutcome(uri, Outcome.UNCHANGED)
        done = client.upload(path, tags=tags)
    except OSError as error:
        reason = error.strerror or str(error)
        return FileOutcome(uri, Outcome.UNREADABLE, f"{display_path(uri)}: cannot be read: {reason}")
    except RequestError as error:
        return FileOutcome(uri, _failure(error), _detail(error, uri))
    outcome = Outcome(done.outcome)
    return FileOutcome(uri, outcome, done.detail, segments=done.segments)


def _has(client: "Client", path: Path, tags: Sequence[str]) -> bool:
    image = find_image(client, content_id(path))
    return image is not None and set(tags) <= set(image.tags)


def _failure(error: "RequestError") -> Outcome:
    """Return what became of a file that was refused; raise what would be said of every file."""
    if error.status not in _FAILED or (error.status == 422 and not error.detail.startswith(_OF_THE_FILE)):
        raise error
    return _FAILED[error.status]


def _detail(error: "RequestError", uri: str) -> str:
    """Return what the service says of the file, which it does not know by name."""
    name, detail = display_path(uri), error.detail
    return (
        f"{name}{detail.removeprefix(_OF_THE_FILE)}"
        if detail.startswith(_OF_THE_FILE)
        else f"{name}: {detail}"
    )
