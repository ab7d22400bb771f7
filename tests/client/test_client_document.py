"""The client and the service's own document say the same: no path, field or answer of it is left out."""

import asyncio
import inspect
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

import httpx
import pytest

from segdex.client import (
    AsyncClient,
    Client,
    NotThereError,
    PointIn,
    Region,
    Rle,
    ViewWeights,
    WeightedSegment,
    WeightedText,
    Where,
)
from segdex.http.app import build_app
from segdex.http.state import Loaded, ServiceState
from segdex.wiring import build_settings
from segdex_core.wire.search import SearchRequest
from segdex_core.wire.segments import SegmentRequest

SERVER = "http://127.0.0.1:8600"
ONE = UUID("6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11")
QUESTION: dict[str, Any] = {
    "segments": [ONE, WeightedSegment(segment_id=ONE, weight=2)],
    "regions": [Region(image_id=ONE, box_xyxy=(1, 2, 3, 4))],
    "away": ["blue"],
    "view_weights": ViewWeights(crop=1, mask=0),
    "where": Where(min_area=0.1),
    "limit": 3,
    "per_image": 2,
    "min_score": 0.1,
    "present": True,
    "level": "whole",
    "nested": True,
    "exact": True,
    "explain": True,
    "cursor": "abc",
}
PROMPT: dict[str, Any] = {
    "points": [PointIn(x=1, y=2)],
    "box_xyxy": (1, 2, 3, 4),
    "mask": Rle(size=(4, 4), counts="0"),
    "text": "a cup",
    "masks": 3,
}
TEXTS = ("red", WeightedText(text="cup", weight=2))
PICTURE = {"image": b"bytes of a picture"}

CALLS: dict[tuple[str, str], tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    ("GET", "/healthz"): ("is_alive", (), {}),
    ("GET", "/readyz"): ("is_ready", (), {}),
    ("GET", "/metrics"): ("metrics", (), {}),
    ("POST", "/v1/search"): ("search", TEXTS, QUESTION),
    ("POST", "/v1/search/by-image"): (
        "search",
        TEXTS,
        {**QUESTION, **PICTURE, "box": (1, 2, 3, 4), "weight": 2.0},
    ),
    ("POST", "/v1/search/{answer_id}/refine"): ("refine", ("a/b",), {"first": 3}),
    ("GET", "/v1/search/{answer_id}/refinements"): ("refinements", ("a/b",), {"first": 3}),
    ("GET", "/v1/stats"): ("stats", (), {}),
    ("POST", "/v1/images"): ("upload", (b"bytes of a picture",), {"tags": ["a", "b"], "wait": False}),
    ("GET", "/v1/images/{image_id}"): ("image", (ONE,), {}),
    ("DELETE", "/v1/images/{image_id}"): ("delete_image", (ONE,), {}),
    ("GET", "/v1/images/{image_id}/file"): ("image_file", (ONE,), {"max_px": 64}),
    ("GET", "/v1/images/{image_id}/segments"): ("image_segments", (ONE,), {}),
    ("GET", "/v1/segments/{segment_id}"): ("segment", (ONE,), {}),
    ("GET", "/v1/segments/{segment_id}/mask.png"): ("mask_png", (ONE,), {}),
    ("GET", "/v1/segments/{segment_id}/cutout.png"): ("cutout_png", (ONE,), {}),
    ("GET", "/v1/segments/{segment_id}/polygon"): ("polygon", (ONE,), {}),
    ("POST", "/v1/segment"): ("cut_out", (ONE,), PROMPT),
    ("POST", "/v1/segment/by-image"): ("cut_out", (), {**PROMPT, **PICTURE}),
    ("POST", "/v1/jobs"): ("add_job", (["/a"],), {"tags": ["a"]}),
    ("GET", "/v1/jobs"): ("jobs", (), {}),
    ("GET", "/v1/jobs/{job_id}"): ("job", ("x y",), {}),
    ("DELETE", "/v1/jobs/{job_id}"): ("stop_job", ("x y",), {}),
    ("GET", "/v1/jobs/{job_id}/events"): ("watch_job", ("x y",), {}),
}
"""What reaches each operation, with every argument given."""

NOT_SENT = {"authorization", "accept", "if-none-match"}
"""Headers: the key and the form are the client's own; it keeps no copies."""

OF_THE_CLIENT = {"close", "search_pages"}
"""Methods without an operation of their own."""

OF_JSON = {
    "/v1/search/by-image": set(SearchRequest.model_fields),
    "/v1/segment/by-image": set(SegmentRequest.model_fields) - {"image_id"},
}
"""What the field ``request`` of a form holds, which the document says in words."""


