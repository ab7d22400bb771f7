"""Number of images analysed at a time, and number of torch threads for each."""

import os
from dataclasses import dataclass
from typing import Self

MAX_WORKERS = 4
"""Maximum number of workers. Each holds the features and candidate masks of an image, several hundred MiB."""


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """A division of the cores between workers and torch.

    Attributes:
        analysis_threads: Number of threads that analyse images.
        torch_threads: Number of threads that torch uses for one operation on the CPU; None keeps torch's
            setting.
    """

    analysis_threads: int
    torch_threads: int | None

    def apply(self) -> Self:
        """Set torch's thread count, which applies to threads started from now on, and return the plan."""
        if self.torch_threads is not None:
            import torch

            torch.set_num_threads(self.torch_threads)
        return self


def analysis_thread_count(asked: int | None, *, cores: int | None = None) -> int:
    """Return the number of threads that analyse images: ``asked``, or one per core up to ``MAX_WORKERS``."""
    return asked or min(_cores() if cores is None else cores, MAX_WORKERS)


def plan_threads(asked: int | None, *, device: str, cores: int | None = None) -> ThreadPlan:
    """Return a plan for the cores that this process may use.

    One image per core is as efficient as one image on all cores. Mask selection and run-length encoding are
    single-threaded and run while other threads run the models.

    Args:
        asked: Number of workers; None for one per core, at most ``MAX_WORKERS``.
        device: Device of the models, ``cpu`` or ``cuda``. The models share the cores only on a CPU.
        cores: Number of cores to divide; None for all cores that this process may use.
    """
    cores = _cores() if cores is None else cores
    analysis_threads = analysis_thread_count(asked, cores=cores)
    return ThreadPlan(analysis_threads, max(cores // analysis_threads, 1) if device == "cpu" else None)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
