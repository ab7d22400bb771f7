"""A bounded wait for file systems that may not answer: a share whose server is gone blocks for ever."""

import errno
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

Beat = Callable[[], None]
"""Called by work whenever it gets on."""

WAIT_S = 30.0
"""Seconds without any progress after which a file system counts as silent; a disk that spins up needs 10."""

RETRY_S = 60.0
"""Seconds after which a silent file system is asked again."""

_LOCAL = re.compile(
    "apfs|bcachefs|btrfs|devtmpfs|erofs|exfat|ext[234]|f2fs|hfsplus|iso9660|jfs|ntfs3?|overlay|ramfs|reiserfs"
    "|squashfs|tmpfs|udf|vfat|xfs|zfs"
)
"""Types of file systems that answer or fail, and are not watched; a thread for each call costs 0.1 ms."""

_MOUNTS_FOR_S = 10.0


class Watchdog:
    """Calls the file system, and gives up if it does not answer.

    Args:
        wait_s: Seconds without progress after which a call fails.
        may_hang: Returns a name for the file system of a path if it may not answer, otherwise None.
    """

    def __init__(self, wait_s: float = WAIT_S, may_hang: Callable[[str], str | None] | None = None) -> None:
        self._wait_s = wait_s
        self._may_hang = may_hang or _Mounts().may_hang
        self._silent_until_s: dict[str, float] = {}

    def call(self, work: Callable[[Beat], T], path: str) -> T:
        """Return what ``work`` returns.

        A call that hangs is left behind in a thread, which ends with the process. The other calls to the
        same file system then fail at once, until it is asked again after a minute.

        Args:
            work: Function that calls the file system.
            path: Path that it looks at.

        Raises:
            OSError: ``ETIMEDOUT`` if there is no answer, and whatever ``work`` raises.
        """
        mount = self._may_hang(path)
        if mount is None:
            return work(_nothing)
        if self._silent_until_s.get(mount, 0.0) > time.monotonic():
            raise self._silent(path)
        call = _Call(work)
        if not call.wait(self._wait_s):
            self._silent_until_s[mount] = time.monotonic() + RETRY_S
            raise self._silent(path)
        self._silent_until_s.pop(mount, None)
        return call.result()

    def _silent(self, path: str) -> OSError:
        return OSError(
            errno.ETIMEDOUT, f"the disk or network share does not answer ({self._wait_s:g} s)", path
        )


class _Call(Generic[T]):
    """Work in a thread of its own, which may never end."""

    def __init__(self, work: Callable[[Beat], T]) -> None:
        self._work = work
        self._done = threading.Event()
        self._beats = 0
        self._result: list[T] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="segdex-file", daemon=True).start()

    def _run(self) -> None:
        try:
            self._result.append(self._work(self._beat))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        self._done.set()

    def _beat(self) -> None:
        self._beats += 1

    def wait(self, wait_s: float) -> bool:
        """Return whether the work ended; False if it made no progress for ``wait_s``."""
        seen = -1
        while seen != self._beats:
            seen = self._beats
            if self._done.wait(wait_s):
                return True
        return False

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result[0]


class _Mounts:
    """The file systems that are mounted, read from the system now and then."""

    def __init__(self) -> None:
        self._read_s = -_MOUNTS_FOR_S
        self._types: dict[str, str] = {}

    def may_hang(self, path: str) -> str | None:
        """Return the place where the file system of a path is mounted, unless its type is local."""
        if time.monotonic() - self._read_s >= _MOUNTS_FOR_S:
            self._types, self._read_s = _read_mounts(), time.monotonic()
        place = path
        while place not in self._types:
            above = os.path.dirname(place)
            if above == place:  # no list of mounts, as on macOS
                return os.path.dirname(path)
            place = above
        return None if _LOCAL.fullmatch(self._types[place]) else place


def _read_mounts() -> dict[str, str]:
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split(" ") for line in file]
    except OSError:
        return {}
    return {_unescaped(row[1]): row[2] for row in rows if len(row) > 2}


def _unescaped(place: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place)


def _nothing() -> None:
    """Beat of work that is not watched."""


WATCHDOG = Watchdog()
"""The one of this process: a share that did not answer one caller is not asked by the next."""
