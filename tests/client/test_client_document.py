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
import numpy as np
import pytest
from pydantic import BaseModel

from segdex.answers import Answer, Masks, Segment
from segdex.arguments import QueryImage
from segdex.client import (
    AsyncClient,
    Client,
    Filter,
    NotThereError,
    Region,
    ViewWeights,
    WeightedSegment,
    WeightedText,
)
from segdex.http.app import build_app
from segdex.http.state import Loaded, ServiceState
from segdex.wiring import build_settings
from segdex_core.wire.export import ExportOptions
from segdex_core.wire.images import Health
from segdex_core.wire.imports import ImportRequest
from segdex_core.wire.search import RefineRequest, SearchOptions, SearchResponse
from segdex_core.wire.segments import MasksOut, PromptOptions, SegmentOut

SERVER = "http://127.0.0.1:8600"
ONE = UUID("6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11")
QUESTION: dict[str, Any] = {
    "segments": [ONE, WeightedSegment(segment_id=ONE, weight=2)],
    "regions": [Region(image_id=ONE, box_xyxy=(1, 2, 3, 4))],
    "negative": ["blue"],
    "view_weights": ViewWeights(crop=1, mask=0),
}
SEARCH: dict[str, Any] = {
    **QUESTION,
    "filter": Filter(min_area=0.1),
    "limit": 3,
    "per_image": 2,
    "min_score": 0.1,
    "matches_only": True,
    "level": "whole",
    "nms": False,
    "exact": True,
    "combine": "best",
    "diversity": 0.5,
    "collapse_duplicates": True,
    "explain": True,
    "cursor": "abc",
}
PROMPT: dict[str, Any] = {
    "points": [(1, 2)],
    "negative_points": [(3, 4)],
    "box": (1, 2, 3, 4),
    "mask": np.eye(4, dtype=bool),
    "text": "a cup",
    "masks": 3,
}
EXPORT: dict[str, Any] = {
    **{name: value for name, value in SEARCH.items() if name != "cursor"},
    "format": "coco",
    "category": "cup",
    "pictures": "none",
    "tolerance_px": 1,
    "url_prefix": "/pictures",
    "refine": 2,
}
DOCUMENT = b"annotations of another tool"
TEXTS = ("red", WeightedText(text="cup", weight=2))
BYTES = b"bytes of a picture"
PICTURES = {"image": [QueryImage(BYTES, (1, 2, 3, 4), weight=2), BYTES]}

