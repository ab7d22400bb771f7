"""What carries out a job: an ingest below the allowed folders."""

from contextlib import AbstractContextManager

from segdex.jobs.queue import check_paths, inside
from segdex.jobs.worker import Progress, Run
from segdex_core.errors import UsageError
from segdex_core.media.uris import uri_to_path
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import Source
from segdex_core.settings import ProfileName, Settings
from segdex_core.wire.jobs import Job
from segdex_ingest.analyse import Recipe
from segdex_ingest.plan import IngestPlan
from segdex_ingest.run import IngestOptions, ingest_into


def job_runner(
    settings: Settings,
    index: SegmentIndex,
    recipe: Recipe,
    profile: ProfileName,
    *,
    source: Source,
    workers: int = 1,
    lock: AbstractContextManager[object] | None = None,
) -> Run:
    """Return what carries out an ingest: as ``segdex ingest``, below the allowed folders and of uploads.

    Args:
        settings: Limits and allowed folders.
        index: What to fill.
        recipe: The models.
        profile: Of the models.
        source: Where the pictures lie.
        workers: Pictures segmented at a time.
        lock: An ``RLock`` of all in this process that write to the index; None where nobody else does.
    """
    roots = settings.job_roots if settings.uploads is None else (*settings.job_roots, settings.uploads)

    def run(job: Job, progress: Progress) -> None:
        check_paths(job.paths, roots)  # the folders may have changed since it was asked for
        listing = source.list(job.paths)

        def approve(plan: IngestPlan) -> None:
            if plan.outdated and not job.redo_outdated:
                raise UsageError(f"{plan.describe_outdated(None)}: ask again with redo_outdated")

        uris = [uri for uri in listing.uris if inside(uri_to_path(uri), roots)]
        progress.found(len(uris), left_out=len(listing.uris) - len(uris))
        report = ingest_into(
            index,
            recipe,
            uris,
            source=source,
            profile=profile,
            lock=lock,
            options=IngestOptions(
                max_pixels=settings.max_pixels,
                max_bytes=settings.max_bytes,
                jobs=settings.jobs,
                workers=workers,
                tags=tuple(job.tags),
            ),
            approve=approve,
            on_file=progress.on_file,
        )
        if report.interrupted:
            raise KeyboardInterrupt

    return run
