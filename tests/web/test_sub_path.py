"""The page below a path of a host, behind a proxy that takes the path off."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect
from tests import needs
from tests.waiting import wait_until
from tests.web.conftest import Open, Serve, Service
from tests.web.visit import Visit

from segdex.client import Client
from segdex.http.keys import make_key

pytestmark = pytest.mark.browser

PATH = "/segdex/"


@pytest.fixture(name="proxied")
def _proxied(serve: Serve, tmp_path: Path) -> Iterator[tuple[Service, str]]:
    """A service with a key behind the proxy of the case, and the key; no request may leave the path."""
    key, kept = make_key("page", "write")
    service = serve((kept,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = needs.shared("cases", "32-sub-path", "proxy.py")
    with (tmp_path / "proxy.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, program, str(port), service.url], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            wait_until(lambda: _listens(port), what="the proxy listens")
            yield Service(f"http://127.0.0.1:{port}{PATH}", service.folder, service.stop), key
        finally:
            process.terminate()
            process.wait(20)
        log.seek(0)
        assert "not below the prefix" not in log.read()  # a tab that closes breaks connections off, too


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def give_key(seen: Visit, key: str) -> None:
    box = seen.page.get_by_label("Kept until this tab is closed")
    box.fill(key)
    seen.page.get_by_role("button", name="Use it").click()
    seen.forgive("401")


def test_the_page_works_below_a_path(proxied: tuple[Service, str], visit: Open, tmp_path: Path) -> None:
    service, key = proxied
    seen = visit(service)
    give_key(seen, key)

    seen.ask("blue")
    seen.shows_tinted(seen.hits.first.locator("canvas"), (0.78, 0.5), "blue")
    seen.page.get_by_role("button", name="Refine the best masks").click()
    expect(seen.status).to_contain_text("masks re-decoded")
    seen.hits.first.click()
    expect(seen.about).to_contain_text("score")
    assert seen.download("COCO JSON", tmp_path).stat().st_size > 100
    seen.choose("point")
    seen.click((0.2, 0.5))
    expect(seen.about).to_contain_text("cut out by points")
    seen.page.keyboard.press("Escape")
    seen.page.get_by_role("button", name="Jobs…").click()
    seen.page.get_by_label("Folder on the service's machine").fill(str(service.folder / "pictures"))
    seen.page.keyboard.press("Enter")
    expect(seen.page.locator("#job-list > li").first).to_contain_text("done: 0 of 0 files")
    kept = seen.page.evaluate("Object.keys(sessionStorage)")
    assert kept == [f"segdex-key {PATH}"]  # another path of the host is another service

    seen.page.goto(f"{service.url}docs")
    expect(seen.page.get_by_role("heading", name="HTTP reference")).to_be_visible()
    assert seen.page.evaluate("document.styleSheets[0].cssRules.length") > 5
    seen.page.get_by_role("link", name="the OpenAPI 3.1 document").click()
    expect(seen.page).to_have_url(f"{service.url}v1/openapi.json")


def test_redirections_and_the_client_stay_below_the_path(proxied: tuple[Service, str]) -> None:
    service, key = proxied
    with Client(service.url, api_key=key) as client:
        assert client.stats().images == 2
        assert client.search("blue")
    slashed = httpx.get(
        f"{service.url}v1/stats/", headers={"Authorization": f"Bearer {key}"}, trust_env=False
    )

    assert slashed.json()["images"] == 2  # this proxy follows redirections itself
