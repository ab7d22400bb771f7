"""A damaged embedded index gives the same answers or one clear error, and never less without a word."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from tests.backends.index.stored_samples import FINGERPRINT, make_picture
from tests.conftest import Tried

from segdex_backends.index import edge_access
from segdex_backends.index.edge_manifest import sum_file
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.errors import IndexLockedError, SegmentIndexError

PICTURES = [make_picture(number, 4) for number in range(8)]
Answer = tuple[list[str], list[str], list[list[float]]]


def opened(home: Path, *, create: bool = False) -> QdrantIndex:
    return QdrantIndex(EdgeStore(home, create=create, wait_s=0))


def fill(index: QdrantIndex) -> None:
    index.ensure(FINGERPRINT)
    for picture in PICTURES:
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)


def copied(home: Path, to: Path) -> Path:
    """Copy a folder as a process would have left it that was killed now; the files stay sparse."""
    for path in sorted(home.rglob("*")):
        target = to / path.relative_to(home)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            sum_file(path, copy_to=target)
    return to


@pytest.fixture(name="home")
def _home(fast_folder: Path) -> Path:
    home = fast_folder / str(uuid4())
    with closing(opened(home, create=True)) as index:
        fill(index)
    return home


def answer(home: Path) -> Answer:
    """Open an index and return everything in it."""
    with closing(opened(home)) as index:
        segments = list(index.scroll_segments())
        vectors = index.get_vectors([segment.segment_id for segment in segments])
        rows = [
            vectors[segment.segment_id][view].tolist() for segment in segments for view in ("crop", "mask")
        ]
        return list(map(repr, index.scroll_images())), list(map(repr, segments)), rows


def flip(path: Path) -> None:
    """Flip bits in the part of a file that holds something."""
    content = path.read_bytes()
    places = [place for place, byte in enumerate(content[: 1 << 16]) if byte] or [0]
    chosen = random.Random(len(content))
    with path.open("r+b") as file:
        for place in chosen.sample(places, min(4, len(places))):
            file.seek(place)
            file.write(bytes([content[place] ^ 1 << chosen.randrange(8)]))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


DAMAGES: tuple[Callable[[Path], None], ...] = (flip, cut, empty, Path.unlink)


def damaged_answers(home: Path, files: Sequence[Path]) -> Iterator[tuple[str, Answer | SegmentIndexError]]:
    """Damage one file after the other, and yield what the index answers."""
    kept = home.with_name(f"{home.name}-kept")
    for file in files:
        for damage in DAMAGES if file.stat().st_size else DAMAGES[3:]:
            sum_file(file, copy_to=kept)
            damage(file)
            what = f"{damage.__name__} {file.relative_to(home)}"
            try:
                yield what, answer(home)
            except SegmentIndexError as error:
                yield what, error
            kept.replace(file)


@pytest.mark.promise(
    "Index",
    "A damaged file of an embedded index makes an error that names it, and never an answer with less.",
)
@pytest.mark.parametrize("every", [23, pytest.param(3, marks=pytest.mark.slow)])
def test_no_damaged_copy_answers_with_less(home: Path, every: int, tried: Tried) -> None:
    right = answer(home)
    assert (len(right[0]), len(right[1])) == (8, 32)
    files = [path for path in sorted(home.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    # the manifest last: without it, the files are checked and written anew
    files = [*files[::every], home / "manifest.json"]
    refused = count = 0
    for what, found in damaged_answers(home, files):
        count += 1
        if isinstance(found, SegmentIndexError):
            refused += 1
            assert not isinstance(found, IndexLockedError), what
            assert "\n" not in str(found), what
            assert "damaged" in str(found), found
        else:
            assert found == right, what

    assert refused > count * 0.7  # all but those of lock, manifest.json, written.json and replayed journals
    assert answer(home) == right  # the damage was undone
    tried(count, "damaged copies")


@pytest.mark.slow
@pytest.mark.promise(
    "Index",
    "After a crash, a damaged embedded index makes an error, or answers with everything that was written.",
)
def test_no_damaged_copy_of_an_index_that_was_not_closed_has_fewer_points(
    fast_folder: Path, tried: Tried
) -> None:
    home = fast_folder / str(uuid4())
    with closing(opened(home, create=True)) as index:
        fill(index)
        killed = copied(home, fast_folder / str(uuid4()))
    right = answer(copied(killed, fast_folder / str(uuid4())))
    assert (len(right[0]), len(right[1])) == (8, 32)
    kinds: dict[str, Path] = {}
    for path in sorted(killed.rglob("*")):
        if path.is_file() and path.name not in ("segdex.json", "lock"):
            kinds.setdefault(path.name, path.relative_to(killed))
    count = 0
    for file in kinds.values():
        for damage in DAMAGES if (killed / file).stat().st_size else DAMAGES[3:]:
            home = copied(killed, fast_folder / str(uuid4()))
            damage(home / file)
            count += 1
            with suppress(SegmentIndexError):
                found = answer(home)
                assert (len(found[0]), len(found[1])) == (8, 32), f"{damage.__name__} {file}"
    tried(count, "damaged copies of an index that was not closed")


def test_an_index_that_was_not_closed_is_whole_again_after_a_look(fast_folder: Path) -> None:
    home = fast_folder / str(uuid4())
    with closing(opened(home, create=True)) as index:
        fill(index)
        index.delete_image(PICTURES[0].image_id)
        killed = copied(home, fast_folder / str(uuid4()))
        (killed / "written.json").write_text("{")  # as far as it goes
    assert not (killed / "manifest.json").exists()
    assert [len(part) for part in answer(killed)] == [7, 28, 56]
    assert (killed / "manifest.json").exists()
    assert [len(part) for part in answer(killed)] == [7, 28, 56]


@pytest.mark.parametrize("is_written", [False, True])
def test_an_index_that_is_read_where_it_lies_may_be_killed(
    home: Path, fast_folder: Path, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    monkeypatch.setattr(edge_access, "VIEW_BYTES", 0)  # as if it were too large for a copy
    with closing(opened(home)) as index:
        if is_written:
            index.delete_image(PICTURES[0].image_id)
        assert not (home / "manifest.json").exists()  # which would take the next change for damage
        killed = copied(home, fast_folder / str(uuid4()))

    assert [len(part) for part in answer(killed)] == ([7, 28, 56] if is_written else [8, 32, 64])


def test_points_that_a_log_lost_are_missed(fast_folder: Path) -> None:
    """Qdrant Edge ends the replay of its log at the first record whose checksum is wrong, without a word."""
    home = fast_folder / str(uuid4())
    with closing(opened(home, create=True)) as index:
        fill(index)
        killed = copied(home, fast_folder / str(uuid4()))
    [log] = (killed / "images-4" / "wal").glob("open-1")
    with log.open("r+b") as file:
        content = file.read(1 << 16).rstrip(b"\0")
        file.seek(len(content) // 2)
        file.write(b"\xff" * 64)

    with pytest.raises(SegmentIndexError, match=r"images-4 has \d points, but 8 were written") as caught:
        answer(killed)
    assert "remove manifest.json and written.json" in str(caught.value)

    (killed / "written.json").unlink()  # what the message says
    assert 0 < len(answer(killed)[0]) < 8


def test_an_index_of_an_earlier_version_gets_a_manifest(home: Path) -> None:
    right = answer(home)
    for name in ("manifest.json", "written.json"):
        (home / name).unlink()

    assert answer(home) == right
    assert (home / "manifest.json").exists()


def test_a_former_process_that_removed_replayed_journals_did_no_damage(home: Path) -> None:
    right = answer(home)
    for path in home.rglob("tracker_journal.dat"):
        path.unlink()

    assert answer(home) == right
