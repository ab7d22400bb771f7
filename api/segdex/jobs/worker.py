"""Runs jobs, one at a time, and looks after those of workers that are gone."""

import logging
import os
import platform
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from uuid import uuid4

from segdex.jobs.leases import STALE_S, Leases
from segdex.jobs.queue import Jobs, LeaseLostError
from segdex.jobs.storages import JobsUnavailableError
from segdex.pace import WORK, Pace
from segdex_core.errors import SegdexError
from segdex_core.wire.images import FAILED, IngestedFile, Outcome
from segdex_core.wire.jobs import Job, JobOutcome, Status
from segdex_core.wording import count_of

_LAST_OUTCOMES = 10
_FAILURES = 20
_POLL_S = 0.2
_SAVE_EVERY_S = 0.5
_AGAIN_S = 2.0  # until an unreachable queue is asked again

SAY_EVERY_S = 60.0
"""Seconds between two lines of the log about a job that runs."""

_NICENESS = 10
"""Niceness of job threads in the service: Linux weighs them 110 instead of 1,024; searches go first."""

_log = logging.getLogger(__name__)


class Progress:
    """Progress of a running job; raises KeyboardInterrupt in the job when it has to stop.

    Args:
        job: The job as its worker claimed it.
        save: Stores how far it is.
        stopping: Whether it has to stop.
    """

    def __init__(self, job: Job, save: Callable[[Job], None], stopping: Callable[[], bool]) -> None:
        self.job = job
        self._save, self._stopping = save, stopping
        self._counts: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._saved_s = 0.0
        self._detail = ""
        self._pace = Pace()

    def found(self, total: int, *, left_out: int = 0) -> None:
        """Set the number of files."""
        detail = f"left out {count_of(left_out, 'file')} outside the allowed folders" if left_out else ""
        self._detail = detail
        self._pace.start(total)
        self.job = self.job.model_copy(update={"total": total, "detail": detail})
        self._save(self.job)
        self._check()

    def planned(self, uris: Collection[str]) -> None:
        """Note the files that may have to be segmented."""
        self._pace.plan(uris)
        self._pace.start(self.job.total)

    def words(self) -> str:
        """Return how far it is, in one line."""
        return self._pace.words()

    def on_file(self, outcome: IngestedFile) -> None:
        """Add the outcome of a file."""
        self._counts[outcome.outcome] += 1
        self._pace.count(is_work=outcome.outcome in WORK, uri=outcome.uri)
        rate, left_s = self._pace.per_s, self._pace.left_s
        last = JobOutcome(uri=outcome.uri, outcome=outcome.outcome, detail=outcome.detail, kind=outcome.kind)
        if outcome.outcome == Outcome.NOT_AN_IMAGE:
            self._kinds[outcome.kind or "other"] += 1
        failures = self.job.failures
        if outcome.outcome in FAILED:  # a file that is no picture hides no broken one
            failures = sorted([*failures, last], key=lambda one: one.kind is not None)[:_FAILURES]
        self.job = self.job.model_copy(
            update={
                "done": self.job.done + 1,
                "counts": dict(self._counts),
                "kinds": dict(self._kinds.most_common()),
                "segments": self.job.segments + outcome.segments,
                "files_per_s": None if rate is None else round(rate, 3),
                "left_s": None if left_s is None else round(left_s, 1),
                "last": [*self.job.last, last][-_LAST_OUTCOMES:],
                "failures": failures,
            }
        )
        if time.monotonic() - self._saved_s > _SAVE_EVERY_S:
            self._saved_s = time.monotonic()
            self._save(self.job)
        self._check()

    def waits_for(self, what: str) -> None:
        """Say what the job waits for; "" where it goes on."""
        self.job = self.job.model_copy(update={"detail": what or self._detail})
        self._save(self.job)
        self._check()

    def _check(self) -> None:
        if self._stopping():
            raise KeyboardInterrupt


Run = Callable[[Job, Progress], None]
"""Function that runs a job."""


class JobKeeper:
    """A thread that looks after the jobs of a queue: see ``Jobs.look_after``.

    Args:
        jobs: Job queue.
        leases: Tells which workers are gone.
    """

    def __init__(self, jobs: Jobs, leases: Leases | None = None) -> None:
        self._jobs, self._leases = jobs, leases or Leases()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="jobs-keeper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread, and wait until it has ended."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                for job in self._jobs.look_after(self._leases):
                    _log.warning("job %s has lost its worker and is %s", job.id, job.status)
            except JobsUnavailableError as error:
                _log.warning("%s; trying again", error)
            except Exception:  # noqa: BLE001 - a damaged record must not end the thread
                _log.exception("the queue of jobs cannot be read; trying again")
            self._closing.wait(self._leases.look_every_s)


