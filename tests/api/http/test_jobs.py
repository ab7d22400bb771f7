"""The queue of jobs: one at a time, stopped where it is safe, and gone on with after a restart."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from fakeredis import TcpFakeServer
from huey.storage import BaseStorage
from tests.waiting import wait_until

from segdex.jobs.queue import (
    Jobs,
    JobsUnavailableError,
    redis_storage,
    sqlite_storage,
)
from segdex.jobs.worker import MAX_ATTEMPTS, JobWorker, Progress
from segdex.wiring import build_settings, open_jobs
from segdex_core.errors import IndexUnavailableError, UsageError
from segdex_core.wire.images import IngestedFile, Outcome
from segdex_core.wire.jobs import ENDED, Job

STALE_S = 0.5


@pytest.fixture(name="redis_url", scope="module")
def _redis_url() -> Iterator[str]:
    """A Redis server where one is installed, else fakeredis, which answers the same protocol."""
    program = shutil.which("redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if program is None:
        server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{port}/0"
        server.shutdown()
        server.server_close()
    else:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        wait_until(lambda: _listens(port), what="redis-server listens")
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def file(number: int) -> IngestedFile:
    return IngestedFile(
        uri=f"file:///{number}.png",
        path=f"/{number}.png",
        outcome=Outcome.ADDED,
        detail="",
        image_id=uuid4(),
        segments=3,
    )


KEY = "0123456789abcdef"


class Runner:
    """Carries jobs out, file by file; waits before each file until it may go on."""

    def __init__(self, files: int = 3) -> None:
        self.files = files
        self.may_go = threading.Semaphore(0)
        self.done: list[str] = []

    def __call__(self, job: Job, progress: Progress) -> None:
        progress.found(self.files)
        for number in range(self.files):
            self.may_go.acquire()
            progress.on_file(file(number))
        self.done.append(job.id)

    def go(self, files: int) -> None:
        for _ in range(files):
            self.may_go.release()


class Clock:
    """Stands still until a test lets time pass: no beat is late because the machine is busy."""

    def __init__(self) -> None:
        self._now_s = 1000.0

    def __call__(self) -> float:
        return self._now_s

    def go(self, seconds: float) -> None:
        self._now_s += seconds


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


Open = Callable[..., tuple[Jobs, JobWorker]]


@pytest.fixture(name="storage", params=["sqlite", "redis"])
def _storage(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str
) -> Iterator[Callable[[], BaseStorage]]:
    if request.param == "sqlite":
        yield lambda: sqlite_storage(tmp_path / "deep" / "jobs.sqlite", index_key=KEY)
    else:
        yield lambda: redis_storage(redis_url, index_key=KEY)
        redis_storage(redis_url, index_key=KEY).flush_all()


@pytest.fixture(name="open_jobs")
def _open_jobs(storage: Callable[[], BaseStorage], clock: Clock) -> Iterator[Open]:
    opened: list[tuple[Jobs, JobWorker]] = []

    def open_jobs(run: Callable[[Job, Progress], None]) -> tuple[Jobs, JobWorker]:
        jobs = Jobs(storage())
        worker = JobWorker(jobs, run, stale_s=STALE_S, now_s=clock)
        worker.start()
        opened.append((jobs, worker))
        return jobs, worker

    yield open_jobs
    for jobs, worker in opened:
        worker.close()
        jobs.close()


def _differs(jobs: Jobs, job_id: str, beat: bytes) -> bool:
    return jobs.last_beat(job_id) != beat


def until(jobs: Jobs, job_id: str, holds: Callable[[Job], bool], *, passing: "Clock | None" = None) -> Job:
    """Return a job once something holds of it; the clock goes on meanwhile where one is named."""
    found: list[Job] = []

    def looks() -> bool:
        if passing is not None:
            passing.go(STALE_S)
        job = jobs.get(job_id)
        found[:] = [] if job is None else [job]
        return job is not None and holds(job)

    wait_until(looks, what=f"job {job_id}")
    return found[0]


def ended(jobs: Jobs, job_id: str, *, passing: "Clock | None" = None) -> Job:
    return until(jobs, job_id, lambda job: job.status in ENDED, passing=passing)


def test_a_job_says_how_far_it_is(open_jobs: Open) -> None:
    runner = Runner()
    jobs, _ = open_jobs(runner)

    job = jobs.add(["/pictures"], tags=["a"])
    assert job.status == "waiting"
    runner.go(1)
    running = until(jobs, job.id, lambda job: job.done == 1)
    runner.go(2)
    done = ended(jobs, job.id)

    assert (running.status, running.total) == ("running", 3)
    assert (done.status, done.done, done.counts, done.segments) == ("done", 3, {"added": 3}, 9)
    assert [one.uri for one in done.last] == [file(n).uri for n in range(3)]
    assert (done.files_per_s or 0) > 0
    assert done.left_s == 0


def test_jobs_run_one_after_the_other_and_are_listed_newest_first(open_jobs: Open) -> None:
    runner = Runner(files=1)
    jobs, _ = open_jobs(runner)

    ids = [jobs.add([f"/{n}"]).id for n in range(3)]
    runner.go(3)
    for job_id in ids:
        ended(jobs, job_id)

    assert runner.done == ids
    assert [job.id for job in jobs.all()] == ids[::-1]


def test_a_running_job_stops_after_its_file_and_a_waiting_one_at_once(open_jobs: Open) -> None:
    runner = Runner()
    jobs, _ = open_jobs(runner)
    first, second = jobs.add(["/1"]), jobs.add(["/2"])
    until(jobs, first.id, lambda job: job.total == 3)

    stopped = jobs.stop(second.id)
    jobs.stop(first.id)
    runner.go(1)

    assert stopped is not None
    assert stopped.status == "stopped"
    assert ended(jobs, first.id).status == "stopped"
    assert ended(jobs, first.id).done == 1
    assert runner.done == []
    assert jobs.stop("nothing") is None
    third = jobs.add(["/3"])
    runner.go(3)
    assert ended(jobs, third.id).status == "done"


def test_what_ran_and_waited_at_the_end_goes_on_after_a_restart(open_jobs: Open) -> None:
    runner = Runner()
    jobs, worker = open_jobs(runner)
    first, second = jobs.add(["/1"]), jobs.add(["/2"])
    until(jobs, first.id, lambda job: job.total == 3)
    worker.stop()
    runner.go(1)
    worker.close()

    again, _ = open_jobs(runner)
    runner.go(6)

    assert [ended(again, job.id).status for job in (first, second)] == ["done", "done"]
    assert sorted(runner.done) == sorted([first.id, second.id])


def test_a_job_whose_worker_was_killed_goes_on_with_another(
    open_jobs: Open, storage: Callable[[], BaseStorage], clock: Clock
) -> None:
    runner = Runner()
    killed = Jobs(storage())
    job = killed.add(["/1"], tags=["t"])
    assert killed.take() == job
    killed.save(job.model_copy(update={"status": "running", "done": 2}))  # as a killed process leaves it
    lost = killed.add(["/2"])
    assert killed.take() == lost  # and killed before it said so
    killed.close()

    jobs, _ = open_jobs(runner)
    runner.go(6)

    done = ended(jobs, job.id, passing=clock)
    assert (done.status, done.done, done.tags, done.attempt) == ("done", 3, ["t"], 1)


def test_a_worker_that_lives_keeps_its_job_however_long_a_file_takes(open_jobs: Open, clock: Clock) -> None:
    runner = Runner(files=1)
    jobs, _ = open_jobs(runner)
    open_jobs(runner)  # a second worker looks for lost jobs
    job = jobs.add(["/1"])
    until(jobs, job.id, lambda job: job.total == 1)

    for _ in range(8):
        beat = jobs.last_beat(job.id)
        wait_until(partial(_differs, jobs, job.id, beat), what="another beat")
        clock.go(STALE_S / 2)
    runner.go(1)

    assert ended(jobs, job.id).attempt == 0
    assert runner.done == [job.id]


def test_a_queue_that_was_away_for_a_moment_fails_no_job(open_jobs: Open, clock: Clock) -> None:
    away = iter([True])

    def run(job: Job, progress: Progress) -> None:
        if next(away, False):
            raise JobsUnavailableError("the queue of jobs does not answer")

    jobs, _ = open_jobs(run)

    done = ended(jobs, jobs.add(["/1"]).id, passing=clock)

    assert (done.status, done.attempt) == ("done", 1)


def test_each_job_is_carried_out_by_one_of_many_workers(open_jobs: Open) -> None:
    runner = Runner(files=1)
    opened = [open_jobs(runner) for _ in range(4)]
    runner.go(20)

    ids = [opened[n % 4][0].add([f"/{n}"]).id for n in range(20)]
    for job_id in ids:
        opened[0][0].put(job_id)  # said twice
        ended(opened[0][0], job_id)

    assert sorted(runner.done) == sorted(ids)


def test_a_job_that_always_takes_its_worker_down_fails_in_the_end(
    open_jobs: Open, storage: Callable[[], BaseStorage], clock: Clock
) -> None:
    killed = Jobs(storage())
    job = killed.add(["/1"])
    killed.save(job.model_copy(update={"status": "running", "attempt": MAX_ATTEMPTS - 1}))

    jobs, _ = open_jobs(Runner())
    failed = ended(jobs, job.id, passing=clock)

    assert failed.status == "failed"
    assert str(MAX_ATTEMPTS) in failed.detail


def test_old_jobs_are_forgotten_with_all_that_belongs_to_them(storage: Callable[[], BaseStorage]) -> None:
    kept = storage()
    jobs = Jobs(kept, kept=2)
    for n in range(4):
        job = jobs.add([f"/{n}"])
        jobs.beat(job.id)
        jobs.stop(job.id)

    assert [job.paths for job in jobs.all()] == [["/3"], ["/2"]]
    assert len({str(key).split(":")[1].rstrip("'") for key in kept.result_items()}) == 2


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_the_queues_of_two_indexes_in_one_place_share_nothing(
    tmp_path: Path, redis_url: str, kind: str
) -> None:
    def opened(index: str) -> Jobs:
        if kind == "redis":
            return open_jobs(build_settings(index=index, jobs_redis=redis_url))
        return open_jobs(build_settings(index=index, jobs_file=tmp_path / "jobs.sqlite"))

    ours, theirs = opened("edge:/one"), opened("edge:/two")
    job = ours.add(["/1"])

    assert theirs.take() is None
    assert theirs.waiting == 0
    assert theirs.all() == []
    assert theirs.get(job.id) is None
    assert theirs.stop(job.id) is None
    taken = opened("edge:/one").take()
    assert taken is not None
    assert taken.id == job.id


def test_a_queue_that_is_away_says_so(redis_url: str) -> None:
    nobody = "redis://127.0.0.1:1/0"
    with pytest.raises(JobsUnavailableError, match="does not answer"):
        redis_storage(nobody, index_key=KEY)
    with pytest.raises(UsageError, match="must be redis://"):
        redis_storage("http://secret@host", index_key=KEY)
    storage = redis_storage(redis_url, index_key=KEY)
    jobs = Jobs(storage)
    storage.conn.connection_pool.connection_kwargs["port"] = 1  # as if it went away
    storage.conn.connection_pool.reset()
    with pytest.raises(JobsUnavailableError, match="does not answer"):
        jobs.add(["/1"])


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (IndexUnavailableError("no Qdrant server answers"), "no Qdrant server answers"),
        (ZeroDivisionError(), "bug"),
    ],
)
def test_a_job_that_fails_says_why_and_the_next_one_runs(
    open_jobs: Open, error: Exception, detail: str
) -> None:
    failing = True

    def run(job: Job, progress: Progress) -> None:
        if failing:
            raise error

    jobs, _ = open_jobs(run)
    job = ended(jobs, jobs.add(["/1"]).id)
    failing = False

    assert job.status == "failed"
    assert detail in job.detail
    assert ended(jobs, jobs.add(["/2"]).id).status == "done"
