"""The embedded index keeps what it has acknowledged, and names what is wrong with its folder."""

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from qdrant_edge import EdgeShard
from tests.backends.index.stored_samples import FINGERPRINT, Picture, all_segments, make_picture
from tests.needs import ROOT, missing

from segdex_backends.index import edge_folder
from segdex_backends.index.edge_access import EdgeAccess
from segdex_backends.index.edge_manifest import read_written
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.layout import segment_vector
from segdex_backends.index.payloads import fingerprint_to_payload
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.errors import (
    IndexLockedError,
    IndexMissingError,
    IndexStorageError,
    SegmentIndexError,
    UsageError,
)
from segdex_search.queries import SearchQuery, TextTerm
from segdex_search.retrieve import fused_hits
from segdex_search.scoring import Scoring

WRITER = """
import sys
from pathlib import Path
from segdex_core.errors import IndexStorageError
from segdex_backends.index import edge_store
from segdex_backends.index.qdrant import QdrantIndex
from tests.backends.index.stored_samples import FINGERPRINT, make_picture

edge_store.WRITES_PER_FLUSH = 3  # so that a kill often falls into a flush
index = QdrantIndex(edge_store.EdgeStore(Path(sys.argv[1]), create=True))
index.ensure(FINGERPRINT)
try:
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        picture = make_picture(number, 30)
        index.upsert_segments(picture.segments)
        print("segments", number, flush=True)
        index.upsert_image(picture.record, picture.vector)
        print("image", number, flush=True)
    sys.stdin.read()
except IndexStorageError as error:
    print("full", error, flush=True)
    print(index.counts(), flush=True)
"""


def start_writer(path: Path, first: int, end: int, *wrapper: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*wrapper, sys.executable, "-c", WRITER, str(path), str(first), str(end)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def home(fast_folder: Path) -> Path:
    """Where ``index`` lies."""
    return fast_folder / str(uuid4())


@pytest.fixture
def index(home: Path) -> Iterator[QdrantIndex]:
    index = QdrantIndex(EdgeStore(home, create=True))
    index.ensure(FINGERPRINT)
    yield index
    index.close()


def ingest(index: QdrantIndex, pictures: list[Picture]) -> None:
    for picture in pictures:
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)


@pytest.mark.slow
def test_a_killed_process_loses_nothing_that_was_acknowledged_and_leaves_no_half_record(
    tmp_path: Path,
) -> None:
    delays = random.Random(1)
    segments_done, images_done, first = set[int](), set[int](), 0
    for _ in range(3):
        with start_writer(tmp_path / "index", first, 10_000) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline()  # it has begun to write
            images_before = len(images_done)
            threading.Timer(0.05 + 0.3 * delays.random(), writer.send_signal, [signal.SIGKILL]).start()
            segments_done.add(first)
            for line in writer.stdout:
                what, _, number = line.partition(" ")
                (images_done if what == "image" else segments_done).add(int(number))
        first = max(segments_done) + 1
        assert len(images_done) > images_before

    index = QdrantIndex(EdgeStore(tmp_path / "index", create=False))
    found = {record.image_id: record for record in index.scroll_images()}
    pictures = {number: make_picture(number, 30) for number in range(first + 3)}
    for done, picture in pictures.items():
        segments = index.get_segments(picture.segment_ids)
        assert segments in ([], list(picture.segments.records))
        assert segments or done not in segments_done
        assert found.get(picture.image_id, picture.record) == picture.record
        assert picture.image_id in found or done not in images_done
        stored = index.get_vectors(picture.segment_ids)
        for n, segment_id in enumerate(picture.segment_ids if segments else []):
            np.testing.assert_array_equal(stored[segment_id]["crop"], picture.segments.vectors["crop"][n])
    assert index.counts().segments % 30 == 0
    index.close()


