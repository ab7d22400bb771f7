"""The page as people use it: they search, look, click, save, add pictures, and are told of errors."""

import json
import re
import urllib.request
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Page, Route, expect
from pycocotools import mask as coco
from pycocotools.coco import COCO
from tests.fakes.embedder import COLOURS_RGB
from tests.web.conftest import Open, Serve, Service
from tests.web.visit import Visit, expect_error

from segdex.http.keys import make_key
from segdex.http.state import Loaded
from segdex_core.errors import IndexUnavailableError

pytestmark = pytest.mark.browser

# In a.png, 160x120 px: a red box of (8, 30) to (58, 90), a blue one of (96, 30) to (152, 90); b.png has a
# green one where a.png has the red.
RED, BLUE, BETWEEN = (0.2, 0.5), (0.78, 0.5), (0.48, 0.5)
WIDTH, HEIGHT = 160, 120
# Counts a picture after all that waits for it was done.
COUNT_DECODED = """() => {
  const decode = window.createImageBitmap;
  window.decoded = 0;
  window.createImageBitmap = (blob) => decode(blob).finally(() => setTimeout(() => window.decoded++));
}"""
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(name="seen")
def _seen(service: Service, visit: Open) -> Visit:
    """A visit to the service that other tests of this file visit as well."""
    return visit(service)


@pytest.fixture(name="own")
def _own(serve: Serve) -> Service:
    """A service without keys that the test may change."""
    return serve()


