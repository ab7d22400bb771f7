"""Which files of this machine are no pictures, so that a second look at a folder does not open them again.

What is remembered is a cache: to lose it costs time only. No names are kept: a file is a digest of its URI,
its size, its time, and the recogniser that tells pictures from other files. A file that has changed is read
again, and so are all files where more formats are read by now. Each scan of the same places replaces what the
last one has noted: there is never more than the last scans have seen.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

from segdex_core.errors import NotAnImageError
from segdex_core.files import PRIVATE_FILE, PRIVATE_FOLDER, remove_parts, write_durably
from segdex_core.media.formats import recogniser, refused
from segdex_core.media.uris import display_path
from segdex_core.ports.source import FileVersion

MAX_SCANS = 256
"""Scans that are remembered; the one that was repeated least recently goes first."""

KEPT_S = 90 * 86_400.0
"""Seconds after which a scan that was not repeated is forgotten."""

_DIGEST_BYTES = 16
_RECORD_BYTES = _DIGEST_BYTES + 1
_MAX_KINDS = 256


class NotPictures:
    """What the scans of this machine have found to be no pictures.

    A folder that cannot be written remembers nothing, and stops nothing.

    Args:
        folder: Folder for what is remembered, made where it is missing; None remembers nothing.
        now_s: Returns seconds since 1970 UTC.
    """

    def __init__(self, folder: Path | None, *, now_s: Callable[[], float] = time.time) -> None:
        self._folder, self._now_s = folder, now_s

    def scan(self, places: Sequence[str]) -> "Scan":
        """Return what is remembered, for one scan.

        Args:
            places: What is scanned; a scan of the same places is the same scan.
        """
        own = None if self._folder is None else self._folder / f"{_digest(*places).hex()}.scan"
        return Scan(own, self._now_s)


class Scan:
    """The files of one scan that are no pictures; threads may share it.

    What earlier scans knew is read when it is first asked for, and kept if this scan has asked for it.

    Args:
        path: File of the scan, beside those of the others; None remembers nothing.
        now_s: Returns seconds since 1970 UTC.
    """

    def __init__(self, path: Path | None, now_s: Callable[[], float]) -> None:
        self._path, self._now_s = path, now_s
        self._recogniser = recogniser()
        self._seen: dict[bytes, str] = {}
        self._lock = threading.Lock()

    def find(self, uri: str, version: FileVersion) -> str | None:
        """Return the kind of a file that is known to be no picture: "" if its format is not known.

        None is returned for any other file.
        """
        digest = self._digest(uri, version)
        with self._lock:
            kind = self._before.get(digest)
            if kind is None:
                kind = self._others.get(digest)
            if kind is not None:
                self._seen[digest] = kind
        return kind

    def refusal(self, uri: str, version: FileVersion) -> NotAnImageError | None:
        """Return the error of reading a file that is known to be no picture; None for any other file."""
        kind = self.find(uri, version)
        return None if kind is None else NotAnImageError(refused(display_path(uri), kind), kind=kind or None)

    def note(self, uri: str, version: FileVersion, kind: str | None) -> None:
        """Note that a file is no picture.

        Args:
            uri: URI of the file.
            version: Its version, before and after its first bytes were read.
            kind: ``NotAnImageError.kind``.
        """
        with self._lock:
            self._seen[self._digest(uri, version)] = kind or ""

    def save(self) -> None:
        """Replace what the last scan of these places has noted."""
        if self._path is None:
            return
        with suppress(OSError):  # such as a cache folder that cannot be written
            if not self._seen:
                self._path.unlink(missing_ok=True)
            elif self._seen == self._before:
                os.utime(self._path)
            else:
                data = _bytes_of(self._seen)
                write_durably(self._path, data, mode=PRIVATE_FILE, folder_mode=PRIVATE_FOLDER)
            self._forget_old(self._path.parent)

    @cached_property
    def _before(self) -> dict[bytes, str]:
        return {} if self._path is None else _read(self._path)

    @cached_property
    def _others(self) -> dict[bytes, str]:
        known: dict[bytes, str] = {}
        for path in [] if self._path is None else _newest_first(self._path.parent):
            known |= _read(path)
        return known

    def _forget_old(self, folder: Path) -> None:
        remove_parts(folder)
        for number, path in enumerate(_newest_first(folder)):
            if number >= MAX_SCANS or _mtime_s(path) < self._now_s() - KEPT_S:
                path.unlink(missing_ok=True)

    def _digest(self, uri: str, version: FileVersion) -> bytes:
        return _digest(self._recogniser, str(version.size_bytes), str(version.mtime_ns), uri)


def _digest(*parts: str) -> bytes:
    text = "\0".join(parts).encode("utf-8", "surrogateescape")
    return blake2b(text, digest_size=_DIGEST_BYTES).digest()


def _bytes_of(seen: dict[bytes, str]) -> bytes:
    """Return the list of kinds as a line, and then for each file its digest and the number of its kind."""
    kinds = ["", *sorted(set(seen.values()) - {""})][:_MAX_KINDS]
    numbers = {kind: number for number, kind in enumerate(kinds)}
    records = b"".join(digest + bytes([numbers.get(kind, 0)]) for digest, kind in seen.items())
    return json.dumps(kinds).encode() + b"\n" + records


def _read(path: Path) -> dict[bytes, str]:
    """Return what a file holds; nothing if it is missing or damaged."""
    try:
        head, _, records = path.read_bytes().partition(b"\n")
        kinds = json.loads(head)
        if len(records) % _RECORD_BYTES or not isinstance(kinds, list):
            return {}
        return {
            records[at : at + _DIGEST_BYTES]: str(kinds[records[at + _DIGEST_BYTES]])
            for at in range(0, len(records), _RECORD_BYTES)
        }
    except (OSError, ValueError, IndexError):
        return {}


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.scan"), key=lambda path: (-_mtime_s(path), path.name))


def _mtime_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process removed it
        return 0.0