class JobWorker:
    """A thread that runs the jobs of a queue, and another that looks after the queue.

    A job belongs to its worker as long as the worker renews it, which it does until it is closed or killed.

    Args:
        jobs: Job queue.
        run: Runs a job.
        stale_s: Seconds without a renewal after which a job has lost its worker.
        nicely: Whether its threads run at a lower priority (Linux).
        on_stop: Called when it has to stop, before the file that is being written is done.
        now_s: Returns the seconds of the clock that measures how long a worker is silent.
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
        self._jobs, self._run, self._nicely, self._on_stop = jobs, run, nicely, on_stop
        self.name = f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}"
        self.outcomes: Counter[str] = Counter()  # of this process, for the metrics
        leases = Leases(stale_s=stale_s, now_s=now_s)
        self._renew_every_s = leases.look_every_s
        self._keeper = JobKeeper(jobs, leases)
        self._now_s = now_s
        self._words: Callable[[], str] = lambda: ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._keeper.start()
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the file that is being written; the job waits for the next worker."""
        self._closing.set()
        self._on_stop()

    def close(self) -> None:
        """Stop the threads, and wait until they have ended."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join()
        self._keeper.close()

    def _work(self) -> None:
        if self._nicely and sys.platform == "linux":  # elsewhere it applies to the whole process
            # threads that this thread starts, such as torch's, inherit it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while not self._closing.is_set():
            try:
                job = self._jobs.take(self.name)
                if job is not None:
                    self._carry_out(job)
                    continue
            except LeaseLostError as error:
                _log.warning("%s, which was silent for too long; another one has it", error)
            except JobsUnavailableError as error:
                _log.warning("%s; trying again", error)
                self._closing.wait(_AGAIN_S)
            except Exception:  # noqa: BLE001 - a failure of the queue must not end the thread
                _log.exception("the queue of jobs cannot be read; trying again")
                self._closing.wait(_AGAIN_S)
            self._closing.wait(_POLL_S)

    def _carry_out(self, job: Job) -> None:
        _log.info("job %s begins: %s", job.id, job.paths)
        ended, lost = threading.Event(), threading.Event()
        renewing = threading.Thread(target=self._renew, args=(job, ended, lost), daemon=True)
        self._words = lambda: "looking for files"
        renewing.start()
        try:
            self._try(job, lost)
        finally:
            ended.set()
            renewing.join()

    def _try(self, job: Job, lost: threading.Event) -> None:
        def stopping() -> bool:
            if lost.is_set():
                raise LeaseLostError(f"job {job.id} no longer belongs to {self.name}")
            try:
                return self._closing.is_set() or self._jobs.is_stopping(job.id)
            except JobsUnavailableError:
                return False  # the next file asks again

        def save(one: Job) -> None:
            try:
                self._jobs.save(one)
            except JobsUnavailableError as error:  # the queue failed, not the job
                _log.warning("job %s could not say how far it is: %s", one.id, error)

        progress = Progress(job, save, stopping)
        self._words = progress.words
        status: Status = "done"
        detail: str | None = None
        try:
            self._run(job, progress)
        except KeyboardInterrupt:
            status = "stopped"
        except SegdexError as error:
            status, detail = "failed", str(error)
        except LeaseLostError:
            raise
        except Exception:  # noqa: BLE001 - a failed job must not end the thread
            status, detail = "failed", "a bug of segdex, see the log of the service"
            _log.exception("job %s failed", job.id)
        self.outcomes.update(progress.job.counts)
        self._end(progress.job, status, detail)

    def _end(self, job: Job, status: Status, detail: str | None) -> None:
        """Store how a job ended, as soon as the queue can be written."""
        said = {} if detail is None else {"detail": detail}
        ending = {"status": status, "ended_s": time.time(), "left_s": 0.0, **said}
        while True:
            try:
                if status == "stopped" and not self._jobs.is_stopping(job.id):
                    self._jobs.release(job)  # the worker ends, not the job
                    return
                self._jobs.save(job.model_copy(update=ending))
            except JobsUnavailableError as error:
                _log.warning("job %s could not say that it is %s, trying again: %s", job.id, status, error)
                if self._closing.wait(_AGAIN_S):
                    return  # it is taken back once its lease has lapsed
            else:
                _log.info("job %s is %s: %s", job.id, status, job.counts)
                return

    def _renew(self, job: Job, ended: threading.Event, lost: threading.Event) -> None:
        said_s = self._now_s()
        while not ended.wait(self._renew_every_s):
            if self._now_s() - said_s >= SAY_EVERY_S:
                said_s = self._now_s()
                _log.info("job %s: %s", job.id, self._words())
            try:
                self._jobs.renew(job)
            except LeaseLostError:
                lost.set()
                return
            except Exception:  # noqa: BLE001 - the next renewal may succeed
                _log.warning("job %s could not say that it lives", job.id, exc_info=True)
