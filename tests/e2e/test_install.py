"""The wheel in a clean environment, outside the checkout: what it declares is all that it needs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from tests.needs import ROOT, in_ci, missing, photo
from tests.real_models import onnx_sam2_files

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

UV = Path(sys.executable).with_name("uv")
ATTEMPTS = 3
PHOTOS = ("chelsea.png", "coffee.png")
SIDE_PX = 200

IMPORT_ALL = """
import importlib, pkgutil
for name in ("segdex_core", "segdex_backends", "segdex_ingest", "segdex_search", "segdex"):
    package = importlib.import_module(name)
    print(package.__file__)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name != "pyarrow":  # of the extra `parquet`, which is not installed here
                raise
"""


@dataclass(frozen=True)
class Installation:
    """A virtual environment with nothing but the wheel, its dependencies and the extra ``offline``."""

    environment: Path
    elsewhere: Path

    def __call__(self, program: str, *arguments: str, **variables: str) -> str:
        """Run a program of the environment in a folder that knows nothing of the checkout."""
        command = [str(self.environment / "bin" / program), *arguments]
        done = subprocess.run(
            command, cwd=self.elsewhere, env=clean() | variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def clean() -> dict[str, str]:
    """Return the environment without what leads to this checkout or to the environment of the tests."""
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}


def install(python: Path, wheel: Path) -> None:
    """Install the wheel with the versions that are tested, three attempts at most, as in the Makefile."""
    pins = str(ROOT / "constraints.txt")
    what = ["--constraints", pins, "--build-constraints", pins, f"segdex[offline] @ {wheel.as_uri()}"]
    command = [str(UV), "pip", "install", "--python", str(python), *what]
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            command, env={"UV_HTTP_TIMEOUT": "300"} | clean(), capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
    if "Failed to fetch" in done.stderr:
        missing(f"an answer of the package index: {done.stderr}", required=in_ci())
    pytest.fail(done.stderr)


@pytest.fixture(name="installed", scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("install")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    environment, elsewhere = folder / "environment", folder / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, environment], env=clean(), check=True)
    install(environment / "bin" / "python", wheel)
    yield Installation(environment, elsewhere)
    shutil.rmtree(environment)  # some GB where uv cannot link to its cache


def test_every_module_is_installed_and_finds_what_it_imports(installed: Installation) -> None:
    places = installed("python", "-c", IMPORT_ALL).splitlines()

    assert len(places) == 5
    assert [place for place in places if not Path(place).is_relative_to(installed.environment)] == []


def test_the_command_says_its_version_and_its_verbs(installed: Installation) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert installed("segdex", "--version") == f"segdex {version}\n"
    shown = installed("segdex", "--help")
    assert all(verb in shown for verb in ("ingest", "search", "serve"))


@pytest.mark.models
def test_the_first_python_example_of_the_readme_runs_as_it_stands(
    installed: Installation, tmp_path: Path
) -> None:
    onnx_sam2_files()
    for name in PHOTOS:
        with Image.open(photo(name)) as picture:
            small = picture.convert("RGB")
            small.thumbnail((SIDE_PX, SIDE_PX))
            small.save(tmp_path / name)
    example = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert example is not None
    code = example[1].replace('"~/Pictures"', repr(str(tmp_path)))
    assert str(tmp_path) in code

    lines = installed("python", "-c", code, SEGDEX_PROFILE="offline").splitlines()

    assert 0 < len(lines) <= 5 * 3  # five pictures at most, and three hits of each
    assert [line for line in lines if not any(str(tmp_path / name) in line for name in PHOTOS)] == []
