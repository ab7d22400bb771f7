"""How many pictures are analysed at a time, and how many threads torch takes for each."""

import os
from dataclasses import dataclass
from typing import Self

MAX_WORKERS = 4
"""Each worker holds the features and candidate masks of a picture, several hundred MiB."""


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """A share of the cores.

    Attributes:
        analysis_threads: Threads that analyse pictures.
        torch_threads: Threads that torch takes for one operation on the CPU; None leaves them as they are.
    """

    analysis_threads: int
    torch_threads: int | None

    def apply(self) -> Self:
        """Have torch keep to the plan, in threads that are started from now on; return the plan."""
        if self.torch_threads is not None:
            import torch

            torch.set_num_threads(self.torch_threads)
        return self


def analysis_thread_count(asked: int | None, *, cores: int | None = None) -> int:
    """Return how many threads analyse pictures: those asked for, else one on each core up to the limit."""
    return asked or min(_cores() if cores is None else cores, MAX_WORKERS)


def plan_threads(asked: int | None, *, device: str, cores: int | None = None) -> ThreadPlan:
    """Return a plan for the cores that this process may use.

    One picture on each core costs no more than one on all. The selection of masks and their run-length codes
    run in one thread, beside the models of the other pictures.

    Args:
        asked: Workers; None for one on each core, at most ``MAX_WORKERS``.
        device: Where the models run, ``cpu`` or ``cuda``; only on a CPU do they share its cores.
        cores: To share; None for those that this process may use.
    """
    cores = _cores() if cores is None else cores
    analysis_threads = analysis_thread_count(asked, cores=cores)
    return ThreadPlan(analysis_threads, max(cores // analysis_threads, 1) if device == "cpu" else None)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
