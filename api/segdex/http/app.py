"""The HTTP service: a REST API under ``/v1`` and the page at ``/``."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version
from urllib.parse import SplitResult, quote, urlsplit

from fastapi import FastAPI, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segdex.http.access import RateLimiter
from segdex.http.document import add_document
from segdex.http.keys import is_loopback
from segdex.http.logs import RequestRecord, log_request, note_refusal, recording, sound_request_id
from segdex.http.methods import AnswerHead, answer_other_paths
from segdex.http.metrics import Metrics
from segdex.http.page import add_page
from segdex.http.problems import add_handlers, bug, problem
from segdex.http.routes import (
    concepts,
    doctor,
    export,
    health,
    ids,
    images,
    imports,
    jobs,
    labels,
    search,
    segment,
    sets,
)
from segdex.http.state import ServiceState
from segdex.http.tracing import Tracing

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_FORM_BYTES = 1 << 16
"""Maximum size of a form around an upload."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PATH_CHARS = 500
"""Maximum number of characters of a path in the log."""


def build_app(state: ServiceState, *, tracing: Tracing | None = None) -> FastAPI:
    """Return the application; it starts to load on startup, and releases everything on shutdown.

    Args:
        state: State of the service.
        tracing: Creates spans; None for no spans.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.start()
        yield
        state.close()
        if tracing is not None:
            tracing.close()

    app = FastAPI(
        title="segdex",
        version=version("segdex"),
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,  # the functions are named as clients call them
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        openapi_url=None,  # see add_document
    )
    app.state.service = state
    app.state.limiter = RateLimiter(state.settings.rate_per_minute)
    app.state.metrics = metrics = Metrics()
    add_handlers(app)
    app.add_middleware(AnswerHead)
    app.add_middleware(_Front, state=state, metrics=metrics, tracing=tracing)
    for router in (
        health.router,
        search.router,
        images.router,
        labels.router,
        export.router,
        imports.router,
        segment.router,
        sets.router,
        concepts.router,
        doctor.router,
        ids.router,
        jobs.router,
    ):
        app.include_router(router)
    add_document(app)
    add_page(app)
    app.router.redirect_slashes = False  # its redirections would leave the path below which a proxy serves us
    app.router.default = answer_other_paths
    return app


class _Front:
    """Middleware around every request: sets an id, may refuse the request, and records the result.

    Requests of other sites, sent through a visitor's browser, and requests that are too large are refused.
    Responses get security headers. It is plain ASGI, so that streams pass through unchanged and the record
    reaches the threads that answer.
    """

    def __init__(
        self, app: ASGIApp, *, state: ServiceState, metrics: Metrics, tracing: Tracing | None
    ) -> None:
        self._app, self._state, self._metrics, self._tracing = app, state, metrics, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        headers = Headers(scope=scope)
        record = _record(scope, headers)
        span = nullcontext() if self._tracing is None else self._tracing.span(record, headers)
        with recording(record), span:
            try:
                await self._answer(scope, receive, send, record=record)
            finally:
                # the router and the key check have set these
                record.route = getattr(scope.get("route"), "path", "other") or "/"
                record.key = scope.get("state", {}).get("key_name")
                seconds = time.perf_counter() - started_s
                log_request(record, seconds)
                self._metrics.count_request(record, seconds)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, *, record: RequestRecord) -> None:
        is_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                record.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = record.request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await (_refusal(Headers(scope=scope), self._state) or self._app)(scope, receive, send_and_note)
        except ClientDisconnect:
            pass  # the client has disconnected
        except Exception as error:  # noqa: BLE001 - the server would log it again, and send no reason
            record.error = type(error).__name__
            response = bug(error)
            if not is_started:  # otherwise the missing end shows that the response is incomplete
                await response(scope, receive, send_and_note)


def _record(scope: Scope, headers: Headers) -> RequestRecord:
    method, client = str(scope["method"]), scope.get("client")
    return RequestRecord(
        request_id=sound_request_id(headers.get("x-request-id")),
        method=method if method in _METHODS else "other",
        path=quote(scope["path"])[:_PATH_CHARS],
        client="" if client is None else client[0],
    )


def _refusal(headers: Headers, state: ServiceState) -> Response | None:
    """Return the response that refuses a request before its body is read; None to accept the request."""
    host, origin = headers.get("host", ""), headers.get("origin")
    sender = None if origin is None else _split(origin)
    if origin is not None and (sender is None or sender.netloc != host):
        note_refusal("site")
        return problem(403, f"requests of pages of {origin!r} are not answered")
    asked = _split(f"//{host}")
    if not state.keys and (asked is None or not is_loopback(asked.hostname or "")):
        # DNS rebinding: pages of another site would have the right origin
        note_refusal("site")
        return problem(403, f"without keys only this machine is answered, and not as {host!r}")
    largest = state.settings.max_upload_bytes + _FORM_BYTES
    length = headers.get("content-length")
    if length is None and "transfer-encoding" in headers:
        return problem(411, "send the length of the request, and not in chunks")
    if length is not None and (not length.isdecimal() or int(length) > largest):
        return problem(413, f"the request has more than {largest:,} bytes")
    return None


def _split(address: str) -> SplitResult | None:
    """Return the parts of an address; None if the address is invalid."""
    try:
        return urlsplit(address)
    except ValueError:
        return None
