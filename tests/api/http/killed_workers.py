"""Kill 50 workers of a queue at random moments, then let one live; print what became of the jobs.

python -m tests.api.http.killed_workers FOLDER
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from uuid import uuid4

from segdex.jobs.queue import MAX_ATTEMPTS, Jobs
from segdex.jobs.storages import sqlite_storage
from segdex.jobs.worker import JobWorker, Progress
from segdex_core.wire.images import IngestedFile, Outcome
from segdex_core.wire.jobs import ENDED, Job

KILLS, STALE_S, FILES, FILE_S = 50, 0.4, 5, 0.02


def main(folder: Path) -> None:
    """Run the workers; each is a process of its own."""
    chance = random.Random(17)
    ends: dict[str, set[str]] = {}
    added: list[str] = []
    for _ in range(KILLS):
        jobs = opened(folder)
        added += [jobs.add([f"/{uuid4()}"]).id for _ in range(2)]
        if chance.random() < 0.2:
            jobs.stop(chance.choice(added))
        note(jobs, ends)
        jobs.close()
        worker = os.fork()
        if worker == 0:
            work(folder)
        time.sleep(chance.uniform(0.02, 1.0))
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    last = os.fork()
    if last == 0:
        work(folder)
    jobs = opened(folder)
    while not all(job.status in ENDED for job in note(jobs, ends)):
        time.sleep(0.2)
    os.kill(last, signal.SIGKILL)
    os.waitpid(last, 0)
    runs = (folder / "runs").read_text().split()
    lost = [job_id for job_id in added if len(ends.get(job_id, ())) != 1 or runs.count(job_id) > MAX_ATTEMPTS]
    sys.stdout.write(json.dumps({"kills": KILLS, "jobs": len(added), "lost": lost}))


def opened(folder: Path) -> Jobs:
    """Return the queue."""
    return Jobs(sqlite_storage(folder / "jobs.sqlite", index_key="killed"))


def note(jobs: Jobs, ends: dict[str, set[str]]) -> list[Job]:
    """Note how jobs have ended."""
    found = jobs.all()
    for job in found:
        if job.status in ENDED:
            ends.setdefault(job.id, set()).add(job.status)
    return found


def work(folder: Path) -> None:
    """Carry out jobs until the process is killed."""

    def run(job: Job, progress: Progress) -> None:
        with (folder / "runs").open("a") as runs:
            runs.write(f"{job.id}\n")
        progress.found(FILES)
        for number in range(FILES):
            time.sleep(FILE_S)
            progress.on_file(
                IngestedFile(
                    uri=f"file:///{number}.png",
                    path=f"/{number}.png",
                    outcome=Outcome.ADDED,
                    detail="",
                    image_id=uuid4(),
                    segments=1,
                )
            )

    JobWorker(opened(folder), run, stale_s=STALE_S).start()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
