"""The repository's own rules: source roots, what is shipped, the listed settings, no trace of a machine."""

import ast
import email
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from importlib.metadata import packages_distributions
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
NEEDED = {"segdex", "segdex_core"}
"""The packages that a client of a service needs."""
RELEASE = "segdex-" + tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
"""The folder in a source archive, and the start of the name of ``.dist-info``."""
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
    assert set(tool["importlinter"]["root_packages"]) == set(PACKAGES.values())
    assert set(loggers.PACKAGES) == set(PACKAGES.values())


@pytest.mark.parametrize("module", ["segdex", "segdex.client"])
def test_the_front_door_and_the_client_load_no_pixels_before_they_are_asked_for_some(module: str) -> None:
    heavy = [
        "numpy",
        "PIL",
        "scipy",
        "pycocotools",
        "torch",
        "fastapi",
        *sorted(set(PACKAGES.values()) - NEEDED),
    ]
    code = f"import sys, {module}\nprint([name for name in {heavy!r} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_wheel_ships_the_packages_and_nothing_else(tmp_path: Path) -> None:
    description = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    expected = {name.partition("/")[2] for name in _shipped_sources()}

    with zipfile.ZipFile(_built_wheel(ROOT, tmp_path)) as wheel:
        assert set(wheel.namelist()) == expected | {f"{RELEASE}.dist-info/{name}" for name in description}


def test_the_wheel_says_what_it_is_and_needs(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with zipfile.ZipFile(_built_wheel(ROOT, tmp_path)) as wheel:
        said = email.message_from_bytes(wheel.read(f"{RELEASE}.dist-info/METADATA"))
        commands = ConfigParser()
        commands.read_string(wheel.read(f"{RELEASE}.dist-info/entry_points.txt").decode())
    needed = set(project["dependencies"])
    for extra, requirements in project["optional-dependencies"].items():
        needed |= {f"{requirement}; extra == '{extra}'" for requirement in requirements}

    assert (said["Name"], said["Version"]) == ("segdex", project["version"])
    assert said["Summary"] == project["description"]
    assert said["Requires-Python"] == project["requires-python"]
    assert (said["License-Expression"], said["License-File"]) == ("Apache-2.0", "LICENSE")
    assert set(said.get_all("Classifier", [])) == set(project["classifiers"])
    assert set(said.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    assert set(said.get_all("Requires-Dist", [])) == needed
    assert set(said.get_all("Project-URL", [])) == {
        f"{label}, {url}" for label, url in project.get("urls", {}).items()
    }
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_payload(decode=True) == (ROOT / "README.md").read_bytes()
    assert dict(commands["console_scripts"]) == {"segdex": "segdex.cli.main:main"}


def test_the_source_archive_holds_what_a_wheel_is_made_of(tmp_path: Path) -> None:
    # .gitignore and pyproject.toml are what hatchling reads to make the same again
    beside = {".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}

    with tarfile.open(_built_archive(ROOT, tmp_path)) as archive:
        assert set(archive.getnames()) == {f"{RELEASE}/{name}" for name in _shipped_sources() | beside}


def test_the_same_files_make_the_same_bytes_wherever_they_are_built(tmp_path: Path) -> None:
    wheel, archive = _built_wheel(ROOT, tmp_path / "first"), _built_archive(ROOT, tmp_path / "first")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    elsewhere = tmp_path / RELEASE
    for path in elsewhere.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)

    assert _built_wheel(elsewhere, tmp_path / "second").read_bytes() == wheel.read_bytes()
    assert _built_archive(elsewhere, tmp_path / "second").read_bytes() == archive.read_bytes()


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


def test_every_imported_package_is_declared() -> None:
    """Or is the lower half of one that is: what comes by chance goes when its parent changes its mind."""
    halves = {"pydantic_core": "pydantic", "starlette": "fastapi", "google": "onnx", "hydra": "sam2"}
    distributions, declared = packages_distributions(), _declared_dependencies()
    imported = {
        name.partition(".")[0]
        for file in _shipped_sources()
        if file.endswith(".py")
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        for name in _imported_by(node)
    }
    outside = imported - sys.stdlib_module_names - set(PACKAGES.values())

    assert outside > halves.keys()
    assert {
        name
        for name in outside
        if halves.get(name) not in declared
        and declared.isdisjoint(
            re.sub("[-_.]+", "-", each).lower() for each in distributions.get(name, [name])
        )
    } == set()


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


def test_the_documentation_names_only_files_that_exist() -> None:
    files = [f"/{path.relative_to(ROOT).as_posix()}" for path in _repository_files()]
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"`([\w./-]+\.py)`", page.read_text())}
    gone = {
        name
        for name in named
        if not any(re.search(f"/{re.escape(name).replace(re.escape('...'), '.+')}$", file) for file in files)
    }

    assert len(named) > 20
    assert gone == set()


def _imported_by(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []


def _shipped_sources() -> set[str]:
    """Return the files of the packages, relative to the repository."""
    return {
        path.relative_to(ROOT).as_posix()
        for root in PACKAGES
        for path in (ROOT / root).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _built_wheel(project: Path, folder: Path) -> Path:
    """Build the wheel of ``project`` in this process, without the network."""
    (wheel,) = WheelBuilder(str(project)).build(directory=str(folder), versions=["standard"])
    return Path(wheel)


def _built_archive(project: Path, folder: Path) -> Path:
    """Build the source archive of ``project`` as ``_built_wheel`` does."""
    (archive,) = SdistBuilder(str(project)).build(directory=str(folder), versions=["standard"])
    return Path(archive)


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
