"""Whatever dies at whatever moment: each job ends in exactly one way."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.conftest import Tried
from tests.queues import Clock, Killed, Mortal, Storages

from segdex.jobs.leases import Leases
from segdex.jobs.queue import MAX_ATTEMPTS, Jobs
from segdex.jobs.storages import QueueStorage
from segdex.wiring import build_settings, open_jobs
from segdex_core.wire.jobs import ENDED, Job

STALE_S = 15.0


class Life:
    """All that a service and its worker do with a queue, and what they know of it when they are killed."""

    def __init__(self, jobs: Jobs, clock: Clock) -> None:
        self.jobs, self._clock = jobs, clock
        self.added: list[str] = []
        self.runs: Counter[str] = Counter()
        self.ends: dict[str, str] = {}

    def lead(self) -> None:
        """Add, join, take, run, save, renew, stop, finish, fail, shut down and take back."""
        self._add("/first")
        self._add("/first")
        self._end(self._take("worker"), "done")
        waits, runs = self._add("/waits"), self._add("/runs")
        self.jobs.stop(waits)
        self._stopped(waits)
        self.jobs.stop(self._take("worker").id)
        assert self.jobs.is_stopping(runs)
        self._end(self.jobs.get(runs), "stopped")
        self._add("/again")
        again = self._take("worker")
        self.jobs.release(again)
        self.runs[again.id] -= 1  # a shutdown is no crash
        self._end(self._take("next"), "failed")
        self._add("/lost")
        self._take("lost")
        self.look_after()
        self._end(self._take("heir"), "done")
        self._add("/left")
        self.jobs.erase(lambda path: path == "/first")

    def look_after(self) -> None:
        """Look at the queue until what nobody renews is taken back."""
        leases = Leases(stale_s=STALE_S, now_s=self._clock)
        for _ in range(5):
            self.jobs.look_after(leases)
            self._clock.go(4)

    def _add(self, path: str) -> str:
        job = self.jobs.add([path])
        self.added.append(job.id)
        return job.id

    def _take(self, worker: str) -> Job:
        job = self.jobs.take(worker)
        assert job is not None
        self.runs[job.id] += 1
        self.jobs.renew(job)
        self.jobs.save(job.model_copy(update={"done": 1}))
        return job

    def _end(self, job: Job | None, status: str) -> None:
        assert job is not None
        self.jobs.save(job.model_copy(update={"status": status}))
        self.ends[job.id] = status

    def _stopped(self, job_id: str) -> None:
        job = self.jobs.get(job_id)
        assert job is not None
        self.ends[job.id] = job.status


def survive(storage: QueueStorage, life: Life, clock: Clock) -> dict[str, str]:
    """Go on where a process was killed, and return how each job ended."""
    jobs = Jobs(storage)
    ended = {job.id: job.status for job in jobs.all() if job.status in ENDED}
    after = Life(jobs, clock)
    for _ in range(MAX_ATTEMPTS):
        after.look_after()
        while (job := jobs.take("survivor")) is not None:
            life.runs[job.id] += 1
            jobs.save(job.model_copy(update={"status": "done"}))
    found = {job.id: job.status for job in jobs.all()}
    assert ended.items() <= found.items(), "what had ended has not changed"
    return found


@pytest.mark.promise(
    "Jobs", "Whatever dies at whatever step, a job ends in exactly one way, and is begun twice at most."
)
def test_a_kill_at_every_operation_leaves_every_job_with_one_end(
    quick_storage: Storages, clock: Clock, tried: Tried
) -> None:
    whole = Mortal(quick_storage("whole"), at=None, after=False)
    life = Life(Jobs(whole), clock)
    life.lead()
    assert set(survive(quick_storage("whole"), life, clock).values()) <= ENDED

    kills, lost = 0, 0
    for at, after in ((at, after) for at in range(whole.operations) for after in (False, True)):
        key = f"{at}{after}"
        mortal = Mortal(quick_storage(key), at=at, after=after)
        life = Life(Jobs(mortal), clock)
        with pytest.raises(Killed):
            life.lead()
        mortal.close()
        left = quick_storage(key)
        found = survive(left, life, clock)
        left.close()
        kills += 1
        forgotten = set(life.added[:1])
        lost += sum(status not in ENDED for status in found.values())
        lost += len(set(life.added) - found.keys() - forgotten)
        lost += sum(found.get(job_id, end) != end for job_id, end in life.ends.items())
        lost += sum(runs > MAX_ATTEMPTS for job_id, runs in life.runs.items() if job_id in found)

    tried(kills, "kills, before and after each operation of the queue", lost=lost)
    assert lost == 0
    assert kills > 80


@pytest.mark.promise("Jobs", "A job of one index is never carried out into another one.")
def test_after_a_crash_jobs_go_on_in_their_own_index_only(
    tmp_path: Path, clock: Clock, tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    spellings = ("edge:a", f"edge:{tmp_path}/a/", "edge:link", "edge:./b/../a")

    def opened(index: str) -> Jobs:
        return open_jobs(build_settings(index=index, jobs_file=tmp_path / "jobs.sqlite"))

    into: dict[str, set[str]] = {}
    for number, spelling in enumerate(spellings):
        crashed = opened(spelling)  # of a service that takes one of its two jobs, and dies
        mine = {crashed.add([f"/{number}/{n}"]).id for n in range(2)}
        assert crashed.take("crashed") is not None
        crashed.close()
        for place in ("edge:b", spellings[number - 1]):
            jobs = opened(place)
            Life(jobs, clock).look_after()
            while (job := jobs.take("next")) is not None:
                into.setdefault(place, set()).add(job.id)
                jobs.save(job.model_copy(update={"status": "done"}))
            jobs.close()
        assert into[spellings[number - 1]] >= mine

    assert "edge:b" not in into
    tried(2 * len(spellings), "jobs in a file that two indexes share, with a crash", lost=0)


@pytest.fixture(name="child")
def _child(tmp_path: Path) -> list[str]:
    return [sys.executable, "-m", "tests.api.http.killed_workers", str(tmp_path)]


@pytest.mark.slow
@pytest.mark.promise("Jobs", "Workers that are killed at random moments leave every job with one end.")
def test_fifty_killed_workers_leave_every_job_with_one_end(child: list[str], tried: Tried) -> None:
    done = subprocess.run(child, capture_output=True, text=True, check=True, timeout=300, env=os.environ)
    found = json.loads(done.stdout)

    tried(found["kills"], "killed workers", lost=len(found["lost"]))
    assert found["kills"] == 50
    assert found["lost"] == []
    assert found["jobs"] >= 50
