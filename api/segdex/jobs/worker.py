"""Carries jobs out, one at a time, and goes on with those whose worker ended."""

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

_LAST_OUTCOMES = 10
_POLL_S = 0.2
_SAVE_EVERY_S = 0.5
_LOOK_EVERY_S = 2.0

STALE_S = 15.0
"""A running job without a beat for so long has lost its worker: those beat every two seconds."""

MAX_ATTEMPTS = 10
"""A job that takes its workers down with it, memory say, is not begun for ever."""

_NICENESS = 10
"""Of the threads of a job inside the service: Linux weighs them 110 to 1,024, so that searches go first."""

_log = logging.getLogger(__name__)


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

    def on_file(self, outcome: IngestedFile) -> None:
        """Say what became of a file."""
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
"""Carries a job out."""


class JobWorker:
    """A thread that carries out what waits in a queue.

    Args:
        jobs: The queue.
        run: Carries a job out.
        stale_s: Seconds without a sign of life after which a job is begun anew.
        nicely: Whether its threads leave the cores to others that want them (Linux).
        now_s: Seconds of the clock that says how long a beat is ago.
    """

    def __init__(
        self,
        jobs: Jobs,
        run: Run,
        *,
        stale_s: float = STALE_S,
        nicely: bool = False,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs, self._run, self._now_s = jobs, run, now_s
        self._stale_s, self._nicely = stale_s, nicely
        self.outcomes: Counter[str] = Counter()  # of this process, for the figures
        self._closing = threading.Event()
        self._seen: dict[str, tuple[bytes, float]] = {}  # last beat of a job and when it was new
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Begin with what waits."""
        self._thread.start()

    def stop(self) -> None:
        """Let it end after the file that is being written; the job waits for the next worker."""
        self._closing.set()

    def close(self) -> None:
        """Stop, and wait until the thread has ended."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        if self._nicely and sys.platform == "linux":  # elsewhere it is the whole process's
            # threads that this one starts, torch's among them, inherit it
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
            except Exception:  # noqa: BLE001 - a queue that is away for a while must not end the thread
                _log.exception("the queue of jobs cannot be read; trying again")
                self._closing.wait(_LOOK_EVERY_S)
            self._closing.wait(_POLL_S)

    def _take_back(self) -> None:
        """Let jobs wait again whose worker is gone, and those whose message got lost with it."""
        found: dict[str, tuple[bytes, float]] = {}
        for job in self._jobs.all():
            if job.status in ENDED:
                continue
            looked_s = self._now_s()  # a beat while this thread is kept waiting must not look old
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
            raise  # the queue is away, and nothing is wrong with the job: it is begun anew
        except SegdexError as error:
            status = "failed"
            progress.job = progress.job.model_copy(update={"detail": str(error)})
        except Exception:  # noqa: BLE001 - a job must not end the thread of all jobs
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
            except Exception:  # noqa: BLE001 - the next beat may arrive
                _log.warning("job %s could not say that it lives", job_id, exc_info=True)
