"""``import segdex``: what it offers, what it costs, and what a location opens."""

import inspect
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.environment import no_variables
from tests.fakes.dataset import png
from tests.needs import ROOT

import segdex
from segdex.client import Client
from segdex.library import Library
from segdex.roles import ROLES
from segdex_core.errors import IndexMissingError, QueryError, UsageError

__all__ = ["no_variables"]

REFERENCE = (ROOT / "docs" / "python.md").read_text()


@pytest.fixture(autouse=True)
def _clean(no_variables: None) -> None: ...


def section(name: str) -> str:
    """Return a section of the Python reference."""
    return REFERENCE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def verb_table() -> str:
    """Return the table of verbs as the reference has it."""
    lines = ["| verb | Library | Client | role over HTTP | does |", "| --- | --- | --- | --- | --- |"]
    for verb, role in ROLES.items():
        has = ["yes" if hasattr(kind, verb) else "no" for kind in (Library, Client)]
        does = (inspect.getdoc(getattr(Library, verb)) or "").partition("\n")[0].replace("``", "`")
        lines.append(f"| `{verb}` | {' | '.join(has)} | {role or 'none'} | {does} |")
    return "\n".join(lines)


def test_the_reference_lists_every_name_in_order() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (.+) \|$", section("Names"), re.MULTILINE)

    assert [name for name, _ in listed] == segdex.__all__
    assert all(what.strip() for _, what in listed)


def test_the_reference_lists_every_verb_with_its_role() -> None:
    assert verb_table() in section("Verbs")


@pytest.mark.parametrize("name", sorted(set(segdex.__all__) - {"__version__"}))
def test_a_name_is_what_its_own_module_calls_so(name: str) -> None:
    found = getattr(segdex, name)

    assert found.__name__ == name
    assert getattr(sys.modules[found.__module__], name) is found
    assert found.__doc__


def test_importing_segdex_loads_nothing_until_a_name_is_used() -> None:
    code = """
import sys
import segdex
heavy = {"numpy", "pydantic", "httpx", "PIL", "torch"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert dir(segdex) == sorted(segdex.__all__)
assert not heavy & set(sys.modules)
segdex.Filter
assert "pydantic" in sys.modules
assert not (heavy - {"pydantic"}) & set(sys.modules)
from segdex import *
assert Library is segdex.Library
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert segdex.__version__ == project["version"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'segdex' has no attribute 'serach'"):
        segdex.serach  # noqa: B018
    with pytest.raises(ImportError, match="serach"):
        exec("from segdex import serach")  # noqa: S102 - the statement itself is what is tested


# What a location opens.


@pytest.fixture(name="qdrant")
def _qdrant() -> Iterator[str]:
    """The address of a server that answers as Qdrant does when it is asked for its health."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"healthz check passed")

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - its name

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("form", ["{}", "edge:{}"])
def test_a_folder_is_opened_in_process_and_not_made_by_looking(form: str, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with segdex.open(form.format(folder)) as library:
        assert isinstance(library, Library)
        assert library.location == f"edge:{folder}"
        with pytest.raises(IndexMissingError):
            library.stats()
    with segdex.open(folder) as library:
        assert library.location == f"edge:{folder}"

    assert not folder.exists()


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert segdex.open("~/index").location == f"edge:{tmp_path}/index"


def test_settings_are_of_the_index_that_is_opened_and_refused_by_name(tmp_path: Path) -> None:
    library = segdex.open(tmp_path, profile="offline", device="cpu")

    assert isinstance(library, Library)
    assert (library.settings.profile, library.settings.device) == ("offline", "cpu")
    with pytest.raises(UsageError, match="profile"):
        segdex.open(tmp_path, profile="fast")
    with pytest.raises(UsageError, match="no-such-setting"):
        segdex.open(tmp_path, no_such_setting=1)


@pytest.mark.parametrize("location", ["my-index", "edge:my-index", ""])
def test_only_an_address_is_opened_for_an_event_loop(location: str) -> None:
    with pytest.raises(UsageError, match="the address of a segdex service"):
        segdex.open_async(location)


def test_the_address_of_a_qdrant_server_is_a_library(qdrant: str) -> None:
    with segdex.open(qdrant, profile="offline") as library:
        assert isinstance(library, Library)
        assert library.location == qdrant


def test_an_address_without_a_server_is_named_in_one_line() -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"nothing answers at {address}") as caught:
            segdex.open(address)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "location", ["ftp://host/index", "s3://bucket", "redis://host:1", "", " ", "qdrant:6333", "http:/qdrant"]
)
def test_what_is_no_location_is_refused(location: str) -> None:
    with pytest.raises(UsageError, match="location"):
        segdex.open(location)


def test_a_path_is_a_folder_whatever_its_name_looks_like() -> None:
    with segdex.open(Path("qdrant:6333")) as library:
        assert library.location == "edge:qdrant:6333"


def test_a_password_in_an_address_is_neither_sent_nor_shown(qdrant: str) -> None:
    for opened in (segdex.open, segdex.open_async):
        with pytest.raises(UsageError, match="must not have a user name or password") as caught:
            opened(qdrant.replace("http://", "http://me:secret@"))
        assert "secret" not in str(caught.value)


def test_blanks_and_slashes_around_an_address_do_not_count(qdrant: str) -> None:
    assert Client(f" {qdrant}/ ").location == qdrant
    with segdex.open(f" {qdrant}/ ", profile="offline") as library:
        assert library.location == qdrant


def test_a_picture_is_segmented_without_an_index_only_if_the_question_is_sound() -> None:
    with pytest.raises(UsageError, match=r"no-such-file\.png"):
        segdex.segment("no-such-file.png", points=[(1, 1)])
    with pytest.raises(QueryError, match="colour"):
        segdex.segment(png(), colour="red")  # type: ignore[call-arg]
