"""Follow a job while it changes."""

import time
from collections.abc import Callable, Iterator

from segdex_core.wire.jobs import ENDED, Job

LOOK_EVERY_S = 0.5


def looks_at(
    look: Callable[[], Job | None], *, rest: Callable[[float], None] = time.sleep
) -> Iterator[Job | None]:
    """Poll a job until it ends or is no longer kept; yield the job if it has changed, otherwise None.

    Args:
        look: Returns the current state of the job, or None if it is no longer kept.
        rest: Sleeps for a number of seconds.
    """
    last: Job | None = None
    while (job := look()) is not None:
        yield None if job == last else job
        last = job
        if job.status in ENDED:
            return
        rest(LOOK_EVERY_S)
