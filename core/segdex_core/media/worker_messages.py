"""What crosses between a process and a worker that decodes for it.

A request is sent over a socket. The answer is sent over the same socket; the pixels are written to a file in
memory that both processes have open, so that they are not pickled. The file has no name, so that nothing is
left of it, however the processes end.
"""

import io
import os
import pickle
import socket
import struct
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LENGTHS = struct.Struct("<QQ")
_AT_A_TIME = 1 << 30  # a Linux call transfers at most 2 GiB


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes to decode, with the arguments of ``Decode``."""

    data: bytes
    name: str
    max_pixels: int


def send_request(link: socket.socket, request: Request) -> None:
    """Send a request to a worker."""
    head = pickle.dumps((request.name, request.max_pixels))
    link.sendall(_LENGTHS.pack(len(head), len(request.data)) + head)
    link.sendall(request.data)


def receive_request(link: socket.socket) -> Request:
    """Return the next request.

    Raises:
        EOFError: If the other process has closed the socket.
    """
    head_bytes, data_bytes = _LENGTHS.unpack(_receive(link, _LENGTHS.size))
    name, max_pixels = pickle.loads(_receive(link, head_bytes))  # noqa: S301 - from the process that began us
    return Request(bytes(_receive(link, data_bytes)), name, max_pixels)


def send_answer(link: socket.socket, answer: tuple[str, object]) -> None:
    """Send a word for what happened, and its value."""
    body = pickle.dumps(answer)
    link.sendall(_LENGTHS.pack(len(body), 0) + body)


def receive_answer(link: socket.socket) -> tuple[str, Any]:
    """Return a word for what happened, and its value, of plain types.

    Raises:
        EOFError: If the worker has ended.
        TimeoutError: If the timeout of the socket is over.
        pickle.UnpicklingError: If a hostile file made the worker send something else.
    """
    body_bytes, _ = _LENGTHS.unpack(_receive(link, _LENGTHS.size))
    if body_bytes > _MAX_ANSWER_BYTES:
        raise pickle.UnpicklingError(f"an answer of {body_bytes:,} bytes")
    answer: tuple[str, Any] = _PlainUnpickler(io.BytesIO(_receive(link, body_bytes))).load()
    return answer


_MAX_ANSWER_BYTES = 64 << 20


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, tuples and dictionaries; a pickle of anything else could run code."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not allowed")


def _receive(link: socket.socket, size: int) -> bytearray:
    found, at = bytearray(size), 0
    view = memoryview(found)
    while at < size:
        count = link.recv_into(view[at:])
        if count == 0:
            raise EOFError
        at += count
    return found


def nameless_file() -> int:
    """Return the descriptor of a new file in memory; on a disk where the system has none in memory."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("segdex-pixels")
    with TemporaryFile() as file:
        return os.dup(file.fileno())


def write_pixels(descriptor: int, pixels: NDArray[np.uint8]) -> None:
    """Write an array to the start of a file."""
    view, at = pixels.reshape(-1).data, 0
    while at < len(view):
        at += os.pwrite(descriptor, view[at : at + _AT_A_TIME], at)


def read_pixels(descriptor: int, into: NDArray[np.uint8]) -> None:
    """Fill an array from the start of a file.

    Raises:
        EOFError: If the file is shorter.
    """
    view, at = into.reshape(-1).data, 0
    while at < len(view):
        count = os.preadv(descriptor, [view[at : at + _AT_A_TIME]], at)
        if count == 0:
            raise EOFError
        at += count