def png(colour: str, *, at: tuple[int, int] = (20, 20)) -> bytes:
    """Return a grey picture with one box of a colour."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), COLOURS_RGB["grey"])
    picture.paste(COLOURS_RGB[colour], (*at, at[0] + 70, at[1] + 60))
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def upload(name: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": data}


def drop(page: Page, name: str, data: bytes) -> None:
    """Drop a file onto the page."""
    transfer = page.evaluate_handle(
        """([name, bytes]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
          return transfer;
        }""",
        [name, list(data)],
    )
    page.locator("main").dispatch_event("drop", {"dataTransfer": transfer})


def open_first(seen: Visit, words: str) -> None:
    """Search, and open the best hit."""
    seen.ask(words)
    seen.hits.first.click()
    expect(seen.page.get_by_role("dialog")).to_be_visible()
    expect(seen.about).to_contain_text("score")


# ---- searching and looking


def test_words_find_things_and_their_masks_are_drawn(seen: Visit) -> None:
    expect(seen.status).to_contain_text("in 2 pictures")  # before anything is asked

    seen.ask("blue")

    expect(seen.status).to_have_text(re.compile(r"^\d+ objects in 1 picture for “blue”, \d+ ms, by colours$"))
    objects = int(seen.status.inner_text().split()[0])
    rows = seen.page.get_by_role("list", name="Hits").get_by_role("listitem")
    expect(rows.nth(objects)).to_have_text("Weaker matches")  # what comes after it is not counted
    expect(seen.page.get_by_role("button", name="More", exact=True)).to_be_hidden()
    best = seen.hits.first
    expect(best).to_contain_text("a.png")
    expect(best).to_contain_text(re.compile(r"[01]\.\d{3}"))
    canvas = best.locator("canvas")
    seen.shows_tinted(canvas, BLUE, "blue")
    seen.shows_darker(canvas, RED, "red")
    seen.shows_darker(canvas, BETWEEN, "grey")


def test_weaker_matches_come_last_under_a_heading(seen: Visit) -> None:
    heading = seen.page.get_by_role("list", name="Hits").get_by_text("Weaker matches")
    items = seen.page.get_by_role("list", name="Hits").get_by_role("listitem")

    seen.ask("green")

    expect(heading).to_be_visible()
    texts = items.all_inner_texts()
    place = next(n for n, text in enumerate(texts) if "weaker matches" in text.lower())
    assert all("b.png" in text for text in texts[:place])
    assert all("a.png" in text for text in texts[place + 1 :])
    assert 0 < place < len(texts) - 1

    seen.ask("orange")

    expect(seen.status).to_contain_text("Not there: no picture stands out for “orange”")
    assert "weaker matches" in items.first.inner_text().lower()


def test_the_masks_of_hits_can_be_hidden(seen: Visit) -> None:
    seen.ask("blue")
    canvas = seen.hits.first.locator("canvas")
    seen.shows_tinted(canvas, BLUE, "blue")

    seen.page.locator("#masks").uncheck()
    seen.shows_plain(canvas, BLUE, "blue")
    seen.shows_plain(canvas, BETWEEN, "grey")
    seen.page.locator("#masks").check()

    seen.shows_tinted(canvas, BLUE, "blue")


def test_a_word_with_a_minus_leads_away_from_it(seen: Visit) -> None:
    for words, name in (("red green -red", "b.png"), ("red green -green", "a.png")):
        seen.ask(words)
        expect(seen.hits.first).to_contain_text(name)


def test_further_hits_come_when_asked_for(seen: Visit) -> None:
    def one_picture_a_page(route: Route) -> None:
        route.continue_(post_data=json.dumps({**(route.request.post_data_json or {}), "limit": 1}))

    seen.page.route("**/v1/search", one_picture_a_page)
    seen.ask("green")
    expect(seen.status).to_contain_text("in 1 picture ")
    first = seen.hits.count()

    seen.page.get_by_role("button", name="More", exact=True).click()

    expect(seen.hits.nth(first)).to_be_focused()
    expect(seen.hits.nth(first)).to_contain_text("a.png")
    expect(seen.status).to_contain_text("in 1 picture ")  # a.png is a weaker match


def test_hits_can_be_grouped_by_picture(seen: Visit) -> None:
    seen.ask("red + blue")
    expect(seen.hits.first).to_be_visible()
    assert seen.hits.count() > 2

    seen.page.locator("#group").check()

    expect(seen.hits).to_have_count(2)
    expect(seen.hits.first).to_contain_text("objects")


def test_the_level_says_whether_objects_or_parts_are_asked_for(seen: Visit) -> None:
    for level, name in (("any", "objects and parts"), ("whole", "whole objects"), ("part", "parts")):
        seen.page.get_by_label("level").select_option(name)
        with seen.page.expect_request("**/v1/search") as request:
            seen.ask("blue")
        assert (request.value.post_data_json or {})["level"] == level


def test_an_opened_hit_shows_the_thing_under_the_pointer(seen: Visit) -> None:
    open_first(seen, "blue")
    expect(seen.page.get_by_role("dialog", name="a.png")).to_be_visible()
    seen.shows_tinted(seen.picture, BLUE, "blue")
    seen.shows_darker(seen.picture, RED, "red")

    def red_is_chosen() -> bool:
        """Move the pointer, again where the things of the picture were not there yet, and look."""
        seen.page.mouse.move(*seen.spot(BLUE))
        seen.page.mouse.move(*seen.spot(RED))
        return "15.6 %" in seen.about.inner_text()  # 50 x 60 of 160 x 120 px

    seen.eventually(red_is_chosen, "the red box is chosen")

    seen.shows_tinted(seen.picture, RED, "red")
    seen.shows_darker(seen.picture, BLUE, "blue")


def test_a_picture_that_comes_late_is_not_drawn_over_the_next(seen: Visit) -> None:
    seen.ask("blue")
    seen.shows_tinted(seen.hits.first.locator("canvas"), BLUE, "blue")
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        held.append(route)
        if len(held) > 1:
            route.continue_()

    seen.page.route("**/file?max_px=1024", hold_the_first)
    seen.page.evaluate(COUNT_DECODED)
    seen.hits.first.click()
    seen.page.keyboard.press("Escape")
    seen.hits.filter(has_text="b.png").first.click()
    expect(seen.page.get_by_role("dialog", name="b.png")).to_be_visible()
    seen.eventually(lambda: seen.page.evaluate("decoded") == 1, "b.png is drawn")
    drawn = seen.picture.screenshot()

    held[0].continue_()
    seen.eventually(lambda: seen.page.evaluate("decoded") == 2, "a.png came")

    assert seen.picture.screenshot() == drawn


# ---- clicking, refining, looking for the like


def test_a_click_cuts_out_what_is_there(seen: Visit) -> None:
    open_first(seen, "blue")
    seen.choose("point")

    seen.click(RED)

    expect(seen.about).to_contain_text("cut out by points")
    seen.shows_tinted(seen.picture, (0.1, 0.5), "red")
    seen.shows_darker(seen.picture, BLUE, "blue")
    seen.click(BLUE)  # a second point adds
    seen.shows_tinted(seen.picture, (0.9, 0.5), "blue")
    seen.shows_tinted(seen.picture, (0.1, 0.5), "red")
    seen.choose("not this")
    seen.click((0.7, 0.4))  # and one of the background takes away
    seen.shows_darker(seen.picture, (0.9, 0.5), "blue")
    seen.shows_tinted(seen.picture, (0.1, 0.5), "red")


def test_a_click_that_fails_late_leaves_what_a_newer_one_cut_out(seen: Visit) -> None:
    open_first(seen, "blue")
    seen.choose("point")
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        held.append(route)
        if len(held) > 1:
            route.continue_()

    seen.page.route("**/v1/segment", hold_the_first)
    seen.click(BLUE)
    seen.click(RED)
    expect(seen.about).to_contain_text("cut out by points")

    with seen.page.expect_response("**/v1/segment"):
        held[0].fulfill(status=503, json={"detail": "too many wait"})
    seen.shows_tinted(seen.picture, (0.1, 0.5), "red")

    expect(seen.about).to_contain_text("cut out by points")
    expect(seen.about).not_to_contain_class("error")
    seen.forgive("503")


def test_a_box_cuts_out_what_is_in_it(seen: Visit) -> None:
    open_first(seen, "red")
    seen.choose("box")

    seen.page.mouse.move(*seen.spot((0.57, 0.2)))
    seen.page.mouse.down()
    seen.page.mouse.move(*seen.spot((0.8, 0.6)))
    seen.page.mouse.move(*seen.spot((0.98, 0.8)))
    seen.page.mouse.up()

    expect(seen.about).to_contain_text("cut out by a box")
    seen.shows_tinted(seen.picture, BLUE, "blue")
    seen.shows_darker(seen.picture, RED, "red")


def test_a_hit_is_refined(seen: Visit) -> None:
    open_first(seen, "blue")

    seen.page.get_by_role("button", name="Refine", exact=True).click()

    expect(seen.about).to_contain_text(re.compile("refined: |kept: "))
    seen.shows_tinted(seen.picture, BLUE, "blue")


def test_the_best_hits_are_refined_together(seen: Visit) -> None:
    seen.ask("blue")

    seen.page.get_by_role("button", name="Refine the best masks").click()

    expect(seen.status).to_have_text(re.compile(r"^\d+ masks re-decoded, \d+ kept as they were$"))
    seen.shows_tinted(seen.hits.first.locator("canvas"), BLUE, "blue")


def test_an_opened_hit_is_refined_alone_and_for_its_own_question(seen: Visit) -> None:
    best = best_segment(seen.url, "blue")
    open_first(seen, "blue")
    seen.page.evaluate("document.getElementById('text').value = 'red'")  # typed, but not asked
    asked: list[object] = []
    answers: list[str] = []

    def keep(route: Route) -> None:
        answer = route.fetch()
        asked.append(route.request.post_data_json)
        answers.append(answer.text())
        route.fulfill(response=answer)

    seen.page.route("**/v1/refine", keep)
    seen.page.get_by_role("button", name="Refine", exact=True).click()
    expect(seen.about).to_contain_text("refined: ")

    assert asked == [{"texts": ["blue"], "segment_ids": [best["id"]]}]
    assert re.findall("^event: (.*)$", answers[0], re.MULTILINE) == ["refinement", "done"]


def test_a_thing_that_is_no_hit_is_refined_as_well(seen: Visit) -> None:
    open_first(seen, "blue")

    def red_is_chosen() -> bool:
        seen.page.mouse.move(*seen.spot(BLUE))
        seen.page.mouse.move(*seen.spot(RED))
        return "15.6 %" in seen.about.inner_text()  # 50 x 60 of 160 x 120 px

    seen.eventually(red_is_chosen, "the red box is chosen")
    seen.page.locator("#refine").press("Enter")  # the pointer stays where it is

    expect(seen.about).to_contain_text(re.compile("refined: |kept: "))
    seen.shows_tinted(seen.picture, RED, "red")
    seen.shows_darker(seen.picture, BLUE, "blue")


def test_the_best_hits_are_refined_for_the_question_that_they_answer(seen: Visit) -> None:
    seen.ask("blue -red")
    seen.page.locator("#text").fill("green")  # typed, but not asked

    with seen.page.expect_request("**/v1/refine") as waiting:
        seen.page.get_by_role("button", name="Refine the best masks").click()

    asked = waiting.value.post_data_json
    shown = {"texts": ["blue -red"]}
    assert asked == {**shown, "segment_ids": [one["id"] for one in best_segments(seen.url, 5, **shown)]}
    expect(seen.status).to_contain_text("re-decoded")


def test_hits_of_a_picture_are_refined_for_that_picture(seen: Visit) -> None:
    seen.page.get_by_label("Picture…").set_input_files([upload("mine.png", png("green"))])
    expect(seen.status).to_contain_text("for the picture mine.png")
    sent: list[bytes] = []

    def keep(route: Route) -> None:
        sent.append(route.request.post_data_buffer or b"")
        route.continue_()

    seen.page.route("**/v1/refine/by-image", keep)
    seen.page.get_by_role("button", name="Refine the best masks").click()

    expect(seen.status).to_have_text(re.compile(r"^\d+ masks re-decoded, \d+ kept as they were$"))
    assert b'filename="mine.png"' in sent[0]


def test_masks_that_come_late_leave_the_answer_to_a_newer_question(seen: Visit) -> None:
    seen.ask("blue")
    held: list[Route] = []
    seen.page.route("**/v1/refine", lambda route: held.append(route))  # noqa: PLW0108 - Playwright looks into it
    seen.page.get_by_role("button", name="Refine the best masks").click()
    seen.eventually(lambda: bool(held), "the masks are asked for")
    seen.ask("green")
    said = seen.status.inner_text()

    held[0].continue_()
    expect(seen.page.get_by_role("button", name="Refine the best masks")).to_be_enabled()

    assert seen.status.inner_text() == said


def test_a_mask_that_comes_late_is_not_drawn_into_the_next_picture(seen: Visit) -> None:
    open_first(seen, "blue")
    held: list[Route] = []
    seen.page.route("**/v1/refine", lambda route: held.append(route))  # noqa: PLW0108 - Playwright looks into it
    seen.page.get_by_role("button", name="Refine", exact=True).click()
    seen.eventually(lambda: bool(held), "the mask is asked for")
    seen.page.keyboard.press("Escape")
    seen.hits.filter(has_text="b.png").first.click()
    expect(seen.page.get_by_role("dialog", name="b.png")).to_be_visible()
    expect(seen.about).to_contain_text("score")
    drawn = seen.picture.screenshot()

    with seen.page.expect_response("**/v1/refine"):
        held[0].fulfill(response=held[0].fetch())
    seen.page.evaluate("fetch('healthz').then((answer) => answer.text())")  # comes after it

    assert seen.picture.screenshot() == drawn
    expect(seen.about).not_to_contain_text("refined")


@pytest.mark.parametrize(
    ("end", "words"),
    [('event: error\ndata: {"detail": "its file is gone"}\n\n', "its file is gone"), ("", "broke off")],
    ids=["an error", "no end"],
)
def test_masks_that_do_not_all_come_are_an_error(seen: Visit, end: str, words: str) -> None:
    def break_off(route: Route) -> None:
        first, *_ = route.fetch().text().partition("\n\n")
        route.fulfill(content_type="text/event-stream", body=f"{first}\n\n{end}")

    seen.page.route("**/v1/refine", break_off)
    seen.ask("blue")

    seen.page.get_by_role("button", name="Refine the best masks").click()

    expect_error(seen.status, words)
    expect(seen.page.get_by_role("button", name="Refine the best masks")).to_be_enabled()
    expect(seen.hits.first).to_contain_text("refined")  # what came before it stays


def test_a_thing_finds_what_is_like_it(seen: Visit) -> None:
    open_first(seen, "green")

    seen.page.get_by_role("button", name="Find similar").click()

    expect(seen.page.get_by_role("dialog")).to_have_count(0)
    expect(seen.status).to_contain_text("like this one")
    expect(seen.hits.first).to_contain_text("b.png")


def test_what_a_click_cut_out_finds_what_is_like_it(seen: Visit) -> None:
    open_first(seen, "green")
    seen.choose("point")
    seen.click(RED)
    expect(seen.about).to_contain_text("cut out by points")

    seen.page.get_by_role("button", name="Find similar").click()

    expect(seen.status).to_contain_text("like this one")
    expect(seen.hits.first).to_contain_text("b.png")


# ---- saving


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, numpy 2
def test_cut_out_mask_and_annotation_are_saved_and_agree(seen: Visit, tmp_path: Path) -> None:
    open_first(seen, "blue")
    known = best_segment(seen.url, "blue")

    data = COCO(seen.download("COCO JSON", tmp_path))
    [annotation], [image], [category] = data.anns.values(), data.imgs.values(), data.cats.values()
    with Image.open(seen.download("Mask", tmp_path)) as picture:
        mask = np.asarray(picture.convert("L"))
    with Image.open(seen.download("Cut-out", tmp_path)) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGBA")
        cutout = np.asarray(picture)

    decoded = coco.decode(annotation["segmentation"]).astype(bool)
    assert annotation["segmentation"] == known["rle"]
    assert decoded.sum() == annotation["area"] == known["area_px"]
    assert (image["file_name"], image["width"], image["height"]) == ("a.png", WIDTH, HEIGHT)
    assert category["name"] == "blue"
    assert annotation["attributes"]["segment_id"] == known["id"]
    assert decoded.shape == mask.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(mask, decoded * np.uint8(255))
    x, y, width, height = annotation["bbox"]
    assert cutout.shape == (height, width, 4)
    np.testing.assert_array_equal(cutout[..., 3], mask[y : y + height, x : x + width])
    inside = cutout[cutout[..., 3] > 0][:, :3].mean(axis=0)
    np.testing.assert_allclose(inside, COLOURS_RGB["blue"], atol=14)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, numpy 2
def test_what_a_click_cut_out_is_saved_as_well(seen: Visit, tmp_path: Path) -> None:
    open_first(seen, "blue")
    seen.choose("point")
    seen.click(RED)
    seen.click(BLUE)
    seen.shows_tinted(seen.picture, (0.9, 0.5), "blue")
    seen.shows_tinted(seen.picture, (0.1, 0.5), "red")

    with Image.open(seen.download("Cut-out", tmp_path)) as picture:
        alpha = np.asarray(picture)[..., 3]
    [annotation] = COCO(seen.download("COCO JSON", tmp_path)).anns.values()

    x, y, width, height = annotation["bbox"]
    mask = coco.decode(annotation["segmentation"])[y : y + height, x : x + width]
    np.testing.assert_array_equal(alpha > 0, mask > 0)
    assert alpha.shape[1] > 130  # from the left edge of the red box to the right edge of the blue one
    middle = alpha[alpha.shape[0] // 2]
    assert middle[10] == middle[-10] == 255
    assert middle[len(middle) // 2] == 0


def best_segment(url: str, words: str) -> dict[str, object]:
    """Return the best segment as the service itself answers it."""
    return best_segments(url, 1, texts=[words])[0]


def best_segments(url: str, count: int, **question: object) -> list[dict[str, object]]:
    """Return the best segments as the service itself answers them: those of matches first, then by score."""
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{url}/v1/search",
        data=json.dumps({"limit": 24, **question}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
        hits = json.load(answer)["hits"]
    found = [(hit["is_match"], one["score"], one) for hit in hits for one in hit["segments"]]
    return [one for *_, one in sorted(found, key=lambda each: each[:2], reverse=True)][:count]


# ---- pictures of the visitor


def test_a_chosen_picture_finds_its_like_and_is_then_added_and_found(own: Service, visit: Open) -> None:
    seen = visit(own)
    seen.page.get_by_label("Picture…").set_input_files([upload("mine.png", png("purple"))])
    expect(seen.status).to_contain_text("for the picture mine.png")
    expect(seen.hits.first).to_be_visible()

    seen.page.get_by_role("button", name="Add the picture to the index").click()

    expect(seen.upload_status).to_have_text("mine.png: added")
    seen.ask("purple")
    expect(seen.status).to_contain_text("in 1 picture ")  # the others are weaker
    canvas = seen.hits.first.locator("canvas")
    seen.shows_tinted(canvas, (0.3, 0.4), "purple")


def test_an_upload_that_ends_late_leaves_the_answer_to_a_newer_question(own: Service, visit: Open) -> None:
    seen = visit(own)
    seen.page.get_by_label("Picture…").set_input_files([upload("mine.png", png("purple"))])
    expect(seen.status).to_contain_text("for the picture mine.png")
    held: list[Route] = []
    seen.page.route("**/v1/images", lambda route: held.append(route))  # noqa: PLW0108 - Playwright looks into it
    seen.page.get_by_role("button", name="Add the picture to the index").click()
    expect(seen.upload_status).to_contain_text("this takes some seconds")
    seen.ask("blue")
    expect(seen.status).to_contain_text("for “blue”")

    held[0].continue_()

    expect(seen.upload_status).to_have_text("mine.png: added")
    expect(seen.status).to_contain_text("for “blue”")


def test_a_dropped_picture_finds_its_like(seen: Visit) -> None:
    expect(seen.status).to_contain_text("in 2 pictures")

    drop(seen.page, "green.png", png("green"))

    expect(seen.status).to_contain_text("for the picture green.png")
    expect(seen.hits.first).to_contain_text("b.png")


def test_several_pictures_are_one_question_and_all_of_them_can_be_added(seen: Visit) -> None:
    sent: list[bytes] = []

    def keep(route: Route) -> None:
        sent.extend(re.findall(rb'filename="(.*?)"', route.request.post_data_buffer or b""))
        route.continue_()

    seen.page.route("**/v1/search/by-image", keep)
    colours = ["green", "red", "blue", "green", "orange"]
    seen.page.get_by_label("Picture…").set_input_files(
        [upload(f"{number}.png", png(colour)) for number, colour in enumerate(colours)]
    )

    expect(seen.status).to_contain_text("for the pictures 0.png, 1.png, 2.png, 3.png")
    assert sent == [b"0.png", b"1.png", b"2.png", b"3.png"]
    expect(seen.hits.first).to_be_visible()
    expect(seen.page.get_by_role("button", name="Add the 5 pictures to the index")).to_be_visible()


def test_a_file_that_is_no_picture_is_an_error(seen: Visit) -> None:
    seen.page.get_by_label("Picture…").set_input_files([upload("notes.png", b"just words")])

    expect_error(seen.status, "the upload")
    seen.page.get_by_role("button", name="Add the picture to the index").click()
    expect_error(seen.upload_status, "the upload")
    seen.forgive("415")


# ---- jobs


def start_job(seen: Visit, path: Path | str) -> None:
    """Open the jobs, and ask for an ingest."""
    seen.page.get_by_role("button", name="Jobs…").click()
    seen.page.get_by_label("Folder on the service's machine").fill(str(path))
    seen.page.keyboard.press("Enter")


def test_a_job_ingests_a_folder_and_its_pictures_are_found(own: Service, visit: Open) -> None:
    pictures = own.folder / "pictures"
    for at in range(3):
        (pictures / f"{at}.png").write_bytes(png("purple", at=(at * 20, at * 10)))
    (pictures / "broken.png").write_bytes(png("purple")[:150])
    (pictures / "broken.json").write_text("{}")
    seen = visit(own)

    start_job(seen, pictures)

    job = seen.page.get_by_role("list", name="Jobs, newest first").get_by_role("listitem")
    expect(job).to_have_count(1)
    expect(job).to_contain_text(str(pictures))
    bar = job.get_by_role("progressbar")
    expect(bar).to_have_accessible_name(f"progress of {pictures}")
    expect(job).to_contain_text("done: 5 of 5 files; 3 added, 1 not an image, 1 unreadable")
    expect(job).to_contain_text("not pictures: 1 json")
    expect(job).to_contain_text(f"{pictures / 'broken.png'}: ")
    assert bar.evaluate("bar => bar.value / bar.max") == 1
    expect(job.get_by_role("button")).to_have_count(0)  # nothing is left to be stopped
    seen.page.get_by_role("button", name="Close").click()
    seen.ask("purple")
    expect(seen.status).to_contain_text("in 3 pictures")
    expect(seen.hits.first).to_contain_text(re.compile(r"\d\.png"))


def test_the_bar_of_a_job_that_ended_is_still_seen(seen: Visit, service: Service) -> None:
    start_job(seen, service.folder / "pictures")  # which holds none
    expect(seen.page.locator("#job-list")).to_contain_text("done: 0 of 0 files")

    assert seen.page.get_by_role("progressbar").is_visible()


def test_a_job_can_be_stopped(own: Service, visit: Open) -> None:
    pictures = own.folder / "pictures"
    for at in range(40):
        (pictures / f"{at}.png").write_bytes(png("purple", at=(at * 2, at)))
    seen = visit(own)
    start_job(seen, pictures)

    seen.page.get_by_role("button", name=f"Stop {pictures}").click()

    job = seen.page.get_by_role("list", name="Jobs, newest first").get_by_role("listitem")
    expect(job).to_contain_text(re.compile(r"stopped: \d+ of (\d+|\?) files"))
    expect(job.get_by_role("button")).to_have_count(0)


def test_a_folder_that_jobs_may_not_read_is_an_error(seen: Visit) -> None:
    start_job(seen, "/etc")

    expect_error(seen.page.locator("#job-status"), "allowed folders")
    seen.forgive("422")


@pytest.mark.parametrize("late", ["GET", "POST"], ids=["look at the list", "older action"])
def test_a_late_answer_about_jobs_does_not_wipe_the_error_of_a_newer_action(seen: Visit, late: str) -> None:
    line = seen.page.locator("#job-status")
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if route.request.method == late and not held:
            held.append(route)
        else:
            route.continue_()

    seen.page.route("**/v1/jobs", hold_the_first)
    start_job(seen, "/pictures")
    if late == "POST":
        seen.eventually(lambda: bool(held), "the first action is on its way")
    else:
        expect_error(line, "allowed folders")
    seen.page.get_by_label("Folder on the service's machine").fill("/etc")
    seen.page.keyboard.press("Enter")
    expect_error(line, "allowed folders")

    held[0].fulfill(json=[])
    for _ in range(3):  # the late look, and two that begin after the action
        with seen.page.expect_response("**/v1/jobs"):
            pass

    expect_error(line, "allowed folders")
    seen.forgive("422")


def test_a_list_of_jobs_that_could_not_be_read_is_an_error_until_it_can(seen: Visit) -> None:
    line = seen.page.locator("#job-status")
    problem = {"detail": "the queue of jobs does not answer"}
    seen.page.route("**/v1/jobs", lambda route: route.fulfill(status=503, json=problem))
    seen.page.get_by_role("button", name="Jobs…").click()
    expect_error(line, "the queue of jobs does not answer")

    seen.page.unroute("**/v1/jobs")

    expect(line).not_to_contain_class("error")
    expect(line).to_have_text(re.compile("^(No jobs yet.)?$"))  # others may have asked for some
    seen.forgive("503")


# ---- keys


def test_a_key_is_asked_for_and_makes_the_page_work(serve: Serve, visit: Open) -> None:
    key, kept = make_key("visitor", "read")
    seen = visit(serve((kept,)))

    dialog = seen.page.get_by_role("dialog", name="API key")
    expect(dialog).to_be_visible()
    expect_error(seen.status, "Authorization: Bearer")
    for text in ("wrong", key):
        dialog.get_by_role("textbox").fill(text)
        seen.page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        seen.page.locator("#text").fill("blue")
        seen.page.keyboard.press("Enter")
        if text == "wrong":
            expect(dialog).to_be_visible()
            expect_error(seen.status, "Authorization: Bearer")
    expect(seen.hits.first).to_contain_text("a.png")
    expect(seen.status).not_to_contain_class("error")
    seen.shows_tinted(seen.hits.first.locator("canvas"), BLUE, "blue")  # pictures are asked for with the key
    seen.forgive("401")


def test_what_a_key_may_not_do_is_an_error(serve: Serve, visit: Open) -> None:
    key, kept = make_key("visitor", "read")
    seen = visit(serve((kept,)))
    seen.page.get_by_role("dialog", name="API key").get_by_role("textbox").fill(key)
    seen.page.keyboard.press("Enter")
    seen.page.get_by_label("Picture…").set_input_files([upload("mine.png", png("orange"))])

    seen.page.get_by_role("button", name="Add the picture to the index").click()

    expect_error(seen.upload_status, "needs write")
    seen.forgive("401")
    seen.forgive("403")


# ---- errors


def test_an_empty_question_is_an_error(seen: Visit) -> None:
    seen.page.get_by_role("button", name="Search", exact=True).click()

    expect_error(seen.status, "Say what to look for")


def test_a_question_that_is_refused_is_an_error_until_the_next(seen: Visit) -> None:
    seen.page.locator("#source").fill("not/absolute")
    seen.page.locator("#text").fill("blue")
    seen.page.keyboard.press("Enter")
    expect_error(seen.status, "absolute")

    seen.page.locator("#source").fill("")
    seen.ask("blue")

    expect(seen.status).not_to_contain_class("error")
    seen.forgive("422")


def test_a_service_that_was_stopped_is_an_error(own: Service, visit: Open) -> None:
    seen = visit(own)
    open_first(seen, "blue")
    seen.choose("point")
    own.stop()

    seen.click(RED)
    expect_error(seen.about, "Can't reach the service")
    seen.page.keyboard.press("Escape")
    seen.page.locator("#text").fill("blue")
    seen.page.keyboard.press("Enter")

    expect_error(seen.status, "Can't reach the service")
    seen.forgive("ERR_CONNECTION_REFUSED")


def test_a_service_that_cannot_load_says_why(serve: Serve, visit: Open) -> None:
    def fail() -> Loaded:
        raise IndexUnavailableError("no Qdrant server answers at http://127.0.0.1:9")

    seen = visit(serve(loading=fail))
    expect(seen.status).to_contain_text("no Qdrant server answers")

    seen.page.locator("#text").fill("blue")
    seen.page.keyboard.press("Enter")

    expect_error(seen.status, "no Qdrant server answers")
    seen.forgive("503")


def test_an_error_is_not_replaced_by_the_size_of_the_index(seen: Visit) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    seen.page.route("**/v1/stats", hold)
    seen.page.reload()
    seen.page.get_by_role("button", name="Search", exact=True).click()
    expect_error(seen.status, "Say what to look for")
    seen.eventually(lambda: len(held) == 1, "the size is asked for")

    with seen.page.expect_event("requestfinished"):
        held[0].continue_()
    seen.page.evaluate("fetch('healthz').then((answer) => answer.text())")  # comes after it

    assert "Say what to look for" in seen.status.inner_text()


@pytest.mark.parametrize("body", ["", "<h1>Bad gateway</h1>", '{"detail": "the disk is full"}'])
def test_an_answer_that_is_no_problem_of_the_service_is_an_error(seen: Visit, body: str) -> None:
    def answer(route: Route) -> None:
        route.fulfill(status=502, body=body)

    seen.page.route("**/v1/search", answer)

    seen.page.locator("#text").fill("blue")
    seen.page.keyboard.press("Enter")

    expect_error(seen.status, "the disk is full" if "disk" in body else "502")
    seen.forgive("502")


def test_a_picture_that_is_gone_is_an_error_on_its_hit(own: Service, visit: Open) -> None:
    (own.folder / "set/images/a.png").unlink()
    seen = visit(own)

    seen.ask("blue")

    expect_error(seen.hits.first.locator(".name"), "a.png")
    seen.forgive("Failed to load resource")


# ---- text is text


def test_names_with_html_in_them_are_shown_as_text(own: Service, visit: Open) -> None:
    seen = visit(own)
    folder = own.folder / "pictures" / HOSTILE
    folder.mkdir()
    (folder / f"{HOSTILE}.png").write_bytes(png("pink"))

    start_job(seen, folder)
    expect(seen.page.locator("#job-list")).to_contain_text(f"{folder}")
    expect(seen.page.locator("#job-list")).to_contain_text("1 added")
    seen.page.keyboard.press("Escape")
    seen.ask(f"pink {HOSTILE}")
    seen.ask("pink")
    expect(seen.hits.first).to_contain_text(f"{HOSTILE}.png")
    seen.hits.first.click()
    expect(seen.page.get_by_role("heading", name=f"{HOSTILE}.png")).to_be_visible()
    seen.page.keyboard.press("Escape")
    seen.page.get_by_label("Picture…").set_input_files([upload(f"{HOSTILE}.png", png("cyan"))])
    expect(seen.status).to_contain_text(f"the picture {HOSTILE}.png")
    seen.page.locator("#source").fill(HOSTILE)
    seen.page.get_by_role("searchbox").press("Enter")
    expect(seen.status).to_contain_class("error")

    assert seen.page.locator("img").count() == 0
    seen.forgive("422")
