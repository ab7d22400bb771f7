"""A linter of the document, and clients that generators make of it, with their types checked."""

import json
from pathlib import Path

import pytest
from tests import tools
from tests.web.conftest import running

from segdex.http.app import build_app
from segdex.http.state import Loaded, ServiceState
from segdex.wiring import build_settings

TOOLS = Path(__file__).with_name("openapi_tools")

pytestmark = pytest.mark.slow


@pytest.fixture(name="document", scope="module")
def _document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document as the service answers it."""

    def never() -> Loaded:
        raise AssertionError

    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(json.dumps(build_app(ServiceState(build_settings(), (), never)).openapi()))
    return path


@pytest.fixture(name="node", scope="module")
def _node() -> Path:
    return tools.npm_tools(TOOLS / "package-lock.json") / "node_modules/.bin"


def test_a_linter_finds_nothing(document: Path, node: Path, tmp_path: Path) -> None:
    lint = (node / "spectral", "lint", "--ruleset", TOOLS / "spectral.yaml", "--fail-severity", "hint")
    assert "No results" in tools.run(*lint, document, within=tmp_path)

    broken = json.loads(document.read_text())
    del broken["info"]["contact"], broken["paths"]["/v1/search"]["post"]["operationId"]
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    found = tools.run(*lint, tmp_path / "broken.json", within=tmp_path, ok=False)
    assert "info-contact" in found
    assert "operation-operationId" in found


def test_a_typescript_client_is_generated_and_its_types_are_right(
    document: Path, node: Path, tmp_path: Path
) -> None:
    generate = (node / "openapi-ts", "-i", document, "-o", tmp_path / "client", "-c", "@hey-api/client-fetch")
    tools.run(*generate, within=tmp_path)
    (tmp_path / "usage.ts").write_text((TOOLS / "usage.ts").read_text())
    options = {
        "strict": True,
        "noEmit": True,
        "target": "es2022",
        "module": "es2022",
        "moduleResolution": "bundler",
        "lib": ["es2023", "dom", "dom.iterable"],
        "types": [],
    }
    (tmp_path / "tsconfig.json").write_text(
        json.dumps({"compilerOptions": options, "files": ["usage.ts", "client/index.ts"]})
    )
    assert tools.run(node / "tsc", "-p", tmp_path, within=tmp_path) == ""

    wrong = (TOOLS / "usage.ts").read_text().replace("limit: 1", "limits: 1")
    (tmp_path / "usage.ts").write_text(wrong)
    assert "limits" in tools.run(node / "tsc", "-p", tmp_path, within=tmp_path, ok=False)


def test_a_python_client_is_generated_its_types_are_right_and_it_works(
    document: Path, tmp_path: Path
) -> None:
    programs = tools.python_tools(TOOLS / "requirements.txt")
    said = tools.run(
        programs / "openapi-python-client",
        "generate",
        "--path",
        document,
        "--output-path",
        tmp_path / "segdex_client",
        "--meta",
        "none",
        "--config",
        TOOLS / "python_client.yaml",
        within=tmp_path,
    )
    assert "WARNING" not in said
    (tmp_path / "usage.py").write_text((TOOLS / "usage.py").read_text())
    check = (programs / "mypy", "--config-file", TOOLS / "mypy.ini", "usage.py", "segdex_client")
    assert "Success" in tools.run(*check, within=tmp_path)

    folder = tmp_path / "service"
    folder.mkdir()
    with running(folder) as service:
        said = tools.run(programs / "python", "usage.py", service.url, within=tmp_path)
    segments, path, *rest = said.split()
    assert int(segments) > 0
    assert path.endswith("a.png")
    assert rest[:2] == ["True", "4"]
