"""The files of deploy/: what a linter says of them, and that they name what really exists.

No container is built here; docs/deployment.md says what was run by hand.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.needs import ROOT
from tests.qdrant_server import VERSION as QDRANT_VERSION
from typer.testing import CliRunner

from segdex.api.cli.main import build_app
from segdex.core.settings import Settings

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CUDA = yaml.safe_load((DEPLOY / "compose.cuda.yaml").read_text())
OURS = ("segdex", "worker")


def instructions(name: str) -> list[str]:
    """Return the arguments of an instruction, lines that go on joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def test_the_linter_of_dockerfiles_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_user_without_rights_and_says_whether_it_lives() -> None:
    assert [user for user in instructions("USER") if user.isdigit() and int(user)] == instructions("USER")
    assert DOCKERFILE.rindex("USER ") > DOCKERFILE.rindex("RUN ")
    (check,) = instructions("HEALTHCHECK")
    assert "/healthz" in check


def test_all_that_the_image_copies_exists_and_is_let_through() -> None:
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert rules[0] == "*"
    copied = [
        source
        for arguments in instructions("COPY")
        if not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]

    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in rules, source


@pytest.mark.parametrize("service", OURS)
def test_the_variables_of_the_services_are_settings(service: str) -> None:
    known = {f"SEGDEX_{name.upper()}" for name in Settings.model_fields}
    named = set(COMPOSE["services"][service]["environment"])
    named |= set(re.findall(r"SEGDEX_[A-Z_]+(?==)", " ".join(instructions("ENV"))))

    assert named <= known
    assert "SEGDEX_JOBS_FILE" in named


@pytest.mark.parametrize("service", OURS)
def test_the_commands_of_the_services_are_those_of_the_command_line(service: str) -> None:
    program, verb, *options = COMPOSE["services"][service]["command"]
    shown = CliRunner().invoke(build_app(), [verb, "--help"], env={"COLUMNS": "200"}).output

    assert program == "segdex"
    assert "Usage" in shown
    for option in options:
        if option.startswith("--"):
            assert option in shown


def test_the_service_and_the_worker_see_the_same_files() -> None:
    service, worker = (COMPOSE["services"][name] for name in OURS)
    targets = [volume.rsplit(":", 1)[0 if volume.endswith(":ro") else 1] for volume in service["volumes"]]

    assert service["volumes"] == worker["volumes"]
    assert any(target.endswith("/pictures") for target in targets)
    for path in re.findall(r"SEGDEX_(?:UPLOADS|JOBS_FILE|CACHE_DIR)=(\S+)", DOCKERFILE):
        assert any(path.startswith(target) for target in targets), path
    kept = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith("$")}
    assert kept | {"qdrant"} == set(COMPOSE["volumes"])


def test_nothing_is_published_to_other_machines_and_keys_are_needed() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert COMPOSE["services"]["segdex"]["environment"]["SEGDEX_API_KEYS"] == "/run/secrets/keys"


def test_qdrant_is_the_version_that_the_tests_run() -> None:
    assert COMPOSE["services"]["qdrant"]["image"] == f"qdrant/qdrant:v{QDRANT_VERSION}"


def test_the_file_for_a_gpu_changes_services_that_there_are() -> None:
    assert set(CUDA["services"]) == set(OURS)
    for service in CUDA["services"].values():
        assert service["build"]["args"] == {"DEVICE": "cuda"}
        assert service["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
