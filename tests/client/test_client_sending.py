"""How answers become errors, when a request is sent again, and what of the key is never shown."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import httpx
import pytest

from segdex.arguments import QueryImage
from segdex.client import (
    AccessError,
    AsyncClient,
    BusyError,
    Client,
    NotThereError,
    RequestError,
    ServiceError,
    UnreachableError,
)
from segdex.client.events import Event, EventParser
from segdex_core.errors import QueryError, UsageError

SERVER = "http://127.0.0.1:8600"
ONE = UUID("6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11")
KEY = "sk-very-secret"
STATS = {
    "images": 1,
    "segments": 2,
    "segments_per_image": 2.0,
    "images_without_segments": 0,
    "profile": "offline",
    "embedder": "colours",
    "segmenter": "flood",
    "dimensions": 16,
    "views": ["crop"],
    "index_schema_version": 4,
}
BUSY = httpx.Response(503, json={"detail": "busy"}, headers={"Retry-After": "0.05"})


class Script(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers with one thing after the other; counts the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = iter(answers)
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, stream=answer.stream)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces, which may end in an error."""

    def __init__(self, *pieces: bytes, then: Exception | None = None) -> None:
        self._pieces, self._then = pieces, then
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._then is not None:
            raise self._then

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


def client(*answers: httpx.Response | Exception, retries: int = 2) -> tuple[Client, Script]:
    script = Script(*answers)
    return Client(SERVER, api_key=KEY, retries=retries, transport=script), script


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (400, RequestError, 2),
        (401, AccessError, 2),
        (403, AccessError, 2),
        (404, NotThereError, 2),
        (410, NotThereError, 2),
        (411, RequestError, 2),
        (413, RequestError, 2),
        (415, RequestError, 2),
        (422, RequestError, 2),
        (429, BusyError, 3),
        (500, ServiceError, 3),
        (503, BusyError, 3),
        (302, ServiceError, 3),
    ],
)
def test_a_status_becomes_its_error_with_the_words_of_the_service(
    status: int, kind: type[ServiceError], exit_code: int
) -> None:
    answer = httpx.Response(status, json={"detail": "a reason\nin words"}, headers={"X-Request-ID": "r17"})
    asked, script = client(answer)

    with asked, pytest.raises(ServiceError) as caught:
        asked.stats()

    error = caught.value
    assert type(error) is kind
    assert (error.status, error.detail, error.request_id) == (status, "a reason in words", "r17")
    assert error.exit_code == exit_code
    assert str(error) == f"a reason in words (HTTP {status}, request r17)"
    assert script.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in f"{error!r} {error} {asked!r} {vars(error)}"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"other": 1}', b""])
def test_what_is_no_service_is_told_from_one(body: bytes) -> None:
    refused, _ = client(httpx.Response(404, content=body))
    answered, _ = client(httpx.Response(200, content=body))

    with refused, pytest.raises(NotThereError, match="is it a segdex service"):
        refused.stats()
    with answered, pytest.raises(ServiceError, match="is it a segdex service"):
        answered.stats()


def test_a_busy_service_is_asked_again_when_it_says() -> None:
    asked, script = client(BUSY, BUSY, httpx.Response(200, json=STATS))

    begun_s = time.perf_counter()
    with asked:
        assert asked.stats().images == 1

    assert len(script.requests) == 3
    assert time.perf_counter() - begun_s >= 0.1


def test_a_busy_service_is_not_asked_for_ever() -> None:
    asked, script = client(BUSY, BUSY, BUSY, BUSY)

    with asked, pytest.raises(BusyError) as caught:
        asked.stats()

    assert len(script.requests) == 3
    assert caught.value.retry_after_s == 0.05


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "3600"}, {"Retry-After": "tomorrow"}])
def test_without_a_short_time_to_wait_it_is_not_waited(headers: dict[str, str]) -> None:
    asked, script = client(httpx.Response(429, json={"detail": "slowly"}, headers=headers))

    with asked, pytest.raises(BusyError):
        asked.stats()

    assert len(script.requests) == 1


