"""Waiting for what another thread or process does, however busy the machine is."""

import time
from collections.abc import Callable

_LONGEST_S = 300.0
"""Never reached where all is well: it turns a hang into a failure that says what was waited for."""


def wait_until(condition: Callable[[], bool], *, what: str) -> None:
    """Return once a condition holds.

    Raises:
        AssertionError: If it does not hold after minutes.
    """
    until_s = time.monotonic() + _LONGEST_S
    while not condition():
        if time.monotonic() > until_s:
            raise AssertionError(f"still not so after {_LONGEST_S:.0f} s: {what}")
        time.sleep(0.01)
