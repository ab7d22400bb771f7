"""What an operator sees of the service: ids, the log, figures, spans; and what nobody may see there."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from tests.fakes.dataset import png
from tests.fakes.service import Make, refused
from tests.qdrant_server import free_port_pair
from tests.waiting import wait_until

from segdex.http.keys import make_key
from segdex.http.logs import (
    RequestRecord,
    add_request,
    current_request,
    json_formatter,
    note_outcome,
    note_refinement,
    note_stages,
    recording,
    text_formatter,
)
from segdex.http.tracing import Tracing, start_tracing
from segdex_core.errors import UsageError

SECRET = "purple unicorn of the neighbours"  # noqa: S105 - a query text


@pytest.fixture(name="make")
def _make(make: Make) -> Make:
    """Make services that also have paths that go wrong."""
    return partial(make, extend=add_probes)


@pytest.fixture(name="log")
def _log() -> Iterator[StringIO]:
    """All records of the process from debug, as lines of JSON; but those of the test's own client."""
    written = StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(json_formatter())
    handler.addFilter(add_request)
    handler.addFilter(lambda record: not record.name.startswith("httpx"))
    root, before = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield written
    root.setLevel(before)
    root.removeHandler(handler)


def add_probes(app: FastAPI) -> None:
    """Add routes that do what a test wants, before the page, which takes every path."""

    def whose(name: str, request: Request) -> str:
        request.state.key_name = name
        time.sleep(0.01)
        logging.getLogger("segdex.probe").info("inside", extra={"probe": name})
        record = current_request()
        assert record is not None
        return record.request_id

    def stages() -> None:
        note_stages({"embed": 20.0, "query": 5.0})
        note_stages({"query": 1.0})
        note_refinement("refined")
        note_outcome("added")

    def bug() -> None:
        raise RuntimeError("nobody expected this")

    def late_bug() -> StreamingResponse:
        def parts() -> Iterator[str]:
            yield "begun"
            raise RuntimeError("nobody expected this")

        return StreamingResponse(parts())

    first = len(app.router.routes)
    app.get("/probe/whose/{name}")(whose)
    app.get("/probe/stages")(stages)
    app.get("/probe/bug")(bug)
    app.get("/probe/late-bug")(late_bug)
    app.router.routes[:] = [*app.router.routes[first:], *app.router.routes[:first]]


def lines(log: StringIO, *, logger: str = "segdex.access") -> list[dict[str, Any]]:
    """Return what a logger wrote; every line of the log is an object."""
    read = [json.loads(line) for line in log.getvalue().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in read)
    return [line for line in read if line["logger"] == logger]


def figures(client: TestClient, **headers: str) -> dict[str, float]:
    """Return every sample of /metrics that is not 0, by name and labels as they are written."""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}"
        if sample.labels
        else sample.name: sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.value
    }


def test_a_request_id_that_is_sent_comes_back_and_is_in_the_log(client: TestClient, log: StringIO) -> None:
    answer = client.post("/v1/search", json={"texts": ["red"]}, headers={"X-Request-ID": "order-66.a_B"})
    wrong = client.get("/v1/nothing", headers={"X-Request-ID": "order-67"})

    assert answer.headers["x-request-id"] == "order-66.a_B"
    assert wrong.headers["x-request-id"] == wrong.json()["request_id"] == "order-67"
    assert [line["request_id"] for line in lines(log)] == ["order-66.a_B", "order-67"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "a\tb", "\xe9", "<script>"])
def test_a_request_id_that_is_no_sound_one_is_replaced(client: TestClient, log: StringIO, given: str) -> None:
    answer = client.get("/v1/stats", headers={b"X-Request-ID": given.encode("latin-1")})

    made = answer.headers["x-request-id"]
    assert len(made) == 32
    assert int(made, 16)
    assert lines(log)[0]["request_id"] == made


def test_ids_of_requests_at_the_same_time_do_not_mix(client: TestClient, log: StringIO) -> None:
    def ask(number: int) -> tuple[str, str, str]:
        mine = f"id-{number}"
        answer = client.get(f"/probe/whose/{mine}", headers={"X-Request-ID": mine})
        return mine, answer.json(), answer.headers["x-request-id"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))

    assert all(mine == inside == back for mine, inside, back in answers)
    inside = lines(log, logger="segdex.probe")  # written by the threads that answer
    assert len(inside) == 64
    assert all(line["request_id"] == line["probe"] for line in inside)
    assert all(line["request_id"] == line["key"] for line in lines(log))
    assert current_request() is None