def test_a_connection_that_failed_is_tried_again_and_then_named() -> None:
    refused = httpx.ConnectError("refused")
    asked, script = client(refused, httpx.Response(200, json=STATS))
    other, again = client(refused, refused, refused)

    with asked:
        assert asked.stats().segments == 2
    with other, pytest.raises(UnreachableError, match=r"no service answers at http://127\.0\.0\.1:8600"):
        other.add_job(["/a"])  # nothing arrived, so that it may be sent again

    assert (len(script.requests), len(again.requests)) == (2, 3)


def test_what_changes_something_is_not_sent_twice_when_its_answer_got_lost() -> None:
    lost = httpx.ReadError("reset")
    asked, script = client(lost, httpx.Response(200, json=STATS))
    changing, once = client(lost, httpx.Response(200))
    slow, asked_once = client(httpx.ReadTimeout("60 s"), httpx.Response(200))

    with asked:
        asked.stats()
    with changing, pytest.raises(UnreachableError, match="before its answer"):
        changing.delete_set("a")
    with slow, pytest.raises(UnreachableError, match="in time"):
        slow.stats()

    assert (len(script.requests), len(once.requests), len(asked_once.requests)) == (2, 1, 1)


@pytest.mark.parametrize("verb", ["add_job", "upload"])
def test_what_the_service_does_once_is_sent_again_with_the_same_key(verb: str) -> None:
    what = ["/a"] if verb == "add_job" else b"a picture"

    def ask(asked: Client, **key: str) -> None:
        with asked, pytest.raises(UnreachableError):
            getattr(asked, verb)(what, **key)

    lost = httpx.ReadError("reset")
    asked, script = client(lost, lost, lost)
    again, other = client(lost, lost, lost)
    named, chosen = client(lost, lost, lost)
    ask(asked)
    ask(again)
    ask(named, idempotency_key="mine")
    keys = [
        [request.headers["idempotency-key"] for request in one.requests] for one in (script, other, chosen)
    ]

    assert [len(some) for some in keys] == [3, 3, 3]
    assert [len(set(some)) for some in keys] == [1, 1, 1]
    assert keys[0][0] != keys[1][0]
    assert keys[2][0] == "mine"


@pytest.mark.parametrize("key", ["", "a b", "\u00fc", "x" * 201, "a\nb"])
def test_a_key_that_no_header_can_hold_is_refused(key: str) -> None:
    asked, script = client()
    with asked, pytest.raises(UsageError, match="idempotency key must be"):
        asked.add_job(["/a"], idempotency_key=key)

    assert script.requests == []


def test_whether_it_lives_is_asked_once() -> None:
    for answer, expected in (
        (httpx.Response(200, json={"status": "ok"}), True),
        (BUSY, False),
        (httpx.ConnectError("refused"), False),
    ):
        asked, script = client(answer)
        with asked:
            assert asked.is_ready() is expected
        assert len(script.requests) == 1


REFINED = (
    '{"segment_id": "6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11", "answer": "kept",'
    ' "reason": "gr\u00f6\u00dfer\u2028", "made_by": "evf", "predicted_iou": 0.5,'
    ' "iou_with_stored": 0.9, "gain": 0.1, "agreement": 1.0,'
    ' "box_xyxy": [1, 2, 3, 4], "area_px": 4,'
    ' "rle": {"size": [4, 4], "counts": "0"}, "timings_ms": {}}'
)
STREAM = f": a comment\r\nevent: refinement\r\ndata: {REFINED}\r\n\r\nevent: done\ndata: {{}}\n\n".encode()


@pytest.mark.parametrize("step", [1, 2, 7, 100, 10_000])
def test_events_are_read_whatever_pieces_they_come_in(step: int) -> None:
    parser = EventParser()

    events = [
        event for start in range(0, len(STREAM), step) for event in parser.feed(STREAM[start : start + step])
    ]

    assert events == [Event("refinement", REFINED), Event("done", "{}")]


