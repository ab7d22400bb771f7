"""The queue of jobs: one at a time, stopped where it is safe, and gone on with after a restart."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import Tried
from tests.fakes.parts import parts
from tests.queues import KEY, Clock
from tests.waiting import wait_until

from segdex.jobs.leases import Leases
from segdex.jobs.queue import MAX_ATTEMPTS, Jobs, JobsFullError, LeaseLostError
from segdex.jobs.runner import job_runner
from segdex.jobs.storages import JobsUnavailableError, QueueStorage, redis_storage
from segdex.jobs.worker import SAY_EVERY_S, JobWorker, Progress
from segdex.wiring import build_settings, open_jobs, open_library
from segdex_backends.index.memory import MemoryIndex
from segdex_core.errors import IndexUnavailableError, UsageError
from segdex_core.patience import patience
from segdex_core.records import ImageRecord
from segdex_core.wire.images import IngestedFile, Outcome
from segdex_core.wire.jobs import ENDED, Job

STALE_S = 0.5


def file(number: int) -> IngestedFile:
    return IngestedFile(
        uri=f"file:///{number}.png",
        path=f"/{number}.png",
        outcome=Outcome.ADDED,
        detail="",
        image_id=uuid4(),
        segments=3,
    )


class Runner:
    """Carries jobs out, file by file; waits before each file until it may go on."""

    def __init__(self, files: int = 3) -> None:
        self.files = files
        self.may_go = threading.Semaphore(0)
        self.begun = threading.Event()
        self.done: list[str] = []

    def __call__(self, job: Job, progress: Progress) -> None:
        progress.found(self.files)
        self.begun.set()
        for number in range(self.files):
            self.may_go.acquire()
            progress.on_file(file(number))
        self.done.append(job.id)

    def go(self, files: int) -> None:
        for _ in range(files):
            self.may_go.release()


Open = Callable[..., tuple[Jobs, JobWorker]]


@pytest.fixture(name="open_jobs")
def _open_jobs(storage: Callable[[], QueueStorage], clock: Clock) -> Iterator[Open]:
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


@pytest.mark.promise("Jobs", "A job names the pictures that failed, however many other files it meets.")
def test_a_job_counts_what_is_no_picture_and_names_the_broken_one(open_jobs: Open, tried: Tried) -> None:
    def found(name: str, outcome: Outcome, kind: str | None) -> IngestedFile:
        return file(0).model_copy(update={"uri": f"file:///{name}", "outcome": outcome, "kind": kind})

    def run(job: Job, progress: Progress) -> None:
        progress.found(80)
        for number in range(25):
            progress.on_file(found(f"{number}.jpg", Outcome.UNREADABLE, "jpg"))  # no pictures, by their bytes
        progress.on_file(found("broken.jpg", Outcome.UNREADABLE, None))
        for number in range(54):
            kind = ("json", "json", "xmp")[number % 3]
            progress.on_file(found(f"{number}.{kind}", Outcome.NOT_AN_IMAGE, kind))

    jobs, _ = open_jobs(run)

    done = ended(jobs, jobs.add(["/pictures"]).id)

    assert done.counts == {"unreadable": 26, "not_an_image": 54}
    assert done.kinds == {"json": 36, "xmp": 18}
    assert len(done.failures) == 20
    assert done.failures[0].uri == "file:///broken.jpg"
    jobs.erase(lambda uri: uri == "file:///broken.jpg")
    erased = jobs.get(done.id)
    assert erased is not None
    assert "file:///broken.jpg" not in {one.uri for one in erased.failures}
    tried(54, "files beside pictures in a job")


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
    assert runner.begun.wait(60)  # else it would stop before its first file

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
    open_jobs: Open, storage: Callable[[], QueueStorage], clock: Clock
) -> None:
    runner = Runner()
    killed = Jobs(storage())
    job = killed.add(["/1"], tags=["t"])
    taken = killed.take("killed")
    assert taken is not None
    killed.save(taken.model_copy(update={"done": 2}))  # as a killed process leaves it
    killed.close()

    jobs, _ = open_jobs(runner)
    runner.go(6)

    done = ended(jobs, job.id, passing=clock)
    assert (done.status, done.done, done.tags, done.attempt) == ("done", 3, ["t"], 1)


def test_a_worker_that_lives_keeps_its_job_however_long_a_file_takes(
    open_jobs: Open, storage: Callable[[], QueueStorage], clock: Clock
) -> None:
    runner = Runner(files=1)
    jobs, _ = open_jobs(runner)
    open_jobs(runner)  # a second worker looks for lost jobs
    job = jobs.add(["/1"])
    until(jobs, job.id, lambda job: job.total == 1)
    watched = storage()

    def renewals() -> bytes:
        return bytes(watched.peek_data(f"job:{job.id}"))

    for _ in range(8):
        before = renewals()
        wait_until(lambda before=before: renewals() != before, what="another renewal")  # type: ignore[misc]
        clock.go(STALE_S / 2)
    runner.go(1)

    assert ended(jobs, job.id).attempt == 0
    assert runner.done == [job.id]
    watched.close()


def test_a_machine_that_was_suspended_loses_no_job(storage: Callable[[], QueueStorage], clock: Clock) -> None:
    jobs, leases = Jobs(storage()), Leases(stale_s=15, now_s=clock)
    jobs.add(["/1"])
    taken = jobs.take("worker")
    assert taken is not None

    for _ in range(3):
        assert jobs.look_after(leases) == []
        clock.go(3_600)  # all of it was suspended, or its clock was set: the worker could not renew either
    jobs.renew(taken)
    assert jobs.look_after(leases) == []

    assert jobs.get(taken.id) == taken


class AwayStorage:
    """A storage that refuses some writes of a running job, as a full disk or a server that restarts does."""

    def __init__(self, kept: QueueStorage) -> None:
        self._kept, self.errors = kept, kept.errors
        self.refusals = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)

    def swap_data(self, key: str, old: bytes, new: bytes) -> bool:
        if self.refusals > 0:
            self.refusals -= 1
            raise self.errors[0]("database or disk is full")
        return self._kept.swap_data(key, old, new)


def test_a_queue_that_was_away_for_a_moment_fails_no_job(
    storage: Callable[[], QueueStorage], clock: Clock
) -> None:
    kept = AwayStorage(storage())
    jobs = Jobs(kept)

    def run(job: Job, progress: Progress) -> None:
        kept.refusals = 2  # of how far it is, and of how it ended
        progress.found(1)
        progress.on_file(file(0))

    worker = JobWorker(jobs, run, stale_s=STALE_S, now_s=clock)
    job = jobs.add(["/1"])
    worker.start()

    done = ended(Jobs(storage()), job.id)
    worker.close()
    jobs.close()
    assert (done.status, done.attempt, done.done, kept.refusals) == ("done", 0, 1, 0)


def test_the_log_of_a_worker_says_each_minute_how_far_a_job_is(
    open_jobs: Open, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "segdex")
    runner = Runner(files=2)
    jobs, _ = open_jobs(runner)
    job = jobs.add(["/1"])
    runner.go(1)
    wait_until(lambda: (found := jobs.get(job.id)) is not None and found.done == 1, what="a file is done")

    clock.go(SAY_EVERY_S)
    wait_until(lambda: "1 of 2 files" in caplog.text, what="the log says it")
    runner.go(1)

    assert ended(jobs, job.id).status == "done"
    assert caplog.text.count("1 of 2 files, ") == 1


def test_the_rate_of_a_job_is_that_of_its_segmented_pictures() -> None:
    progress = Progress(Job(id="1", paths=["/"], created_s=0, started_s=1), lambda _: None, lambda: False)
    progress.found(1_001)
    progress.planned([file(number).uri for number in range(2)])
    for number in range(999):
        progress.on_file(file(2 + number).model_copy(update={"outcome": "unchanged"}))
    before = progress.job
    progress.on_file(file(0))

    assert (before.done, before.files_per_s, before.left_s) == (999, None, None)
    assert progress.job.files_per_s is not None
    assert progress.job.left_s == pytest.approx(1 / progress.job.files_per_s, abs=0.1)


def test_each_job_is_carried_out_by_one_of_many_workers(
    open_jobs: Open, storage: Callable[[], QueueStorage]
) -> None:
    runner = Runner(files=1)
    tell = storage()
    opened = [open_jobs(runner) for _ in range(4)]
    runner.go(20)

    ids = [opened[n % 4][0].add([f"/{n}"]).id for n in range(20)]
    for job_id in ids:
        tell.enqueue(job_id.encode())  # said twice
        ended(opened[0][0], job_id)

    assert sorted(runner.done) == sorted(ids)


def test_a_job_that_takes_its_workers_down_is_begun_anew_once_and_then_fails(
    storage: Callable[[], QueueStorage], clock: Clock
) -> None:
    jobs, leases = Jobs(storage()), Leases(stale_s=STALE_S, now_s=clock)
    job = jobs.add(["/1"])
    runs = 0
    while (found := jobs.get(job.id)) is not None and found.status not in ENDED:
        runs += jobs.take(f"killed {runs}") is not None
        jobs.look_after(leases)
        clock.go(STALE_S / 4)

    assert (runs, found is not None and found.status) == (MAX_ATTEMPTS, "failed")
    assert found is not None
    assert f"ended {MAX_ATTEMPTS} times" in found.detail
    assert found.worker == f"killed {MAX_ATTEMPTS - 1}"


def test_a_shutdown_counts_as_no_crash(storage: Callable[[], QueueStorage]) -> None:
    jobs = Jobs(storage())
    job = jobs.add(["/1"])
    for n in range(2 * MAX_ATTEMPTS):
        taken = jobs.take(f"worker {n}")
        assert taken is not None
        jobs.release(taken)

    assert jobs.get(job.id) == job


def test_old_jobs_are_forgotten_with_all_that_belongs_to_them(storage: Callable[[], QueueStorage]) -> None:
    kept = storage()
    jobs = Jobs(kept, kept=2)
    for n in range(4):
        jobs.stop(jobs.add([f"/{n}"]).id)

    assert [job.paths for job in jobs.all()] == [["/3"], ["/2"]]
    assert len(kept.result_items()) == 4  # the jobs, and what finds the one for the same paths


def test_a_queue_has_room_for_so_many_jobs_and_says_when_it_is_full(
    storage: Callable[[], QueueStorage],
) -> None:
    jobs = Jobs(storage(), max_waiting=3)
    ids = [jobs.add([f"/{n}"]).id for n in range(3)]

    with pytest.raises(JobsFullError, match=r"3 jobs wait already.*SEGDEX_MAX_JOBS"):
        jobs.add(["/3"])
    assert jobs.add(["/1"]).id == ids[1]  # which waits
    jobs.stop(ids[0])

    assert jobs.add(["/3"]).status == "waiting"


def test_the_same_asked_for_again_is_one_job(storage: Callable[[], QueueStorage]) -> None:
    jobs = Jobs(storage())
    job = jobs.add(["/1"], tags=["a"])

    assert jobs.add(["/1"], tags=["a"]) == job
    assert jobs.add(["/1"], tags=["b"]).id != job.id
    taken = jobs.take("worker")
    assert taken is not None
    assert taken.id == job.id
    later = jobs.add(["/1"], tags=["a"])  # it has listed its files: a new one may have been added
    assert later.id != job.id
    jobs.save(taken.model_copy(update={"status": "done"}))
    assert jobs.add(["/1"], tags=["a"]) == later


def test_many_who_ask_for_the_same_at_once_get_one_job(storage: Callable[[], QueueStorage]) -> None:
    opened = [Jobs(storage()) for _ in range(4)]
    with ThreadPoolExecutor(len(opened)) as senders:
        found = list(senders.map(lambda jobs: jobs.add(["/1"]).id, opened))

    assert len(set(found)) == 1
    assert [job.id for job in opened[0].all()] == found[:1]
    for jobs in opened:
        jobs.close()


def test_a_job_that_waits_can_be_stopped_without_a_worker_and_without_its_message(
    storage: Callable[[], QueueStorage],
) -> None:
    kept = storage()
    jobs = Jobs(kept)
    job = jobs.add(["/1"])
    assert kept.dequeue() is not None  # by a worker that died then

    stopped = jobs.stop(job.id)

    assert stopped is not None
    assert stopped.status == "stopped"
    assert jobs.take("worker") is None


def test_a_running_job_of_a_dead_worker_can_be_stopped(
    storage: Callable[[], QueueStorage], clock: Clock
) -> None:
    jobs, leases = Jobs(storage()), Leases(stale_s=STALE_S, now_s=clock)
    job = jobs.add(["/1"])
    jobs.take("dead")

    jobs.stop(job.id)
    for _ in range(10):
        jobs.look_after(leases)  # as a service does, whoever carries jobs out
        clock.go(STALE_S / 4)

    found = jobs.get(job.id)
    assert found is not None
    assert (found.status, found.attempt) == ("stopped", 0)


def test_a_worker_that_was_silent_for_too_long_writes_its_job_no_more(
    storage: Callable[[], QueueStorage], clock: Clock
) -> None:
    jobs, leases = Jobs(storage()), Leases(stale_s=STALE_S, now_s=clock)
    job = jobs.add(["/1"])
    slow = jobs.take("slow")
    assert slow is not None
    for _ in range(10):
        jobs.look_after(leases)
        clock.go(STALE_S / 4)
    fast = jobs.take("fast")
    assert fast is not None

    for write in (jobs.save, jobs.renew, jobs.release):
        with pytest.raises(LeaseLostError):
            write(slow)
    jobs.save(fast.model_copy(update={"status": "done"}))
    with pytest.raises(LeaseLostError):
        jobs.save(slow.model_copy(update={"status": "failed"}))

    found = jobs.get(job.id)
    assert found is not None
    assert (found.status, found.worker) == ("done", "fast")


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

    assert theirs.take("worker") is None
    assert theirs.waiting == 0
    assert theirs.all() == []
    assert theirs.get(job.id) is None
    assert theirs.stop(job.id) is None
    taken = opened("edge:/one").take("worker")
    assert taken is not None
    assert taken.id == job.id


def test_a_queue_that_is_away_says_so(redis_url: str) -> None:
    nobody = "redis://127.0.0.1:1/0"
    with pytest.raises(JobsUnavailableError, match="does not answer"):
        redis_storage(nobody, index_key=KEY)
    with pytest.raises(UsageError, match="must be redis://"):
        redis_storage("http://secret@host", index_key=KEY)
    storage: Any = redis_storage(redis_url, index_key=KEY)
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


def test_a_job_says_what_it_waits_for_and_goes_on_or_stops(tmp_path: Path, clock: Clock) -> None:
    waits, goes_on = threading.Event(), threading.Event()

    class Away(MemoryIndex):
        """A server that is away for a while."""

        def scroll_images(self) -> Iterator[ImageRecord]:
            given = patience()
            assert given is not None, "a job waits"
            given.on_wait("waiting for the server")
            waits.set()
            assert goes_on.wait(60)
            given.on_wait("")
            return super().scroll_images()

    made = replace(parts(tmp_path / "set"), open_index=lambda *_, **__: Away())
    folder = tmp_path / "pictures"
    folder.mkdir()
    settings = build_settings(job_roots=(folder,), jobs_file=tmp_path / "jobs.sqlite", cache_dir=tmp_path)
    with open_library(settings, made) as library:
        worker = JobWorker(library.queue, job_runner(library), now_s=clock)
        worker.start()
        job = library.add_job([folder])
        assert waits.wait(60)
        assert library.job(job.id).detail == "waiting for the server"
        library.stop_job(job.id)
        goes_on.set()
        assert ended(library.queue, job.id).status == "stopped"
        worker.close()
