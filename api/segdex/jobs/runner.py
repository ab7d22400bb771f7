"""The function that runs a job: an ingest of files inside the allowed folders."""

from dataclasses import replace

from segdex.arguments import IngestProgress, MaskChoices
from segdex.jobs.allowed import check_paths, inside
from segdex.jobs.worker import Progress, Run
from segdex.library import Library
from segdex_core.media.uris import uri_to_path
from segdex_core.patience import patient
from segdex_core.wire.jobs import Job


def job_runner(library: Library) -> Run:
    """Return a function that ingests the files of a job inside the allowed folders and the upload folder.

    Args:
        library: Library to fill.
    """
    settings = library.settings
    roots = settings.job_roots if settings.uploads is None else (*settings.job_roots, settings.uploads)

    def run(job: Job, progress: Progress) -> None:
        check_paths(job.paths, roots)  # the allowed folders may have changed since the job was added
        listing = library.source.list(job.paths)
        uris = tuple(uri for uri in listing.uris if inside(uri_to_path(uri), roots))
        progress.found(len(uris), left_out=len(listing.uris) - len(uris))
        with patient(progress.waits_for):
            report = library.ingest_files(
                replace(listing, uris=uris),
                choices=MaskChoices(),
                tags=tuple(job.tags),
                limit=None,
                redo_outdated=job.redo_outdated,
                progress=IngestProgress(on_plan=progress.planned, on_file=progress.on_file),
            )
        if report.interrupted:
            raise KeyboardInterrupt

    return run
