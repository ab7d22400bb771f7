"""Follow a job while it changes."""

import time
from collections.abc import Callable, Iterator

from segdex_core.wire.jobs import ENDED, Job

LOOK_EVERY_S = 0.5


def looks_at(
    look: Callable[[], Job | None], *, rest: Callable[[float], None] = time.sleep
) -> Iterator[Job | None]:
    """Look at a job again and again until it ends or is forgotten; yield it where it has changed, else None.

    Args:
        look: Returns the job as it is now, None where it was forgotten.
        rest: Waits so many seconds.
    """
    last: Job | None = None
    while (job := look()) is not None:
        yield None if job == last else job
        last = job
        if job.status in ENDED:
            return
        rest(LOOK_EVERY_S)
