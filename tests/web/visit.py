"""A visit to the page: what a person sees of it, and everything that went wrong meanwhile."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, expect
from tests.fakes.embedder import COLOURS_RGB

WAIT_MS = 120_000
"""As long as a busy machine may take for one answer; nothing waits that long where all is well."""

NEAR = 14
"""Levels of 0..255 by which JPEG may change the colour of an even area."""

# Asked for as the page does: the first who asks decides how the canvas is kept.
_PIXEL = """(canvas, [x, y]) => {
  const at = (share, size) => Math.min(Math.floor(share * size), size - 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return [...context.getImageData(at(x, canvas.width), at(y, canvas.height), 1, 1).data].slice(0, 3);
}"""

Point = tuple[float, float]
"""A place in a picture as shares of its width and height."""


@dataclass
class Visit:
    """One tab with the page open.

    Attributes:
        page: Of Playwright.
        url: Of the service.
        troubles: Complaints of the browser, and requests to other hosts. None may be left at the end.
    """

    page: Page
    url: str
    troubles: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Open the page, until it says what the index holds, and note from now on what goes wrong."""
        self._watch(self.page.context)
        self.page.goto(self.url)
        expect(self.status).not_to_have_text("Search the library.")

    def ask(self, words: str) -> None:
        """Search by words, as one does who types."""
        self.page.get_by_role("searchbox", name="What to look for").fill(words)
        self.page.keyboard.press("Enter")
        expect(self.status).to_contain_text(f"“{words}”")

    @property
    def status(self) -> Locator:
        return self.page.locator("#status")

    @property
    def upload_status(self) -> Locator:
        return self.page.locator("#upload-status")

    @property
    def about(self) -> Locator:
        return self.page.locator("#about")

    @property
    def hits(self) -> Locator:
        return self.page.get_by_role("list", name="Hits").get_by_role("button")

    @property
    def picture(self) -> Locator:
        """The picture of the open viewer."""
        return self.page.get_by_role("dialog").get_by_role("img")

    def choose(self, mode: str) -> None:
        """Say what a click in the viewer does."""
        self.page.get_by_role("radio", name=mode, exact=True).check()

    def spot(self, at: Point) -> Point:
        """Return where in the window a place of the viewer's picture is."""
        box = self.picture.bounding_box()
        assert box is not None
        return box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"]

    def click(self, at: Point) -> None:
        """Click on a place of the viewer's picture."""
        self.page.mouse.click(*self.spot(at))

    def shows_plain(self, canvas: Locator, at: Point, colour: str) -> None:
        """Wait until a place has a colour as it is in the picture."""
        self.eventually(lambda: _distance(_pixel(canvas, at), COLOURS_RGB[colour]) <= NEAR, f"plain {colour}")

    def shows_tinted(self, canvas: Locator, at: Point, colour: str) -> None:
        """Wait until a place is of a mask: near to its own colour, but not that colour."""

        def tinted() -> bool:
            found = _pixel(canvas, at)
            return max(found) > 100 and NEAR < _distance(found, COLOURS_RGB[colour]) < 100

        self.eventually(tinted, f"tinted {colour}")

    def shows_darker(self, canvas: Locator, at: Point, colour: str) -> None:
        """Wait until a place is outside every mask: no channel is as bright as in the picture."""
        wanted = COLOURS_RGB[colour]

        def darker() -> bool:
            return all(
                here <= there * 0.8 + NEAR
                for here, there in zip(_pixel(canvas, at), wanted, strict=True)
            )  # fmt: skip

        self.eventually(darker, f"darker {colour}")

    def eventually(self, check: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + WAIT_MS / 1000
        while not check():
            if time.monotonic() > deadline:
                raise AssertionError(f"not seen within {WAIT_MS / 1000:.0f} s: {what}")
            self.page.wait_for_timeout(20)

    def download(self, button: str, folder: Path) -> Path:
        """Press a button that saves a file, and return it."""
        with self.page.expect_download() as waiting:
            self.page.get_by_role("button", name=button, exact=True).click()
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def forgive(self, complaint: str) -> None:
        """Drop the browser's complaints about an answer that the test provoked; there has to be one."""
        others = [trouble for trouble in self.troubles if complaint not in trouble]
        assert others != self.troubles, f"no complaint about {complaint}: {self.troubles}"
        self.troubles[:] = others

    def _watch(self, context: BrowserContext) -> None:
        own = urlsplit(self.url).netloc

        def of_request(request: Request) -> None:
            address = urlsplit(request.url)
            if address.scheme not in ("blob", "data") and address.netloc != own:
                self.troubles.append(f"request to another host: {request.url}")

        def of_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.troubles.append(f"console: {message.text}")

        context.on("request", of_request)
        context.on("console", of_console)
        context.on("weberror", lambda error: self.troubles.append(f"thrown: {error.error}"))


def says(*words: str) -> re.Pattern[str]:
    """Return what a line matches that has these words in this order."""
    return re.compile(".*".join(map(re.escape, words)), re.DOTALL)


def expect_error(line: Locator, *words: str) -> None:
    """Wait until a line says these words, and as an error."""
    expect(line).to_have_text(says(*words))
    expect(line).to_contain_class("error")
    expect(line).to_be_visible()


def _pixel(canvas: Locator, at: Point) -> tuple[int, int, int]:
    red, green, blue = canvas.evaluate(_PIXEL, list(at))
    return red, green, blue


def _distance(found: tuple[int, int, int], wanted: tuple[int, int, int]) -> int:
    return max(abs(here - there) for here, there in zip(found, wanted, strict=True))
