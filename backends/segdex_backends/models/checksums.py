"""Checksums of files of weights: each file is hashed once, and again when it has changed."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs

from segdex_core.files import write_durably

_FOLDER = "checksums"
_SMALL_BYTES = 1 << 22  # 4 MiB are hashed in about 5 ms
_SETTLED_NS = 2_000_000_000  # times of files are as coarse as 2 s (FAT)


def default_cache_dir() -> Path:
    """Return the user's cache folder for segdex, where fetched models live."""
    return Path(platformdirs.user_cache_dir("segdex"))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in lower-case hexadecimal.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(
    path: Path,
    *,
    cache_dir: Path | None = None,
    small_bytes: int = _SMALL_BYTES,
    clock_ns: Callable[[], int] = time.time_ns,
) -> str:
    """Return the lower-case hex sha256 of a file, which is read only where it is new or has changed.

    A hash of a file of 1.5 GB at each start would take seconds. A file counts as unchanged while its place,
    its size and its times stay the same. The time of its last change of status (``st_ctime``) is one of them:
    it also changes where somebody sets the time of modification back. Nothing is kept of a file that changed
    less than 2 s ago: a second change might leave its times as they are.

    Args:
        path: The file; links are followed, so that the links of the hub's cache share the hash of one file.
        cache_dir: segdex's cache folder; None for the user's. One that cannot be written only costs time.
        small_bytes: Files below this size are hashed each time, which costs no more than a look-up.
        clock_ns: Returns the time in nanoseconds since 1970.

    Raises:
        OSError: If the file cannot be read.
    """
    real = path.resolve(strict=True)
    if real.stat().st_size < small_bytes:
        return file_sha256(real)
    place = hashlib.sha256(os.fsencode(real)).hexdigest()[:32]
    note = (cache_dir or default_cache_dir()) / _FOLDER / f"{place}.json"
    state, started_ns = _state_of(real), clock_ns()
    with suppress(OSError, ValueError):  # not there, or cut short: the file is hashed
        noted = json.loads(note.read_bytes())
        if isinstance(noted, dict) and {name: noted.get(name) for name in state} == state:
            return str(noted["sha256"])
    found = file_sha256(real)
    is_settled = started_ns - real.stat().st_ctime_ns >= _SETTLED_NS
    if is_settled and _state_of(real) == state:  # else the hash may be of an earlier content, or of neither
        with suppress(OSError):
            write_durably(note, json.dumps({**state, "sha256": found}).encode())
    return found


def _state_of(path: Path) -> dict[str, object]:
    status = path.stat()
    return {
        "path": str(path),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
    }
