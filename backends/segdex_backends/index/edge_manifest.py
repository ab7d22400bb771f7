"""What an embedded index held when it was last closed, and how many points were written since.

``manifest.json`` has the size and the checksum of every file, and the number of points of every shard. It is
written when an index is closed, and removed before an index is changed. As long as it is there, any
difference is damage.

``written.json`` has the least number of points that each shard must have at any time, so also after a crash,
when Qdrant Edge replays its log and the files differ rightly.

Checksums are CRC-32 over all parts of a file that are not zero, with their positions. Qdrant Edge's files are
sparse, and whether zeros take room on the disk differs from one copy of a folder to the next.
"""

import errno
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdex_core.files import sync_folder, write_durably

MANIFEST = "manifest.json"
WRITTEN = "written.json"

_PART_BYTES = 1 << 16
_ZEROS = bytes(_PART_BYTES)
_WRITTEN_BYTES = 4096

REPLAYED = "tracker_journal.dat"
"""Name of files that may be missing: a flush has applied them, and Qdrant Edge removes them on loading."""


@dataclass(frozen=True, slots=True)
class FileSum:
    """Size in bytes of a file, the bytes of its parts that are not zero, and the CRC-32 of these parts."""

    size_bytes: int
    data_bytes: int
    crc: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Content of ``manifest.json``: points by shard, and sums by path below the folder of the index."""

    points: Mapping[str, int]
    files: Mapping[str, FileSum]

    @property
    def data_bytes(self) -> int:
        """Bytes of all files that a copy has to hold."""
        return sum(each.data_bytes for each in self.files.values())


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of an index, or None if there is none that is whole."""
    found = _checked(folder / MANIFEST)
    if found is None:
        return None
    try:
        return Manifest(
            {str(name): int(count) for name, count in found["points"].items()},
            {str(path): FileSum(*map(int, sums)) for path, sums in found["files"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of an index, so that it is there whole or not at all."""
    files = {path: [one.size_bytes, one.data_bytes, one.crc] for path, one in manifest.files.items()}
    write_durably(folder / MANIFEST, _with_crc({"points": dict(manifest.points), "files": files}))


def remove_manifest(folder: Path) -> None:
    """Remove the manifest before the first change."""
    (folder / MANIFEST).unlink(missing_ok=True)
    sync_folder(folder)


def read_written(folder: Path) -> Mapping[str, int]:
    """Return the least number of points of each shard, or nothing if it is not known."""
    found = _checked(folder / WRITTEN)
    points = None if found is None else found.get("points")
    if not isinstance(points, dict) or not all(isinstance(count, int) for count in points.values()):
        return {}
    return points


def write_written(folder: Path, points: Mapping[str, int], *, durably: bool) -> None:
    """Note the least number of points of each shard.

    Args:
        folder: Folder of the index.
        points: Numbers of points by shard.
        durably: Whether the note must survive a crash of the machine. A smaller number must, and before the
            points are deleted; a larger one that gets lost does no harm.
    """
    content = _with_crc({"points": dict(points)}).ljust(_WRITTEN_BYTES)
    # One write over the former content: a process that is killed leaves one or the other.
    descriptor = os.open(folder / WRITTEN, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.pwrite(descriptor, content, 0)
        if durably:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sum_file(path: Path, *, copy_to: Path | None = None) -> FileSum:
    """Return the sums of a file, which is copied in the same pass if ``copy_to`` is given."""
    size_bytes = data_bytes = crc = 0
    source = os.open(path, os.O_RDONLY)
    target = None if copy_to is None else os.open(copy_to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        size_bytes = os.fstat(source).st_size
        for start in _data_starts(source, size_bytes):
            part = os.pread(source, _PART_BYTES, start)
            if part == _ZEROS[: len(part)]:
                continue
            crc = zlib.crc32(part, zlib.crc32(start.to_bytes(8, "big"), crc))
            data_bytes += len(part)
            if target is not None and os.pwrite(target, part, start) < len(part):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(copy_to))
        if target is not None:
            os.ftruncate(target, size_bytes)
    finally:
        os.close(source)
        if target is not None:
            os.close(target)
    return FileSum(size_bytes, data_bytes, crc)


def _data_starts(descriptor: int, size_bytes: int) -> Iterator[int]:
    """Yield where the parts of a file begin that may hold data; holes are passed over."""
    position = 0
    while position < size_bytes:
        try:
            position = os.lseek(descriptor, position, os.SEEK_DATA)
            end = os.lseek(descriptor, position, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only zeros follow
                return
            end = size_bytes  # a file system without holes
        position -= position % _PART_BYTES
        while position < end:
            yield position
            position += _PART_BYTES


def _with_crc(content: dict[str, object]) -> bytes:
    return json.dumps(content | {"crc": _crc_of(content)}).encode()


def _checked(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(found, dict) or found.pop("crc", None) != _crc_of(found):
        return None
    return found


def _crc_of(content: dict[str, object]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
