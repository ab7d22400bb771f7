"""Standard streams that no encoding, closed descriptor, closed pipe or full disk can make fail."""

import errno
import io
import os
import select
import sys
from typing import TextIO

_Data = bytes | memoryview
"""What buffers write into a descriptor."""

ERRORS = "backslashreplace"
"""How characters are written that an encoding lacks: escaped, so that a person can still tell names apart."""


class OutputError(Exception):
    """Standard output cannot be written; what is written to it later is dropped.

    It is no ``OSError``: Rich and Typer end the process for a closed pipe, each with an exit code of its own,
    and a pipe to a process of ours or to a server may break as well.

    Attributes:
        is_closed: Whether its reader has ended, such as ``head``.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror or error}")
        self.is_closed = error.errno == errno.EPIPE


class _Patient(io.FileIO):
    """A descriptor that another program may have made non-blocking."""

    def write(self, data: _Data, /) -> int:  # type: ignore[override] # only a buffer calls it
        while True:
            written: int | None = super().write(data)
            if written is not None:
                return written
            select.select([], [self], [])


class _Output(_Patient):
    """Standard output: the first failure is an ``OutputError``."""

    _has_failed = False

    def write(self, data: _Data, /) -> int:  # type: ignore[override] # only a buffer calls it
        if not self._has_failed:
            try:
                return super().write(data)
            except OSError as error:
                self._has_failed = True
                raise OutputError(error) from error
        return memoryview(data).nbytes


class _Notes(_Patient):
    """Standard error: work goes on although nobody reads its progress."""

    def write(self, data: _Data, /) -> int:  # type: ignore[override] # only a buffer calls it
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def guard_streams() -> None:
    """Replace the standard streams of this process by streams that cannot fail.

    A descriptor that is closed is opened on the null device first. Otherwise the next file that is opened,
    such as one of the index, would get its number, and whatever libraries print would be written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
    if sys.platform == "win32":  # its consoles have streams of their own, which take every character
        return
    sys.stdout = _text(_Output(1, "wb", closefd=False), sys.stdout)
    sys.stderr = _text(_Notes(2, "wb", closefd=False), sys.stderr)


def _text(raw: io.FileIO, former: TextIO | None) -> io.TextIOWrapper:
    """Return a text stream with the encoding and the buffering of the former one, if there was one."""
    is_direct = isinstance(former, io.TextIOWrapper) and former.write_through
    is_line = isinstance(former, io.TextIOWrapper) and former.line_buffering
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=former.encoding if former is not None else "utf-8",
        errors=ERRORS,
        line_buffering=is_line or raw.isatty() or isinstance(raw, _Notes),
        write_through=is_direct,
    )


def escape_unencodable() -> None:
    """Let the standard streams write an escape for each character that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != ERRORS:
            stream.reconfigure(errors=ERRORS)
