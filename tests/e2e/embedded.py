"""Embedded indexes of tests that kill: copied, run on in this process, or in one that is killed."""

import multiprocessing
import subprocess
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from tests.ingest.consistent import assert_consistent, points_of
from tests.ingest.operations import OPERATIONS, Folder

from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.errors import UsageError

Run = Callable[[QdrantIndex, Folder], object]

_PROCESSES = multiprocessing.get_context("forkserver")  # a process begins in a hundredth of a second
_PROCESSES.set_forkserver_preload([__name__])


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder whose files are mostly holes."""
    subprocess.run(["cp", "-r", "--sparse=auto", str(source), str(target)], check=True)


def run_at(home: Path, folder: Folder, *runs: Run, examined: bool = True) -> object:
    """Open an embedded index, run operations, and return what is stored then."""
    store = EdgeStore(home, create=True)
    with closing(QdrantIndex(store)) as index:
        for run in runs:
            run(index, folder)
        if examined:
            assert_consistent(index)
        return points_of(store)


def was_killed(home: Path, pictures: Path, name: str, *, after_s: float | None) -> bool:
    """Carry out an operation in a process that is killed after a time; return whether it still ran."""
    child = _PROCESSES.Process(target=_operate, args=(home, pictures, name))
    child.start()
    child.join(after_s)
    is_running = child.exitcode is None
    child.kill()
    child.join()
    assert is_running or child.exitcode == 0
    return is_running


def _operate(home: Path, pictures: Path, name: str) -> None:
    with suppress(UsageError), closing(QdrantIndex(EdgeStore(home, create=True))) as index:
        OPERATIONS[name].run(index, Folder(pictures))  # a run that was killed at its end may have done it