def test_an_index_that_another_process_has_open_is_refused_until_that_process_ends(tmp_path: Path) -> None:
    with start_writer(tmp_path / "index", 0, 1) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "segments 0\n"
        for create in (True, False):
            with pytest.raises(IndexLockedError, match=r"another process has edge:.* open"):
                QdrantIndex(EdgeStore(tmp_path / "index", create=create, wait_s=0))
        writer.kill()

    index = QdrantIndex(EdgeStore(tmp_path / "index", create=False))
    assert index.counts().segments == 30
    index.close()


def test_the_same_index_is_not_opened_twice_in_one_process(index: QdrantIndex, home: Path) -> None:
    with pytest.raises(IndexLockedError):
        QdrantIndex(EdgeStore(home, create=True, wait_s=0))

    index.close()
    again = QdrantIndex(EdgeStore(home, create=False))
    again.close()


def test_a_path_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("something")
    for path in (file, file / "below" / "index"):
        with pytest.raises(IndexStorageError, match=r"file.*--index"):
            QdrantIndex(EdgeStore(path, create=True))
    with pytest.raises(IndexMissingError):
        QdrantIndex(EdgeStore(file / "below", create=False))


def test_a_path_that_is_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="valid UTF-8"):
        QdrantIndex(EdgeStore(tmp_path / "\udcff", create=True))

    index = QdrantIndex(EdgeStore(tmp_path / "ü ☃", create=True))
    index.ensure(FINGERPRINT)
    index.close()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "holiday.jpg").write_text("")
    for create in (True, False):
        with pytest.raises(SegmentIndexError, match=r"no segdex index but holds 'holiday\.jpg'"):
            QdrantIndex(EdgeStore(tmp_path, create=create))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.jpg", "images"]


def test_an_empty_folder_becomes_an_index_only_when_one_is_to_be_made(tmp_path: Path) -> None:
    with pytest.raises(IndexMissingError):
        QdrantIndex(EdgeStore(tmp_path, create=False))

    index = QdrantIndex(EdgeStore(tmp_path, create=True))
    index.ensure(FINGERPRINT)
    index.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema_version": 1}',
        '{"profile": 3}',
        json.dumps(fingerprint_to_payload(FINGERPRINT)),
        *(
            json.dumps(fingerprint_to_payload(FINGERPRINT) | {"collections": damaged})
            for damaged in (None, {}, {"segments": "segments-4"}, {"segments": None, "images": "images-4"})
        ),
    ],
)
def test_a_damaged_description_is_named_the_lock_is_released_and_nothing_is_removed(
    index: QdrantIndex, home: Path, text: str
) -> None:
    ingest(index, [make_picture(0, 3)])
    index.close()
    whole = (home / "segdex.json").read_text()
    (home / "segdex.json").write_text(text)
    for create in (True, False):
        with pytest.raises(SegmentIndexError, match=r"damaged|cannot be read") as caught:
            QdrantIndex(EdgeStore(home, create=create))
        assert not isinstance(caught.value, IndexLockedError)
        assert "\n" not in str(caught.value)

    assert {path.name for path in home.iterdir() if path.is_dir()} == {"segments-4", "images-4", "sets-5"}
    (home / "segdex.json").write_text(whole)
    again = QdrantIndex(EdgeStore(home, create=False))
    assert list(again.scroll_segments()) == all_segments([make_picture(0, 3)])
    assert again.counts().images == 1
    again.close()


def test_what_a_process_left_that_ended_while_it_made_the_index_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "segdex.json.new").write_text('{"prof')
    (tmp_path / ".0123.part").write_text('{"prof')
    index = QdrantIndex(EdgeStore(tmp_path, create=True))
    index.ensure(FINGERPRINT)
    index.close()
    # As if it had ended between the description and the second shard.
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "images-4").rename(tmp_path / "images-4.new")
    (tmp_path / "images-4.new" / "edge_config.json").write_text("")

    again = QdrantIndex(EdgeStore(tmp_path, create=True))
    again.ensure(FINGERPRINT)
    ingest(again, [make_picture(0, 3)])

    assert again.counts().images == 1
    again.close()