def test_a_request_is_one_line_that_says_what_became_of_it(client: TestClient, log: StringIO) -> None:
    client.get("/v1/images/00000000-0000-0000-0000-000000000000?max_px=5")
    client.get("/probe/stages")

    missing, stages = lines(log)
    assert missing.pop("time").endswith("+00:00")
    assert missing.pop("duration_ms") > 0
    assert len(missing.pop("request_id")) == 32
    path = "/v1/images/00000000-0000-0000-0000-000000000000"
    assert missing.pop("message").startswith(f"GET {path} 404 ")
    assert missing == {
        "level": "INFO",
        "logger": "segdex.access",
        "method": "GET",
        "route": "/v1/images/{image_id}",
        "path": path,
        "status": 404,
        "key": "loopback",
        "client": "testclient",
    }
    assert stages["stages_ms"] == {"embed": 20.0, "query": 6.0}


def test_other_methods_are_logged_and_counted_by_the_template_of_the_path(
    client: TestClient, log: StringIO
) -> None:
    image = client.post("/v1/search", json={"texts": ["red"]}).json()["hits"][0]["image"]["id"]
    client.head(f"/v1/images/{image}")
    client.put(f"/v1/images/{image}")
    client.get("/app.js")
    client.get("/nothing.js")

    assert [(line["method"], line["route"], line["status"]) for line in lines(log)][-4:] == [
        ("HEAD", "/v1/images/{image_id}", 200),
        ("PUT", "/v1/images/{image_id}", 405),
        ("GET", "/app.js", 200),
        ("GET", "other", 404),
    ]
    refused_by = [name for name in figures(client) if "segdex_requests_total" in name and '"405"' in name]
    assert len(refused_by) == 1
    assert '"/v1/images/{image_id}"' in refused_by[0]


def test_what_machines_ask_again_and_again_is_quiet(client: TestClient, log: StringIO) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        client.get(path)
    client.get("/metrics", headers={"Origin": "http://evil.example"})

    assert [(line["path"], line["level"]) for line in lines(log)] == [
        ("/healthz", "DEBUG"),
        ("/readyz", "DEBUG"),
        ("/metrics", "DEBUG"),
        ("/metrics", "INFO"),
    ]
    assert lines(log)[-1]["refused"] == "site"


def test_no_key_and_no_query_is_ever_in_the_log(make: Make, log: StringIO) -> None:
    given, kept = make_key("reader", "read")
    client = make((kept,))
    headers = {"Authorization": f"Bearer {given}"}
    client.post("/v1/search", json={"texts": [SECRET]}, headers=headers)
    client.post("/v1/search", json={"texts": [SECRET * 100]}, headers=headers)
    client.post("/v1/search", content=f'{{"texts": ["{SECRET}"', headers=headers)
    client.post("/v1/search", json={"texts": [SECRET]}, headers={"Authorization": f"Bearer {SECRET}"})
    client.get(f"/v1/stats?q={SECRET}&key={given}", headers={**headers, "Cookie": given, "Referer": SECRET})
    client.request("BREW", "/v1/search", json={"texts": [SECRET]}, headers=headers)
    form = {"file": (SECRET, SECRET.encode(), SECRET)}
    client.post("/v1/search/by-image", files=form, data={"request": SECRET, SECRET: given}, headers=headers)

    assert [line["status"] for line in lines(log)] == [200, 422, 422, 401, 200, 405, 415]
    text = log.getvalue()
    for hidden in (SECRET, "unicorn", given, kept.sha256):
        assert hidden not in text


def test_a_path_cannot_forge_a_line(client: TestClient, log: StringIO) -> None:
    client.get("/v1/%0a2026-01-01 ERROR forged%1b[31m" + "x" * 5_000)

    (line,) = lines(log)
    assert "\n" not in line["path"]
    assert "\x1b" not in line["path"]
    assert len(line["path"]) == 500
    assert line["route"] in {"/", "other"}


