"""The page for everybody: by keyboard alone, by a screen reader, in the dark, on a phone."""

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect
from tests.web.chromium import axe_source
from tests.web.conftest import PHONE, WINDOW, Open, Scheme, Service
from tests.web.visit import Visit, expect_error

pytestmark = pytest.mark.browser

RED, BLUE = (0.2, 0.5), (0.78, 0.5)
View = Callable[[Visit, Service], None]
"""Leads to one state of the page."""

SCHEMES: tuple[Scheme, ...] = ("light", "dark")

# Controls that cannot be pressed where they are: beside the window, or under something else.
_OUT_OF_REACH = """() => {
  document.querySelectorAll("details").forEach((one) => (one.open = true));
  const scope = document.querySelector("dialog[open]") ?? document.body;
  const found = [];
  for (const control of scope.querySelectorAll("button, input, summary, canvas[tabindex], label.button")) {
    if (!control.checkVisibility() || control.classList.contains("hidden") || control.disabled) continue;
    control.scrollIntoView({ block: "center" });
    const box = control.getBoundingClientRect();
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    const name = control.id || control.textContent.trim() || control.value;
    if (box.left < -0.5 || box.right > innerWidth + 0.5) found.push(`${name} is beside the window`);
    else if (!top || !(control.contains(top) || top.contains(control))) found.push(`${name} is covered`);
  }
  return found;
}"""


@pytest.fixture(name="axe", scope="module")
def _axe() -> str:
    return axe_source()


def nothing(seen: Visit, service: Service) -> None:
    expect(seen.status).to_contain_text("in 2 pictures")


def hits(seen: Visit, service: Service) -> None:
    seen.ask("blue")
    seen.shows_tinted(seen.hits.first.locator("canvas"), BLUE, "blue")


def viewer(seen: Visit, service: Service) -> None:
    hits(seen, service)
    seen.hits.first.click()
    expect(seen.about).to_contain_text("score")


def jobs(seen: Visit, service: Service) -> None:
    seen.page.get_by_role("button", name="Jobs…").click()
    box = seen.page.get_by_label("Folder on the service's machine")
    box.fill(str(service.folder / "pictures"))  # holds none: nothing changes for the other tests
    box.press("Enter")
    expect(seen.page.get_by_role("listitem").first).to_contain_text("done: 0 of 0 files")
    box.fill("/etc")
    box.press("Enter")
    expect_error(seen.page.locator("#job-status"), "allowed folders")
    seen.forgive("422")


def key(seen: Visit, service: Service) -> None:
    seen.page.get_by_role("button", name="Key…").click()
    expect(seen.page.get_by_role("dialog", name="API key")).to_be_visible()


def error(seen: Visit, service: Service) -> None:
    seen.page.get_by_role("searchbox").press("Enter")
    expect_error(seen.status, "Say what to look for")


VIEWS = [nothing, hits, viewer, jobs, key, error]
each_view = pytest.mark.parametrize("view", VIEWS, ids=[view.__name__ for view in VIEWS])


@each_view
def test_axe_finds_no_fault(view: View, service: Service, visit: Open, axe: str, tmp_path: Path) -> None:
    """Screenshots are left in the test's folder, for people to look at."""
    seen = visit(service)
    view(seen, service)
    seen.page.evaluate(axe)
    faults = []
    for size, scheme in product((WINDOW, PHONE), SCHEMES):
        seen.page.emulate_media(color_scheme=scheme)
        seen.page.set_viewport_size({"width": size[0], "height": size[1]})
        found = seen.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        assert found["passes"], "axe looked at nothing"
        for one in found["violations"]:
            where = [f"{node['target']}: {node['failureSummary']}" for node in one["nodes"]]
            faults.append((view.__name__, size, scheme, one["impact"], one["id"], one["help"], where))
        seen.page.screenshot(path=tmp_path / f"{view.__name__}-{size[0]}-{scheme}.png")

    assert faults == []


