"""The service over coloured boxes on a port of its own, and a browser that visits it."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import uvicorn
from playwright.sync_api import Browser, expect, sync_playwright
from tests.fakes.service import load
from tests.waiting import wait_until
from tests.web.chromium import chromium
from tests.web.visit import WAIT_MS, Visit

from segdex.http.app import build_app
from segdex.http.keys import ApiKey
from segdex.http.state import Loaded, ServiceState
from segdex.wiring import build_settings

WINDOW, PHONE = (1100, 800), (390, 844)
"""Width and height of what is looked at."""

_ARGUMENTS = [
    "--no-sandbox",  # tests may run as root
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the browser itself asks nobody either
    "--force-color-profile=srgb",  # pixels are compared
]


@dataclass(frozen=True)
class Service:
    """A service that runs.

    Attributes:
        url: Of the page.
        folder: Of everything that it keeps; jobs may ingest ``pictures`` in it.
        stop: Ends it.
    """

    url: str
    folder: Path
    stop: Callable[[], None]


Serve = Callable[..., Service]
Open = Callable[..., Visit]
Scheme = Literal["light", "dark"]


@contextmanager
def running(
    folder: Path, keys: tuple[ApiKey, ...] = (), *, loading: Callable[[], Loaded] | None = None
) -> Iterator[Service]:
    """Run a service until the block ends.

    Its pictures are a red and a blue box in ``a.png``, and a green one in ``b.png``.
    """
    pictures = folder / "pictures"
    pictures.mkdir()
    settings = build_settings(uploads=folder / "uploads", job_roots=(pictures,))
    state = ServiceState(settings, keys, loading or (lambda: load(folder / "set", settings=settings)))
    config = uvicorn.Config(
        build_app(state),
        host="127.0.0.1",
        port=0,
        log_config=None,
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="service")

    def stop() -> None:
        server.should_exit = True
        thread.join()

    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), what="the service has started")
        assert thread.is_alive(), "the service did not start"
        state.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Service(f"http://127.0.0.1:{port}", folder, stop)
    finally:
        stop()


@pytest.fixture(name="service", scope="module")
def _service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without keys for the tests of one file that change nothing in it."""
    with running(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(name="serve")
def _serve(tmp_path: Path) -> Iterator[Serve]:
    """Make services of the test's own."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(running(tmp_path, *args, **options))


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator[Browser]:
    """A Chromium for the tests of one file.

    Not for the session: while it is there, an event loop runs in this thread, and a test that starts one of
    its own fails.
    """
    found = chromium()
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found.executable, args=_ARGUMENTS, env={**os.environ, **found.environment}
        )
        yield browser
        browser.close()


@pytest.fixture(name="visit")
def _visit(browser: Browser) -> Iterator[Open]:
    """Open tabs; in each, the browser may complain of nothing, and no other host may be asked."""
    visits: list[Visit] = []

    def visit(service: Service, *, size: tuple[int, int] = WINDOW, scheme: Scheme = "light") -> Visit:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            has_touch=size == PHONE,
            is_mobile=size == PHONE,
        )
        context.set_default_timeout(WAIT_MS)
        visits.append(Visit(context.new_page(), service.url))
        visits[-1].open()
        return visits[-1]

    yield visit
    for each in visits:
        each.page.context.close()
    for each in visits:
        assert each.troubles == []