def test_a_bug_is_a_problem_of_one_line_and_is_logged_once_with_its_stack(
    client: TestClient, log: StringIO
) -> None:
    answer = client.get("/probe/bug", headers={"X-Request-ID": "the-bug"})

    refused(answer, 500, "a bug of segdex", "the-bug")
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "the-bug"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "nobody expected" not in answer.text
    assert log.getvalue().count("Traceback") == 1
    (error,) = lines(log, logger="segdex.http.problems")
    assert (error["level"], error["request_id"]) == ("ERROR", "the-bug")
    assert error["exception"].splitlines()[-1] == "RuntimeError: nobody expected this"
    (line,) = lines(log)
    assert (line["status"], line["error"], line["level"]) == (500, "RuntimeError", "WARNING")
    assert (
        figures(client)['segdex_requests_total{"method": "GET", "path": "/probe/bug", "status": "500"}'] == 1
    )


def test_a_bug_in_the_midst_of_a_stream_is_logged_once(client: TestClient, log: StringIO) -> None:
    client.get("/probe/late-bug")

    assert log.getvalue().count("Traceback") == 1
    (line,) = lines(log)
    assert (line["status"], line["error"], line["level"]) == (200, "RuntimeError", "WARNING")


@pytest.mark.parametrize(
    "headers", [{"Host": "["}, {"Origin": "http://["}, {"Host": "", "Origin": "http://["}]
)
def test_an_address_that_is_none_is_refused(
    client: TestClient, log: StringIO, headers: dict[str, str]
) -> None:
    refused(client.get("/v1/stats", headers=headers), 403)

    assert "Traceback" not in log.getvalue()


def test_the_format_for_people_has_the_id_too(client: TestClient) -> None:
    written = StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(text_formatter())
    handler.addFilter(add_request)
    logger = logging.getLogger("segdex.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        client.get("/v1/stats", headers={"X-Request-ID": "mine"})
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    assert "INFO segdex.access: GET /v1/stats 200 " in written.getvalue()
    assert written.getvalue().endswith(" ms [mine]\n")


def test_figures_follow_the_conventions_and_have_bounded_labels(client: TestClient) -> None:
    for number in range(20):
        client.get(f"/v1/{number}")
        client.get(f"/{number}.html")
        client.request(f"BREW{number}", "/v1/stats")

    text = client.get("/metrics").text

    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.documentation, family.name
        assert family.name.startswith(("segdex_", "process_"))
        assert family.type in {"counter", "gauge", "histogram"}
        assert family.type != "gauge" or not family.name.endswith("_total")
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "segdex_memory_bytes"} <= {
        family.name for family in families
    }
    (requests,) = (family for family in families if family.name == "segdex_requests")
    seen = {(sample.labels["method"], sample.labels["path"]) for sample in requests.samples}
    assert {method for method, _ in seen} == {"GET", "other"}
    assert len(seen) <= 4


def test_stages_refinements_and_outcomes_of_answers_are_counted(client: TestClient) -> None:
    client.get("/probe/stages")

    after = figures(client)
    assert after['segdex_stage_seconds_count{"stage": "embed"}'] == 1
    assert after['segdex_stage_seconds_sum{"stage": "embed"}'] == pytest.approx(0.020)
    assert after['segdex_stage_seconds_count{"stage": "query"}'] == 2
    assert after['segdex_refinements_total{"answer": "refined"}'] == 1
    assert after['segdex_ingested_files_total{"outcome": "added"}'] == 1


def test_encodings_queue_and_readiness_are_read_when_they_are_asked_for(client: TestClient) -> None:
    image = client.post("/v1/search", json={"texts": ["red"], "limit": 1}).json()["hits"][0]["image"]
    for x in (30, 120):
        point = {"image_id": image["id"], "points": [{"x": x, "y": 60}]}
        assert client.post("/v1/segment", json=point).status_code == 200

    after = figures(client)
    assert after['segdex_encodings_total{"result": "miss"}'] == 1
    assert after['segdex_encodings_total{"result": "hit"}'] == 1
    assert after["segdex_worker_calls_max"] == 64
    assert "segdex_worker_calls" not in after  # 0
    assert after["segdex_ready"] == 1


