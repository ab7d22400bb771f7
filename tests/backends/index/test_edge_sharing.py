"""Several processes read an embedded index at once, one changes it, and those who wait know for whom."""

import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.backends.index.stored_samples import FINGERPRINT, Picture, all_segments, make_picture
from tests.conftest import Tried
from tests.needs import ROOT, missing
from tests.waiting import wait_until

from segdex_backends.index.edge_lock import announce
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.edge_view import ROOM_BYTES, View
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.errors import IndexLockedError, IndexMismatchError, IndexStorageError

Usage = namedtuple("Usage", "total used free")
PICTURES = [make_picture(number, 3) for number in range(4)]

READER = """
import sys
from pathlib import Path
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex

index = QdrantIndex(EdgeStore(Path(sys.argv[1]), create=False, wait_s=0))
print(index.counts().segments, flush=True)
sys.stdin.read()
print(sum(1 for _ in index.scroll_segments()), flush=True)
index.close()
"""


@pytest.fixture
def home(fast_folder: Path) -> Path:
    """A folder with an index of ``PICTURES`` that is closed."""
    home = fast_folder / str(uuid4())
    with closing(opened(home, create=True)) as index:
        index.ensure(FINGERPRINT)
        ingest(index, PICTURES)
    return home


@pytest.fixture(autouse=True)
def _temporary(fast_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A temporary folder of the test, in which nothing may be left."""
    folder = fast_folder / f"tmp-{uuid4()}"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield
    assert list(folder.iterdir()) == []


def opened(home: Path, *, create: bool = False, wait_s: float = 0) -> QdrantIndex:
    return QdrantIndex(EdgeStore(home, create=create, wait_s=wait_s))


def ingest(index: QdrantIndex, pictures: list[Picture]) -> None:
    for picture in pictures:
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)


def files_of(home: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in home.rglob("*") if path.is_file()
    }


@pytest.mark.promise("Index", "Any number of processes read an embedded index at the same time.")
def test_readers_do_not_wait_for_each_other_and_touch_nothing(home: Path, tried: Tried) -> None:
    before = files_of(home)
    command = [sys.executable, "-c", READER, str(home)]
    readers = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    with closing(opened(home)) as here, closing(opened(home)) as again:
        for reader in readers:  # all have it open at this moment
            assert reader.stdout is not None
            assert reader.stdout.readline() == "12\n"
        assert list(here.scroll_segments()) == list(again.scroll_segments()) == all_segments(PICTURES)
        for reader in readers:
            assert reader.communicate("")[0] == "12\n"
            assert reader.returncode == 0

    assert files_of(home) == before
    tried(4, "readers at once")


@pytest.mark.slow
@pytest.mark.promise("Index", "A reader that is killed changes nothing in an embedded index.")
def test_a_killed_reader_leaves_no_trace(home: Path, tried: Tried) -> None:
    before = files_of(home)
    command = [sys.executable, "-c", READER, str(home)]
    for _ in range(2):
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "12\n"
            reader.kill()
    left = list(Path(tempfile.gettempdir()).iterdir())
    assert len(left) == 1  # the second has removed the copy of the first

    opened(home).close()

    assert files_of(home) == before
    tried(2, "killed readers")


def test_a_copy_is_not_removed_before_it_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, parent = fcntl.flock, Path(tempfile.gettempdir())

    def lock_late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        View(parent).close()  # another reader, which removes what killed ones left
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    view = View(parent)

    assert view.path.exists()
    view.close()


def test_a_copy_that_the_disk_takes_in_part_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, part, at: write(file, part[: len(part) // 2], at))

    with pytest.raises(IndexStorageError, match="No space left"):
        opened(home)


def test_a_reader_keeps_what_it_opened_while_another_writes_and_sees_the_rest_when_it_writes(
    home: Path,
) -> None:
    with closing(opened(home)) as reader:
        more = make_picture(9, 5)
        with closing(opened(home)) as writer:
            ingest(writer, [more])
            assert reader.counts().segments == 12
            with pytest.raises(IndexLockedError):
                reader.delete_image(PICTURES[0].image_id)
            assert list(reader.scroll_segments()) == all_segments(PICTURES)

        reader.delete_image(PICTURES[0].image_id)
        assert reader.counts().segments == 12 - 3 + 5
        assert reader.get_segments(more.segment_ids) == list(more.segments.records)


def test_a_scroll_goes_on_when_the_index_is_taken_for_a_write(fast_folder: Path) -> None:
    home = fast_folder / str(uuid4())
    pictures = [make_picture(number, 100) for number in range(6)]  # more than one page
    with closing(opened(home, create=True)) as index:
        index.ensure(FINGERPRINT)
        ingest(index, pictures)
    with closing(opened(home)) as index:
        scroll = index.scroll_segments()
        found = [next(scroll)]
        ingest(index, [pictures[0]])
        found += scroll

    assert found == all_segments(pictures)


def test_a_reader_whose_vectors_were_replaced_does_not_write(home: Path) -> None:
    with closing(opened(home)) as reader:
        with closing(opened(home)) as other:
            copy = other.vector_copy(FINGERPRINT, key="0123456789ab", update=lambda record: record)
            for picture in PICTURES:
                copy.write(picture.record, picture.segments, picture.vector)
            with copy.fenced():
                copy.switch({})
        assert reader.counts().segments == 12
        with pytest.raises(IndexMismatchError, match="reembed"):
            reader.delete_image(PICTURES[0].image_id)

    with closing(opened(home)) as index:
        assert index.counts().segments == 12


@pytest.mark.promise("Index", "Who waits for an embedded index learns for which process, and how to go on.")
def test_the_holder_is_named_with_its_service(
    home: Path, caplog: pytest.LogCaptureFixture, tried: Tried
) -> None:
    for server in (None, "http://127.0.0.1:8600"):
        caplog.clear()
        with closing(opened(home)) as writer:
            writer.ensure(FINGERPRINT)
            if server is not None:
                announce(home / "lock", server)
            with pytest.raises(IndexLockedError) as caught:
                opened(home, wait_s=0.6)
        message = str(caught.value)
        assert f"another process has edge:{home} open ({Path(sys.argv[0]).name}" in message
        assert f"pid {os.getpid()}, since 20" in message
        assert f"--server {server or 'URL'} asks" in message
        assert "--index http://HOST:PORT" in message
        [record] = caplog.records
        assert record.getMessage().startswith(
            f"waiting up to 1 s for another segdex process that has edge:{home}"
        )
    tried(2, "writers that stay")


def test_a_writer_that_ends_meanwhile_is_waited_for(home: Path) -> None:
    waiting = READER.replace("wait_s=0", "wait_s=600")
    with closing(opened(home)) as writer:
        writer.ensure(FINGERPRINT)
        reader = subprocess.Popen(
            [sys.executable, "-c", waiting, str(home)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert reader.stderr is not None
        assert reader.stderr.readline().startswith("waiting up to 600 s for another segdex process")
        ingest(writer, [make_picture(9, 5)])

    assert reader.communicate("")[0] == "17\n17\n"


KILLED_IN_RECOVERY = """
import sys
from pathlib import Path
from segdex_backends.index import edge_recover
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex

home, edge_recover.__file__ = Path(sys.argv[1]), sys.argv[2]
QdrantIndex(EdgeStore(home, create=True)).fingerprint()
"""

RECOVERY = """
import os, sys, time
from pathlib import Path

Path(sys.argv[1], "recovering").write_text(str(os.getpid()))
time.sleep(600)
"""


def test_a_recovery_that_outlives_its_killed_process_keeps_others_away(home: Path, fast_folder: Path) -> None:
    """It writes to the shards, which two processes cannot load: the next one took that for damage."""
    (home / "manifest.json").unlink()
    script = fast_folder / "recovery.py"
    script.write_text(RECOVERY)
    arguments = [sys.executable, "-c", KILLED_IN_RECOVERY, str(home), str(script)]
    process = subprocess.Popen(arguments, cwd=ROOT)
    began = home / "recovering"
    wait_until(lambda: began.exists() and began.read_text() != "", what="the recovery begins")
    process.kill()
    process.wait()

    with pytest.raises(IndexLockedError):
        opened(home).fingerprint()
    os.kill(int(began.read_text()), signal.SIGKILL)
    began.unlink()
    with closing(opened(home, wait_s=60)) as index:
        assert index.fingerprint() == FINGERPRINT


def test_a_holder_that_is_gone_is_named_and_its_index_is_checked(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "lock").write_text(
        json.dumps(
            {"pid": 1 << 22, "host": "there", "command": "segdex ingest", "since_s": 0, "server": None}
        )
    )
    with caplog.at_level(logging.WARNING), closing(opened(home)) as index:
        index.ensure(FINGERPRINT)

    assert [record.getMessage().partition(", since")[0] for record in caplog.records] == [
        f"edge:{home} was not closed (segdex ingest, pid 4194304 on there"
    ]
    assert (home / "lock").read_bytes() == b""


READ_ONLY = """
import sys
from pathlib import Path
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.errors import SegdexError
from tests.backends.index.stored_samples import FINGERPRINT, make_picture

index = QdrantIndex(EdgeStore(Path(sys.argv[1]), create=sys.argv[2] == "create", wait_s=0))
print(index.counts().segments)
picture = make_picture(0, 3)
writes = (lambda: index.delete_image(picture.image_id), lambda: index.ensure(FINGERPRINT), index.optimize)
for write in writes:
    try:
        write()
        print("written")
    except SegdexError as error:
        print(type(error).__name__, error)
print(index.counts().segments)
index.close()
"""


@pytest.mark.promise("Index", "An embedded index that cannot be written is read, and a write is refused.")
@pytest.mark.parametrize("is_closed", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_index_on_a_disk_that_cannot_be_written_is_read(
    home: Path, fast_folder: Path, is_closed: bool, tried: Tried
) -> None:
    if not is_closed:
        (home / "manifest.json").unlink()
    disk = fast_folder / f"disk-{uuid4()}"
    disk.mkdir()
    own_mounts = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    mount = f'mount --bind "{home}" "{disk}" && mount -o remount,bind,ro "{disk}"'
    if shutil.which("unshare") is None or subprocess.run([*own_mounts, mount], check=False).returncode:
        missing("a user namespace that may mount a folder", required=False)

    for how in ("create", "open"):
        done = subprocess.run(
            [*own_mounts, f'{mount} && exec "$@"', "sh", sys.executable, "-c", READ_ONLY, str(disk), how],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        first, *refused, last = done.stdout.splitlines()
        assert (first, last) == ("12", "12")
        assert len(refused) == 3
        for line in refused:
            assert line.startswith(f"IndexStorageError edge:{disk} cannot be changed, only searched"), line
    tried(2, "read-only folders")


@pytest.fixture
def free_bytes(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[Path, int]], None]:
    """Say how much room there is below some folders."""

    def set_free(free: dict[Path, int]) -> None:
        def usage(path: Any) -> Usage:
            found = [room for folder, room in free.items() if Path(path).is_relative_to(folder)]
            return Usage(1 << 40, 0, found[0] if found else 1 << 40)

        monkeypatch.setattr(shutil, "disk_usage", usage)

    return set_free


@pytest.mark.promise(
    "Index", "An embedded index on a full disk is read, and written when there is room again."
)
def test_a_full_disk_ends_writing_and_not_reading(
    home: Path, free_bytes: Callable[[dict[Path, int]], None], tried: Tried
) -> None:
    temporary, memory = Path(tempfile.gettempdir()), Path("/dev/shm")  # noqa: S108
    free_bytes({home: 0})
    with closing(opened(home)) as index:
        assert list(index.scroll_segments()) == all_segments(PICTURES)
        with pytest.raises(IndexStorageError, match="is full"):
            index.delete_image(PICTURES[0].image_id)
        assert index.counts().segments == 12
        free_bytes({})
        index.delete_image(PICTURES[0].image_id)
        free_bytes({home: 0})
        with pytest.raises(IndexStorageError, match="is full"):
            index.optimize()
        assert index.counts().segments == 9
    free_bytes({temporary: ROOM_BYTES, memory: ROOM_BYTES})
    with closing(opened(home)) as index:  # read where it lies, and by one process
        assert index.counts().segments == 9
        with pytest.raises(IndexLockedError):
            opened(home)
    free_bytes({home: 0, temporary: 0, memory: 0})
    with pytest.raises(IndexStorageError, match="is full"):
        opened(home)
    tried(5, "steps with a full disk")