def test_events_are_yielded_until_the_last_and_the_response_is_closed() -> None:
    body = Pieces(STREAM[:50], STREAM[50:171], STREAM[171:])
    asked, _ = client(BUSY, httpx.Response(200, stream=body))

    with asked:
        [one] = asked.refine("red", segment_ids=[ONE])

    assert one.reason == "gr\u00f6\u00dfer\u2028"
    assert body.is_closed


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (Pieces(STREAM[:-20]), UnreachableError, "broke off"),
        (Pieces(STREAM[:90], then=httpx.ReadError("reset")), UnreachableError, "ended the connection"),
        (
            Pieces(b'event: error\ndata: {"detail": "the index is away"}\n\n'),
            ServiceError,
            "the index is away",
        ),
    ],
)
def test_events_that_end_too_early_are_an_error(body: Pieces, kind: type[ServiceError], words: str) -> None:
    asked, _ = client(httpx.Response(200, stream=body))

    with asked, pytest.raises(kind, match=words):
        list(asked.refine("red", segment_ids=[ONE]))

    assert body.is_closed


def test_a_job_is_watched_on_when_its_events_end_before_it() -> None:
    def events(*statuses: str) -> httpx.Response:
        text = "".join(
            f'event: job\ndata: {{"id": "j", "paths": ["/a"], "created_s": 1, "status": "{status}"}}\n\n'
            for status in statuses
        )
        return httpx.Response(200, stream=Pieces(text.encode()))

    asked, script = client(events("waiting", "running"), events("running", "done"))
    gone, _ = client(events())

    with asked, gone:
        assert [job.status for job in asked.watch_job("j")] == ["waiting", "running", "running", "done"]
        assert list(gone.watch_job("j")) == []
    assert len(script.requests) == 2


def test_the_asynchronous_client_retries_and_streams_alike() -> None:
    body = Pieces(STREAM)
    script = Script(
        BUSY,
        httpx.Response(200, json=STATS),
        httpx.Response(200, stream=body),
        httpx.Response(200, stream=Pieces()),
    )

    async def ask() -> None:
        async with AsyncClient(SERVER, transport=script) as asked:
            assert (await asked.stats()).images == 1
            assert [one.made_by async for one in asked.refine("red", segment_ids=[ONE])] == ["evf"]
            assert body.is_closed
            with pytest.raises(UnreachableError, match="broke off"):
                [one async for one in asked.refine("red", segment_ids=[ONE])]

    asyncio.run(ask())


@pytest.mark.parametrize(
    "server",
    [
        "",
        "127.0.0.1:8600",
        "ftp://a",
        "http://",
        "http://u:p@a",
        "http://a?b",
        "http://a:b",
        "edge:a",
        "http://[a",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(server: str) -> None:
    with pytest.raises(UsageError, match="the address of a service must") as caught:
        Client(server)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("key", ["", " ", "a\nb", "schl\u00fcssel"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(UsageError, match="printable ASCII") as caught:
        Client(SERVER, api_key=key)
    assert not key.strip() or key not in str(caught.value)


def test_what_needs_no_service_to_be_refused_is_not_sent() -> None:
    asked, script = client()

    with asked:
        with pytest.raises(UsageError, match="either a picture"):
            asked.segment(points=[(1, 1)])
        with pytest.raises(QueryError, match="box_xyxy"):
            asked.segment(b"picture", box_xyxy=(1, 2, 3, 4))  # type: ignore[call-arg] # as a typist may
        with pytest.raises(QueryError, match="box_xyxy"):
            asked.search("red", image=QueryImage(b"picture", (1, 2, 3, -4)))
        with pytest.raises(UsageError, match="no-such-file"):
            asked.upload("no-such-file.jpg")
        with pytest.raises(QueryError, match="no id"):
            asked.image("../stats")
        with pytest.raises(UsageError, match="quality, dry_run"):
            asked.ingest(".", quality="best", dry_run=True)
    assert script.requests == []


HEAVY = [
    "torch",
    "transformers",
    "onnxruntime",
    "open_clip",
    "qdrant_client",
    "qdrant_edge",
    "fastapi",
    "PIL",
    "scipy",
    "numpy",
    "segdex.http",
    "segdex.wiring",
]


@pytest.mark.parametrize(
    ("line", "heavy"),
    [
        ("import segdex.client", HEAVY),
        ("from segdex.cli.main import run; run(['stats', '--server', 'http://127.0.0.1:9'])", HEAVY[:7]),
    ],
)
def test_neither_the_client_nor_a_command_that_asks_a_service_loads_a_model_library(
    line: str, heavy: list[str]
) -> None:
    code = f"import sys\n{line}\nprint([name for name in {heavy!r} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
