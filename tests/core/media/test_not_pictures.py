"""Files that are no pictures are remembered: no name is kept, and no more than the last scans have seen."""

import os
from pathlib import Path

import pytest
from tests.faults import failing, full

from segdex_core.media import not_pictures
from segdex_core.media.not_pictures import KEPT_S, NotPictures
from segdex_core.ports.source import FileVersion

VERSION = FileVersion(5, 7)
URI = "file:///private/holiday.json"


def noted(memory: NotPictures, *uris: str, places: tuple[str, ...] = ("/private",)) -> None:
    """Scan places in which some files are no pictures: what is known is asked, and the others are noted."""
    scan = memory.scan(places)
    for uri in uris:
        if scan.find(uri, VERSION) is None:
            scan.note(uri, VERSION, "mp4" if uri.endswith("mov") else None)
    scan.save()


def knows(memory: NotPictures, uri: str, version: FileVersion = VERSION) -> str | None:
    return memory.scan(["elsewhere"]).find(uri, version)


@pytest.fixture(name="memory")
def _memory(tmp_path: Path) -> NotPictures:
    return NotPictures(tmp_path / "memory")


def test_a_file_is_known_by_its_size_and_its_time(memory: NotPictures) -> None:
    noted(memory, URI, "file:///private/a.mov")

    assert knows(memory, URI) == ""
    assert knows(memory, "file:///private/a.mov") == "mp4"
    assert knows(memory, URI, FileVersion(6, 7)) is None
    assert knows(memory, URI, FileVersion(5, 8)) is None
    assert knows(memory, "file:///private/b.json") is None
    error = memory.scan([]).refusal("file:///private/a.mov", VERSION)
    assert error is not None
    assert (error.kind, str(error)) == ("mp4", "/private/a.mov: MP4 is video, which is not read")


def test_another_recogniser_knows_none_of_it(memory: NotPictures, monkeypatch: pytest.MonkeyPatch) -> None:
    noted(memory, URI)
    monkeypatch.setattr(not_pictures, "recogniser", lambda: "one that reads more formats")

    assert knows(memory, URI) is None


def test_a_scan_forgets_what_it_does_not_see_any_more(memory: NotPictures, tmp_path: Path) -> None:
    others = [f"file:///private/{number}.json" for number in range(1_000)]
    noted(memory, URI, *others)
    [file] = (tmp_path / "memory").iterdir()
    assert 17 * 1_001 <= file.stat().st_size < 17 * 1_001 + 100

    noted(memory, URI)

    assert knows(memory, URI) == ""
    assert knows(memory, others[0]) is None
    assert file.stat().st_size < 17 + 100
    noted(memory)
    assert list((tmp_path / "memory").iterdir()) == []


def test_other_scans_are_kept_up_to_a_number_and_an_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(not_pictures, "MAX_SCANS", 5)
    now_s = [1e9]
    memory = NotPictures(tmp_path, now_s=lambda: now_s[0])
    for number in range(5 + 3):
        scan = memory.scan([f"/{number}"])
        scan.note(f"file:///{number}/a.json", VERSION, None)
        scan.save()
        for path in tmp_path.iterdir():
            if path.stat().st_mtime > now_s[0]:
                os.utime(path, (now_s[0], now_s[0]))
        now_s[0] += 10

    assert len(list(tmp_path.iterdir())) == 5
    assert knows(memory, "file:///0/a.json") is None
    assert knows(memory, "file:///7/a.json") == ""
    now_s[0] += KEPT_S
    noted(memory, URI)
    assert len(list(tmp_path.iterdir())) == 1


def test_no_name_is_kept(memory: NotPictures, tmp_path: Path) -> None:
    noted(memory, URI)

    for path in tmp_path.rglob("*"):
        assert b"holiday" not in bytes(path)
        if path.is_file():
            assert b"holiday" not in path.read_bytes()
            assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [b"", b"{", b'["mp4"]\n1', b'{"a": 1}\n', b'[""]\n' + bytes([9]) * 17])
def test_a_damaged_memory_knows_nothing_and_is_written_anew(
    memory: NotPictures, tmp_path: Path, damage: bytes
) -> None:
    noted(memory, URI)
    [file] = (tmp_path / "memory").iterdir()
    file.write_bytes(damage)

    assert knows(memory, URI) is None
    noted(memory, URI)
    assert knows(memory, URI) == ""


def test_a_memory_that_cannot_be_written_stops_nothing(memory: NotPictures) -> None:
    with failing(full(), at=0, after=True):
        noted(memory, URI)
    NotPictures(None).scan(["/"]).save()

    assert NotPictures(None).scan(["/"]).find(URI, VERSION) is None
