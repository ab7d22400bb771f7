"""Reads a file and its version so that they belong together, whatever other programs do to the file."""

import time
from collections.abc import Callable

from segdex_core.errors import ImageUnreadableError, NotAnImageError
from segdex_core.media.uris import display_path
from segdex_core.ports.source import FileVersion, Source

TICK_NS = 20_000_000
"""Nanoseconds in which two changes may get one time: kernels take times from a clock that ticks every 1 to 10
ms."""

SECOND_NS = 2_000_000_000
"""The same for file systems whose times are whole seconds; those of FAT are even ones."""


def read_steady(
    uri: str,
    *,
    source: Source,
    max_bytes: int,
    clock_ns: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[FileVersion, bytes]:
    """Return the version and the bytes of a file that did not change meanwhile.

    A file that was written just now is read after a moment: a second change in the same tick of the clock
    leaves the version as it is, and would never be noticed after the read.

    Args:
        uri: URI of the file.
        source: Source of the file.
        max_bytes: Maximum size in bytes.
        clock_ns: Returns nanoseconds since 1970 UTC.
        sleep: Waits for some seconds.

    Raises:
        ImageUnreadableError: If the file changed twice while it was read, or cannot be read.
        ImageTooLargeError: If the file is larger than ``max_bytes``.
        NotAnImageError: If the file is no image.
    """
    for _ in range(2):
        before = source.version(uri)
        _let_pass(before, clock_ns, sleep)
        try:
            data = source.read(uri, max_bytes=max_bytes)
        except NotAnImageError:
            if source.version(uri) == before:
                raise
            continue
        if source.version(uri) == before and len(data) == before.size_bytes:
            return before, data
    raise ImageUnreadableError(
        f"{display_path(uri)}: changes while it is read; ingest it again when it is complete"
    )


def _let_pass(version: FileVersion, clock_ns: Callable[[], int], sleep: Callable[[float], None]) -> None:
    """Wait until the tick of the last change is over; a time in the future is not waited for."""
    tick_ns = TICK_NS if version.mtime_ns % 1_000_000_000 else SECOND_NS
    age_ns = clock_ns() - version.mtime_ns
    if 0 <= age_ns < tick_ns:
        sleep((tick_ns - age_ns) / 1e9)
