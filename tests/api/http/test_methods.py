"""HEAD wherever GET is, 405 with the methods that a path has, 404 for what is not there, and ETags."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import compile_path
from tests.api.http.asking import first_hit
from tests.conftest import Tried
from tests.core.media.making import make_case
from tests.fakes.service import HERE, load, refused

from segdex.http.app import build_app
from segdex.http.etags import is_known
from segdex.http.state import ServiceState
from segdex.wiring import build_settings

OWN_HEADERS = {"x-request-id"}
"""Headers that differ from answer to answer."""


def paths_of(client: TestClient) -> dict[str, set[str]]:
    """Return the methods of every path of the service, those of the page and of the framework included."""
    found: dict[str, set[str]] = {}
    for route in iter_route_contexts(client.app.router.routes):  # type: ignore[attr-defined] # an app
        assert route.path is not None
        found.setdefault(route.path, set()).update(route.methods or ())
    return found


@pytest.fixture(name="filled", scope="module")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """A service, and a value for each parameter of its paths that names something that exists.

    The tests of this file change nothing in it.
    """
    folder = tmp_path_factory.mktemp("filled")
    pictures = folder / "pictures"
    pictures.mkdir()
    settings = build_settings(uploads=folder / "uploads", job_roots=(pictures,))
    state = ServiceState(settings, (), lambda: load(folder / "set", settings=settings))
    with TestClient(build_app(state), base_url=HERE) as client:
        state.wait()
        image, segment = first_hit(client)
        job = client.post("/v1/jobs", json={"paths": [str(pictures)]}).json()["id"]
        client.get(f"/v1/jobs/{job}/events")  # until it has ended: it does not change any more
        client.post("/v1/sets", json={"name": "mine"})
        client.post("/v1/concepts/mine/mark", json={"right": [segment["id"]]})
        yield (
            client,
            {
                "image_id": str(image["id"]),
                "segment_id": str(segment["id"]),
                "job_id": job,
                "prefix": str(image["id"])[:8],
                "name": "mine",
            },
        )


@pytest.mark.promise("Search", "HEAD has the status and the headers of GET for every path of the service.")
def test_head_is_answered_as_get_without_a_body(
    filled: tuple[TestClient, dict[str, str]], tried: Tried
) -> None:
    client, names = filled
    asked = [path for path, methods in paths_of(client).items() if "GET" in methods]
    changing = {"/metrics"}  # counts the requests
    for path in asked:
        there = path.format(**names)
        get, head = client.get(there), client.head(there)

        assert (head.status_code, head.content) == (200, b""), path
        assert get.status_code == 200, path
        assert set(get.headers) == set(head.headers), path
        ignored = OWN_HEADERS | ({"content-length"} if path in changing else set())
        for name in set(get.headers) - ignored:
            assert get.headers[name] == head.headers[name], (path, name)
        if "content-length" in get.headers and path not in changing:
            assert int(head.headers["content-length"]) == len(get.content)
        etag = get.headers.get("etag")
        if etag is not None:
            known = client.head(there, headers={"If-None-Match": etag})
            assert (known.status_code, known.headers["etag"]) == (304, etag)
    tried(len(asked), "paths")
    assert len(asked) > 25


def test_head_of_what_is_missing_is_that_of_get(client: TestClient) -> None:
    image, _ = first_hit(client)
    Path(str(image["path"])).unlink()
    for path, status in (
        ("/v1/images/00000000-0000-0000-0000-000000000000", 404),
        (f"/v1/images/{image['id']}/file", 410),
        ("/v1/images/none", 422),
    ):
        head = client.head(path)

        assert (head.status_code, head.content) == (status, b"")
        assert head.headers["content-type"] == "application/problem+json"
        refused(client.get(path), status)


def test_head_opens_no_stream(
    filled: tuple[TestClient, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, names = filled
    opened = threading.Event()

    class Unopened:
        def __iter__(self) -> "Unopened":
            return self

        def __next__(self) -> str:
            opened.set()
            raise AssertionError("the stream was opened")

    monkeypatch.setattr("segdex.http.routes.jobs.events_of", lambda _: Unopened())
    head = client.head(f"/v1/jobs/{names['job_id']}/events")

    assert head.status_code == 200
    assert head.headers["content-type"].startswith("text/event-stream")
    assert not opened.is_set()


@pytest.mark.promise(
    "Search", "A wrong method gets 405 with the methods of the path; only what is not there, 404."
)
def test_every_path_says_which_methods_it_has(
    filled: tuple[TestClient, dict[str, str]], tried: Tried
) -> None:
    client, names = filled
    paths, asked = paths_of(client), 0
    for path in paths:
        there = path.format(**names)
        same = [one for one in paths if compile_path(one)[0].match(there)]
        wanted = {"OPTIONS"}.union(*(paths[one] for one in same))
        wanted |= {"HEAD"} if "GET" in wanted else set()
        for wrong in {"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT", "PROPFIND"} - wanted:
            answer = client.request(wrong, there)

            assert answer.status_code == 405, (wrong, path)
            assert set(answer.headers["allow"].split(", ")) == wanted, (wrong, path)
            if wrong != "HEAD":
                refused(answer, 405, wrong)
            asked += 1
        options = client.options(there)
        assert (options.status_code, options.content) == (204, b"")
        assert set(options.headers["allow"].split(", ")) == wanted
    tried(asked, "wrong methods")


def test_the_requests_of_the_case_are_answered_as_it_says(
    filled: tuple[TestClient, dict[str, str]], tmp_path: Path
) -> None:
    client, names = filled
    asked = json.loads((make_case("33", tmp_path / "case") / "requests.json").read_text())
    for method, path, status in asked:
        answer = client.request(method, path.format(**names))

        assert answer.status_code == status, (method, path)
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
    assert len(asked) > 5


def test_what_is_not_there_is_404_for_every_method(filled: tuple[TestClient, dict[str, str]]) -> None:
    client, _ = filled
    for path in ("/v1/nothing", "/nothing.js", "/v1", "/v1//stats", "/app.js/x"):
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            refused(client.request(method, path), 404)


def test_a_slash_at_the_end_leads_to_the_path_without_it(filled: tuple[TestClient, dict[str, str]]) -> None:
    client, _ = filled
    for method, path, to in (
        ("GET", "/v1/stats/", "../stats"),
        ("POST", "/v1/search/", "../search"),
        ("GET", "/v1/sets/a%2Fb%20c/?x=1&y=%26", None),  # a slash in a name is none of its own
        ("GET", "/v1/sets/a%20c/?x=1&y=%26", "../a%20c?x=1&y=%26"),
        ("GET", "/docs/", "../docs"),
    ):
        answer = client.request(method, path, follow_redirects=False)

        assert answer.status_code == (404 if to is None else 308), path
        assert answer.headers.get("location") == to
    assert client.get("/v1/stats/").json() == client.get("/v1/stats").json()


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (['"a"'], True),
        (['W/"a"'], True),
        (['"other", "a"'], True),
        (['"other",W/"a" , "more"'], True),
        (['"other"', '"a"'], True),  # two lines of the header
        (["*"], True),
        (['"with, comma", "a"'], True),
        (['"other"'], False),
        (["a"], False),  # a tag has quotes
        (['"xa"'], False),
        ([""], False),
        ([], False),
    ],
)
def test_etags_are_compared_as_http_says(given: list[str], known: bool) -> None:
    assert is_known('"a"', given) is known


def test_every_answer_with_an_etag_takes_lists_and_weak_tags(
    filled: tuple[TestClient, dict[str, str]],
) -> None:
    client, names = filled
    image, segment = f"/v1/images/{names['image_id']}", f"/v1/segments/{names['segment_id']}"
    drawn = (
        f"{image}/file",
        f"{image}/pixels.png",
        f"{segment}/mask.png",
        f"{segment}/cutout.png",
        segment,
        "/",
        "/app.js",
        "/docs",
    )
    for path in drawn:
        accept = ("Accept", "image/png, text/html, */*;q=0.5")
        first = client.get(path, headers=[accept])
        etag = first.headers["etag"]
        for wanted in ([f'"other", W/{etag}'], ['"other"', etag], ["*"]):
            again = client.get(path, headers=[accept, *(("If-None-Match", line) for line in wanted)])

            assert (again.status_code, again.content) == (304, b""), path
            for name in ("etag", "cache-control", "vary"):
                assert again.headers.get(name) == first.headers.get(name), path
        assert client.get(path, headers=[accept, ("If-None-Match", '"other"')]).status_code == 200


def test_the_page_has_all_its_files_with_their_types(filled: tuple[TestClient, dict[str, str]]) -> None:
    client, _ = filled
    assert client.get("/").content == client.get("/index.html").content
    assert client.get("/app.js").headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/style.css").headers["content-type"] == "text/css; charset=utf-8"
    assert client.get("/docs").headers["content-type"] == "text/html; charset=utf-8"
