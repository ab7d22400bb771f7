"""One query text, one answer: the command line, HTTP, Python here and over a service, and saved concepts."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.client.conftest import Service

from segdex.cli.main import run
from segdex.client import Client
from segdex.library import Library
from segdex_core.errors import SegdexError

COLOURS = st.sampled_from(["red", "blue", "green", "grey", "umbrella"])
WEIGHTS = st.sampled_from(["", "^2", "^0.5"])
PHRASES = st.lists(COLOURS, min_size=1, max_size=2).map(" ".join)
QUOTED = st.tuples(PHRASES, WEIGHTS).map(lambda term: f'"{term[0]}"{term[1]}')
EXCLUDED = st.one_of(COLOURS, PHRASES.map(lambda phrase: f'"{phrase}"')).map(lambda term: f"-{term}")
CONCEPTS = st.sampled_from(
    ["concept:mine", "-concept:mine", "concept:mine^2", "CONCEPT:mine", "concept:none"]
)
WRITTEN = st.one_of(COLOURS, QUOTED, EXCLUDED)
PLAIN = st.lists(WRITTEN, min_size=1, max_size=4).map(" ".join)
OPERATORS = ["LEFT OF", "RIGHT OF", "ABOVE", "BELOW", "ON", "INSIDE", "NEAR", "left of", "on"]
POSITIONS = st.tuples(PLAIN, st.sampled_from(OPERATORS), PLAIN).map(" ".join)
SIGNS = ["=", "<", ">", "<=", ">="]
NUMBERS = st.tuples(PLAIN, st.sampled_from(SIGNS), st.integers(0, 4).map(str)).map(" ".join)
BROKEN = st.sampled_from(['"red', "red^0", "ON red", "red ON", "red = 0", "-", "...", "red ON blue ON grey"])
COLORED = st.tuples(PLAIN, st.sampled_from(["color:red", "colour:gray", "color:teal"])).map(" ".join)
TEXTS = st.one_of(PLAIN, POSITIONS, NUMBERS, COLORED, BROKEN)
WITH_CONCEPTS = st.tuples(
    st.lists(st.one_of(WRITTEN, CONCEPTS), min_size=1, max_size=3).map(" ".join),
    st.sampled_from(["", " LEFT OF blue", " ON concept:mine", " >= 1", ">=1", " color:red"]),
).map("".join)


def shown(response: dict[str, Any]) -> list[Any]:
    """Return what an answer says, without what each surface adds."""
    found: list[Any] = [response["hints"]]
    for hit in response["hits"]:
        segments = [(one["id"], one["score"], one["related_id"]) for one in hit["segments"]]
        found.append((hit["image"]["id"], hit["is_match"], hit["count"], segments))
    return found


def searched(library: Library | Client, text: str, **options: Any) -> list[Any] | str:
    """Return what an answer says, or why the text is refused."""
    try:
        return shown(library.search(text, **options).response.model_dump(mode="json"))
    except SegdexError as error:
        return _plain(str(error))


def why_refused(change: Callable[[], object]) -> str | None:
    """Make a change, and return why it is refused, or None."""
    try:
        change()
    except SegdexError as error:
        return str(error)
    return None


def _plain(message: str) -> str:
    """Return a message without what a client says of the request."""
    return re.sub(r" \(HTTP \d+, request \w+\)$", "", message)


@pytest.fixture(name="command")
def _command(service: Service, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[Any] | str]:
    def command(*arguments: str) -> list[Any] | str:
        code = run(["--server", service.url, "search", "--json", *arguments])
        captured = capsys.readouterr()
        if code == 0:
            return shown(json.loads(captured.out))
        assert code == 2
        return _plain(captured.err.removeprefix("segdex: ").strip())

    return command


@given(TEXTS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_text_means_the_same_everywhere(
    service: Service, command: Callable[..., list[Any] | str], text: str
) -> None:
    here = searched(service.loaded.library, text)
    with Client(service.url) as client:
        over_http = searched(client, text)
    raw = httpx.post(f"{service.url}/v1/search", json={"texts": [text]})

    assert over_http == here
    assert (shown(raw.json()) if raw.is_success else raw.json()["detail"]) == here
    assert command("--", text) == here
    assert command("--", *text.split(" ")) == here


@given(WITH_CONCEPTS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_text_with_concepts_means_the_same_everywhere(
    service: Service, command: Callable[..., list[Any] | str], text: str
) -> None:
    library = service.loaded.library
    right, wrong = library.search("red", limit=1, per_image=2)[:2]
    library.mark("mine", text="red -grey", right=[right.id], wrong=[wrong.id])

    here = searched(library, text)
    with Client(service.url) as client:
        assert searched(client, text) == here
    assert command("--", text) == here


@given(TEXTS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_concept_without_marks_answers_as_its_text(
    service: Service, command: Callable[..., list[Any] | str], text: str
) -> None:
    library = service.loaded.library
    expected = searched(library, text)
    refused = why_refused(lambda: library.mark("copy", text=text))
    if refused is not None:
        assert refused == expected
        return

    assert searched(library, "concept:copy") == expected
    assert command("concept:copy") == expected


def test_a_word_with_a_minus_is_a_word_wherever_it_stands(
    service: Service, command: Callable[..., list[Any] | str]
) -> None:
    expected = searched(service.loaded.library, "blue -red")

    assert isinstance(expected, list)
    for arguments in (
        ("blue", "-red"),
        ("-red", "blue"),
        ("blue", "-red", "--limit", "10"),
        ("blue -red",),
        ("--", "blue", "-red"),
    ):
        assert command(*arguments) == expected
    phrase = searched(service.loaded.library, 'blue -"red green"')
    assert command("blue", "-red green") == phrase != expected  # as the shell hands a quoted phrase over


@pytest.mark.parametrize("arguments", [("blue", "--limt", "3"), ("blue", "--negativ", "red")])
def test_an_unknown_option_stays_an_error(
    command: Callable[..., list[Any] | str], arguments: tuple[str, ...]
) -> None:
    assert "No such option" in command(*arguments)


def test_a_negative_value_of_an_option_is_no_word(
    service: Service, command: Callable[..., list[Any] | str]
) -> None:
    expected = searched(service.loaded.library, "blue", min_score=-1)

    assert command("blue", "--min-score", "-1") == command("--min-score=-1", "blue") == expected
