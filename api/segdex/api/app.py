"""The HTTP service: a REST API under ``/v1`` and the page at ``/``."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from segdex.api.routes import health, images, jobs, prompts, search
from segdex.api.serving.access import RateLimiter
from segdex.api.serving.keys import is_loopback
from segdex.api.serving.metrics import Metrics
from segdex.api.serving.problems import add_handlers, problem
from segdex.api.serving.state import ServiceState

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
"""What a form may add to an upload."""


def build_app(state: ServiceState) -> FastAPI:
    """Return the application; it starts loading when it is started, and releases all when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.start()
        yield
        state.close()

    app = FastAPI(
        title="segdex",
        version=version("segdex"),
        description="Find the things in pictures: SAM 2 segments, CLIP vectors, Qdrant, text queries.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.state.service = state
    app.state.limiter = RateLimiter(state.settings.rate_per_minute)
    app.state.metrics = Metrics()
    add_handlers(app)
    app.middleware("http")(_guard)
    for router in (health.router, search.router, images.router, prompts.router, jobs.router):
        app.include_router(router)
    app.mount("/", StaticFiles(directory=str(files("segdex.api") / "web"), html=True), name="page")
    return app


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse what other sites send through a visitor's browser and what is too large; add the headers."""
    started = time.perf_counter()
    response = _refusal(request) or await call_next(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    route = request.scope.get("route")
    path = getattr(route, "path", "other")
    metrics: Metrics = request.app.state.metrics
    metrics.requests.labels(request.method, path, str(response.status_code)).inc()
    metrics.seconds.labels(request.method, path).observe(time.perf_counter() - started)
    return response


def _refusal(request: Request) -> Response | None:
    """Return why a request is not answered, before anything of it is read; None if it is."""
    state: ServiceState = request.app.state.service
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return problem(403, f"requests of pages of {origin!r} are not answered")
    if not state.keys and not is_loopback(urlsplit(f"//{host}").hostname or ""):
        # a name of another site that was made to lead here: its pages would have the right origin
        return problem(403, f"without keys only this machine is answered, and not as {host!r}")
    largest = state.settings.max_upload_bytes + _FORM_BYTES
    length = request.headers.get("content-length")
    if length is None and "transfer-encoding" in request.headers:
        return problem(411, "send the length of the request, and not in chunks")
    if length is not None and (not length.isdigit() or int(length) > largest):
        return problem(413, f"the request has more than {largest:,} bytes")
    return None
