"""Long ingests: one at a time, in a queue on disk that a restart goes on with.

The queue and the records are huey's, on SQLite: a kept, small library without a server. Its own consumer is
not used, because it wants the main thread and its signals, which are the web server's here.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal
from uuid import uuid4

from huey import SqliteHuey
from pydantic import BaseModel

from segdex.core.errors import SegdexError, UsageError
from segdex.ingest.report import FileOutcome

Status = Literal["waiting", "running", "done", "stopped", "failed"]

ENDED: frozenset[Status] = frozenset({"done", "stopped", "failed"})

_LAST_OUTCOMES = 10
_KEPT_JOBS = 1_000
_POLL_S = 0.2
_SAVE_EVERY_S = 0.5

_log = logging.getLogger(__name__)


class JobOutcome(BaseModel):
    """What became of a file."""

    uri: str
    outcome: str
    detail: str


class Job(BaseModel):
    """An ingest of folders.

    Attributes:
        id: Its name.
        paths: What to ingest, as it was asked for.
        tags: Labels for every file.
        status: Where it is; a job that ran when the service ended waits again after the next start.
        created_s, started_s, ended_s: Seconds since 1970 UTC.
        total: Files that were found; None before they were looked for.
        done: Files that ended in an outcome.
        counts: How many files ended in each.
        segments: Segments that were stored.
        files_per_s: Since the start.
        left_s: Estimate of the seconds that are left.
        last: The last outcomes, newest last.
        detail: Why it failed, or what was left out.
    """

    id: str
    paths: list[str]
    tags: list[str] = []
    status: Status = "waiting"
    created_s: float
    started_s: float | None = None
    ended_s: float | None = None
    total: int | None = None
    done: int = 0
    counts: dict[str, int] = {}
    segments: int = 0
    files_per_s: float | None = None
    left_s: float | None = None
    last: list[JobOutcome] = []
    detail: str = ""


class Progress:
    """What a running job reports to; raises KeyboardInterrupt in the job when it is to stop."""

    def __init__(self, job: Job, save: Callable[[Job], None], stopping: Callable[[], bool]) -> None:
        self.job = job
        self._save, self._stopping = save, stopping
        self._counts: Counter[str] = Counter()
        self._saved_s = 0.0

    def found(self, total: int, *, left_out: int = 0) -> None:
        """Say how many files there are."""
        detail = f"{left_out:,} files lie outside the allowed folders and were left out" if left_out else ""
        self.job = self.job.model_copy(update={"total": total, "detail": detail})
        self._save(self.job)
        self._check()

    def on_file(self, outcome: FileOutcome) -> None:
        """Say what became of a file."""
        self._counts[outcome.outcome.value] += 1
        done, started_s = self.job.done + 1, self.job.started_s or time.time()
        rate = done / max(time.time() - started_s, 1e-3)
        last = JobOutcome(uri=outcome.uri, outcome=outcome.outcome.value, detail=outcome.detail)
        self.job = self.job.model_copy(
            update={
                "done": done,
                "counts": dict(self._counts),
                "segments": self.job.segments + outcome.segments,
                "files_per_s": round(rate, 3),
                "left_s": round(((self.job.total or done) - done) / rate, 1),
                "last": [*self.job.last, last][-_LAST_OUTCOMES:],
            }
        )
        if time.monotonic() - self._saved_s > _SAVE_EVERY_S:
            self._saved_s = time.monotonic()
            self._save(self.job)
        self._check()

    def _check(self) -> None:
        if self._stopping():
            raise KeyboardInterrupt


Run = Callable[[Job, Progress], None]
"""Carries a job out."""


class Jobs:
    """The queue, and the thread that empties it.

    Args:
        file: SQLite database; made if it is not there.
        run: Carries a job out.
    """

    def __init__(self, file: Path, run: Run) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._huey = SqliteHuey("segdex", filename=str(file))
        self._run = run
        self._lock = threading.Lock()
        self._stop_ids: set[str] = set()
        self._closing = threading.Event()
        self._ingest = self._huey.task(name="ingest")(self._carry_out)
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Go on with what was waiting or running when the service ended, then with what comes."""
        self._huey.storage.flush_queue()
        for job in reversed(self.all()):
            if job.status not in ENDED:
                waiting = Job(id=job.id, paths=job.paths, tags=job.tags, created_s=job.created_s)
                self._save(waiting)
                self._ingest(job.id)
        self._thread.start()

    def close(self) -> None:
        """Stop after the file that is being written; the job goes on after the next start."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._huey.storage.close()

    def add(self, paths: Sequence[str], *, tags: Sequence[str] = ()) -> Job:
        """Put a job into the queue."""
        job = Job(id=uuid4().hex, paths=list(paths), tags=list(tags), created_s=time.time())
        self._save(job)
        self._ingest(job.id)
        return job

    def all(self) -> list[Job]:
        """Return the last jobs, newest first."""
        stored = self._huey.storage.result_items()
        jobs = [Job.model_validate_json(value) for key, value in stored.items() if str(key).startswith(_KEY)]
        jobs.sort(key=lambda job: job.created_s, reverse=True)
        for old in jobs[_KEPT_JOBS:]:
            if old.status in ENDED:
                self._huey.storage.delete_data(_KEY + old.id)
        return jobs[:_KEPT_JOBS]

    def get(self, job_id: str) -> Job | None:
        """Return a job."""
        value = self._huey.storage.peek_data(_KEY + job_id)
        return Job.model_validate_json(value) if isinstance(value, bytes | str) else None

    def stop(self, job_id: str) -> Job | None:
        """Stop a job after the file that is being written; what was finished is kept."""
        with self._lock:
            job = self.get(job_id)
            if job is None or job.status in ENDED:
                return job
            self._stop_ids.add(job_id)
            if job.status == "waiting":
                job = job.model_copy(update={"status": "stopped", "ended_s": time.time()})
                self._save(job)
            return job

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return int(self._huey.storage.queue_size())

    def _save(self, job: Job) -> None:
        self._huey.storage.put_data(_KEY + job.id, job.model_dump_json().encode())

    def _work(self) -> None:
        while not self._closing.is_set():
            task = self._huey.dequeue()
            if task is None:
                self._closing.wait(_POLL_S)
            else:
                self._huey.execute(task)

    def _carry_out(self, job_id: str) -> None:
        with self._lock:
            job = self.get(job_id)
            if job is None or job.status != "waiting":
                return
            job = job.model_copy(update={"status": "running", "started_s": time.time()})
            self._save(job)
        progress = Progress(job, self._save, lambda: self._closing.is_set() or job_id in self._stop_ids)
        status: Status = "done"
        try:
            self._run(job, progress)
        except KeyboardInterrupt:
            status = "stopped"
        except SegdexError as error:
            status = "failed"
            progress.job = progress.job.model_copy(update={"detail": str(error)})
        except Exception:  # noqa: BLE001 - a job must not end the thread of all jobs
            status = "failed"
            progress.job = progress.job.model_copy(
                update={"detail": "a bug of segdex, see the log of the service"}
            )
            _log.exception("job %s failed", job_id)
        if status == "stopped" and job_id not in self._stop_ids:
            self._save(
                progress.job.model_copy(update={"status": "waiting"})
            )  # the service ends: go on next time
            return
        self._stop_ids.discard(job_id)
        ended = {"status": status, "ended_s": time.time(), "left_s": 0.0}
        self._save(progress.job.model_copy(update=ended))


_KEY = "job:"


def inside(path: Path, roots: Sequence[Path]) -> bool:
    """Whether a path, with its links resolved, lies in one of the folders."""
    try:
        found = path.resolve(strict=True)
    except OSError:
        return False
    return any(found.is_relative_to(root.resolve()) for root in roots)


def check_paths(paths: Sequence[str], roots: Sequence[Path]) -> None:
    """Refuse paths outside the allowed folders.

    Raises:
        UsageError: If there are no folders, or a path is not in one; whether it exists is not said.
    """
    if not roots:
        raise UsageError("jobs are not allowed here: the service has no SEGDEX_JOB_ROOTS")
    for path in paths:
        if not Path(path).is_absolute() or not inside(Path(path), roots):
            raise UsageError(
                f"{path!r} is no folder or file below one of the allowed folders of this service"
            )
