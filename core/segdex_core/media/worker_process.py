"""A worker that decodes, as the process that began it sees it."""

import os
import pickle
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from segdex_core import errors
from segdex_core.errors import DecodersUnavailableError, ImageError, ImageUnreadableError, NotAnImageError
from segdex_core.media.decode import DecodedImage
from segdex_core.media.worker_messages import (
    Request,
    nameless_file,
    read_pixels,
    receive_answer,
    send_request,
)

_START_S = 120.0
"""Wall seconds for a start, which takes a fifth of one where nothing else runs."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What decoding may use.

    Attributes:
        processes: Most pictures that are decoded at a time, 1 or more.
        cpu_s: CPU seconds for one picture.
        memory_mib: MiB of address space of a process, about 130 of which it has before it decodes.
        wall_s: Wall seconds for one picture, after which a decoder counts as hanging.
    """

    processes: int
    cpu_s: int
    memory_mib: int
    wall_s: float


_CODE = "import sys; sys.path[:] = {!r}; from segdex_core.media.decode_worker import main; main()"

_ENVIRONMENT = {
    # threads of libraries that decode nothing; the stack of each would count as memory
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # memory of the last picture is used for the next one: new memory doubles the time of a small picture
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}

UNFORESEEN = "its decoder failed in a way that segdex does not know"
"""In the message of a file whose decoder raised what it does not promise: a bug, which the fuzzer finds."""


class WorkerEndedError(Exception):
    """The process ended while it decoded.

    Args:
        how: What ended it, for a message.
        by_the_file: Whether the file did so for sure, so that another try is useless.
    """

    def __init__(self, how: str, *, by_the_file: bool) -> None:
        super().__init__(how)
        self.by_the_file = by_the_file


class WorkerMemoryError(Exception):
    """Decoding needs more memory than the limit."""


class WorkerProcess:
    """A process that decodes one file after another.

    It is a new Python and not a fork: a fork of a process with threads can hang, and has all its memory.

    Args:
        limits: What it may use.
        decode: Function that decodes, ``MODULE:NAME``.

    Raises:
        DecodersUnavailableError: If it cannot be started.
        WorkerEndedError: If it was killed while it started.
    """

    def __init__(
        self, limits: DecodeLimits, *, decode: str = "segdex_core.media.decode:decode_image"
    ) -> None:
        self._limits = limits
        self.decoded = 0
        try:
            self._pixels = nameless_file()
        except OSError as error:
            raise unavailable(error.strerror or str(error)) from error
        here, there = socket.socketpair()
        self._link = here
        here.settimeout(_START_S)
        try:
            with there:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-c",
                        _CODE.format(sys.path),
                        *map(str, (there.fileno(), self._pixels, limits.cpu_s, limits.memory_mib, decode)),
                    ],
                    pass_fds=(there.fileno(), self._pixels),
                    stdin=subprocess.PIPE,  # nothing is written: it is open as long as this process lives
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **_ENVIRONMENT},
                    start_new_session=True,
                )
        except OSError as error:
            here.close()
            os.close(self._pixels)
            raise unavailable(error.strerror or str(error)) from error
        try:
            receive_answer(here)
        except (EOFError, OSError) as error:
            self.end()
            how = f"it ended at its start ({_how(self._process.returncode)})"
            if isinstance(error, EOFError | ConnectionError) and self._process.returncode < 0:
                raise WorkerEndedError(how, by_the_file=False) from error
            raise unavailable(how) from error
        here.settimeout(limits.wall_s)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def decode(self, request: Request) -> DecodedImage:
        """Return a decoded image.

        Raises:
            ImageError: If the file cannot be decoded.
            WorkerEndedError: If the process has ended or was ended; it has to be replaced.
            WorkerMemoryError: If the limit of memory is too low; the process should be replaced.
        """
        try:
            send_request(self._link, request)
            kind, value = receive_answer(self._link)
            if kind == "decoded":
                self.decoded += 1
                return self._image(value)
        except TimeoutError as error:
            self.end()
            raise WorkerEndedError(
                f"took more than the {self._limits.wall_s:g} s that SEGDEX_DECODE_WALL_S allows",
                by_the_file=True,
            ) from error
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self.end()
            raise self._ended() from error
        if kind == "memory":
            raise WorkerMemoryError
        self.decoded += 1
        if kind == "refused":
            raise _refusal(*value)
        raise ImageUnreadableError(f"{request.name}: {UNFORESEEN}: {value}")

    def kill(self) -> None:
        """End the process, whatever it does; any thread may call it. A running ``decode`` then raises."""
        self._process.kill()

    def end(self) -> None:
        """End the process, and free what it holds; only for the thread that uses it."""
        if self._link.fileno() < 0:
            return  # it has ended before
        self._link.close()
        os.close(self._pixels)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self.kill()
        self._process.wait()

    def _image(self, value: Any) -> DecodedImage:
        shape, others = value
        pixels = np.empty(shape, np.uint8)
        read_pixels(self._pixels, pixels)
        return DecodedImage(pixels=pixels, **others)

    def _ended(self) -> WorkerEndedError:
        code = self._process.returncode
        if code == -signal.SIGXCPU:
            limit = self._limits.cpu_s
            return WorkerEndedError(
                f"took more than the {limit} s of CPU time that SEGDEX_DECODE_CPU_S allows", by_the_file=True
            )
        return WorkerEndedError(f"ended its decoder ({_how(code)})", by_the_file=False)


def _refusal(class_name: str, message: str, kind: str | None) -> ImageError:
    error = getattr(errors, class_name)
    if error is NotAnImageError:
        return NotAnImageError(message, kind=kind)
    return error(message) if issubclass(error, ImageError) else ImageError(message)


def unavailable(reason: str) -> DecodersUnavailableError:
    """Return the error of a process that cannot be started."""
    return DecodersUnavailableError(
        f"no process that decodes pictures can be started: {reason}; allow more processes (ulimit -u), or "
        "set SEGDEX_DECODE_PROCESSES=0, which decodes without limits of time and memory"
    )


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
