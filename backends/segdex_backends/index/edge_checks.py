"""Checks that an embedded index has what was written: every file, or after a crash at least every point."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from segdex_backends.index import edge_recover
from segdex_backends.index.edge_manifest import REPLAYED, Manifest, read_written, sum_file
from segdex_core.errors import SegmentIndexError


def compare(
    folder: Path, manifest: Manifest, names: Collection[str], *, location: str, view: Path | None = None
) -> None:
    """Compare files of an index with its manifest, and copy them in the same pass if ``view`` is given.

    Raises:
        SegmentIndexError: If a file is missing or differs, or a shard is not in the manifest.
    """
    for name in names:
        if name not in manifest.points:
            raise damaged(location, folder, f"{name}, which segdex.json names, was never written")
    for path, wanted in manifest.files.items():
        if "/" in path and path.partition("/")[0] not in names:
            continue  # of a collection that is not in use
        target = None
        if view is not None:
            target = view / path
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = sum_file(folder / path, copy_to=target)
        except FileNotFoundError:
            if path.rpartition("/")[2] == REPLAYED:
                continue
            raise damaged(location, folder, f"{path} is missing") from None
        if found.size_bytes != wanted.size_bytes:
            problem = f"{path} has {found.size_bytes:,} bytes instead of {wanted.size_bytes:,}"
            raise damaged(location, folder, problem)
        if found != wanted:
            raise damaged(location, folder, f"{path} differs from what was written (its checksum)")


def recover(
    folder: Path,
    names: Collection[str],
    *,
    needed: Collection[str],
    location: str,
    root: Path | None = None,
    lock: int | None = None,
) -> dict[str, int]:
    """Check shards that were not closed, in a process of its own; return their numbers of points.

    Args:
        folder: Folder of the index.
        names: Names of the shards.
        needed: Shards that must have the points that were written. Another one is of a former schema, or of a
            re-embedding that was given up, and is being removed.
        location: Location of the index, for messages.
        root: Folder with copies of the shards, which are checked instead.
        lock: Descriptor of the lock of the index, which the process keeps if this one is killed: it writes to
            the shards, and nobody can load them meanwhile. None if nobody else has the shards.

    Raises:
        SegmentIndexError: If a shard cannot be loaded or read, or lacks points.
    """
    points: dict[str, int] = {}
    if names:
        done = subprocess.run(
            [sys.executable, edge_recover.__file__, str(root or folder), *sorted(names)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=() if lock is None else (lock,),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            if done.returncode < 0:
                reason = f"reading it ends with {signal.Signals(-done.returncode).name}"
            else:  # the last line of a traceback
                reason = done.stderr.strip().rpartition("\n")[2].partition("Exception: ")[2]
            raise damaged(location, folder, reason or done.stderr.strip() or "it cannot be loaded")
        points.update(json.loads(done.stdout))
    for name, least in read_written(folder).items():
        if name in needed and points.get(name, 0) < least:
            problem = f"{name} has {points.get(name, 0):,} points, but {least:,} were written"
            raise damaged(location, folder, problem)
    return points


def damaged(location: str, folder: Path, problem: str) -> SegmentIndexError:
    """Return the error for an index whose files are not what was written."""
    return SegmentIndexError(
        f"{location} is damaged: {problem}; restore the folder from a backup, or ingest into a new --index; "
        f"to go on with what can be read of it, remove manifest.json and written.json from {folder}, and "
        "ingest again"
    )
