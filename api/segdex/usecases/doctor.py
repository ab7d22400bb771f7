"""Examine an index, the uploads, the queue of jobs and the calibration, and mend what loses nothing."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import UUID

from segdex.jobs.queue import Jobs
from segdex.jobs.storages import JobsUnavailableError
from segdex.usecases.uploads import files_in, is_part
from segdex_core.ids import make_image_id
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import Source
from segdex_core.wire.doctor import Examined, FindingOut
from segdex_core.wire.document import utc_text
from segdex_ingest.doctor import FIX, Finding, examine
from segdex_ingest.mend import mend
from segdex_search.answer import require_filled
from segdex_search.calibrate import calibration_file, calibration_problem

ABANDONED_S = 3_600.0
"""Age in seconds after which nobody is writing a partial file any more, and a job does not wait its turn."""


def examine_library(
    index: SegmentIndex,
    *,
    source: Source,
    uploads: Path | None,
    jobs: Callable[[], Jobs],
    calibrations: Path | None,
    writing: AbstractContextManager[object],
    fix: bool,
    now_s: float | None = None,
) -> Examined:
    """Return what is not as it should be, and mend what loses nothing if ``fix`` is set.

    Args:
        index: Index to examine.
        source: Source of the files.
        uploads: Folder of the uploads; None if there is none.
        jobs: Opens the queue of jobs.
        calibrations: Folder of the calibrations; None if there is none.
        writing: Held while something is mended.
        fix: Whether to mend.
        now_s: Seconds since 1970 UTC; None for now.

    Raises:
        IndexMissingError: If nothing was ingested yet.
        SegmentIndexError: If the index does not answer.
    """
    fingerprint = require_filled(index)
    now_s = time.time() if now_s is None else now_s
    known: set[UUID] = set()
    findings = [
        *examine(index, source=source, on_images=known.update),
        *_of_uploads(uploads, known, now_s),
        *_of_queue(jobs, now_s),
    ]
    fixed: set[Finding] = set()
    problem = None if calibrations is None else calibration_problem(calibrations, fingerprint.embedder)
    if problem is not None and calibrations is not None:
        file = calibration_file(calibrations, fingerprint.embedder)
        make = "segdex calibrate DATA makes it anew"
        findings.append(
            Finding(
                "calibration",
                str(file),
                problem.detail,
                f"{FIX}, which drops it; {make}" if problem.is_useless else make,
                fixable=problem.is_useless,
                path=str(file),
            )
        )
    if fix:
        with writing:
            fixed = {one for one in findings if one.fixable and _mended(index, one)}
    return Examined(
        findings=[_shown(one, fixed=one in fixed) for one in findings],
        images=len(known),
        segments=index.counts().segments,
    )


def _mended(index: SegmentIndex, finding: Finding) -> bool:
    if finding.kind in {"calibration", "upload_part"}:
        Path(finding.what).unlink(missing_ok=True)
        return True
    return mend(index, finding)


def _shown(one: Finding, *, fixed: bool) -> FindingOut:
    return FindingOut(
        kind=one.kind,
        what=one.what,
        path=one.path,
        detail=one.detail,
        mend=one.mend,
        fixable=one.fixable,
        fixed=fixed,
    )


def _of_uploads(uploads: Path | None, known: Collection[UUID], now_s: float) -> Iterator[Finding]:
    """Yield uploads that belong to no picture, and what was never written to its end."""
    for folder in () if uploads is None else files_in(uploads):
        yield from _of_upload(folder, is_known=make_image_id(folder.name) in known, now_s=now_s)


def _of_upload(folder: Path, *, is_known: bool, now_s: float) -> Iterator[Finding]:
    for file in files_in(folder):
        try:
            written = file.stat()
        except OSError:
            continue  # finished or deleted in the meantime
        is_old = now_s - written.st_mtime > ABANDONED_S
        what = str(file)
        if is_part(file) or not written.st_size:
            if is_old:
                detail = "an upload that was never written to its end"
                yield Finding("upload_part", what, detail, FIX, fixable=True, path=what)
        elif not is_known and is_old:
            detail = "an upload whose picture is not in the index"
            mend = f"segdex ingest {file}, or delete the file"
            yield Finding("upload_without_picture", what, detail, mend, path=what)


def _of_queue(jobs: Callable[[], Jobs], now_s: float) -> Iterator[Finding]:
    """Yield jobs that wait although no other one runs."""
    try:
        found = jobs().all()
    except (JobsUnavailableError, OSError) as error:
        yield Finding("stuck_job", "queue", str(error), "start the server of the queue")
        return
    if any(job.status == "running" for job in found):
        return
    for job in found:
        if job.status == "waiting" and now_s - job.created_s > ABANDONED_S:
            detail = f"it waits since {utc_text(job.created_s)}, and nobody carries out jobs"
            yield Finding("stuck_job", job.id, detail, "segdex worker, or segdex serve")