def test_requests_that_are_turned_away_are_counted_by_the_reason(make: Make, log: StringIO) -> None:
    (reads, reader), (admin, admins) = make_key("r", "read"), make_key("a", "admin")
    client = make((reader, admins), max_waiting=1, rate_per_minute=3)
    may_read, may_all = ({"Authorization": f"Bearer {key}"} for key in (reads, admin))
    loaded = client.app.state.service.loaded()  # type: ignore[attr-defined]
    started, go = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        go.wait(10)

    thread = threading.Thread(target=lambda: loaded.model_thread.run(block))
    thread.start()
    started.wait(10)
    assert client.post("/v1/search", json={"texts": ["red"]}, headers=may_read).status_code == 503
    during = figures(client, **may_all)
    go.set()
    thread.join()
    client.get("/v1/stats")
    client.get("/metrics", headers=may_read)
    for _ in range(3):
        client.get("/v1/stats", headers=may_read)
    client.get("/v1/stats", headers={**may_read, "Origin": "http://evil.example"})

    assert during["segdex_worker_calls"] == 1
    after = figures(client, **may_all)
    rejected = {
        reason: after[f'segdex_rejected_requests_total{{"reason": "{reason}"}}']
        for reason in ("busy", "key", "rate", "site")
    }
    assert rejected == {"busy": 1, "key": 2, "rate": 1, "site": 1}
    assert [line["refused"] for line in lines(log) if "refused" in line] == [
        "busy", "key", "key", "rate", "site",
    ]  # fmt: skip


def test_answers_raise_the_figures_of_their_stages(client: TestClient, log: StringIO) -> None:
    answer = client.post("/v1/search", json={"texts": ["red"], "limit": 1}).json()
    image, segment = answer["hits"][0]["image"], answer["hits"][0]["segments"][0]
    client.post("/v1/refine", json={"texts": ["red"], "segment_ids": [segment["id"]]})
    client.post("/v1/segment", json={"image_id": image["id"], "points": [{"x": 30, "y": 60}]})
    picture = {"file": ("x.png", png("orange"))}
    client.post("/v1/images", files=picture)

    after = figures(client)
    assert after['segdex_stage_seconds_count{"stage": "query"}'] == 1
    assert after['segdex_stage_seconds_count{"stage": "decode"}'] == 2
    assert after['segdex_refinements_total{"answer": "refined"}'] == 1
    assert after['segdex_ingested_files_total{"outcome": "added"}'] == 1
    search, refine, segment, _ = lines(log)[:4]
    assert {"embed", "query"} <= set(search["stages_ms"])
    assert {"encode", "decode"} <= set(refine["stages_ms"])
    assert set(segment["stages_ms"]) == {"encode", "decode"}
    assert search["key"] == "loopback"


def test_the_thread_of_the_models_writes_the_id_of_the_request(client: TestClient, log: StringIO) -> None:
    loaded = client.app.state.service.loaded()  # type: ignore[attr-defined]
    probe = logging.getLogger("segdex.probe")
    with recording(RequestRecord("mine", "GET", "/", "")):
        loaded.model_thread.run(lambda: probe.info("inside"))

    assert [line["request_id"] for line in lines(log, logger="segdex.probe")] == ["mine"]


def test_files_of_jobs_are_counted(make: Make, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "new.png").write_bytes(png("pink"))
    client = make(job_roots=(tmp_path / "pictures",))
    job = client.post("/v1/jobs", json={"paths": [str(tmp_path / "pictures")]}).json()
    client.get(f"/v1/jobs/{job['id']}/events")  # until it ends

    assert figures(client)['segdex_job_files_total{"outcome": "added"}'] == 1


@pytest.fixture(name="spans")
def _spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(name="traced")
def _traced(make: Make, spans: InMemorySpanExporter) -> TestClient:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return make(tracing=Tracing(provider))


def test_a_request_is_a_span_in_the_trace_of_its_sender(
    traced: TestClient, spans: InMemorySpanExporter, log: StringIO
) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    traced.get(
        f"/v1/images/00000000-0000-0000-0000-000000000000?q={SECRET}",
        headers={"traceparent": f"00-{trace}-{parent}-01", "X-Request-ID": "mine"},
    )
    traced.get("/healthz")

    (span,) = spans.get_finished_spans()
    assert span.name == "GET /v1/images/{image_id}"
    assert span.kind.name == "SERVER"
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == trace
    assert f"{span.parent.span_id:016x}" == parent
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/v1/images/{image_id}",
        "http.response.status_code": 404,
        "url.path": "/v1/images/00000000-0000-0000-0000-000000000000",
        "segdex.request_id": "mine",
        "segdex.key": "loopback",
    }
    assert span.status.is_unset
    assert lines(log)[0]["trace_id"] == trace


