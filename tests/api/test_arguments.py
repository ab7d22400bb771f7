"""What is wrong with an argument is said in one form: what, what is allowed, what was given."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from segdex.arguments import check_limit, clean_tags, parse_request, query_images
from segdex.cli.common import as_option
from segdex.http.problems import add_handlers
from segdex_core.errors import ArgumentError, QueryError
from segdex_core.wire.search import SearchRequest

ID = "6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11"

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"limit": 0}, "limit must be between 1 and 1,000, but got 0"),
    ({"limit": 1001}, "limit must be between 1 and 1,000, but got 1001"),
    ({"limit": "many"}, "limit must be a whole number, but got 'many'"),
    ({"limit": 1.5}, "limit must be a whole number, but got 1.5"),
    ({"per_image": 101}, "per_image must be between 1 and 100, but got 101"),
    ({"diversity": 1.5}, "diversity must be between 0 and 1, but got 1.5"),
    ({"combine": "worst"}, "combine must be 'mean' or 'best', but got 'worst'"),
    ({"level": "half"}, "level must be 'any', 'whole' or 'part', but got 'half'"),
    ({"colour": "red"}, "colour is not known"),
    ({"filter": {"min_area": 7}}, "filter.min_area must be between 0 and 1, but got 7"),
    ({"filter": {"tags": ["t"] * 101}}, "filter.tags must have 100 items or less, but got 101"),
    (
        {"filter": {"captured_from_at": "yesterday"}},
        "filter.captured_from_at must be a date such as 2026-11-23 or 2026-11-23T18:30, but is 'yesterday'",
    ),
    ({"texts": [""]}, "texts.0 must not be empty"),
    ({"texts": ["x" * 1001]}, "texts.0 must have 1,000 characters or less, but got 1,001 characters"),
    (
        {"texts": [{"text": "cup", "weight": 0}]},
        "texts.0.weight must be above 0 and at most 100, but got 0",
    ),
    ({"texts": [{"text": "cup"}]}, "texts.0.weight is missing"),
    ({"segments": ["17"]}, "segments.0 must be an id, but got '17'"),
    (
        {"segments": [{"segment_id": ID, "weight": -101}]},
        "segments.0.weight must be between -100 and 100 and not 0, but got -101",
    ),
    (
        {"segments": [{"segment_id": ID, "weight": 0}]},
        "segments.0.weight must not be 0: leave the term out instead",
    ),
    ({"view_weights": {"crop": 0, "mask": 0}}, "view_weights must have a weight above 0"),
    ({"view_weights": {"crop": -1}}, "view_weights.crop must be between 0 and 100, but got -1"),
    (
        {"filter": {"captured_from_s": 1, "captured_from_at": "2026-11-23"}},
        "give captured_from_s or captured_from_at, not both",
    ),
    ({"texts": []}, "give at least one of texts, segments and regions"),
]


@pytest.fixture(name="client", scope="module")
def _client() -> TestClient:
    app = FastAPI()
    add_handlers(app)

    @app.post("/search")
    def search(request: SearchRequest) -> int:
        return request.limit

    return TestClient(app)


@pytest.mark.parametrize(("change", "line"), WRONG, ids=[line for _, line in WRONG])
def test_a_wrong_value_is_named_the_same_in_python_and_over_http(
    client: TestClient, change: dict[str, Any], line: str
) -> None:
    request = {"texts": ["red"], **change}

    with pytest.raises(QueryError) as caught:
        parse_request(SearchRequest, request)
    answer = client.post("/search", json=request)

    assert str(caught.value) == line
    assert (answer.status_code, answer.json()["detail"]) == (422, line)


def test_a_body_that_is_missing_or_no_object_is_said_so(client: TestClient) -> None:
    assert client.post("/search").json()["detail"] == "body is missing"
    assert client.post("/search", json=[]).json()["detail"].startswith("body must be a valid dictionary")
    broken = client.post("/search", content="{", headers={"Content-Type": "application/json"})
    assert broken.json()["detail"] == "body.1: JSON decode error"


def test_the_command_line_names_the_option() -> None:
    for change, line in WRONG:
        with pytest.raises(QueryError) as caught:
            parse_request(SearchRequest, {"texts": ["red"], **change})
        if isinstance(caught.value, ArgumentError):
            assert as_option(caught.value).startswith("--")
            assert as_option(caught.value).endswith(caught.value.problem)
            assert line.endswith(caught.value.problem)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_number_of_pictures_is_at_least_one(limit: int) -> None:
    with pytest.raises(ArgumentError, match=f"limit must be 1 or more, but got {limit}"):
        check_limit(limit)
    assert (check_limit(None), check_limit(1)) == (None, 1)


@pytest.mark.parametrize("tag", ["", " ", "a\nb", "x" * 101])
def test_a_tag_that_cannot_be_shown_is_refused(tag: str) -> None:
    with pytest.raises(ArgumentError, match="tags must be 1 to 100 printable characters"):
        clean_tags(["good", tag])


def test_tags_are_sorted_and_each_is_kept_once() -> None:
    assert clean_tags(["b", " a ", "b"]) == ("a", "b")


def test_a_question_has_four_pictures_at_most() -> None:
    assert len(query_images([b"1", b"2", b"3", b"4"])) == 4
    with pytest.raises(ArgumentError, match="image must be 4 pictures at most, but got 5"):
        query_images([b"1"] * 5)
