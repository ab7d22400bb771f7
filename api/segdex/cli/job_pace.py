"""The pace of a job, as a service says it."""

from segdex.pace import WORK, Pace
from segdex_core.wire.jobs import Job


class JobPace(Pace):
    """What a service says of the pace of a job."""

    _job: Job | None = None

    def follow(self, job: Job) -> None:
        """Take the figures of a job."""
        self._job = job
        self.total, self.done = job.total, job.done
        self.worked = sum(job.counts.get(outcome, 0) for outcome in WORK)

    def start(self, total: int | None) -> None:
        """Do nothing: the job has started long ago."""

    @property
    def per_s(self) -> float | None:
        """See ``Pace``."""
        return None if self._job is None else self._job.files_per_s

    @property
    def left_s(self) -> float | None:
        """See ``Pace``."""
        if self._job is None or self._job.status != "running":
            return 0.0
        return self._job.left_s