CALLS: dict[tuple[str, str], tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    ("GET", "/healthz"): ("is_alive", (), {}),
    ("GET", "/readyz"): ("is_ready", (), {}),
    ("GET", "/metrics"): ("metrics", (), {}),
    ("POST", "/v1/search"): ("search", TEXTS, SEARCH),
    ("POST", "/v1/search/by-image"): ("search", TEXTS, {**SEARCH, **PICTURES}),
    ("POST", "/v1/refine"): ("refine", TEXTS, {**QUESTION, "segment_ids": [ONE]}),
    ("POST", "/v1/refine/by-image"): ("refine", TEXTS, {**QUESTION, **PICTURES, "segment_ids": [ONE]}),
    ("POST", "/v1/export"): ("export", ("an-export", *TEXTS), EXPORT),
    ("POST", "/v1/export/by-image"): ("export", ("an-export", *TEXTS), {**EXPORT, **PICTURES}),
    ("POST", "/v1/import"): (
        "import_labels",
        (DOCUMENT,),
        {"format": "coco", "min_iou": 0.6, "overrule": True, "remove_missing": True, "dry_run": True},
    ),
    ("GET", "/v1/stats"): ("stats", (), {}),
    ("POST", "/v1/doctor"): ("doctor", (), {}),
    ("POST", "/v1/images"): ("upload", (BYTES,), {"tags": ["a", "b"], "wait": False}),
    ("GET", "/v1/images/{image_id}"): ("image", (ONE,), {}),
    ("DELETE", "/v1/images/{image_id}"): ("delete", (ONE,), {}),
    ("GET", "/v1/images/{image_id}/file"): ("image_file", (ONE,), {"max_px": 64}),
    ("GET", "/v1/images/{image_id}/pixels.png"): ("pixels", (ONE, (1, 2, 3, 4)), {}),
    ("GET", "/v1/images/{image_id}/segments"): ("image_segments", (ONE,), {}),
    ("GET", "/v1/ids/{prefix}"): ("find_ids", ("3f2a",), {}),
    ("GET", "/v1/segments/{segment_id}"): ("show", (ONE,), {}),
    ("POST", "/v1/segment"): ("segment", (), {**PROMPT, "image_id": ONE}),
    ("POST", "/v1/segment/by-image"): ("segment", (BYTES,), PROMPT),
    ("GET", "/v1/labels"): ("labels", (), {}),
    ("POST", "/v1/labels"): ("label", ("cup",), {"several": True, "min_score": 2, "dry_run": True}),
    ("DELETE", "/v1/labels"): ("clear_labels", ("cup",), {"authors": ["person"]}),
    ("GET", "/v1/sets"): ("sets", (), {}),
    ("POST", "/v1/sets"): ("create_set", ("my set",), {}),
    ("GET", "/v1/sets/{name}"): ("show_set", ("my set",), {}),
    ("PATCH", "/v1/sets/{name}"): ("rename_set", ("my set", "other"), {}),
    ("DELETE", "/v1/sets/{name}"): ("delete_set", ("my set",), {}),
    ("POST", "/v1/sets/{name}/add"): ("add_to_set", ("my set", ONE), {}),
    ("GET", "/v1/concepts"): ("concepts", (), {}),
    ("GET", "/v1/concepts/{name}"): ("show_concept", ("my-valve",), {}),
    ("PATCH", "/v1/concepts/{name}"): ("rename_concept", ("my-valve", "other"), {}),
    ("DELETE", "/v1/concepts/{name}"): ("delete_concept", ("my-valve",), {}),
    ("POST", "/v1/concepts/{name}/mark"): (
        "mark",
        ("my-valve",),
        {"right": [ONE], "wrong": [str(UUID(int=1))], "neither": [UUID(int=2)], "text": "valve"},
    ),
    ("POST", "/v1/sets/{name}/remove"): ("remove_from_set", ("my set", str(ONE)), {}),
    ("POST", "/v1/jobs"): ("add_job", (["/a"],), {"tags": ["a"]}),
    ("GET", "/v1/jobs"): ("jobs", (), {}),
    ("GET", "/v1/jobs/{job_id}"): ("job", ("x/y z",), {}),
    ("DELETE", "/v1/jobs/{job_id}"): ("stop_job", ("x/y z",), {}),
    ("GET", "/v1/jobs/{job_id}/events"): ("watch_job", ("x/y z",), {}),
}
"""What reaches each operation, with every argument given."""

FOR_BROWSERS = {
    ("POST", "/v1/images/{image_id}/coco.json"),
    *(
        ("GET", f"/v1/segments/{{segment_id}}/{form}")
        for form in ("mask.png", "cutout.png", "polygon", "coco.json")
    ),
}
"""Operations without a method: what a page shows by address; a program has ``Segment.mask`` and so on."""

NOT_SENT = {"authorization", "accept", "if-none-match"}
"""Headers: the key and the form are the client's own; it keeps no copies."""

OF_FILES = {("DELETE", "/v1/images/{image_id}"): {"place"}}
"""Parameters that are sent where a file of this machine is given instead of an id."""

OF_THE_CLIENT = {"close", "similar", "ingest"}
"""Methods without an operation of their own: two are made of ``search`` and ``upload``."""

NOT_WITH_A_QUESTION = {"/v1/export": {"everything", "segment_ids", "cursor"}}
"""Fields that a request has instead of its question, or not at all."""

