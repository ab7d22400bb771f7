"""The queue of jobs: one at a time, stopped where it is safe, and gone on with after a restart."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segdex.api.serving.jobs import ENDED, Job, Jobs, Progress
from segdex.core.errors import IndexUnavailableError
from segdex.ingest.report import FileOutcome, Outcome


def file(number: int) -> FileOutcome:
    return FileOutcome(uri=f"file:///{number}.png", outcome=Outcome.ADDED, segments=3)


class Runner:
    """Carries jobs out, file by file; waits before each file until it may go on."""

    def __init__(self, files: int = 3) -> None:
        self.files = files
        self.may_go = threading.Semaphore(0)
        self.done: list[str] = []

    def __call__(self, job: Job, progress: Progress) -> None:
        progress.found(self.files)
        for number in range(self.files):
            assert self.may_go.acquire(timeout=20)
            progress.on_file(file(number))
        self.done.append(job.id)

    def go(self, files: int) -> None:
        for _ in range(files):
            self.may_go.release()


Open = Callable[..., Jobs]


@pytest.fixture(name="open_jobs")
def _open_jobs(tmp_path: Path) -> Iterator[Open]:
    opened: list[Jobs] = []

    def open_jobs(run: Callable[[Job, Progress], None]) -> Jobs:
        jobs = Jobs(tmp_path / "deep" / "jobs.sqlite", run)
        jobs.start()
        opened.append(jobs)
        return jobs

    yield open_jobs
    for jobs in opened:
        jobs.close()


def until(jobs: Jobs, job_id: str, holds: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        job = jobs.get(job_id)
        if job is not None and holds(job):
            return job
        time.sleep(0.01)
    raise AssertionError(f"job {job_id} is still {jobs.get(job_id)}")


def ended(jobs: Jobs, job_id: str) -> Job:
    return until(jobs, job_id, lambda job: job.status in ENDED)


def test_a_job_says_how_far_it_is(open_jobs: Open) -> None:
    runner = Runner()
    jobs = open_jobs(runner)

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
    jobs = open_jobs(runner)

    ids = [jobs.add([f"/{n}"]).id for n in range(3)]
    runner.go(3)
    for job_id in ids:
        ended(jobs, job_id)

    assert runner.done == ids
    assert [job.id for job in jobs.all()] == ids[::-1]


def test_a_running_job_stops_after_its_file_and_a_waiting_one_at_once(open_jobs: Open) -> None:
    runner = Runner()
    jobs = open_jobs(runner)
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
    jobs = open_jobs(runner)
    first, second = jobs.add(["/1"]), jobs.add(["/2"])
    until(jobs, first.id, lambda job: job.total == 3)
    closing = threading.Thread(target=jobs.close)
    closing.start()
    time.sleep(0.1)
    runner.go(1)
    closing.join(20)

    again = open_jobs(runner)
    runner.go(6)

    assert [ended(again, job.id).status for job in (first, second)] == ["done", "done"]
    assert runner.done == [first.id, second.id]


def test_a_service_that_was_killed_goes_on_with_the_job(open_jobs: Open, tmp_path: Path) -> None:
    runner = Runner()
    killed = Jobs(tmp_path / "deep" / "jobs.sqlite", runner)  # never started: nobody took the job
    job = killed.add(["/1"], tags=["t"])
    killed._save(job.model_copy(update={"status": "running", "done": 2}))  # as a killed process leaves it
    killed.close()

    jobs = open_jobs(runner)
    runner.go(3)

    done = ended(jobs, job.id)
    assert (done.status, done.done, done.tags) == ("done", 3, ["t"])
    assert runner.done == [job.id]


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

    jobs = open_jobs(run)
    job = ended(jobs, jobs.add(["/1"]).id)
    failing = False

    assert job.status == "failed"
    assert detail in job.detail
    assert ended(jobs, jobs.add(["/2"]).id).status == "done"
