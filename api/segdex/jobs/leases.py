"""Whether the workers of jobs live, as one process sees it."""

import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

STALE_S = 15.0
"""Seconds without a renewal after which a job has lost its worker."""

RENEW_EVERY_S = 2.0
"""Seconds between two renewals of a worker, and between two looks of whoever watches."""


@dataclass(slots=True)
class _Seen:
    mark: Hashable
    looked_s: float
    silent_s: float = 0.0


class Leases:
    """What a process has seen of running jobs.

    A job is lost if its mark stays as it is for some seconds of this process's own clock, so that no clock of
    another machine, and no clock that is set, matters. Time in which this process did not look, because it or
    the whole machine was suspended, counts as one look: the worker was suspended too.

    Args:
        stale_s: Seconds after which a silent worker is gone.
        now_s: Returns the seconds of a clock that is never set.
    """

    def __init__(self, *, stale_s: float = STALE_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self._stale_s, self._now_s = stale_s, now_s
        self._seen: dict[str, _Seen] = {}

    @property
    def look_every_s(self) -> float:
        """Seconds between two looks."""
        return min(RENEW_EVERY_S, self._stale_s / 4)

    def keep(self, job_ids: Iterable[str]) -> None:
        """Forget all jobs but some."""
        kept = set(job_ids)
        self._seen = {job_id: seen for job_id, seen in self._seen.items() if job_id in kept}

    def has_lapsed(self, job_id: str, mark: Hashable) -> bool:
        """Return whether a worker has been silent for too long.

        Args:
            job_id: Job of the worker.
            mark: Value that differs after each renewal.
        """
        now_s = self._now_s()
        seen = self._seen.get(job_id)
        if seen is None or seen.mark != mark:
            self._seen[job_id] = _Seen(mark, now_s)
            return False
        seen.silent_s += min(now_s - seen.looked_s, 2 * self.look_every_s)
        seen.looked_s = now_s
        return seen.silent_s >= self._stale_s