def test_stages_are_spans_within_that_of_the_request(
    traced: TestClient, spans: InMemorySpanExporter, log: StringIO
) -> None:
    traced.get("/probe/stages")

    *stages, whole = spans.get_finished_spans()
    assert [span.name for span in stages] == ["embed", "query", "query"]
    for span in stages:
        assert span.parent == whole.context
        assert began(whole) <= began(span) <= ended(span) <= ended(whole)
    assert whole.context is not None
    assert lines(log)[0]["trace_id"] == f"{whole.context.trace_id:032x}"


def test_a_bug_fails_the_span_but_does_not_put_its_text_there(
    traced: TestClient, spans: InMemorySpanExporter
) -> None:
    traced.get("/probe/bug")

    (span,) = spans.get_finished_spans()
    assert span.status.status_code.name == "ERROR"
    assert (span.attributes or {})["error.type"] == "RuntimeError"
    assert "nobody expected" not in span.to_json()


def began(span: ReadableSpan) -> int:
    assert span.start_time is not None
    return span.start_time


def ended(span: ReadableSpan) -> int:
    assert span.end_time is not None
    return span.end_time


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)
def test_nothing_is_traced_unless_the_variables_ask_for_it(environment: dict[str, str]) -> None:
    assert start_tracing(environment) is None


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER must be otlp, console or none"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf",
        ),
    ],
)
def test_what_cannot_be_traced_is_an_error_of_one_line(environment: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        start_tracing(environment)


@pytest.mark.parametrize("absent", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http"])
def test_without_the_packages_the_start_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    for name in [name for name in sys.modules if name.startswith(absent)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, absent, None)

    with pytest.raises(UsageError, match=r"pip install 'segdex\[telemetry\]'"):
        start_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})


def asked(port: int, path: str) -> str:
    """Return what a service answers, whatever the status; nothing while nobody listens."""
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("GET", path, headers={"X-Request-ID": "mine"})
        return connection.getresponse().read().decode()
    except ConnectionError:
        return ""
    finally:
        connection.close()


@pytest.mark.e2e
def test_the_command_writes_one_format_and_sends_its_spans(tmp_path: Path) -> None:
    collected: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collected.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    port = free_port_pair()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SEGDEX_", "OTEL_"))},
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    nowhere = f"http://127.0.0.1:{free_port_pair()}"  # so that it answers without models
    command = [sys.executable, "-m", "segdex.cli.main", "--index", nowhere, "serve", "--port", str(port)]
    with (tmp_path / "log").open("w") as written:
        process = subprocess.Popen(command, env=environment, stderr=written, cwd=tmp_path)
        try:
            wait_until(
                lambda: process.poll() is not None or "no Qdrant" in asked(port, "/v1/stats"),
                what="the service answers without an index",
            )
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait()
            collector.shutdown()
            collector.server_close()

    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert log[0]["message"].startswith(f"segdex at http://127.0.0.1:{port}")
    assert any("not ready" in line["message"] for line in log)
    (*_, last) = (line for line in log if line["logger"] == "segdex.access")
    assert (last["request_id"], last["status"], last["route"]) == ("mine", 503, "/v1/stats")
    (found,) = (
        (resource.resource, span)
        for body in collected
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if span.trace_id.hex() == last["trace_id"]
    )
    assert found[1].name == "GET /v1/stats"
    named = {one.key: one.value.string_value for one in found[0].attributes}
    assert (named["service.name"], named["deployment.environment.name"]) == ("segdex", "test")


def test_every_package_of_ours_logs_from_info_where_the_service_runs() -> None:
    script = (
        "import logging; from segdex.http.logs import start_logging; from segdex.loggers import PACKAGES;"
        "start_logging('json'); [logging.getLogger(f'{name}.probe').info(name) for name in PACKAGES];"
        "logging.getLogger('library.probe').info('library')"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    said = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert said == ["segdex", "segdex_backends", "segdex_core", "segdex_ingest", "segdex_search"]