@pytest.mark.parametrize(
    "file", ["segment.json", f"vector_storage-{segment_vector(FINGERPRINT)}/vectors/status.dat", "wal/open-1"]
)
def test_a_damaged_shard_is_an_error_of_one_line(index: QdrantIndex, home: Path, file: str) -> None:
    ingest(index, [make_picture(0, 3)])
    index.close()
    for path in (home / "segments-4").rglob(Path(file).name):
        if str(path).endswith(file):
            path.write_bytes(b"")

    with pytest.raises(SegmentIndexError, match="is damaged") as caught:
        QdrantIndex(EdgeStore(home, create=False))

    assert "\n" not in str(caught.value)


def test_nothing_is_written_when_the_disk_is_nearly_full(
    index: QdrantIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(index, [make_picture(0, 3)])
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, edge_folder.WRITE_FREE_BYTES - 1))
        with pytest.raises(IndexStorageError, match="127 MiB are free, but 128 MiB are needed"):
            ingest(index, [make_picture(1, 3)])
        with pytest.raises(IndexStorageError, match="is full"):
            index.optimize()
        assert index.counts().segments == 3  # reading goes on

    ingest(index, [make_picture(1, 3)])
    assert list(index.scroll_segments()) == all_segments([make_picture(0, 3), make_picture(1, 3)])


def test_a_delete_that_failed_does_not_make_the_index_damaged(
    index: QdrantIndex, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = make_picture(0, 3)
    ingest(index, [picture])
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, edge_folder.WRITE_FREE_BYTES - 1))
        with pytest.raises(IndexStorageError, match="is full"):
            index.delete_segments(picture.image_id)
    index.close()

    with closing(QdrantIndex(EdgeStore(home, create=False))) as again:
        assert list(again.scroll_segments()) == all_segments([picture])


