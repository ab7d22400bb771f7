"""Disks of a service that are full: one line says which, reading goes on, and so does writing afterwards."""

import io
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Tried
from tests.fakes.service import Make, refused

from segdex.jobs.queue import Jobs
from segdex.jobs.storages import JobsUnavailableError, sqlite_storage
from segdex_search.refine.encodings import EncodingFiles


def noise(seed: int, side_px: int = 60) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side_px, side_px, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def fill(folder: Path) -> Path:
    """Write a file until the disk is full."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1 << 8, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return path


@pytest.fixture(name="small")
def _small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_queue_on_a_full_disk_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    storage: Any = sqlite_storage(tmp_path / "jobs.sqlite", index_key="full")
    jobs = Jobs(storage)
    job = jobs.add(["/1"])
    taken = jobs.take("worker")
    assert taken is not None
    [(pages,)] = storage.sql("pragma page_count", results=True)
    storage.sql(f"pragma max_page_count = {pages}")  # SQLite then says what it says on a full disk

    with pytest.raises(JobsUnavailableError, match=r"cannot be written: .*full; make room on its disk"):
        jobs.add(["/" + "x" * 100_000])
    assert job.id in {one.id for one in jobs.all()}
    storage.sql("pragma max_page_count = 100000")

    jobs.save(taken.model_copy(update={"status": "done"}))
    done = jobs.get(job.id)
    assert done is not None
    assert done.status == "done"
    assert jobs.add(["/more"]).status == "waiting"
    jobs.close()


@pytest.mark.promise(
    "Uploads", "A full disk of uploads, queue, caches or temporary files is named, and reading goes on."
)
def test_each_full_disk_is_named_and_searches_go_on(
    make: Make, small: Path, monkeypatch: pytest.MonkeyPatch, tried: Tried
) -> None:
    client = make(uploads=small / "uploads")
    kept = {"file": ("kept.png", noise(0))}
    assert client.post("/v1/images", files=kept).status_code == 201
    filling = fill(small)

    sent = {"file": ("new.png", noise(1))}
    refused(client.post("/v1/images", files=sent), 507, "No space left", "SEGDEX_UPLOADS")
    refused(client.post("/v1/images", files=sent, data={"wait": "false"}), 507, "No space left")
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(small))
        large = {"file": ("large.png", noise(2, 800))}
        for path in ("images", "search/by-image", "refine/by-image", "segment/by-image"):
            refused(client.post(f"/v1/{path}", files=large), 507, "full", "TMPDIR")
    files: EncodingFiles[Any] = EncodingFiles(
        small / "encodings", 1, dump=lambda one: one, restore=lambda one: one
    )
    assert files.get("key", lambda: b"encoded" * 1_000) == b"encoded" * 1_000
    with pytest.raises(JobsUnavailableError, match=r"queue of jobs .* cannot be opened|cannot be written"):
        sqlite_storage(small / "other" / "jobs.sqlite", index_key="full")
    assert client.post("/v1/search", json={"texts": ["red"]}).json()["hits"]
    assert client.get("/v1/jobs").status_code == 200
    assert client.post("/v1/images", files=kept).json()["outcome"] == "unchanged"

    filling.unlink()
    assert client.post("/v1/images", files=sent).status_code == 201
    assert {path.name for path in (small / "uploads").rglob("*") if path.is_file()} == {"kept.png", "new.png"}
    tried(5, "writers on a full disk")
