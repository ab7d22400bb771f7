"""The queue of long ingests: add, list and stop jobs, and claim them in a worker.

Huey's storages keep the queue and the job records: SQLite in one file, or Redis, each with atomic operations
that several processes share. Huey's tasks and consumer are not used: tasks are pickles, with which anyone who
can write to the queue could run code, and the consumer needs the main thread, which the web server uses.
"""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from huey.constants import EmptyData
from huey.storage import BaseStorage, RedisStorage, SqliteStorage

from segdex_core.errors import SegdexError, UsageError
from segdex_core.wire.jobs import ENDED, Job

_NAME = "segdex-{}"
KEPT_JOBS = 1_000
_REDIS_TIMEOUT_S = 5.0


class JobsUnavailableError(SegdexError):
    """The job queue cannot be reached."""


def sqlite_storage(file: Path, *, index_key: str) -> BaseStorage:
    """Return the queue of an index in a file, created if missing; processes of one machine share it.

    Args:
        file: File with the queues of any number of indexes.
        index_key: Key of the index, see ``Settings.index_key``.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    return SqliteStorage(_NAME.format(index_key), filename=str(file), strict_fifo=True)


def redis_storage(url: str, *, index_key: str) -> BaseStorage:
    """Return the queue of an index on a Redis server, which several machines share.

    Args:
        url: ``redis://[:password@]host:port/number``, or ``rediss://`` for TLS.
        index_key: Key of the index, see ``Settings.index_key``.

    Raises:
        UsageError: If the package is not installed, or the address is invalid.
        JobsUnavailableError: If the server does not answer.
    """
    try:
        import redis
    except ImportError as error:
        raise UsageError("SEGDEX_JOBS_REDIS needs a package: pip install 'segdex[redis]'") from error
    try:
        pool = redis.ConnectionPool.from_url(
            url, socket_timeout=_REDIS_TIMEOUT_S, socket_connect_timeout=_REDIS_TIMEOUT_S
        )
    except ValueError as error:  # the message of the error may show the password
        raise UsageError("SEGDEX_JOBS_REDIS must be redis://[:password@]host:port/number") from error
    storage = RedisStorage(_NAME.format(index_key), blocking=False, connection_pool=pool)
    try:
        storage.conn.ping()
    except redis.exceptions.RedisError as error:
        raise JobsUnavailableError(f"SEGDEX_JOBS_REDIS: the server does not answer: {error}") from error
    return storage


class Jobs:
    """The job queue; threads and processes may share it.

    The caller who claims a job first runs it, see ``claim``. Every method raises ``JobsUnavailableError`` if
    the storage does not answer.

    Args:
        storage: Storage of the queue.
        kept: Number of jobs that are listed; older jobs that have ended are deleted.
    """

    def __init__(self, storage: BaseStorage, *, kept: int = KEPT_JOBS) -> None:
        self._storage, self._kept = storage, kept
        self._errors = _errors_of(storage)

    def close(self) -> None:
        """Close the storage."""
        self._storage.close()

    def add(self, paths: Sequence[str], *, tags: Sequence[str] = (), redo_outdated: bool = False) -> Job:
        """Add a job to the queue."""
        job = Job(
            id=uuid4().hex,
            paths=list(paths),
            tags=list(tags),
            redo_outdated=redo_outdated,
            created_s=time.time(),
        )
        self.save(job)
        self.put(job.id)
        return job

    def all(self) -> list[Job]:
        """Return the last jobs, newest first."""
        items = self._ask("result_items")
        jobs = [Job.model_validate_json(value) for key, value in items.items() if _text(key).startswith(_JOB)]
        jobs.sort(key=lambda job: job.created_s, reverse=True)
        for old in jobs[self._kept :]:
            if old.status in ENDED:
                self._forget(old)
        return jobs[: self._kept]

    def get(self, job_id: str) -> Job | None:
        """Return a job; None if it is not kept."""
        value = self._ask("peek_data", _JOB + job_id)
        return None if value is EmptyData else Job.model_validate_json(_text(value))

    def stop(self, job_id: str) -> Job | None:
        """Stop a job after the file that is being written; finished files are kept."""
        job = self.get(job_id)
        if job is None or job.status in ENDED:
            return job
        self._ask("put_data", _STOP + job_id, b"1")
        if job.status == "waiting" and self.claim(job):
            job = job.model_copy(update={"status": "stopped", "ended_s": time.time()})
            self.save(job)
        return job

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        return int(self._ask("queue_size"))

    # For workers.

    def take(self) -> Job | None:
        """Claim the next job and return it; None if no job waits."""
        while (message := self._ask("dequeue")) is not None:
            job = self.get(_text(message))
            if job is not None and job.status == "waiting" and self.claim(job):
                return job
        return None

    def put(self, job_id: str) -> None:
        """Add the id of a waiting job to the queue; adding it twice is harmless."""
        self._ask("enqueue", job_id.encode())

    def claim(self, job: Job) -> bool:
        """Return whether the caller is the first to claim this attempt of a job."""
        return bool(self._ask("put_if_empty", f"{_CLAIM}{job.id}:{job.attempt}", b"1"))

    def begin_anew(self, job: Job) -> None:
        """Requeue a job whose worker ended; only one of several callers succeeds."""
        if self._ask("put_if_empty", f"{_ANEW}{job.id}:{job.attempt}", b"1"):
            self.save(job.anew())
            self.put(job.id)

    def save(self, job: Job) -> None:
        """Store the current state of a job."""
        self._ask("put_data", _JOB + job.id, job.model_dump_json().encode())

    def is_stopped(self, job_id: str) -> bool:
        """Return whether a job was asked to stop."""
        return bool(self._ask("has_data_for_key", _STOP + job_id))

    def beat(self, job_id: str) -> None:
        """Store a heartbeat of a job's worker."""
        self._ask("put_data", _BEAT + job_id, uuid4().bytes)

    def last_beat(self, job_id: str) -> bytes:
        """Return a value that differs after each heartbeat."""
        value = self._ask("peek_data", _BEAT + job_id)
        return b"" if value is EmptyData else bytes(value)

    def _ask(self, what: str, *values: object) -> Any:
        try:
            return getattr(self._storage, what)(*values)
        except self._errors as error:
            raise JobsUnavailableError(f"the queue of jobs does not answer: {error}") from error

    def _forget(self, job: Job) -> None:
        keys = [_JOB + job.id, _STOP + job.id, _BEAT + job.id]
        keys += [f"{kind}{job.id}:{n}" for kind in (_CLAIM, _ANEW) for n in range(job.attempt + 1)]
        for key in keys:
            self._ask("delete_data", key)


_JOB, _STOP, _BEAT, _CLAIM, _ANEW = "job:", "stop:", "beat:", "claim:", "anew:"


def _errors_of(storage: BaseStorage) -> tuple[type[Exception], ...]:
    if isinstance(storage, RedisStorage):
        import redis

        return (redis.exceptions.RedisError,)
    return (sqlite3.Error,)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else bytes(value).decode()
