"""The queue of long ingests: add, list and stop jobs, and claim them in a worker.

A job is one value in the storage, and each change of it compares the whole former value: of two processes
that change a job at the same moment one is refused, and looks again. So a job is claimed and running in the
same step, and ends once. The messages of the queue only say where to look first: one that is lost, doubled
or out of date does no harm.

A running job belongs to its worker as long as the worker renews it (``renew``). Who watches a queue judges
that by a clock of its own (``Leases``), and takes back what was not renewed (``look_after``).
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any
from uuid import uuid4

from segdex.jobs.leases import Leases
from segdex.jobs.once import Once
from segdex.jobs.storages import QueueStorage, carry_out, stored_value
from segdex_core.errors import SegdexError
from segdex_core.wire.jobs import ENDED, Job

KEPT_JOBS = 1_000

MAX_ATTEMPTS = 2
"""Workers that a job may lose, for example because memory runs out: it is begun anew once, and then fails."""


class JobsFullError(SegdexError):
    """As many jobs wait as are allowed."""


class LeaseLostError(Exception):
    """A worker was silent for so long that its job was taken back; it must not write the job any more."""


class _Kept(Job):
    """A job as it is stored.

    Attributes:
        renewals: How often its worker said that it lives.
        is_stopping: Whether somebody asked it to stop.
    """

    renewals: int = 0
    is_stopping: bool = False

    def to_bytes(self) -> bytes:
        return self.model_dump_json(include=set(_Kept.model_fields)).encode()

    def to_job(self) -> Job:
        return Job(**{name: getattr(self, name) for name in Job.model_fields})

    def changed(self, **changes: object) -> "_Kept":
        return self.model_copy(update=changes)


class Jobs:
    """The job queue; threads and processes may share it.

    Every method raises ``JobsUnavailableError`` if the storage does not answer or cannot be written.

    Args:
        storage: Storage of the queue.
        kept: Number of ended jobs that are listed; older ones are forgotten.
        max_waiting: Number of jobs that may wait.
    """

    def __init__(self, storage: QueueStorage, *, kept: int = KEPT_JOBS, max_waiting: int = KEPT_JOBS) -> None:
        self._storage, self._kept, self._max_waiting = storage, kept, max_waiting

    def close(self) -> None:
        """Close the storage."""
        if "once" in vars(self):
            self.once.close()
        self._storage.close()

    @cached_property
    def once(self) -> Once:
        """Requests that are carried out once, in the same place."""
        return Once(self._storage.beside("once"))

    def add(
        self,
        paths: Sequence[str],
        *,
        tags: Sequence[str] = (),
        redo_outdated: bool = False,
        may_join: Callable[[Job], bool] = lambda job: job.status == "waiting",
        job_id: str | None = None,
    ) -> Job:
        """Add a job to the queue, or return the job that was added before for the same.

        Args:
            paths: What to ingest.
            tags: Tags for every file.
            redo_outdated: See ``Job``.
            may_join: Whether the last job for the same does what is asked for.
            job_id: Id for a new job; a job that has it is the one that is asked for.

        Raises:
            JobsFullError: If as many jobs wait as are allowed.
        """
        asked = {"paths": list(paths), "tags": list(tags), "redo_outdated": redo_outdated}
        same = _same(asked)
        while True:
            new_id = job_id or uuid4().hex
            known = None if job_id is None else self.get(job_id)
            if known is not None:
                return known
            # whoever asks for the same agrees on an id first; any of them may complete it
            agreed = self._peek(same)
            agreed_id = new_id if agreed is None else agreed.decode()
            known = None if agreed is None else self.get(agreed_id)
            if known is not None and may_join(known):
                return known
            self._make_room()
            if known is not None:
                agreed_id = new_id
            if agreed is None:
                is_agreed = self._ask("put_if_empty", same, agreed_id.encode())
            else:
                is_agreed = known is None or self._ask("swap_data", same, agreed, agreed_id.encode())
            if not is_agreed:
                continue
            job = _Kept(id=agreed_id, created_s=time.time(), **asked)
            if self._ask("put_if_empty", _JOB + agreed_id, job.to_bytes()):
                self._tell(agreed_id)
                return job.to_job()

    def all(self) -> list[Job]:
        """Return the jobs that are kept, newest first."""
        found = [job.to_job() for _, job in self._stored()]
        return sorted(found, key=lambda job: job.created_s, reverse=True)

    def get(self, job_id: str) -> Job | None:
        """Return a job; None if it is not kept."""
        value = self._peek(_JOB + job_id)
        return None if value is None else _Kept.model_validate_json(value).to_job()

    def stop(self, job_id: str) -> Job | None:
        """Stop a job: one that waits at once, and one that runs after the file that is being written.

        Where the worker of a running job is gone, whoever looks after the queue ends it; see ``look_after``.
        """

        def stopped(job: _Kept) -> _Kept:
            if job.status == "waiting":
                return _ended(job, "stopped")
            return job if job.status in ENDED else job.changed(is_stopping=True)

        return self._change(job_id, stopped)

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        return sum(job.status == "waiting" for _, job in self._stored())

    def erase(self, is_erased: Callable[[str], bool]) -> None:
        """Forget the names of files: outcomes of them, and jobs for nothing else that do not run.

        Args:
            is_erased: Whether a path or URI is to be forgotten.
        """

        def without(job: _Kept) -> _Kept:
            return job.changed(
                last=[one for one in job.last if not is_erased(one.uri)],
                failures=[one for one in job.failures if not is_erased(one.uri)],
            )

        for _, job in list(self._stored()):
            if all(map(is_erased, job.paths)):
                stopped = self.stop(job.id)
                if stopped is not None and stopped.status in ENDED:
                    self._forget(job)
            elif any(is_erased(one.uri) for one in (*job.last, *job.failures)):
                self._change(job.id, without)
        self._ask("purge")

    # For workers.

    def take(self, worker: str) -> Job | None:
        """Claim the next job, which is running then; None if no job waits.

        Args:
            worker: Name of the worker, unlike that of any other.
        """
        while (message := self._ask("dequeue")) is not None:

            def taken(job: _Kept) -> _Kept:
                if job.status != "waiting":
                    return job
                return job.changed(status="running", worker=worker, started_s=time.time())

            job = self._change(_text(message), taken)
            # running already: the answer to an earlier claim was lost on its way
            if job is not None and (job.status, job.worker) == ("running", worker):
                return job
        return None

    def save(self, job: Job) -> None:
        """Store how far a running job is, or how it ended.

        Raises:
            LeaseLostError: If it no longer belongs to ``job.worker``.
        """
        told = {name: getattr(job, name) for name in Job.model_fields}
        self._as_owner(job, lambda kept: kept.changed(**told))

    def release(self, job: Job) -> None:
        """Let another worker carry on with a job, whose worker ends; one that is to stop is stopped.

        Raises:
            LeaseLostError: If it no longer belongs to ``job.worker``.
        """

        def released(kept: _Kept) -> _Kept:
            return _ended(kept, "stopped") if kept.is_stopping else _Kept(**kept.anew(0).model_dump())

        self._as_owner(job, released)
        self._tell(job.id)

    def renew(self, job: Job) -> None:
        """Say that the worker of a job lives.

        Raises:
            LeaseLostError: If it no longer belongs to ``job.worker``.
        """
        self._as_owner(job, lambda kept: kept.changed(renewals=kept.renewals + 1))

    def is_stopping(self, job_id: str) -> bool:
        """Return whether a job was asked to stop."""
        value = self._peek(_JOB + job_id)
        return value is not None and _Kept.model_validate_json(value).is_stopping

    def look_after(self, leases: Leases) -> list[Job]:
        """Take back the jobs whose workers are gone, and put waiting jobs whose message was lost in line.

        A job that lost its worker is begun anew, fails if it lost ``MAX_ATTEMPTS`` of them, and is stopped if
        that was asked for. Any number of processes may call it.

        Args:
            leases: What this process has seen of the queue before.

        Returns:
            The jobs that were taken back, as they are now.
        """
        stored = list(self._stored())
        queued = set(map(_text, self._ask("enqueued_items")))
        leases.keep(job.id for _, job in stored if job.status == "running")
        taken_back: list[Job] = []
        for value, job in stored:
            if job.status == "waiting" and job.id not in queued:
                self._tell(job.id)
            if job.status != "running" or not leases.has_lapsed(job.id, (job.worker, job.renewals)):
                continue
            after = _taken_back(job)
            if self._ask("swap_data", _JOB + job.id, value, after.to_bytes()):  # else its worker lives
                taken_back.append(after.to_job())
                if after.status == "waiting":
                    self._tell(job.id)
        return taken_back

    def _as_owner(self, job: Job, change: Callable[[_Kept], _Kept]) -> None:
        owned = False

        def changed(kept: _Kept) -> _Kept:
            nonlocal owned
            owned = kept.status == "running" and kept.worker == job.worker
            return change(kept) if owned else kept

        self._change(job.id, changed)
        if not owned:
            raise LeaseLostError(f"job {job.id} no longer belongs to {job.worker}")

    def _change(self, job_id: str, change: Callable[[_Kept], _Kept]) -> Job | None:
        """Change a job in one step, whatever others do; return it as it is then, None if it is not kept."""
        while True:
            value = self._peek(_JOB + job_id)
            if value is None:
                return None
            job = _Kept.model_validate_json(value)
            after = change(job)
            if after == job or self._ask("swap_data", _JOB + job_id, value, after.to_bytes()):
                return after.to_job()

    def _make_room(self) -> None:
        """Forget the oldest ended jobs.

        Raises:
            JobsFullError: If as many jobs wait as are allowed.
        """
        jobs = sorted((job for _, job in self._stored()), key=lambda job: job.created_s)
        waiting = sum(job.status == "waiting" for job in jobs)
        if waiting >= self._max_waiting:
            raise JobsFullError(
                f"{waiting:,} jobs wait already, and no more are allowed (SEGDEX_MAX_JOBS): wait until some "
                "are done, or stop some"
            )
        ended = [job for job in jobs if job.status in ENDED]
        for old in ended[: max(len(ended) + 1 - self._kept, 0)]:
            self._forget(old)

    def _forget(self, job: _Kept) -> None:
        same = _same({"paths": job.paths, "tags": job.tags, "redo_outdated": job.redo_outdated})
        if self._peek(same) == job.id.encode():
            self._ask("delete_data", same)
        self._ask("delete_data", _JOB + job.id)

    def _tell(self, job_id: str) -> None:
        """Put a job in line; twice is harmless."""
        self._ask("enqueue", job_id.encode())

    def _stored(self) -> Iterator[tuple[bytes, _Kept]]:
        for key, value in self._ask("result_items").items():
            if _text(key).startswith(_JOB):
                yield bytes(value), _Kept.model_validate_json(bytes(value))

    def _peek(self, key: str) -> bytes | None:
        return stored_value(self._storage, key)

    def _ask(self, what: str, *values: object) -> Any:
        return carry_out(self._storage, what, *values)


_JOB, _SAME = "job:", "same:"


def _same(asked: dict[str, Any]) -> str:
    """Return the key under which those who ask for the same find the same job."""
    return _SAME + sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _ended(job: _Kept, status: str, detail: str | None = None) -> _Kept:
    said = {} if detail is None else {"detail": detail}
    return job.changed(status=status, ended_s=time.time(), left_s=0.0, **said)


def _taken_back(job: _Kept) -> _Kept:
    """Return a job as it is after its worker was lost."""
    if job.is_stopping:
        return _ended(job, "stopped")
    if job.attempt + 1 >= MAX_ATTEMPTS:
        detail = (
            f"its worker ended {MAX_ATTEMPTS} times; see the log for the file that it was at. Finished files "
            "are kept: add the job again"
        )
        return _ended(job.changed(attempt=job.attempt + 1), "failed", detail)
    return _Kept(**job.anew(1).model_dump())


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else bytes(value).decode()
