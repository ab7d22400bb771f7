"""Uploads are kept once, whole, and for good."""

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from tests.conftest import Tried
from tests.faults import failing, full, killed
from tests.queues import Killed

from segdex.usecases.uploads import clean_uploads, keep_upload
from segdex_core.files import PART
from segdex_core.ids import sha256_hex

DATA = bytes(range(256)) * 40


def kept_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def visible(uploads: Path) -> list[Path]:
    """Return the files that a reader takes for uploads."""
    return [path for path in kept_in(uploads) if not any(part.endswith(PART) for part in path.parts)]


def send(uploads: Path, name: str = "cat.png") -> Path:
    return keep_upload(DATA, uploads / sha256_hex(DATA), name=name)


@pytest.mark.promise("Uploads", "An upload that is killed at any step leaves the whole picture or nothing.")
def test_an_upload_killed_at_every_step_leaves_all_of_it_or_nothing(tmp_path: Path, tried: Tried) -> None:
    with failing(None, at=0, after=False) as steps:
        send(tmp_path / "whole")
    kills, lost = 0, 0
    for at, after in ((at, after) for at in range(steps.taken) for after in (False, True)):
        uploads = tmp_path / f"{at}{after}"
        with failing(killed(), at=at, after=after), pytest.raises(Killed):
            send(uploads)
        kills += 1
        lost += any(path.read_bytes() != DATA for path in visible(uploads))
        path = send(uploads, "again.png")
        lost += [path.read_bytes() for path in visible(uploads)] != [DATA] or path not in visible(uploads)
        clean_uploads(uploads, now_s=lambda: time.time() + 7_200)
        lost += kept_in(uploads) != [path]

    tried(kills, "kills, before and after each step of an upload", lost=lost)
    assert lost == 0
    assert kills >= 10


def test_a_full_disk_at_any_step_leaves_nothing(tmp_path: Path) -> None:
    with failing(None, at=0, after=False) as steps:
        send(tmp_path / "whole")
    for at in range(steps.taken):
        uploads = tmp_path / str(at)
        with failing(full(), at=at, after=False), suppress(OSError):
            send(uploads)

        assert all(path.read_bytes() == DATA for path in visible(uploads))
        assert [path for path in kept_in(uploads) if path not in visible(uploads)] == []
        assert send(uploads).read_bytes() == DATA


@pytest.mark.promise("Uploads", "An upload that a power failure damaged is repaired by sending it again.")
def test_a_damaged_upload_is_repaired_by_sending_it_again(tmp_path: Path, tried: Tried) -> None:
    path = send(tmp_path)
    damages = (b"", DATA[:100], b"x" + DATA[1:], DATA + b"x")
    for damage in damages:
        path.write_bytes(damage)

        assert send(tmp_path, "other.png") == path
        assert path.read_bytes() == DATA
    tried(len(damages), "damaged uploads")


def test_of_many_senders_of_one_picture_the_first_one_names_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as senders:
        for round_ in range(10):
            uploads = tmp_path / str(round_)
            found = list(senders.map(lambda n, uploads=uploads: send(uploads, f"{n}.png"), range(8)))

            assert len(set(found)) == 1
            assert kept_in(uploads) == found[:1]


def test_uploads_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = send(tmp_path / "deep" / "uploads")

    modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, *path.parents)]
    assert modes[:4] == [0o600, 0o700, 0o700, 0o700]


def test_parts_of_dead_senders_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    path = send(tmp_path)
    dead, folder, living = path.with_name(f".a{PART}"), tmp_path / f"b{PART}", tmp_path / f"c{PART}"
    for one in (dead, folder / "cat.png", living / "cat.png"):
        one.parent.mkdir(exist_ok=True)
        one.write_bytes(b"half")
    for one in (dead, folder):
        os.utime(one, (time.time() - 7_200, time.time() - 7_200))

    clean_uploads(tmp_path)
    clean_uploads(tmp_path / "nothing")

    assert sorted(kept_in(tmp_path)) == sorted([path, living / "cat.png"])


def test_a_sender_that_finishes_while_another_service_starts_does_not_stop_it(tmp_path: Path) -> None:
    living, kept = tmp_path / f"a{PART}", tmp_path / "kept"
    living.mkdir()

    def finished() -> float:
        living.rename(kept)
        return time.time()

    clean_uploads(tmp_path, now_s=finished)

    assert list(tmp_path.iterdir()) == [kept]
