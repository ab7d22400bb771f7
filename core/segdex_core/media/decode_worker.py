"""The process that decodes files for another one, within limits of time and memory. It never imports a model.

It ends when the other process ends, also when that is killed: the system then closes the pipe at its standard
input, and sends the signal that ends it, whatever it is doing.
"""

import fcntl
import importlib
import math
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from segdex_core.errors import ImageError, ImageTooLargeError, NotAnImageError
from segdex_core.media.worker_messages import Request, receive_request, send_answer, write_pixels

_KEPT_BYTES = 64 << 20
"""Size of the shared file that stays in memory between pictures."""


def main() -> None:
    """Answer requests until the other process ends.

    The command line has the descriptors of a socket and of the file for pixels, the limits in seconds and
    MiB, and the function that decodes.
    """
    link_number, pixels_number, cpu_s, memory_mib = map(int, sys.argv[1:5])
    _end_with_parent()
    module, _, name = sys.argv[5].partition(":")
    decode = getattr(importlib.import_module(module), name)
    _limit_memory(memory_mib)
    with socket.socket(fileno=link_number) as link, suppress(EOFError, ConnectionError):
        send_answer(link, ("ready", None))
        while True:
            request = receive_request(link)
            _limit_time(cpu_s)
            if os.fstat(pixels_number).st_size > _KEPT_BYTES:
                os.ftruncate(pixels_number, _KEPT_BYTES)
            send_answer(link, _answer(request, decode, pixels_number))
            del request


def _answer(request: Request, decode: object, pixels_number: int) -> tuple[str, object]:
    try:
        image = decode(request.data, name=request.name, max_pixels=request.max_pixels)  # type: ignore[operator]
        write_pixels(pixels_number, image.pixels)
    except ImageError as error:
        if not isinstance(error, ImageTooLargeError) and _is_memory(error):
            return "memory", None
        kind = error.kind if isinstance(error, NotAnImageError) else None
        return "refused", (type(error).__name__, str(error), kind)
    except MemoryError:
        return "memory", None
    except Exception as error:  # noqa: BLE001 - a fault of our own, which is to end no more than this file
        return "fault", f"{type(error).__name__}: {error}"
    others = {field.name: getattr(image, field.name) for field in fields(image) if field.name != "pixels"}
    return "decoded", (image.pixels.shape, others)


def _is_memory(error: BaseException | None) -> bool:
    """Return whether a decoder had not enough memory; libraries in C say so in their messages only."""
    while error is not None:
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            return True
        error = error.__cause__
    return False


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other process, which then ends this one
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:  # it has ended before the signal was asked for
        sys.exit(1)


def _limit_memory(memory_mib: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    size = memory_mib << 20
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):  # macOS has the limit, but refuses to set it
        resource.setrlimit(
            resource.RLIMIT_AS, (size if most == resource.RLIM_INFINITY else min(size, most), most)
        )
    with suppress(OSError):  # where memory runs out, the kernel ends this process rather than the other one
        Path("/proc/self/oom_score_adj").write_text("800", encoding="ascii")


def _limit_time(cpu_s: int) -> None:
    """Let the system end this process after more CPU seconds from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soon = math.ceil(used.ru_utime + used.ru_stime) + cpu_s
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(
        resource.RLIMIT_CPU, (soon if most == resource.RLIM_INFINITY else min(soon, most), most)
    )
