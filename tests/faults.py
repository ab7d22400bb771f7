"""Faults of the file system at every step: a process that is killed, and a disk that is full."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from tests.queues import Killed

STEPS = ("open", "mkdir", "chmod", "fsync", "rename", "replace")
_CLEANING = ("unlink", "rmdir")


@dataclass
class Steps:
    """How many steps were taken."""

    taken: int = 0


@contextmanager
def failing(error: BaseException | None, *, at: int, after: bool) -> Iterator[Steps]:
    """Let one step of writing files fail in this process, and count the steps.

    Args:
        error: What the step raises; None for no fault.
        at: Number of the step, from 0. After a death none follows.
        after: Whether the step was carried out.
    """
    steps, is_dead = Steps(), False

    def broken(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            nonlocal is_dead
            if is_dead:
                raise Killed
            if name in _CLEANING or (name == "open" and not values[1] & os.O_CREAT):
                return step(*values, **named)
            number, steps.taken = steps.taken, steps.taken + 1
            if error is None or number != at:
                return step(*values, **named)
            if after:
                step(*values, **named)
            is_dead = isinstance(error, Killed)
            raise error

        return call

    with pytest.MonkeyPatch.context() as patched:
        for name in (*STEPS, *_CLEANING):
            patched.setattr(os, name, broken(name, getattr(os, name)))
        yield steps


def killed() -> BaseException:
    """Return the death of a process."""
    return Killed()


def full() -> BaseException:
    """Return what a full disk says."""
    return OSError(errno.ENOSPC, "No space left on device")