def test_a_write_and_a_delete_at_the_same_time_note_no_more_points_than_there_are(
    index: QdrantIndex, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_picture(0, 3), make_picture(1, 3)
    ingest(index, [first])
    is_written, is_deleted = threading.Event(), threading.Event()
    note_points = EdgeAccess.note_points

    def note_slowly(access: EdgeAccess, name: str, count: int, *, durably: bool = False) -> None:
        if count == 6:  # of the write
            is_written.set()
            is_deleted.wait(1)
        note_points(access, name, count, durably=durably)

    def delete() -> None:
        assert is_written.wait(60)
        index.delete_segments(first.image_id)
        is_deleted.set()

    monkeypatch.setattr(EdgeAccess, "note_points", note_slowly)
    threads = [threading.Thread(target=index.upsert_segments, args=(second.segments,))]
    threads.append(threading.Thread(target=delete))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert index.counts().segments == 3
    assert read_written(home)["segments-4"] <= 3


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_in_an_error_and_not_in_the_death_of_the_process(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    # A namespace of its own: needs no rights, and the mount is gone with the process.
    own_mounts = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    mount = f'mount -t tmpfs -o size=190m tmpfs "{disk}"'
    if shutil.which("unshare") is None or subprocess.run([*own_mounts, mount], check=False).returncode:
        missing("a user namespace that may mount a tmpfs", required=False)

    with start_writer(disk / "index", 0, 10_000, *own_mounts, f'{mount} && exec "$@"', "sh") as writer:
        output, _ = writer.communicate()

    assert writer.returncode == 0, output
    assert "make room, or choose another --index" in output
    done = output.count("segments ")
    assert done > 0
    assert f"segments={30 * done})" in output.splitlines()[-1]


def test_a_full_disk_is_recognised_before_opening(
    index: QdrantIndex, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.close()
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, edge_folder.OPEN_FREE_BYTES - 1))
        with pytest.raises(IndexStorageError, match="is full"):
            QdrantIndex(EdgeStore(home, create=False))

    again = QdrantIndex(EdgeStore(home, create=False))  # the lock was released
    again.close()


def test_threads_may_write_and_read_at_the_same_time(index: QdrantIndex) -> None:
    pictures = [make_picture(number, 20) for number in range(12)]
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(30):
                found = index.query_fused({"crop": query}, weights={"crop": 1.0}, limit=9)
                assert everything.issuperset(index.get_segments([hit.segment_id for hit in found]))
        except BaseException as error:
            errors.append(error)
            raise

    query = pictures[0].vector[0]
    everything = set(all_segments(pictures))
    threads = [threading.Thread(target=read) for _ in range(2)]
    threads += [threading.Thread(target=ingest, args=(index, pictures[n::2])) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    assert list(index.scroll_segments()) == all_segments(pictures)


@pytest.mark.slow
def test_optimizing_a_large_index_builds_the_graph_and_finds_nearly_what_exact_search_finds(
    fast_folder: Path,
) -> None:
    dim = 1024  # 2,700 vectors are more than the 10 MB from where a graph is built
    index = QdrantIndex(EdgeStore(fast_folder / "graph", create=True))
    index.ensure(replace(FINGERPRINT, dim=dim, views=("crop",)))
    for number in range(27):
        picture = make_picture(number, 100, dim=dim)
        crops = {"crop": picture.segments.vectors["crop"]}
        index.upsert_segments(replace(picture.segments, vectors=crops))
        index.upsert_image(picture.record, picture.vector)
    index.optimize()

    index.close()
    shutil.copytree(fast_folder / "graph" / "segments-4", fast_folder / "look")  # a look changes its files
    shard = EdgeShard.load(str(fast_folder / "look"))
    assert shard.info().indexed_vectors_count >= 2700
    shard.close()
    index = QdrantIndex(EdgeStore(fast_folder / "graph", create=False))
    queries = np.random.default_rng(0).normal(size=(20, dim)).astype(np.float32)
    shared = 0
    for query in queries:
        exact, found = (
            index.query_fused({"crop": query}, weights={"crop": 1.0}, limit=10, exact=exact)
            for exact in (True, False)
        )
        shared += len({hit.segment_key for hit in exact} & {hit.segment_key for hit in found})
        question = SearchQuery((TextTerm("given as a vector"),), limit=27, per_image=2, nms=False)
        hits, _ = fused_hits(question, Scoring({"crop": query}, {"crop": 1.0}), index)
        assert len(hits) == 27
        assert {len(hit.segments) for hit in hits} == {2}
    # Random vectors of 1024 dimensions are the hardest case; 173 of 200 were measured.
    assert shared >= 120
    index.close()


def test_optimizing_leaves_vectors_that_are_not_in_use_alone(index: QdrantIndex, home: Path) -> None:
    picture = make_picture(0, 3)
    ingest(index, [picture])
    wanted = replace(FINGERPRINT, embedder="another")
    copy = index.vector_copy(wanted, key="0123456789ab", update=lambda record: record)
    copy.write(picture.record, picture.segments, picture.vector)

    def changed_ns() -> dict[str, list[int]]:
        """When the files of each shard were changed."""
        return {
            shard.name: [path.stat().st_mtime_ns for path in sorted((shard / "segments").rglob("*"))]
            for shard in home.glob("*-[45]*")
        }

    before = changed_ns()
    index.optimize()
    after = changed_ns()
    assert {name for name in after if after[name] != before[name]} == {"segments-4", "images-4", "sets-5"}

    with copy.fenced():
        switched = copy.switch({})
    before = changed_ns()
    switched.upsert_segments(picture.segments)
    switched.optimize()
    after = changed_ns()
    assert before["segments-4"] == after["segments-4"]
    assert before["segments-4-0123456789ab"] != after["segments-4-0123456789ab"]


def test_the_description_is_readable_by_people(index: QdrantIndex, home: Path) -> None:
    description = json.loads((home / "segdex.json").read_text())

    assert description["embedder"] == FINGERPRINT.embedder
    assert not list(home.glob("*.new"))


def test_a_log_file_that_is_renamed_meanwhile_does_not_end_a_write(
    index: QdrantIndex, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qdrant Edge makes the next file of the log as tmp-open-5 in a thread, and then renames it."""
    listed = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        yield from listed(folder)
        yield folder / "tmp-open-5"

    monkeypatch.setattr(Path, "iterdir", iterdir)
    picture = make_picture(0, 3)
    index.upsert_segments(picture.segments)

    assert index.counts().segments == 3