OF_JSON = {
    "/v1/export/by-image": set(ExportOptions.model_fields) - NOT_WITH_A_QUESTION["/v1/export"],
    "/v1/import": set(ImportRequest.model_fields),
    "/v1/search/by-image": set(SearchOptions.model_fields),
    "/v1/refine/by-image": set(RefineRequest.model_fields),
    "/v1/segment/by-image": set(PromptOptions.model_fields),
}
"""What the field ``request`` of a form holds, which the document says in words."""

RECORDS: dict[object, type[BaseModel]] = {
    Answer: SearchResponse,
    Masks: MasksOut,
    Segment: SegmentOut,
    bool: Health,
}
"""What a method makes its result of, where that is more than the record."""

IMAGE = {
    "id": str(ONE),
    "path": "/a.png",
    "uris": ["file:///a.png"],
    "segment_count": 1,
    "width": 4,
    "height": 4,
    "captured_s": 0,
    "place_lat_lon": None,
    "tags": [],
}


@dataclass(frozen=True)
class Sent:
    """A request, so that two can be compared: the boundary of a form is made by chance."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]
    form: dict[str, list[str]]
    accept: str
    has_key: bool


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
        "idempotency-key" in request.headers,
    )


class Transport(httpx.MockTransport):
    """Knows one picture and nothing else; keeps the requests."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.sent: list[httpx.Request] = []

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        if (request.method, request.url.path) == ("GET", f"/v1/images/{ONE}"):
            return httpx.Response(200, json=IMAGE)
        return httpx.Response(404, json={"detail": "no"})

    @property
    def last(self) -> Sent:
        return read_sent(self.sent[-1])


def sent_by(operation: tuple[str, str]) -> Sent:
    """Return what the client sends for an operation, after it has found out what it needs for it."""
    name, arguments, options = CALLS[operation]
    transport = Transport()
    with Client(SERVER, transport=transport) as client, suppress(NotThereError):
        result = getattr(client, name)(*arguments, **options)
        if inspect.isgenerator(result):
            next(result)
    return transport.last


def sent_asynchronously_by(operation: tuple[str, str]) -> Sent:
    name, arguments, options = CALLS[operation]
    transport = Transport()

    async def ask() -> None:
        async with AsyncClient(SERVER, transport=transport) as client:
            result = getattr(client, name)(*arguments, **options)
            with suppress(NotThereError):
                await (anext(result) if inspect.isasyncgen(result) else result)

    asyncio.run(ask())
    return transport.last


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
    assert set(CALLS) | FOR_BROWSERS == set(operations(document))
    assert not set(CALLS) & FOR_BROWSERS
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
    assert set(sent.query) == by_place["query"] - OF_FILES.get(operation, set())
    assert by_place["header"] - {"Idempotency-Key"} <= NOT_SENT
    assert sent.has_key == ("Idempotency-Key" in by_place["header"])
    bodies = known.get("requestBody", {}).get("content", {})
    json_body = resolved(document, bodies.get("application/json", {}).get("schema", {}))
    form = resolved(document, bodies.get("multipart/form-data", {}).get("schema", {}))
    assert set(sent.body) == set(json_body.get("properties", {})) - NOT_WITH_A_QUESTION.get(path, set())
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
    accept = sent_by(operation).accept
    for code, answer in operations(document)[operation]["responses"].items():
        schema = answer.get("content", {}).get(accept, {}).get("schema")
        if not code.startswith("2") or schema is None or schema.get("type") == "string":
            continue  # the bytes of a picture and plain text have no record
        kind = get_type_hints(getattr(Client, CALLS[operation][0]))["return"]
        if get_origin(kind) is list:
            schema = schema["items"]
        if get_origin(kind) is not None:
            [kind] = get_args(kind)
        assert resolved(document, schema)["title"] == RECORDS.get(kind, kind).__name__


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
    assert sent_by(("GET", "/v1/jobs/{job_id}")).path == "/v1/jobs/x%2Fy%20z"