@each_view
def test_everything_is_within_reach_on_a_phone(view: View, service: Service, visit: Open) -> None:
    seen = visit(service, size=PHONE)
    view(seen, service)

    assert seen.page.evaluate(_OUT_OF_REACH) == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    for dialog in seen.page.locator("dialog[open]").all():
        assert dialog.evaluate("it => it.scrollWidth <= it.clientWidth")


def test_a_finger_opens_and_cuts_out(service: Service, visit: Open) -> None:
    seen = visit(service, size=PHONE)
    hits(seen, service)
    seen.hits.first.tap()
    expect(seen.about).to_contain_text("score")
    seen.page.get_by_role("radio", name="point").tap()

    seen.page.touchscreen.tap(*seen.spot(RED))

    expect(seen.about).to_contain_text("cut out by points")
    seen.shows_tinted(seen.picture, (0.1, 0.5), "red")  # beside the dot of the point
    seen.shows_darker(seen.picture, BLUE, "blue")


def test_dark_and_light_are_as_the_system_wants_them(service: Service, visit: Open) -> None:
    def backdrop(scheme: Scheme) -> int:
        page = visit(service, scheme=scheme).page
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return max(int(level) for level in re.findall(r"\d+", colour)[:3])

    assert backdrop("dark") < 64
    assert backdrop("light") > 192


def test_the_keyboard_alone_is_enough(service: Service, visit: Open) -> None:
    seen = visit(service)
    press = seen.page.keyboard.press
    box = seen.page.get_by_role("searchbox", name="What to look for")
    expect(box).to_be_focused()  # at once
    seen.page.keyboard.type("blue")
    press("Enter")
    expect(seen.hits.first).to_contain_text("a.png")

    tab_to(seen, seen.hits.first)
    press("Enter")
    expect(seen.page.get_by_role("dialog", name="a.png")).to_be_visible()
    tab_to(seen, seen.picture)

    def red_is_chosen() -> bool:
        """Go to the next thing, again where the things of the picture were not there yet."""
        press("ArrowRight")
        return "15.6 %" in seen.about.inner_text()  # 50 x 60 of 160 x 120 px

    seen.eventually(red_is_chosen, "the red box is chosen")
    tab_to(seen, seen.page.get_by_role("button", name="Refine", exact=True))
    press("Escape")
    expect(seen.page.get_by_role("dialog")).to_have_count(0)
    expect(seen.hits.first).to_be_focused()
    press("/")

    expect(box).to_be_focused()
    expect(box).to_have_value("blue")
    press("End")
    press("/")  # in the box it is a letter
    expect(box).to_have_value("blue/")


def test_every_control_comes_by_tab(service: Service, visit: Open) -> None:
    seen = visit(service)
    hits(seen, service)
    controls = seen.page.locator("button:visible:not([tabindex='-1']), input:visible, summary")
    wanted = controls.count()
    assert wanted > 15

    seen.page.evaluate("window.reached = new Set()")
    for _ in range(4 * wanted):  # a date has several stops
        seen.page.keyboard.press("Tab")
        seen.page.evaluate("reached.add(document.activeElement)")

    missed = controls.evaluate_all("all => all.filter(one => !reached.has(one)).map(one => one.outerHTML)")
    assert missed == []


def test_what_happens_is_read_out(service: Service, visit: Open) -> None:
    seen = visit(service)

    for line in ("#status", "#about", "#job-status"):
        expect(seen.page.locator(line)).to_have_role("status")  # a screen reader says what comes into it


def tab_to(seen: Visit, wanted: Locator) -> None:
    """Press Tab until something has the focus, and can be seen to have it."""
    for _ in range(60):
        if wanted.evaluate("it => it === document.activeElement"):
            assert wanted.evaluate("it => getComputedStyle(it).outlineStyle") == "solid"
            return
        seen.page.keyboard.press("Tab")
    raise AssertionError(f"60 times Tab do not lead to {wanted}")
