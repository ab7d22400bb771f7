"""Tools of other ecosystems for tests, each set in an environment of its own: fetched once, and cached."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from tests.needs import in_ci, missing

from segdex_backends.models.checksums import default_cache_dir

_FETCH_S = 600.0


def npm_tools(lock: Path) -> Path:
    """Return a folder with ``node_modules`` of a lock file, which pins each package with its integrity.

    Args:
        lock: ``package-lock.json`` with a ``package.json`` beside it. No script of a package runs.
    """
    npm = shutil.which("npm")
    if npm is None:
        missing("npm", required=in_ci())
    command = [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    return _made(lock, lambda part: _fetch([*command, "--prefix", str(part)], lock), also=("package.json",))


def python_tools(requirements: Path) -> Path:
    """Return the folder with the programs of an environment that has pinned packages and nothing else."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))

    def make(part: Path) -> None:
        _fetch([uv, "venv", "--quiet", "--relocatable", str(part / "venv")], requirements)
        install = [uv, "pip", "install", "--quiet", "--python", str(part / "venv/bin/python")]
        _fetch([*install, "-r", str(requirements)], requirements)

    return _made(requirements, make) / "venv/bin"


def _made(pins: Path, make: Callable[[Path], None], *, also: tuple[str, ...] = ()) -> Path:
    """Return the folder that belongs to a file of pinned versions, which appears in one step."""
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:16]
    home = default_cache_dir() / "test-tools" / f"{pins.stem}-{digest}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock", timeout=_FETCH_S):
        if home.is_dir():
            return home
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".fetch-") as folder:
            part = Path(folder) / "part"
            part.mkdir()
            for name in (pins.name, *also):
                shutil.copyfile(pins.with_name(name), part / name)
            make(part)
            part.rename(home)
    return home


def _fetch(command: list[str], pins: Path) -> None:
    """Run a command that fetches, or skip the test where nothing can be fetched."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_S, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        missing(f"the packages of {pins.name}: {last[0]}", required=in_ci())


def run(*command: str | Path, within: Path, ok: bool = True) -> str:
    """Run a tool, and return all that it wrote."""
    environment = {**os.environ, "NO_COLOR": "1", "CI": "true"}
    environment.pop("PYTHONPATH", None)  # the environments are their own
    done = subprocess.run(
        list(map(str, command)),
        cwd=within,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_FETCH_S,
        check=False,
    )
    assert not ok or done.returncode == 0, done.stdout
    return done.stdout
