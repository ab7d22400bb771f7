"""Addresses of servers as people write them: each ends in time with one line, and no password is printed."""

import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from tests import needs
from tests.conftest import Tried
from tests.core.media.making import make_case
from tests.environment import no_variables

from segdex.cli.main import run
from segdex.client import Client
from segdex.jobs.storages import JobsUnavailableError, redis_storage
from segdex_backends.index.server_connection import ServerConnection
from segdex_core.errors import IndexUnavailableError, UsageError

__all__ = ["no_variables"]

SAYS = {
    "/qdrant": "must not have a path, but has '/qdrant'",
    "/qdrant/": "must not have a path, but has '/qdrant/'",
    ":8660": "is not a Qdrant server",
    ":8661": "no Qdrant server answers at",
    ":9": "no Qdrant server answers at http://127.0.0.1:9",
    "@": "must not have a user name or password: Qdrant takes an API key, set SEGDEX_INDEX_API_KEY",
    "https:": "https://127.0.0.1:6333 (",
    "127": "'127.0.0.1:6333' has no scheme: write http://127.0.0.1:6333 for a Qdrant server",
}
"""What is said about an address of the case, by what it starts or ends with."""


@pytest.fixture(autouse=True)
def _clean(no_variables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGDEX_INDEX_TIMEOUT_S", "1")


@pytest.fixture(name="ports")
def _ports() -> Iterator[dict[str, int]]:
    """What stands where a server was expected: a proxy with a path, and a socket that says nothing."""
    spec = importlib.util.spec_from_file_location(
        "case_31_servers", needs.shared("cases", "31-qdrant-address", "servers.py")
    )
    assert spec is not None
    assert spec.loader is not None
    servers: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(servers)
    handler = type("Quiet", (servers.Proxy,), {"log_message": lambda *_: None})
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy,
    ):
        threading.Thread(target=proxy.serve_forever).start()
        yield {":8660": proxy.server_port, ":8661": silent.getsockname()[1]}
        proxy.shutdown()


def _expected(address: str) -> str:
    if "@" in address:
        return SAYS["@"]
    starts = next((SAYS[each] for each in ("https:", "127") if address.startswith(each)), None)
    return starts or next(line for end, line in SAYS.items() if address.endswith(end))


@pytest.mark.promise(
    "Index", "An address of a server is used as a whole or refused, and no password is shown."
)
def test_every_address_of_the_case_ends_with_a_line(
    tmp_path: Path, ports: dict[str, int], capsys: pytest.CaptureFixture[str], tried: Tried
) -> None:
    addresses = json.loads((make_case("31", tmp_path) / "addresses.json").read_text())
    ways: tuple[list[str], ...] = ([], ["--before"], ["variable"])
    lines: dict[str, str] = {}

    for address in addresses:
        given = address
        for port, real in ports.items():
            given = given.replace(port, f":{real}")
        for way in ways:
            if way == ["variable"]:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setenv("SEGDEX_INDEX", f" {given} ")
                    code = run(["stats"])
            else:
                where = ["--index", given]
                code = run([*where, "stats"] if way else ["stats", *where])
            printed = capsys.readouterr()
            [lines[address]] = printed.err.splitlines()
            assert printed.out == ""
            assert code in (2, 3)
            assert "secret" not in lines[address]
            assert _expected(address) in lines[address]

    assert len(lines) == len(SAYS)
    assert "no port was named, so 6333 was taken" in lines["https://127.0.0.1"]
    tried(len(lines) * len(ways), "addresses that lead nowhere")


@pytest.mark.parametrize(
    ("address", "saying"),
    [
        ("http://user:secret@127.0.0.1:9", "must not have a user name or password"),
        ("http:/127.0.0.1:9", "must be http://HOST:PORT or https://HOST:PORT"),
        ("127.0.0.1:9", "write http://127.0.0.1:9"),
        ("http://127.0.0.1:9?key=secret", "`?` and `#` are not supported"),
    ],
)
def test_a_service_address_is_used_as_a_whole_or_refused(
    address: str, saying: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["stats", "--server", address]) == 2
    monkeypatch.setenv("SEGDEX_SERVER", address)
    assert run(["stats"]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(saying in line and "secret" not in line for line in lines)


def test_a_service_that_is_away_is_named_with_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stats", "--server", " http://127.0.0.1:9/pictures/ "]) == 3

    assert "no service answers at http://127.0.0.1:9/pictures:" in capsys.readouterr().err


def test_a_location_has_one_form_in_all_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGDEX_INDEX", " ./my-index/ ")
    for arguments in (["stats"], ["stats", "--index", "my-index"], ["--index", "edge:my-index", "stats"]):
        assert run(arguments) == 3
        assert "there is no index at edge:my-index:" in capsys.readouterr().err


def test_a_folder_of_pictures_is_no_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "beach.jpg").touch()

    assert run(["search", "sea", "--index", str(tmp_path)]) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert f"{tmp_path} is no segdex index but holds 'beach.jpg'" in line
    assert "an empty or new folder, and the folder with the pictures to `segdex ingest`" in line
    assert [each.name for each in tmp_path.iterdir()] == ["beach.jpg"]


@pytest.mark.parametrize(
    "address",
    [
        "redis://:secret@127.0.0.1:9/jobs",
        "redis://:secret@127.0.0.1:9/0/1",
        "redis://:secret@127.0.0.1:9/-1",
        "redis://:secret@127.0.0.1:9/0?unknown=1",
        "redis://:secret@127.0.0.1:9/0#x",
        "redis:///0",
        "redis:/127.0.0.1",
        "127.0.0.1:6379",
        "http://:secret@host",
        "redis://:secret@host:port",
    ],
)
def test_every_part_of_a_redis_address_is_used_or_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"SEGDEX_JOBS_REDIS must be redis://") as caught:
        redis_storage(address, index_key="key")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["redis://me:secret@127.0.0.1:9/3", "rediss://127.0.0.1:9", " redis://127.0.0.1:9/ "]
)
def test_a_redis_server_that_is_away_is_named_without_its_password(address: str) -> None:
    with pytest.raises(JobsUnavailableError, match=r"127\.0\.0\.1:9") as caught:
        redis_storage(address, index_key="key")

    assert "secret" not in str(caught.value)


def test_proxies_of_the_environment_are_named_and_not_used_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, ports: dict[str, int]
) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    with pytest.raises(IndexUnavailableError, match=r"set NO_PROXY=qdrant\.invalid") as caught:
        ServerConnection("http://qdrant.invalid:6333", timeout_s=1)
    assert "secret" not in str(caught.value)
    with pytest.raises(IndexUnavailableError) as here:
        ServerConnection(f"http://127.0.0.1:{ports[':8661']}", timeout_s=1)
    assert "NO_PROXY" not in str(here.value)
    assert "timed out" in str(here.value)


def test_a_service_behind_a_path_is_asked_below_it() -> None:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, json={"labels": {}, "counts": {}})

    with Client(" https://host/pictures/ ", transport=httpx.MockTransport(answer)) as client:
        client.labels()

    assert list(map(str, asked)) == ["https://host/pictures/v1/labels"]
