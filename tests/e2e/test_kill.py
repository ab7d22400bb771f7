"""A killed ingest, finished by another run, leaves the index of one undisturbed run, point for point."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.e2e.ingest_child import ingest_folder
from tests.needs import ROOT, photo

from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex

KILLS = 10


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
