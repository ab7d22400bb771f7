"""A file is the old one or the new one, whatever happens while it is written."""

import errno
import os
import stat
from pathlib import Path

import pytest

from segdex_core.files import PART, durable_file, remove_parts, write_durably


class Recorder:
    """Notes the calls of the operating system that make a file durable, and fails at one of them."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, fails_at: int | None = None, code: int = errno.EIO
    ) -> None:
        self.calls: list[str] = []
        self._fails_at, self._code = fails_at, code
        fsync, replace = os.fsync, Path.replace

        def noted_fsync(descriptor: int) -> None:
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            self._note("fsync folder" if is_folder else "fsync file")
            fsync(descriptor)

        def noted_replace(part: Path, target: Path) -> Path:
            self._note("replace")
            return replace(part, target)

        monkeypatch.setattr(os, "fsync", noted_fsync)
        monkeypatch.setattr(Path, "replace", noted_replace)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if len(self.calls) == self._fails_at:
            raise OSError(self._code, os.strerror(self._code))


def test_a_file_is_synced_before_it_gets_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)

    write_durably(tmp_path / "new" / "file", b"data")

    assert recorder.calls == ["fsync folder", "fsync file", "replace", "fsync folder"]
    assert (tmp_path / "new" / "file").read_bytes() == b"data"


@pytest.mark.parametrize("fails_at", [1, 2])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    fails_at: int, old: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    Recorder(monkeypatch, fails_at)

    with pytest.raises(OSError, match="Input/output"):
        write_durably(path, b"new")

    assert (path.read_bytes() if path.exists() else None) == old
    assert [one.name for one in tmp_path.iterdir()] == ([] if old is None else ["file"])


def test_an_error_in_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with durable_file(path) as file:
            file.write(b"half of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_that_cannot_sync_a_folder_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Recorder(monkeypatch, 3, errno.EINVAL)

    write_durably(tmp_path / "file", b"data")

    assert (tmp_path / "file").read_bytes() == b"data"


def test_permissions_are_those_that_were_asked_for_whatever_the_umask_is(tmp_path: Path) -> None:
    path = tmp_path / "private" / "below" / "file"
    before = os.umask(0o277)
    try:
        write_durably(path, b"data", mode=0o600, folder_mode=0o700)
    finally:
        os.umask(before)

    modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)

    write_durably(path, b"new")

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "file", tmp_path / "link"
    real.parent.mkdir()
    real.write_bytes(b"old")
    link.symlink_to(real)

    write_durably(link, b"new")
    write_durably(Path("/dev/null"), b"data")

    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert Path("/dev/null").is_char_device()


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)

    write_durably(path, b"data")

    assert path.read_bytes() == b"data"


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_durably(tmp_path, b"data")
    (tmp_path / "file").write_bytes(b"data")
    with pytest.raises(NotADirectoryError):
        write_durably(tmp_path / "file" / "below", b"data")


def test_temporary_files_that_killed_processes_left_are_removed_after_an_hour(tmp_path: Path) -> None:
    left, fresh, other = (tmp_path / name for name in (f".left{PART}", f".fresh{PART}", "file"))
    for path in (left, fresh, other):
        path.write_bytes(b"data")
    for path in (left, other):
        os.utime(path, (0, 0))

    remove_parts(tmp_path)

    assert sorted(tmp_path.iterdir()) == sorted([fresh, other])
