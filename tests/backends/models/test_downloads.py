"""Checksums that are kept, and downloads that are compared with the first one."""

import json
import os
import time
from pathlib import Path

import pytest

from segdex_backends.models import checksums
from segdex_backends.models.checksums import file_sha256, known_sha256
from segdex_backends.models.downloads import Download, check_download, find_record, record_path
from segdex_core.errors import ModelInvalidError

REPOSITORY, FILE, COMMIT = "someone/model", "model.safetensors", "0123456789" * 4
"""Of a repository with one file."""


@pytest.fixture(name="weights")
def _weights(tmp_path: Path) -> Path:
    """A file in the layout of the hub's cache: a link in a snapshot to a blob."""
    home = tmp_path / "hub" / "models--someone--model"
    snapshot = home / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    (home / "blobs" / "etag").write_bytes(b"weights")
    (snapshot / FILE).symlink_to(home / "blobs" / "etag")
    return snapshot / FILE


@pytest.fixture(name="cache")
def _cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def later() -> int:
    """Return a time when what is written now has settled."""
    return time.time_ns() + 60 * 10**9


def spoil_notes(cache: Path, sha256: str) -> None:
    """Write another checksum into all that is kept, so that a kept one can be told from a new one."""
    for note in (cache / "checksums").iterdir():
        note.write_text(json.dumps({**json.loads(note.read_bytes()), "sha256": sha256}))


def test_a_file_is_hashed_once(weights: Path, cache: Path) -> None:
    assert known_sha256(weights, cache_dir=cache, small_bytes=0, clock_ns=later) == file_sha256(weights)
    spoil_notes(cache, "kept")

    assert known_sha256(weights, cache_dir=cache, small_bytes=0, clock_ns=later) == "kept"
    assert known_sha256(weights.resolve(), cache_dir=cache, small_bytes=0, clock_ns=later) == "kept"


@pytest.mark.parametrize("change", ["longer", "same size", "same size and time"])
def test_a_file_that_changed_is_hashed_again(weights: Path, cache: Path, change: str) -> None:
    known_sha256(weights, cache_dir=cache, small_bytes=0, clock_ns=later)
    before = weights.stat()

    weights.write_bytes(b"longer than weights" if change == "longer" else b"WEIGHTS")
    if change == "same size and time":
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "same size":
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 1))

    assert known_sha256(weights, cache_dir=cache, small_bytes=0, clock_ns=later) == file_sha256(weights)


def test_nothing_is_kept_of_a_file_that_has_just_changed(weights: Path, cache: Path) -> None:
    """It may change again without another time: the clock of a file system has coarse ticks."""
    changed_ns = weights.stat().st_ctime_ns

    for clock_ns in (lambda: changed_ns, lambda: changed_ns + 10**9):
        known_sha256(weights, cache_dir=cache, small_bytes=0, clock_ns=clock_ns)
        assert not cache.exists()

    known_sha256(weights, cache_dir=cache, small_bytes=0, clock_ns=lambda: changed_ns + 3 * 10**9)
    assert cache.exists()


def test_a_file_at_another_place_has_its_own_checksum(tmp_path: Path, cache: Path) -> None:
    places = [tmp_path / name for name in ("a", "b")]
    for place in places:
        place.write_bytes(place.name.encode())

    assert [known_sha256(place, cache_dir=cache, small_bytes=0, clock_ns=later) for place in places] == list(
        map(file_sha256, places)
    )


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"size": 7}'])
def test_a_damaged_note_costs_time_alone(weights: Path, cache: Path, damage: str) -> None:
    known_sha256(weights, cache_dir=cache, small_bytes=0, clock_ns=later)
    for note in (cache / "checksums").iterdir():
        note.write_text(damage)

    assert known_sha256(weights, cache_dir=cache, small_bytes=0, clock_ns=later) == file_sha256(weights)


def test_a_cache_that_cannot_be_written_costs_time_alone(weights: Path, cache: Path) -> None:
    cache.write_text("a file in place of the folder")

    assert known_sha256(weights, cache_dir=cache, small_bytes=0, clock_ns=later) == file_sha256(weights)
    check_download(weights, REPOSITORY, FILE, cache_dir=cache)


def test_nothing_is_kept_of_small_files(weights: Path, cache: Path) -> None:
    assert known_sha256(weights, cache_dir=cache) == file_sha256(weights)

    assert not cache.exists()


def test_the_first_download_is_recorded_with_its_commit(weights: Path, cache: Path) -> None:
    assert find_record(REPOSITORY, FILE, cache_dir=cache) is None

    check_download(weights, REPOSITORY, FILE, cache_dir=cache)

    sha256 = file_sha256(weights)
    assert find_record(REPOSITORY, FILE, cache_dir=cache) == Download(REPOSITORY, FILE, COMMIT, sha256)
    folder = record_path(REPOSITORY, FILE, cache_dir=cache).parent
    assert [path.name for path in folder.iterdir()] == [f"{FILE}.json"]
    check_download(weights, REPOSITORY, FILE, cache_dir=cache)


def test_a_file_that_differs_from_its_record_is_refused_until_the_record_is_deleted(
    weights: Path, cache: Path
) -> None:
    check_download(weights, REPOSITORY, FILE, cache_dir=cache)
    record = record_path(REPOSITORY, FILE, cache_dir=cache)
    first = weights.read_bytes()
    weights.write_bytes(b"others!")

    for _ in range(2):
        with pytest.raises(ModelInvalidError) as caught:
            check_download(weights, REPOSITORY, FILE, cache_dir=cache)
        message = str(caught.value)
        assert "\n" not in message
        for part in (
            REPOSITORY,
            FILE,
            str(weights.resolve()),
            str(record),
            COMMIT[:12],
            file_sha256(weights)[:12],
        ):
            assert part in message

    weights.write_bytes(first)
    check_download(weights, REPOSITORY, FILE, cache_dir=cache)
    weights.write_bytes(b"others!")
    record.unlink()
    check_download(weights, REPOSITORY, FILE, cache_dir=cache)


def test_a_pin_counts_more_than_a_record(weights: Path, cache: Path) -> None:
    pinned = file_sha256(weights)
    check_download(weights, REPOSITORY, FILE, pinned=pinned, cache_dir=cache)
    assert find_record(REPOSITORY, FILE, cache_dir=cache) is None

    weights.write_bytes(b"others!")
    with pytest.raises(ModelInvalidError, match=rf"catalog pins {pinned[:12]}.*delete {weights.resolve()}"):
        check_download(weights, REPOSITORY, FILE, pinned=pinned, cache_dir=cache)


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}"])
def test_a_damaged_record_is_named(weights: Path, cache: Path, damage: str) -> None:
    check_download(weights, REPOSITORY, FILE, cache_dir=cache)
    record = record_path(REPOSITORY, FILE, cache_dir=cache)
    record.write_text(damage)

    with pytest.raises(ModelInvalidError, match=rf"record {record} .* is damaged: delete it"):
        check_download(weights, REPOSITORY, FILE, cache_dir=cache)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checksums.known_sha256(tmp_path / "nowhere")