@dataclass(frozen=True)
class Sent:
    """A request, so that two can be compared: the boundary of a form is made by chance."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]
    form: dict[str, list[str]]
    accept: str


def read_sent(request: httpx.Request) -> Sent:
    kind, content = request.headers.get("content-type", ""), request.content
    form: dict[str, list[str]] = {}
    if kind.startswith("multipart/form-data"):
        message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + content)
        for part in message.get_payload():
            assert not isinstance(part, str)
            name = str(part.get_param("name", header="content-disposition"))
            form.setdefault(name, []).append(str(part.get_payload()))
    return Sent(
        request.method,
        request.url.raw_path.decode().partition("?")[0],
        dict(request.url.params),
        json.loads(content) if kind == "application/json" else {},
        form,
        request.headers["accept"],
    )


def sent_by(operation: tuple[str, str]) -> Sent:
    """Return what the client sends for an operation."""
    name, arguments, options = CALLS[operation]
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(404, json={"detail": "no"})

    with Client(SERVER, transport=httpx.MockTransport(answer)) as client, suppress(NotThereError):
        result = getattr(client, name)(*arguments, **options)
        if inspect.isgenerator(result):
            next(result)
    [request] = sent
    return read_sent(request)


def sent_asynchronously_by(operation: tuple[str, str]) -> Sent:
    name, arguments, options = CALLS[operation]
    sent: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(404, json={"detail": "no"})

    async def ask() -> None:
        async with AsyncClient(SERVER, transport=httpx.MockTransport(answer)) as client:
            result = getattr(client, name)(*arguments, **options)
            with suppress(NotThereError):
                await (anext(result) if inspect.isasyncgen(result) else result)

    asyncio.run(ask())
    [request] = sent
    return read_sent(request)


@pytest.fixture(name="document", scope="module")
def _document() -> dict[str, Any]:
    def never() -> Loaded:
        raise AssertionError

    return build_app(ServiceState(build_settings(), (), never)).openapi()


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_every_operation_has_one_method_and_every_method_an_operation(document: dict[str, Any]) -> None:
    assert set(CALLS) == set(operations(document))
    assert {name for name, _, _ in CALLS.values()} == public(Client) - OF_THE_CLIENT


@pytest.mark.parametrize("operation", CALLS, ids=" ".join)
def test_what_is_sent_is_what_the_document_knows(
    document: dict[str, Any], operation: tuple[str, str]
) -> None:
    method, path = operation
    known = operations(document)[operation]
    sent = sent_by(operation)

    assert sent.method == method
    assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), sent.path), sent.path
    by_place: dict[str, set[str]] = {"query": set(), "header": set(), "path": set()}
    for parameter in known.get("parameters", []):
        by_place[parameter["in"]].add(parameter["name"])
    assert set(sent.query) == by_place["query"]
    assert by_place["header"] <= NOT_SENT
    bodies = known.get("requestBody", {}).get("content", {})
    json_body = resolved(document, bodies.get("application/json", {}).get("schema", {}))
    form = resolved(document, bodies.get("multipart/form-data", {}).get("schema", {}))
    assert set(sent.body) == set(json_body.get("properties", {}))
    assert set(sent.form) == set(form.get("properties", {}))
    if "request" in sent.form:
        assert set(json.loads(sent.form["request"][0])) == OF_JSON[path]
    answers = [code for code in known["responses"] if code.startswith("2")]
    assert all(
        not (content := known["responses"][code].get("content", {})) or sent.accept in content
        for code in answers
    )


@pytest.mark.parametrize("operation", CALLS, ids=" ".join)
def test_an_answer_is_of_the_type_that_the_document_names(
    document: dict[str, Any], operation: tuple[str, str]
) -> None:
    name = CALLS[operation][0]
    kind = get_type_hints(getattr(Client, name))["return"]
    for code, answer in operations(document)[operation]["responses"].items():
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        if not code.startswith("2") or schema is None:
            continue
        if kind is bool:
            assert resolved(document, schema)["title"] == "Health"
        elif get_origin(kind) is list:
            assert resolved(document, schema["items"])["title"] == get_args(kind)[0].__name__
        else:
            assert resolved(document, schema)["title"] == kind.__name__


@pytest.mark.parametrize("operation", CALLS, ids=" ".join)
def test_both_clients_send_the_same(operation: tuple[str, str]) -> None:
    assert sent_asynchronously_by(operation) == sent_by(operation)


def test_both_clients_have_the_same_methods() -> None:
    pairs = {name: "aclose" if name == "close" else name for name in public(Client)}

    assert set(pairs.values()) == public(AsyncClient)
    for name, other in pairs.items():
        one: Callable[..., Any] = getattr(Client, name)
        two: Callable[..., Awaitable[Any]] = getattr(AsyncClient, other)
        assert inspect.signature(one).parameters == inspect.signature(two).parameters
        assert inspect.getdoc(one)


def test_ids_cannot_leave_their_place_in_the_path() -> None:
    assert sent_by(("POST", "/v1/search/{answer_id}/refine")).path == "/v1/search/a%2Fb/refine"
