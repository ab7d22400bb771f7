"""The repository's own rules: source roots, what is shipped, the listed settings, no trace of a machine."""

import json
import re
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from pydantic_core import PydanticUndefined
from tests.needs import ROOT

from segdex import loggers
from segdex_core.settings import Settings

PACKAGES = {
    "core": "segdex_core",
    "backends": "segdex_backends",
    "ingest": "segdex_ingest",
    "search": "segdex_search",
    "api": "segdex",
}
"""The one ordinary package of each source root."""
ENV_EXAMPLE = ROOT / "deploy" / ".env.example"


@pytest.mark.parametrize(("root", "package"), PACKAGES.items())
def test_every_source_root_holds_one_typed_package(root: str, package: str) -> None:
    folder = ROOT / root / package
    with_code = {path.parent for path in folder.rglob("*.py")}

    assert {path.name for path in (ROOT / root).iterdir()} - {"__pycache__"} == {package}
    assert (folder / "py.typed").is_file()
    assert {path for path in with_code if not (path / "__init__.py").is_file()} == set()


def test_the_project_file_lists_the_source_roots_wherever_a_tool_needs_them() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    wheel = tool["hatch"]["build"]["targets"]["wheel"]
    roots = list(PACKAGES)

    assert wheel["packages"] == [f"{root}/{package}" for root, package in PACKAGES.items()]
    assert wheel["dev-mode-dirs"] == roots
    assert tool["ruff"]["src"] == roots
    assert tool["mypy"]["mypy_path"].split(":") == roots
    assert set(roots) < set(tool["hatch"]["build"]["targets"]["sdist"]["include"])
    assert set(tool["importlinter"]["root_packages"]) == set(PACKAGES.values())
    assert set(loggers.PACKAGES) == set(PACKAGES.values())


def test_the_wheel_ships_the_packages_and_nothing_else(tmp_path: Path) -> None:
    expected = {
        path.relative_to(ROOT / root).as_posix()
        for root in PACKAGES
        for path in (ROOT / root).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    shipped = _built_wheel(ROOT, tmp_path)

    assert {name for name in shipped if ".dist-info/" not in name} == expected
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in shipped)


def test_the_source_archive_builds_the_same_wheel_as_the_tree(tmp_path: Path) -> None:
    (archive,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path / "sdist"), versions=["standard"])
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("segdex-*")

    assert _built_wheel(unpacked, tmp_path / "second") == _built_wheel(ROOT, tmp_path / "first")


def test_the_example_environment_lists_every_setting_with_its_default_and_description() -> None:
    blocks = ENV_EXAMPLE.read_text().strip().split("\n\n")[1:]  # the first says what the file is

    assert blocks == [_env_block(name) for name in Settings.model_fields]


def test_the_defaults_in_the_example_environment_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SEGDEX_{name.upper()}", raising=False)
    default = Settings()
    for name, value in re.findall(r"^#(SEGDEX_\w+)=(.+)$", ENV_EXAMPLE.read_text(), flags=re.MULTILINE):
        monkeypatch.setenv(name, value)

    assert Settings() == default


def test_every_declared_dependency_is_pinned_and_explained() -> None:
    declared = _declared_dependencies()
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Dependencies")[2]
    explained = set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE))

    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin)] == []
    assert declared - {pin.partition("==")[0] for pin in pins} == set()
    assert explained == declared


def test_no_file_names_a_registry_host_or_a_path_of_somebodys_machine() -> None:
    # Written so that this file does not find itself.
    hosts = r"\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|download\.pytorch\.org|deb\.debian\.org)\b"
    paths = r"(?<![\w.~$})-])/(?:work|root|home/\w+|Users/\w+)/"
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in _repository_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if re.search(f"{hosts}|{paths}", line)
    ]

    assert found == []


def _built_wheel(project: Path, folder: Path) -> dict[str, bytes]:
    """Build the wheel of ``project`` in this process, without the network, and return its members."""
    (wheel,) = WheelBuilder(str(project)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def _env_block(name: str) -> str:
    """Return how the example lists a setting: all commented out, as an empty value is not an unset one."""
    field = Settings.model_fields[name]
    assert field.description
    assert field.default is not PydanticUndefined, f"{name} has no default"
    default = "" if field.default is None else field.default
    if isinstance(default, tuple):  # as pydantic-settings reads it
        default = json.dumps(default)
    return f"# {field.description}\n#SEGDEX_{name.upper()}={default}"


def _declared_dependencies() -> set[str]:
    """Return the names of everything that the project asks for, in any extra or group."""
    project_file = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = project_file["project"]
    groups = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *project_file["dependency-groups"].values(),
    ]
    return {re.split(r"[\[<>=!~ ;]", requirement)[0] for group in groups for requirement in group}


def _repository_files() -> list[Path]:
    """Return the text files that a commit of everything would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode != 0:
        pytest.skip(f"absent: a git checkout ({listed.stderr.strip()})")
    paths = [ROOT / name for name in sorted(set(listed.stdout.split("\0"))) if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8000]]
