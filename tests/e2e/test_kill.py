"""A killed run, finished by another one, leaves the index of one undisturbed run, point for point."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from tests.backends.index.stored_indexes import unpack_edge
from tests.conftest import Tried
from tests.e2e.embedded import copy_tree, run_at, was_killed
from tests.e2e.ingest_child import ingest_folder
from tests.ingest.operations import OPERATIONS, Folder, ingest
from tests.needs import ROOT, photo

from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.errors import UsageError

KILLS = 10
MANY_KILLS = 50
SOME_KILLS = 15
KILLS_IN_A_ROW = 5


def _photos(folder: Path) -> None:
    """Write small parts of real photographs, all different."""
    folder.mkdir()
    for name in ("astronaut.png", "chelsea.png", "coffee.png"):
        with Image.open(photo(name)) as picture:
            for part in range(4):
                left = 60 * part
                picture.convert("RGB").crop((left, 40, left + 120, 140)).save(folder / f"{part}-{name}")


def _content(folder: Path) -> dict[str, object]:
    """Return every point of an index with payload and vectors."""
    index = QdrantIndex(EdgeStore(folder, create=False))
    try:
        segments = {record.segment_id: record for record in index.scroll_segments()}
        vectors = index.get_vectors(list(segments))
        assert set(vectors) == set(segments)
        return {
            "images": list(index.scroll_images()),
            "segments": segments,
            "vectors": {
                segment_id: {view: np.asarray(row).tobytes() for view, row in sorted(views.items())}
                for segment_id, views in vectors.items()
            },
        }
    finally:
        index.close()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize(
    "kind",
    [
        "fake",
        pytest.param(
            "offline",
            marks=[
                pytest.mark.models,
                pytest.mark.skipif(
                    "SEGDEX_KILL_REAL" not in os.environ, reason="minutes long: set SEGDEX_KILL_REAL=1"
                ),
            ],
        ),
    ],
)
def test_an_ingest_killed_at_random_moments_ends_like_an_undisturbed_one(kind: str, tmp_path: Path) -> None:
    _photos(tmp_path / "photos")
    arguments = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.e2e.ingest_child",
        kind,
        str(tmp_path / "photos"),
    ]
    started = time.perf_counter()
    subprocess.run([*arguments, str(tmp_path / "undisturbed")], cwd=ROOT, check=True)
    whole_s = time.perf_counter() - started
    expected = _content(tmp_path / "undisturbed")

    moments = random.Random(2013)
    killed = tmp_path / "killed"
    interrupted = 0
    for _ in range(KILLS):
        child = subprocess.Popen([*arguments, str(killed)], cwd=ROOT)
        try:
            child.wait(timeout=moments.uniform(0.3, 1.0) * whole_s)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            interrupted += 1
    looked_at = ingest_folder(kind, tmp_path / "photos", killed)

    assert interrupted >= 1
    assert looked_at == 12
    assert _content(killed) == expected


@pytest.mark.slow
@pytest.mark.promise(
    "Ingest", "What is killed at random moments, five times in a row, ends as if undisturbed."
)
@pytest.mark.parametrize("name", ["new", "replaced", "redone", "renamed", "deleted", "synced", "migrated"])
def test_kills_at_random_moments(
    name: str, fast_folder: Path, tmp_path: Path, tried: Tried, as_promised: bool
) -> None:
    folder, operation = Folder(tmp_path), OPERATIONS[name]
    base = fast_folder / uuid4().hex
    is_drawn = name != "migrated"  # no masks are behind the samples of an earlier segdex
    if not is_drawn:
        unpack_edge(base)
    else:
        base.mkdir()
        if not operation.starts_empty:
            run_at(base, folder, ingest)
            with closing(QdrantIndex(EdgeStore(base, create=False))) as index:
                operation.before(index, folder)

    def copied() -> Path:
        home = base.with_name(uuid4().hex)
        copy_tree(base, home)
        return home

    def finished(home: Path) -> object:
        """Carry out the operation, which may be done already, and return what is stored."""
        with suppress(UsageError):
            run_at(home, folder, operation.run, examined=is_drawn)
        found = run_at(home, folder, examined=is_drawn)
        shutil.rmtree(home)
        return found

    expected = finished(copied())
    home = copied()
    started_s = time.perf_counter()
    was_killed(home, tmp_path, name, after_s=None)
    whole_s = time.perf_counter() - started_s
    shutil.rmtree(home)
    moments = random.Random(2013)
    kills = 0
    while kills < (MANY_KILLS if as_promised else SOME_KILLS):
        home = copied()
        for _ in range(KILLS_IN_A_ROW):
            if not was_killed(home, tmp_path, name, after_s=moments.uniform(0.1, 1.0) * whole_s):
                break
            kills += 1
        assert finished(home) == expected
    tried(kills, "kills")
