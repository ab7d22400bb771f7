"""Runs jobs, one at a time, and resumes jobs whose worker ended."""

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

from segdex.jobs.queue import Jobs, JobsUnavailableError
from segdex_core.errors import SegdexError
from segdex_core.wire.images import IngestedFile
from segdex_core.wire.jobs import ENDED, Job, JobOutcome, Status
from segdex_core.wording import count_of

_LAST_OUTCOMES = 10
_POLL_S = 0.2
_SAVE_EVERY_S = 0.5
_LOOK_EVERY_S = 2.0

STALE_S = 15.0
"""Seconds without a heartbeat after which a job has lost its worker; workers send one every 2 s."""

MAX_ATTEMPTS = 10
"""Maximum number of attempts of a job that ends its workers, for example because memory runs out."""

_NICENESS = 10
"""Niceness of job threads in the service: Linux weighs them 110 instead of 1,024; searches go first."""

_log = logging.getLogger(__name__)


class Progress:
    """Progress of a running job; raises KeyboardInterrupt in the job when it has to stop."""

    def __init__(self, job: Job, save: Callable[[Job], None], stopping: Callable[[], bool]) -> None:
        self.job = job
        self._save, self._stopping = save, stopping
        self._counts: Counter[str] = Counter()
        self._saved_s = 0.0

    def found(self, total: int, *, left_out: int = 0) -> None:
        """Set the number of files."""
        detail = f"left out {count_of(left_out, 'file')} outside the allowed folders" if left_out else ""
        self.job = self.job.model_copy(update={"total": total, "detail": detail})
        self._save(self.job)
        self._check()

    def on_file(self, outcome: IngestedFile) -> None:
        """Add the outcome of a file."""
        self._counts[outcome.outcome] += 1
        done, started_s = self.job.done + 1, self.job.started_s or time.time()
        rate = done / max(time.time() - started_s, 1e-3)
        last = JobOutcome(uri=outcome.uri, outcome=outcome.outcome, detail=outcome.detail)
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
"""Function that runs a job."""


class JobWorker:
    """A thread that runs the jobs of a queue.

    Args:
        jobs: Job queue.
        run: Runs a job.
        stale_s: Seconds without a heartbeat after which a job is started again.
        nicely: Whether its threads run at a lower priority (Linux).
        on_stop: Called when it has to stop, before the file that is being written is done.
        now_s: Returns the seconds of the clock that measures the age of a heartbeat.
    """

    def __init__(
        self,
        jobs: Jobs,
        run: Run,
        *,
        stale_s: float = STALE_S,
        nicely: bool = False,
        on_stop: Callable[[], None] = lambda: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs, self._run, self._now_s = jobs, run, now_s
        self._stale_s, self._nicely, self._on_stop = stale_s, nicely, on_stop
        self.outcomes: Counter[str] = Counter()  # of this process, for the metrics
        self._closing = threading.Event()
        self._seen: dict[str, tuple[bytes, float]] = {}  # last heartbeat of a job, and when it was first seen
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the file that is being written; the job waits for the next worker."""
        self._closing.set()
        self._on_stop()

    def close(self) -> None:
        """Stop the thread, and wait until it has ended."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        if self._nicely and sys.platform == "linux":  # elsewhere it applies to the whole process
            # threads that this thread starts, such as torch's, inherit it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        looked_s = 0.0
        while not self._closing.is_set():
            try:
                job = self._jobs.take()
                if job is not None:
                    self._carry_out(job)
                    continue
                if self._now_s() - looked_s > min(_LOOK_EVERY_S, self._stale_s / 2):
                    looked_s = self._now_s()
                    self._take_back()
            except Exception:  # noqa: BLE001 - a failure of the queue must not end the thread
                _log.exception("the queue of jobs cannot be read; trying again")
                self._closing.wait(_LOOK_EVERY_S)
            self._closing.wait(_POLL_S)

    def _take_back(self) -> None:
        """Requeue jobs whose worker is gone or whose queue message was lost."""
        found: dict[str, tuple[bytes, float]] = {}
        for job in self._jobs.all():
            if job.status in ENDED:
                continue
            looked_s = self._now_s()  # read first: a delay here must not make a heartbeat look old
            beat = self._jobs.last_beat(job.id) + job.status.encode() + str(job.attempt).encode()
            seen, since_s = self._seen.get(job.id, (None, 0.0))
            found[job.id] = (beat, since_s if seen == beat else self._now_s())
            if looked_s - found[job.id][1] < self._stale_s:
                continue
            if job.status == "running" and job.attempt + 1 >= MAX_ATTEMPTS:
                detail = f"its worker ended {MAX_ATTEMPTS} times; see the log for the file that it was at"
                ending = {"status": "failed", "ended_s": time.time(), "detail": detail}
                self._jobs.save(job.model_copy(update=ending))
            elif job.status == "running":
                _log.warning("job %s has lost its worker and waits again", job.id)
                self._jobs.begin_anew(job)
            elif not self._jobs.waiting:
                self._jobs.put(job.id)
        self._seen = found

    def _carry_out(self, job: Job) -> None:
        job = job.model_copy(update={"status": "running", "started_s": time.time()})
        self._jobs.beat(job.id)
        self._jobs.save(job)
        _log.info("job %s begins: %s", job.id, job.paths)
        ended = threading.Event()
        beating = threading.Thread(target=self._beat, args=(job.id, ended), daemon=True)
        beating.start()
        try:
            self._try(job)
        finally:
            ended.set()
            beating.join()

    def _try(self, job: Job) -> None:
        def stopping() -> bool:
            return self._closing.is_set() or self._jobs.is_stopped(job.id)

        progress = Progress(job, self._jobs.save, stopping)
        status: Status = "done"
        try:
            self._run(job, progress)
        except KeyboardInterrupt:
            status = "stopped"
        except JobsUnavailableError:
            raise  # the queue failed, not the job: the job is started again
        except SegdexError as error:
            status = "failed"
            progress.job = progress.job.model_copy(update={"detail": str(error)})
        except Exception:  # noqa: BLE001 - a failed job must not end the thread
            status = "failed"
            detail = "a bug of segdex, see the log of the service"
            progress.job = progress.job.model_copy(update={"detail": detail})
            _log.exception("job %s failed", job.id)
        self.outcomes.update(progress.job.counts)
        if status == "stopped" and not self._jobs.is_stopped(job.id):
            self._jobs.begin_anew(progress.job)  # the worker ends, not the job
            return
        _log.info("job %s is %s: %s", job.id, status, progress.job.counts)
        ending = {"status": status, "ended_s": time.time(), "left_s": 0.0}
        self._jobs.save(progress.job.model_copy(update=ending))

    def _beat(self, job_id: str, ended: threading.Event) -> None:
        while not ended.wait(min(_LOOK_EVERY_S, self._stale_s / 4)):
            try:
                self._jobs.beat(job_id)
            except Exception:  # noqa: BLE001 - the next heartbeat may succeed
                _log.warning("job %s could not say that it lives", job_id, exc_info=True)
