"""The lock of an embedded index: several processes copy from it at a time, or one changes it.

The lock is ``flock`` on the file ``lock``, so it ends with its process however that ends. The holder writes
into the file who it is, so that those who wait can say for whom.
"""

import errno
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from segdex_core.errors import IndexLockedError, IndexStorageError

LOCK = "lock"
"""Name of the lock file in the folder of an index."""

WAIT_S = 10.0
"""Longest wait in seconds for the process that has an index open."""

_POLL_S = 0.05
_SILENT_S = 0.5  # a process that copies from the index has left by then
_COMMAND_CHARS = 80
_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has an index open.

    Attributes:
        pid: Its number on ``host``.
        host: Name of its machine or container.
        command: Its command line, shortened.
        since_s: When it opened the index, in seconds since 1970.
        server: Address of the service that it runs, or None.
    """

    pid: int
    host: str
    command: str
    since_s: float
    server: str | None = None

    @property
    def process(self) -> str:
        """The process in words."""
        since = datetime.fromtimestamp(self.since_s).astimezone().isoformat(" ", "seconds")
        where = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"{self.command}, pid {self.pid}{where}, since {since}"

    def __str__(self) -> str:
        if self.host == socket.gethostname() and not _runs(self.pid):
            return f"{self.process}, which does not run here: perhaps in a container"
        return self.process


class FolderLock:
    """The lock of one index; threads must not share it without a lock of their own.

    Args:
        file: File of the lock. It is created if the folder can be written.
        location: Location of the index, for messages.
        wait_s: Longest wait in seconds.
    """

    def __init__(self, file: Path, location: str, *, wait_s: float = WAIT_S) -> None:
        self._file = file
        self._location = location
        self._wait_s = wait_s
        self._held: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the index for changes."""
        return self._held is not None

    @property
    def descriptor(self) -> int | None:
        """Descriptor of the lock that is held; a process that inherits it holds the lock until it ends."""
        return self._held

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Keep writers away while the block copies files; readers do not wait for each other.

        Raises:
            IndexLockedError: If another process has the index open for changes, and does not end.
        """
        descriptor = self._open(for_changes=False)
        if descriptor is None:  # nobody who could write the folder has made one
            yield
            return
        try:
            self._wait(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    def hold(self) -> None:
        """Take the index for changes, until ``release``; a former holder that did not release it is named.

        Raises:
            IndexLockedError: If another process has the index open, and does not end.
            IndexStorageError: If the folder cannot be written.
        """
        descriptor = self._open(for_changes=True)
        if descriptor is None:
            raise IndexStorageError(f"{self._location} was removed meanwhile; run the command again")
        try:
            self._wait(descriptor, fcntl.LOCK_EX)
            former = _holder_in(os.pread(descriptor, 4096, 0))
            if former is not None:
                logger.warning("%s was not closed (%s): it is checked now", self._location, former.process)
            command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
            shortened = command if len(command) <= _COMMAND_CHARS else f"{command[: _COMMAND_CHARS - 3]}..."
            self._write(descriptor, Holder(os.getpid(), socket.gethostname(), shortened, time.time()))
        except BaseException:
            os.close(descriptor)
            raise
        self._held = descriptor

    def release(self) -> None:
        """Let others take the index; calling it twice is harmless."""
        descriptor, self._held = self._held, None
        if descriptor is not None:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def _open(self, *, for_changes: bool) -> int | None:
        try:
            return os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno not in (*_CANNOT_WRITE, errno.ENOENT):
                raise
            if for_changes and error.errno != errno.ENOENT:
                raise IndexStorageError(
                    f"{self._location} cannot be changed, only searched ({error.strerror}): check the "
                    "permissions of its folder and disk, or copy the folder and give --index the copy"
                ) from error
        try:
            return os.open(self._file, os.O_RDONLY)
        except FileNotFoundError:
            return None

    def _wait(self, descriptor: int, how: int) -> None:
        begun_s, is_told = time.monotonic(), False
        while True:
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            waited_s = time.monotonic() - begun_s
            holder = _holder_in(os.pread(descriptor, 4096, 0))
            who = "" if holder is None else f" ({holder})"
            if waited_s >= self._wait_s:
                service = (
                    "--server URL asks a service that has it open"
                    if holder is None or holder.server is None
                    else f"--server {holder.server} asks the service that has it open"
                )
                raise IndexLockedError(
                    f"another process has {self._location} open{who}; wait until it ends; {service}; many "
                    "can use a Qdrant server: --index http://HOST:PORT"
                )
            if waited_s >= _SILENT_S and not is_told:
                is_told = True
                logger.warning(
                    "waiting up to %.0f s for another segdex process that has %s open%s",
                    self._wait_s, self._location, who,
                )  # fmt: skip
            time.sleep(min(_POLL_S, self._wait_s))

    @staticmethod
    def _write(descriptor: int, holder: Holder) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)


def announce(file: Path, server: str) -> None:
    """Write the address of this process's service into the lock file, if this process holds the lock.

    Args:
        file: File of the lock.
        server: Address of the service, for those who wait for the index.
    """
    with suppress(OSError):
        found = _holder_in(file.read_bytes())
        if found is not None and (found.pid, found.host) == (os.getpid(), socket.gethostname()):
            file.write_text(json.dumps(asdict(found) | {"server": server}))


def _holder_in(content: bytes) -> Holder | None:
    try:
        found = json.loads(content)
        return Holder(
            int(found["pid"]), str(found["host"]), str(found["command"]), float(found["since_s"]),
            None if found["server"] is None else str(found["server"]),
        )  # fmt: skip
    except (ValueError, TypeError, KeyError):
        return None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
