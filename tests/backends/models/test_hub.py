"""Files of a hub on loopback: when it is asked, what a second load needs, and what an error says."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from segdex_backends.models.downloads import records_folder
from segdex_backends.models.hub import Hub, fetch_hub_file, fetch_hub_folder
from segdex_core.errors import ModelInvalidError, ModelMissingError, ModelUnavailableError

REPOSITORY, FIRST, SECOND = "someone/model", "0" * 40, "1" * 40
"""A repository and two of its commits."""

REQUIRED, OPTIONAL, LACKING = "config.json", "added.json", "merges.txt"


@dataclass
class Server:
    """A hub with one repository.

    Attributes:
        commits: Files by name, for each commit; the last commit is the main branch.
        asked: Paths of all requests.
        is_down: Whether it answers with errors alone.
        hub: How it is reached, with an empty cache.
    """

    commits: dict[str, dict[str, bytes]]
    asked: list[str] = field(default_factory=list)
    is_down: bool = False
    hub: Hub = field(default_factory=Hub)

    def find(self, revision: str) -> tuple[str, dict[str, bytes] | None]:
        """Return the commit of a revision and its files; None where there is no such revision."""
        commit = list(self.commits)[-1] if revision == "main" else revision
        return commit, self.commits.get(commit)


@pytest.fixture(name="server")
def _server(tmp_path: Path) -> Iterator[Server]:
    state = Server({FIRST: {REQUIRED: b"{}", OPTIONAL: b"[]"}})

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.wfile.write(self.answer())

        def answer(self) -> bytes:
            state.asked.append(self.path)
            if self.path.startswith("/api/"):
                commit, files = state.find(self.path.partition("/revision/")[2] or "main")
                body = json.dumps({"id": REPOSITORY, "sha": commit}).encode()
            else:
                revision, _, name = self.path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")
                commit, files = state.find(revision)
                body = (files or {}).get(name, b"")
            error = "RevisionNotFound" if files is None else "" if body else "EntryNotFound"
            self.send_response(503 if state.is_down else 404 if error else 200)
            if error:
                self.send_header("X-Error-Code", error)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{body.hex() or 0}"')
            self.send_header("Content-Length", str(0 if error else len(body)))
            self.end_headers()
            return b"" if error else body

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        state.hub = Hub(
            timeout_s=60,
            endpoint=f"http://127.0.0.1:{listening.server_port}",
            cache_dir=tmp_path / "hub",
            records_dir=tmp_path / "segdex",
        )
        yield state
        listening.shutdown()
        thread.join()


def fetch(hub: Hub, **more: Any) -> Path:
    options: dict[str, Any] = {"kind": "model", "revision": None, "way_out": "do without"}
    optional = (OPTIONAL, LACKING)
    return fetch_hub_folder(REPOSITORY, (REQUIRED,), optional=optional, hub=hub, **{**options, **more})


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def copy_cache(hub: Hub, revision: str, files: dict[str, bytes]) -> None:
    """Fill the hub's cache as its own tools do, without a record of segdex."""
    assert hub.cache_dir is not None
    home = hub.cache_dir / f"models--{REPOSITORY.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(revision)
    (home / "snapshots" / revision).mkdir(parents=True)
    for name, content in files.items():
        (home / "snapshots" / revision / name).write_bytes(content)


def test_what_was_downloaded_loads_again_without_a_request(server: Server) -> None:
    folder = fetch(server.hub)
    assert names_in(folder) == {REQUIRED, OPTIONAL}
    server.asked.clear()

    assert fetch(server.hub) == folder
    assert server.asked == []


def test_a_copied_cache_is_asked_about_once_though_the_repository_lacks_optional_files(
    server: Server,
) -> None:
    """Offline, each question costs the whole timeout."""
    copy_cache(server.hub, FIRST, server.commits[FIRST])
    server.is_down = True
    folder = fetch(server.hub)
    assert len(server.asked) == 1
    server.asked.clear()

    assert fetch(server.hub) == folder
    assert server.asked == []


def test_a_deleted_file_comes_back_though_it_is_optional(server: Server) -> None:
    """The message about a damaged file says to delete it."""
    folder = fetch(server.hub)
    (folder / OPTIONAL).resolve().unlink()
    server.commits[SECOND] = {REQUIRED: b"{ }"}

    assert fetch(server.hub) == folder
    assert names_in(folder) == {REQUIRED, OPTIONAL}
    assert (folder / OPTIONAL).read_bytes() == server.commits[FIRST][OPTIONAL]


def test_a_deleted_optional_file_is_missed_while_the_hub_is_silent(server: Server) -> None:
    folder = fetch(server.hub)
    (folder / OPTIONAL).resolve().unlink()

    with pytest.raises(ModelUnavailableError, match="not cached; do without"):
        fetch(replace(server.hub, endpoint="http://127.0.0.1:9"))


def test_a_required_file_that_the_repository_lacks_is_named(server: Server) -> None:
    del server.commits[FIRST][REQUIRED]

    with pytest.raises(ModelInvalidError, match=f"{REPOSITORY} lacks one of {REQUIRED}"):
        fetch(server.hub)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_where_the_first_revision_is_gone_the_records_are_named_and_deleting_them_helps(
    server: Server, kind: str
) -> None:
    def load() -> Path:
        if kind == "folder":
            return fetch(server.hub)
        return fetch_hub_file(REPOSITORY, (REQUIRED,), wanted="a model", hub=server.hub).parent

    snapshot = load()
    server.commits = {SECOND: {REQUIRED: b"{ }"}}
    (snapshot / REQUIRED).unlink()
    records = records_folder(REPOSITORY, cache_dir=server.hub.records_dir)

    with pytest.raises(ModelMissingError, match=rf"no revision {FIRST} of .* delete {records} to") as caught:
        load()
    assert "\n" not in str(caught.value)

    for record in records.iterdir():
        record.unlink()
    records.rmdir()
    assert load().name == SECOND


def test_a_revision_that_was_asked_for_and_is_not_there_is_named(server: Server) -> None:
    with pytest.raises(ModelMissingError, match=f"no revision {SECOND} of {REPOSITORY}; name another"):
        fetch(server.hub, revision=SECOND)
