"""``segdex worker``."""

import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from segdex.cli.common import (
    DeviceOption,
    EmbedderOption,
    IndexOption,
    ProfileOption,
    SegmenterOption,
    opened_here,
    settings_from,
)
from segdex_core.errors import UsageError

_log = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("worker")(worker_command)


def worker_command(
    context: typer.Context,
    job_root: Annotated[
        list[Path] | None,
        typer.Option("--job-root", help="Folder whose pictures may be ingested; repeatable."),
    ] = None,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    device: DeviceOption = None,
) -> int:
    """Run the jobs that a service with SEGDEX_JOBS_BY=worker queues, until SIGTERM or Ctrl-C."""
    from segdex.http.logs import start_logging
    from segdex.jobs.runner import job_runner
    from segdex.jobs.worker import JobWorker
    from segdex.usecases.ingest import quality_of
    from segdex_ingest.masks.generate import preset

    settings = settings_from(
        context,
        profile=profile,
        index=index,
        device=device,
        segmenter=segmenter,
        embedder=embedder,
        job_roots=tuple(job_root) if job_root else None,
    )
    if not settings.job_roots and settings.uploads is None:
        raise UsageError(
            "a worker needs folders that it may read: --job-root, SEGDEX_JOB_ROOTS or SEGDEX_UPLOADS"
        )
    start_logging(settings.log_format)
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with opened_here(context, settings) as library:
        quality = quality_of(library.create_index())
        library.models.recipes(preset(quality)).load()  # loaded before the first job
        worker = JobWorker(library.queue, job_runner(library), on_stop=library.journal.stopping)
        worker.start()
        _log.info("segdex worker waits for jobs")
        ended.wait()
        worker.close()
    return 0
