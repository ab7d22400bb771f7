"""The HTTP service over coloured boxes: what it answers, and everything that it refuses."""

import json
import math
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import ExifTags, Image
from tests.api.http.asking import first_hit
from tests.fakes.dataset import png
from tests.fakes.hostile_masks import coco_counts, wrapping_runs
from tests.fakes.service import HERE, Make, load, refused
from tests.faults import failing, full
from tests.waiting import wait_until

from segdex.http.app import build_app
from segdex.http.keys import make_key
from segdex.http.routes.jobs import events_of
from segdex.http.state import Loaded, ServiceState
from segdex.usecases.uploads import keep_upload
from segdex.wiring import build_settings
from segdex_core.errors import IndexLockedError, IndexUnavailableError
from segdex_core.masks import MaskRLE, decode_mask
from segdex_core.wire.jobs import Job


def test_a_search_finds_the_thing_and_its_mask(client: TestClient) -> None:
    image, segment = first_hit(client, "blue")

    assert str(image["path"]).endswith("a.png")
    rle = segment["rle"]
    assert isinstance(rle, dict)
    mask = decode_mask(MaskRLE(tuple(rle["size"]), rle["counts"]))
    assert mask.sum() == segment["area_px"]
    assert mask[60, 120]


def test_filters_negatives_segments_and_presence_reach_the_search(client: TestClient) -> None:
    image, segment = first_hit(client, "green")

    def found(**request: object) -> list[str]:
        answer = client.post("/v1/search", json={"limit": 5, "per_image": 1, **request}).json()
        return [hit["image"]["path"].rsplit("/", 1)[-1] for hit in answer["hits"]]

    assert found(segments=[segment["id"]])[0] == "b.png"
    assert found(texts=["green"], filter={"min_area": 0.999}) == []
    folder = image["path"].rsplit("/", 1)[0]  # type: ignore[attr-defined]
    assert found(texts=["green"], filter={"sources": [folder, "file:///elsewhere"]})[0] == "b.png"
    assert found(texts=["green"], filter={"sources": ["/elsewhere"]}) == []
    refused(client.post("/v1/search", json={"texts": ["red"], "filter": {"sources": ["a"]}}), 422, "absolute")
    assert found(texts=["red"], matches_only=True) == ["a.png"]
    assert found(texts=["orange"], matches_only=True) == []
    both = found(texts=["red"])
    assert sorted(both) == ["a.png", "b.png"]


def test_pictures_that_do_not_show_it_are_marked_and_the_answer_says_not_there(client: TestClient) -> None:
    def asked(**request: object) -> tuple[str, list[tuple[str, bool]]]:
        answer = client.post("/v1/search", json={"limit": 5, **request}).json()
        assert all((hit["presence"] is None) == ("texts" not in request) for hit in answer["hits"])
        hits = [(hit["image"]["path"].rsplit("/", 1)[-1], hit["is_match"]) for hit in answer["hits"]]
        return answer["answer"], hits

    _, segment = first_hit(client, "green")

    assert asked(texts=["red"]) == ("found", [("a.png", True), ("b.png", False)])
    verdict, hits = asked(texts=["orange"])
    assert verdict == "not_there"
    assert sorted(hits) == [("a.png", False), ("b.png", False)]
    verdict, hits = asked(segments=[segment["id"]])  # nobody said in words what is meant
    assert verdict == "found"
    assert [match for _, match in hits] == [True, True]


def test_the_level_and_the_object_score_reach_the_answer(client: TestClient) -> None:
    def segments(level: str) -> list[dict[str, object]]:
        question = {"texts": ["red"], "level": level, "limit": 5, "per_image": 50, "nms": False}
        hits = client.post("/v1/search", json=question).json()["hits"]
        return [segment for hit in hits for segment in hit["segments"]]

    everything = segments("any")
    assert all(0 <= float(str(one["object_score"])) <= 1 for one in everything)
    assert {one["id"] for one in segments("whole")} == {one["id"] for one in everything}
    assert len(everything) >= 3
    assert [one["depth"] for one in everything] == [0] * len(everything)  # boxes side by side
    assert segments("part") == []
    refused(client.post("/v1/search", json={"texts": ["red"], "level": "half"}), 422, "level")
    refused(client.post("/v1/search", json={"texts": ["???"]}), 422, "no word")


@pytest.mark.parametrize(
    "change",
    [
        {"level": "half"},
        {"nms": "sometimes"},
        {"where": {}},
        {"filter": {"since_s": 0}},
        {"away": ["blue"]},
        {"present": True},
        {"nested": True},
        {"filter": {"captured_from_at": "soon"}},
        {"segments": [{"segment_id": "6f1c0b7e-6a55-5e0a-9f0e-2f4f5d6b7a11", "weight": 0}]},
    ],
    ids=str,
)
def test_a_value_or_a_field_that_a_question_does_not_know_is_refused(
    client: TestClient, change: dict[str, object]
) -> None:
    [name] = change

    refused(client.post("/v1/search", json={"texts": ["red"], **change}), 422, name)
    file = {"file": ("x.png", png("green"))}
    refused(client.post("/v1/search/by-image", files=file, data={"request": json.dumps(change)}), 422, name)


@pytest.mark.parametrize("change", [{"masks": 2}, {"points": [{"x": 1, "y": 1, "label": 2}]}], ids=str)
def test_a_value_that_a_prompt_does_not_know_is_refused(
    client: TestClient, change: dict[str, object]
) -> None:
    image, _ = first_hit(client)
    prompt = {"image_id": image["id"], "points": [{"x": 30, "y": 60}], **change}

    refused(client.post("/v1/segment", json=prompt), 422, *change)


def test_pictures_are_filtered_by_when_they_were_taken(client: TestClient) -> None:
    image, _ = first_hit(client)
    taken_s = float(str(image["captured_s"]))

    def count(**conditions: object) -> int:
        answer = client.post("/v1/search", json={"texts": ["red"], "filter": conditions})
        return len(answer.json()["hits"])

    assert count(captured_from_at="1971-01-01", captured_until_at="9999-12-31T00:00:00Z") == 2
    assert count(captured_until_at="1971-01-01") == count(captured_from_at="9999-01-01") == 0
    assert count(captured_until_s=0) == 0
    assert count(captured_from_s=taken_s) >= 1


def test_what_a_hit_should_be_unlike_may_be_shown(client: TestClient) -> None:
    _, red = first_hit(client, "red")
    image, _ = first_hit(client, "green")
    file = {"file": ("x.png", png("green"))}

    def first(**request: object) -> str:
        answer = client.post("/v1/search", json={"limit": 1, "texts": ["red", "green"], **request})
        return str(answer.json()["hits"][0]["image"]["path"])[-5:]

    assert first(segments=[{"segment_id": red["id"], "weight": -3}]) == "b.png"
    assert first(regions=[{"image_id": image["id"], "box_xyxy": [8, 30, 58, 90], "weight": -3}]) == "a.png"
    sent = {"request": json.dumps({"limit": 1, "texts": ["red", "green"]}), "box": "25,25,75,65"}
    answer = client.post("/v1/search/by-image", files=file, data={**sent, "weight": "-3"})
    assert answer.json()["hits"][0]["image"]["path"].endswith("a.png")
    for weight in ("0", "-101", "nan"):
        refused(
            client.post("/v1/search/by-image", files=file, data={**sent, "weight": weight}), 422, "weight"
        )
    only = {"segments": [{"segment_id": red["id"], "weight": -1}]}
    refused(client.post("/v1/search", json=only), 422, "only excludes")
    refused(client.post("/v1/search/by-image", files=file, data={"weight": "-1"}), 422, "only excludes")


def test_a_picture_finds_what_looks_like_it(client: TestClient) -> None:
    file = {"file": ("x.png", png("green"), "image/png")}

    whole = client.post("/v1/search/by-image", files=file, data={"request": '{"limit": 1}'})
    part = client.post(
        "/v1/search/by-image", files=file, data={"request": '{"limit": 1}', "box": "25,25,75,65"}
    )

    assert whole.status_code == 200
    assert part.json()["hits"][0]["image"]["path"].endswith("b.png")
    refused(client.post("/v1/search/by-image", files=file, data={"box": "900,900,950,950"}), 422, "no pixel")
    refused(client.post("/v1/search/by-image", files={"file": ("x", b"text")}), 415, "the upload")


def test_pages_follow_each_other_by_cursor_and_only_for_their_own_question(client: TestClient) -> None:
    question = {"texts": ["red"], "limit": 1, "per_image": 1}
    whole = client.post("/v1/search", json={**question, "limit": 5}).json()
    pages = [client.post("/v1/search", json=question).json()]
    while pages[-1]["next_cursor"]:
        pages.append(client.post("/v1/search", json={**question, "cursor": pages[-1]["next_cursor"]}).json())

    assert whole["next_cursor"] is None
    assert len(pages) == len(whole["hits"])  # none of them is empty
    assert [hit for page in pages for hit in page["hits"]] == whole["hits"]
    cursor = pages[0]["next_cursor"]
    other = {"texts": ["blue"], "limit": 1, "cursor": cursor}
    refused(client.post("/v1/search", json=other), 422, "next_cursor")
    refused(client.post("/v1/search", json={**question, "cursor": "nonsense!"}), 422, "next_cursor")
    file = {"file": ("x.png", png("green"), "image/png")}
    first = client.post("/v1/search/by-image", files=file, data={"request": '{"limit": 1}'}).json()
    again = json.dumps({"limit": 1, "cursor": first["next_cursor"]})
    second = client.post("/v1/search/by-image", files=file, data={"request": again}).json()
    assert second["hits"][0]["rank"] == 2
    file = {"file": ("x.png", png("red"), "image/png")}
    refused(client.post("/v1/search/by-image", files=file, data={"request": again}), 422, "next_cursor")


@pytest.mark.parametrize(
    "other", [{"index": "edge:/two"}, {"index_collection": "two"}], ids=["place", "collection"]
)
def test_a_cursor_of_one_index_is_none_of_another(make: Make, other: dict[str, str]) -> None:
    question = {"texts": ["red"], "limit": 1}
    place = {"index": "http://qdrant:6333", "index_collection": "one"}
    first, second = make(**place), make(**{**place, **other})
    cursor = first.post("/v1/search", json=question).json()["next_cursor"]

    assert first.post("/v1/search", json={**question, "cursor": cursor}).json()["hits"][0]["rank"] == 2
    refused(second.post("/v1/search", json={**question, "cursor": cursor}), 422, "next_cursor")


def test_weights_and_boxes_in_pictures_reach_the_search_and_are_explained(client: TestClient) -> None:
    image, segment = first_hit(client, "blue")
    box = {"image_id": image["id"], "box_xyxy": segment["box_xyxy"]}

    def first(**request: object) -> dict[str, object]:
        answer = client.post("/v1/search", json={"limit": 1, "per_image": 1, "explain": True, **request})
        found: dict[str, object] = answer.json()["hits"][0]["segments"][0]
        return found

    assert first(regions=[box])["id"] == segment["id"]
    green = [{"text": "green", "weight": 5}, "blue"]
    assert first(texts=green)["id"] == first(texts=["green"])["id"]
    explained = first(texts=["blue"], negative=[{"text": "red", "weight": 0.25}])["terms"]
    assert isinstance(explained, list)
    assert [(term["term"], term["weight"]) for term in explained] == [("blue", 1), ("red", -0.25)]
    assert explained[0]["score"] > explained[1]["score"]
    outside = {**box, "box_xyxy": [5000, 0, 6000, 10]}
    refused(client.post("/v1/search", json={"regions": [outside]}), 422, "no pixel")
    refused(client.post("/v1/search", json={"regions": [{"image_id": str(uuid4())}]}), 404)
    refused(client.post("/v1/search", json={"regions": [box] * 5}), 422, "4")


def test_a_picture_that_is_sent_goes_together_with_words(client: TestClient) -> None:
    file = {"file": ("x.png", png("green"), "image/png")}

    def first(request: str, **data: str) -> str:
        answer = client.post("/v1/search/by-image", files=file, data={"request": request, **data})
        path: str = answer.json()["hits"][0]["image"]["path"]
        return path

    assert first('{"texts": ["blue"]}', box="25,25,75,65", weight="0.1").endswith("a.png")
    assert first('{"texts": ["blue"]}', box="25,25,75,65", weight="9").endswith("b.png")
    for request, words in (("{", "JSON"), ('{"limit": 0}', "limit"), ('{"nonsense": 1}', "nonsense")):
        answer = client.post("/v1/search/by-image", files=file, data={"request": request})
        refused(answer, 422, words)


def test_pictures_that_are_sent_are_what_the_same_regions_are(client: TestClient) -> None:
    images = [first_hit(client, text)[0] for text in ("red", "green")]
    data = [Path(str(image["path"])).read_bytes() for image in images]

    def by_regions(*terms: tuple[str, float]) -> list[dict[str, object]]:
        regions = [
            {
                "image_id": image["id"],
                "box_xyxy": list(map(int, box.split(","))) if box else None,
                "weight": weight,
            }
            for image, (box, weight) in zip(images, terms, strict=False)
        ]
        hits: list[dict[str, object]] = client.post("/v1/search", json={"regions": regions}).json()["hits"]
        return hits

    def by_files(count: int = 2, **form: list[str]) -> list[dict[str, object]]:
        files = [("file", (f"{number}.png", data[number])) for number in range(count)]
        hits: list[dict[str, object]] = client.post("/v1/search/by-image", files=files, data=form).json()[
            "hits"
        ]
        return hits

    red, green = "8,30,58,90", "8,30,58,90"
    both = by_files(box=[red, green], weight=["2", "0.5"])
    assert both == by_regions((red, 2), (green, 0.5))
    assert both != by_files(box=[red, green], weight=["0.5", "2"])
    assert by_files(box=["", green]) == by_regions(("", 1), (green, 1))  # an empty box is the whole picture
    assert by_files(box=[red], weight=["3"]) == by_regions((red, 3), ("", 1))  # the others have none, and 1
    assert by_files(box=[red, green], weight=["1", "-0.5"]) == by_regions((red, 1), (green, -0.5))
    assert by_files(1, box=[red]) == by_regions((red, 1))


def test_pictures_have_no_more_boxes_or_weights_than_they_are(client: TestClient) -> None:
    def sent(count: int, **form: list[str]) -> object:
        files = [("file", ("x.png", png())) for _ in range(count)]
        return client.post("/v1/search/by-image", files=files, data=form)

    refused(sent(1, box=["", ""]), 422, "1 pictures", "2 boxes")
    refused(sent(2, weight=["1", "1", "1"]), 422, "3 weights")
    refused(sent(5), 422, "file")
    refused(sent(1, box=["1,2,3"]), 422, "box")
    refused(client.post("/v1/search/by-image", data={"request": "{}"}), 422, "file")


def test_pictures_and_segments_come_in_every_form(client: TestClient) -> None:
    image, segment = first_hit(client)
    base, of_segment = f"/v1/images/{image['id']}", f"/v1/segments/{segment['id']}"

    assert client.get(base).json() == image
    segments = client.get(f"{base}/segments").json()
    assert segment["id"] in [one["id"] for one in segments]
    assert segments == sorted(segments, key=lambda one: (-one["area_px"], one["id"]))
    with Image.open(BytesIO(client.get(f"{base}/file?max_px=80").content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (80, 60))
    assert client.get(of_segment).json()["area_px"] == segment["area_px"]
    with Image.open(BytesIO(client.get(f"{of_segment}/mask.png").content)) as picture:
        assert int(np.asarray(picture).sum()) == segment["area_px"]
    with Image.open(BytesIO(client.get(f"{of_segment}/cutout.png").content)) as picture:
        assert picture.mode == "RGBA"
    assert client.get(f"{of_segment}/polygon").json()["type"] == "MultiPolygon"
    assert client.get("/v1/stats").json()["images"] == 2


def test_pixels_are_those_of_the_file(client: TestClient) -> None:
    image, segment = first_hit(client)
    path = f"/v1/images/{image['id']}/pixels.png"

    def pixels(**params: str) -> NDArray[np.uint8]:
        with Image.open(BytesIO(client.get(path, params=params).content)) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
            return np.asarray(picture)

    with Image.open(str(image["path"])) as picture:
        whole = np.asarray(picture.convert("RGB"))
    box = segment["box_xyxy"]
    assert isinstance(box, list)
    x1, y1, x2, y2 = box
    np.testing.assert_array_equal(pixels(), whole)
    np.testing.assert_array_equal(pixels(box=f"{x1},{y1},{x2},{y2}"), whole[y1:y2, x1:x2])
    np.testing.assert_array_equal(pixels(box="150,0,900,900"), whole[:, 150:])  # what is there of it
    refused(client.get(path, params={"box": "900,0,950,10"}), 422, "no pixel")
    for wrong in ("", "1,2,3", "1,2,3,x", "-1,0,5,5", "0,0,5.5,5"):
        refused(client.get(path, params={"box": wrong}), 422, "box")


def test_a_picture_that_was_turned_has_its_pixels_upright(client: TestClient) -> None:
    picture = Image.new("RGB", (120, 90), "white")
    picture.paste("red", (0, 0, 60, 90))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a quarter turn clockwise
    buffer = BytesIO()
    picture.save(buffer, "PNG", exif=exif)
    sent = client.post("/v1/images", files={"file": ("x.png", buffer.getvalue())}).json()

    answer = client.get(f"/v1/images/{sent['image_id']}/pixels.png")

    with Image.open(BytesIO(answer.content)) as upright:
        assert upright.size == (90, 120)
        assert (upright.getpixel((45, 10)), upright.getpixel((45, 110))) == ((255, 0, 0), (255, 255, 255))


def test_a_segment_comes_in_the_form_that_is_accepted(client: TestClient) -> None:
    _, segment = first_hit(client)
    path = f"/v1/segments/{segment['id']}"

    for accept, kind in (
        ("*/*", "application/json"),
        ("", "application/json"),
        ("image/*", "image/png"),
        ("text/html, application/vnd.segdex.polygon+json;q=0.5", "application/vnd.segdex.polygon+json"),
        ("application/json;q=0.1, image/png", "image/png"),
    ):
        answer = client.get(path, headers={"Accept": accept})
        assert answer.headers["content-type"] == kind
        assert answer.headers["vary"] == "Accept"
    assert client.get(path, headers={"Accept": "image/png"}).content == client.get(f"{path}/mask.png").content
    refused(client.get(path, headers={"Accept": "text/html"}), 406, "application/json")
    refused(client.get(path, headers={"Accept": ";;"}), 406)


def test_what_was_sent_already_is_not_sent_again(client: TestClient) -> None:
    image, segment = first_hit(client)
    base = f"/v1/images/{image['id']}"
    for path in (f"{base}/file", f"{base}/pixels.png", f"/v1/segments/{segment['id']}/mask.png"):
        first = client.get(path)
        assert "no-cache" in first.headers["cache-control"]  # asked for each time: it may be deleted
        again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_what_was_sent_already_is_not_confirmed_if_the_file_has_changed(client: TestClient) -> None:
    image, _ = first_hit(client)
    path = Path(str(image["path"]))
    etag = client.get(f"/v1/images/{image['id']}/file").headers["etag"]
    before, status = path.read_bytes(), path.stat()
    try:
        path.write_bytes(png("pink"))
        again = client.get(f"/v1/images/{image['id']}/file", headers={"If-None-Match": etag})
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    refused(again, 410, "has changed since it was ingested")


def test_only_some_places_of_a_picture_are_deleted(client: TestClient) -> None:
    image, _ = first_hit(client)

    refused(client.delete(f"/v1/images/{image['id']}?place=/elsewhere"), 422, "is no file of picture")
    assert client.get(f"/v1/images/{image['id']}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/images/{}",
        "/v1/images/{}/file",
        "/v1/images/{}/pixels.png",
        "/v1/images/{}/segments",
        "/v1/segments/{}",
        "/v1/nothing",
    ],
)
def test_what_is_not_there_is_a_404(client: TestClient, path: str) -> None:
    refused(client.get(path.format(uuid4())), 404)


def test_a_click_cuts_out_and_the_picture_is_encoded_once(client: TestClient) -> None:
    image, _ = first_hit(client)
    encodings = client.app.state.service.loaded().library.models.refiner.encodings  # type: ignore[attr-defined]

    for x, y in ((30, 60), (120, 60)):
        request = {"image_id": image["id"], "points": [{"x": x, "y": y}]}
        answer = client.post("/v1/segment", json=request)
        assert answer.status_code == 200
        x1, y1, x2, y2 = answer.json()["masks"][0]["box_xyxy"]
        assert x1 <= x < x2
        assert y1 <= y < y2
    assert (encodings.misses, encodings.hits) == (1, 1)

    three = client.post("/v1/segment", json={**request, "masks": 3}).json()["masks"]
    by_text = client.post("/v1/segment", json={"image_id": image["id"], "text": "blue"}).json()["masks"]
    assert encodings.misses == 1
    assert len(three) == 3
    assert by_text[0]["box_xyxy"][0] > 80
    refused(client.post("/v1/segment", json={"image_id": image["id"]}), 422, "say where")
    refused(client.post("/v1/segment", json={**request, "points": [{"x": 900, "y": 1}]}), 422, "outside")
    refused(client.post("/v1/segment", json={**request, "text": "red"}), 422, "alone")
    refused(client.post("/v1/segment", json={**request, "points": [{"x": 1, "y": 1, "label": -1}]}), 422)
    refused(client.post("/v1/segment", json={**request, "image_id": str(uuid4())}), 404)


def test_a_picture_that_is_sent_is_cut_out_and_encoded_once(client: TestClient) -> None:
    encodings = client.app.state.service.loaded().library.models.refiner.encodings  # type: ignore[attr-defined]
    file = {"file": ("x.png", png("red"), "image/png")}
    click = json.dumps({"points": [{"x": 40, "y": 40}]})

    boxes = [
        client.post("/v1/segment/by-image", files=file, data={"request": click}).json()["masks"][0][
            "box_xyxy"
        ]
        for _ in range(2)
    ]

    assert boxes == [[20, 20, 80, 70]] * 2
    assert (encodings.misses, encodings.hits) == (1, 1)
    nothing = client.post("/v1/segment/by-image", files={"file": ("x", b"no")}, data={"request": click})
    refused(nothing, 415)
    refused(client.post("/v1/segment/by-image", files=file, data={"request": "[]"}), 422, "request")


def test_an_earlier_mask_is_improved_and_must_fit_the_picture(client: TestClient) -> None:
    image, segment = first_hit(client)
    box = segment["box_xyxy"]
    assert isinstance(box, list)
    x1, y1, x2, y2 = box
    request = {"image_id": image["id"], "points": [{"x": (x1 + x2) / 2, "y": (y1 + y2) / 2}]}
    rle = segment["rle"]
    assert isinstance(rle, dict)

    answer = client.post("/v1/segment", json={**request, "mask": rle})

    assert answer.json()["masks"][0]["box_xyxy"] == box
    for wrong, words in (
        ({**rle, "size": [10, 10]}, "size"),
        ({**rle, "size": [10**9, 10**9]}, "size"),
        ({**rle, "counts": "0"}, "runs"),
        ({**rle, "counts": "\u20ac"}, "ASCII"),
        ({**rle, "counts": ""}, "runs"),
        ({**rle, "counts": coco_counts(wrapping_runs(math.prod(rle["size"])))}, "runs"),
    ):
        refused(client.post("/v1/segment", json={**request, "mask": wrong}), 422, words)
    refused(client.post("/v1/segment", json={"image_id": image["id"], "mask": rle}), 422, "say where")


def test_an_upload_can_wait_as_a_job_and_carry_tags(client: TestClient) -> None:
    file = {"file": ("x.png", png("orange"))}

    queued = client.post("/v1/images", files=file, data={"wait": "false", "tags": ["new", "box"]})
    assert queued.status_code == 202
    list(client.get(f"/v1/jobs/{queued.json()['job_id']}/events").iter_lines())  # until it ends

    image = client.get(f"/v1/images/{queued.json()['image_id']}").json()
    assert image["tags"] == ["box", "new"]
    assert (
        image["captured_from"] == "upload"
    )  # it has no date: that of its arrival is not called the picture's
    wanted = {"texts": ["orange"], "filter": {"tags": ["new"]}}
    assert client.post("/v1/search", json=wanted).json()["hits"][0]["image"] == image


def test_an_upload_is_found_and_forgotten(client: TestClient, tmp_path: Path) -> None:
    done = client.post("/v1/images", files={"file": ("../../evil.png", png("orange"))})
    again = client.post("/v1/images", files={"file": ("x.png", png("orange"))})

    assert done.status_code == 201
    assert done.json()["outcome"] == "added"
    assert again.json() == {**done.json(), "outcome": "unchanged", "segments": 0}
    (kept,) = (path for path in (tmp_path / "uploads").rglob("*") if path.is_file())
    assert kept.name == "evil.png"
    assert not list(tmp_path.parent.glob("evil*"))
    image, _ = first_hit(client, "orange")
    assert image["id"] == done.json()["image_id"]
    assert image["captured_from"] == "upload"
    deleted = client.delete(f"/v1/images/{image['id']}")
    assert deleted.status_code == 200
    assert deleted.json() == {
        "schema_version": 1,
        "images": [image["id"]],
        "segments": image["segment_count"],
        "places": 1,
        "kept": [],
    }
    refused(client.delete(f"/v1/images/{image['id']}"), 404)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("cat.png", "cat.png"),
        ("cat.part", "cat.part_"),
        ("..", "picture"),
        ("C:\\x\\my cat.jpg", "my cat.jpg"),
        ("a\nb.png", "a_b.png"),
        ("\u732b.png", "\u732b.png"),
        ("x" * 500 + ".png", "x" * 56 + ".png"),
        (".part", "part"),
    ],
)
def test_an_upload_keeps_what_is_plain_of_its_name(tmp_path: Path, name: str, kept: str) -> None:
    path = keep_upload(b"data", tmp_path / "digest", name=name)

    assert (path.parent, path.name, path.read_bytes()) == (tmp_path / "digest", kept, b"data")
    assert keep_upload(b"data", tmp_path / "digest", name="other.png") == path


def test_a_picture_whose_file_is_gone_is_a_410(client: TestClient) -> None:
    image, segment = first_hit(client)
    Path(str(image["path"])).unlink()

    refused(client.get(f"/v1/images/{image['id']}/file"), 410, "segdex sync")
    refused(client.get(f"/v1/segments/{segment['id']}/cutout.png"), 410)
    refused(client.get(f"/v1/images/{image['id']}/pixels.png"), 410)


def test_a_picture_that_is_too_large_by_now_is_a_413(make: Make) -> None:
    image, segment = first_hit(make(), "red")
    client = make(max_pixels=100)

    refused(client.get(f"/v1/images/{image['id']}/file"), 413, "pixels")
    refused(client.get(f"/v1/segments/{segment['id']}/cutout.png"), 413)
    refused(client.get(f"/v1/images/{image['id']}/pixels.png"), 413)


def test_a_job_without_news_still_says_that_the_service_lives_for_an_hour() -> None:
    job, clock_s = Job(id="quiet", paths=["/x"], created_s=0.0), [0.0]

    def rest(seconds: float) -> None:
        clock_s[0] += seconds

    first, *others = events_of(lambda: job, now_s=lambda: clock_s[0], rest=rest)

    assert first.startswith("event: job\n")
    assert set(others) == {": alive\n\n"}
    assert 3600 / 20 < len(others) < 3600 / 10
    assert 3600 <= clock_s[0] < 3601


def test_uploads_are_limited_before_they_are_decoded(make: Make, tmp_path: Path) -> None:
    client = make(max_upload_bytes=2_000, max_pixels=10_000)

    refused(client.post("/v1/images", files={"file": ("x.png", png(size=(400, 300)))}), 413, "pixels")
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    refused(client.post("/v1/images", files={"file": ("x.png", buffer.getvalue())}), 413, "2,000 bytes")
    refused(client.post("/v1/images", files={"file": ("x.png", b"\0" * 200_000)}), 413, "bytes")
    refused(client.post("/v1/images", files={"file": ("x.txt", b"no picture")}), 415)
    assert not (tmp_path / "uploads").exists()


def test_without_a_key_nothing_is_answered_where_keys_are_needed(make: Make) -> None:
    (reader, reads), (writer, writes) = make_key("r", "read"), make_key("w", "write")
    client = make((reads, writes))
    search = {"texts": ["red"]}

    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {reader}"}):
        answer = client.post("/v1/search", json=search, headers=header)
        refused(answer, 401, "Authorization: Bearer")
        assert answer.headers["www-authenticate"] == "Bearer"
    may_read, may_write = ({"Authorization": f"Bearer {key}"} for key in (reader, writer))
    assert client.post("/v1/search", json=search, headers=may_read).status_code == 200
    file = {"file": ("x.png", png())}
    refused(client.post("/v1/images", files=file, headers=may_read), 403, "needs write")
    assert client.post("/v1/images", files=file, headers=may_write).status_code == 201
    refused(client.get("/metrics", headers=may_write), 403, "needs admin")
    assert client.get("/healthz").status_code == client.get("/").status_code == 200


def test_every_path_but_health_and_page_needs_a_key(make: Make) -> None:
    client = make((make_key("r", "read")[1],))

    for path, methods in client.get("/v1/openapi.json").json()["paths"].items():
        for method in methods:
            answer = client.request(method, path.replace("{", "").replace("}", ""))
            assert answer.status_code == (200 if path in ("/healthz", "/readyz") else 401), path


def test_too_many_requests_of_a_key_wait(make: Make) -> None:
    (first, one), (second, two) = make_key("a", "read"), make_key("b", "read")
    client = make((one, two), rate_per_minute=3)

    statuses = [
        client.get("/v1/stats", headers={"Authorization": f"Bearer {first}"}).status_code for _ in range(5)
    ]
    answer = client.get("/v1/stats", headers={"Authorization": f"Bearer {first}"})

    assert statuses == [200, 200, 200, 429, 429]
    refused(answer, 429, "3 requests")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert client.get("/v1/stats", headers={"Authorization": f"Bearer {second}"}).status_code == 200


def test_pages_of_other_sites_are_not_answered(client: TestClient) -> None:
    for origin in ("https://evil.example", "http://127.0.0.1:9999", "http://127.0.0.1.evil.example", "null"):
        refused(client.post("/v1/search", json={"texts": ["red"]}, headers={"Origin": origin}), 403, origin)
    own = client.post("/v1/search", json={"texts": ["red"]}, headers={"Origin": HERE})

    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8600", "10.0.0.7", "localhost.", ""]
)
def test_a_name_of_another_site_that_leads_here_is_not_answered(client: TestClient, host: str) -> None:
    answer = client.get("/v1/stats", headers={"Host": host, "Origin": f"http://{host}"})

    refused(answer, 403)


def test_with_keys_any_name_is_answered(make: Make) -> None:
    key, kept = make_key("r", "read")
    client = make((kept,))

    answer = client.get("/v1/stats", headers={"Host": "pictures.example", "Authorization": f"Bearer {key}"})

    assert answer.status_code == 200


def test_a_body_of_unknown_length_is_not_read(client: TestClient) -> None:
    refused(client.post("/v1/search", content=iter([b"{"] * 10)), 411, "length")


def test_a_request_counts_once_for_its_rate(make: Make) -> None:
    key, kept = make_key("w", "write")
    client = make((kept,), rate_per_minute=2)
    headers = {"Authorization": f"Bearer {key}"}

    statuses = [client.delete(f"/v1/images/{uuid4()}", headers=headers).status_code for _ in range(3)]

    assert statuses == [404, 404, 429]


def test_every_answer_carries_the_headers_of_safety(client: TestClient) -> None:
    for answer in (client.get("/"), client.get("/v1/stats"), client.get("/nothing")):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_full_queue_is_a_503_that_says_when_to_come_back(make: Make) -> None:
    client = make(max_waiting=1)
    loaded = client.app.state.service.loaded()  # type: ignore[attr-defined]
    started, go = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        go.wait(10)

    thread = threading.Thread(target=lambda: loaded.model_thread.run(block))
    thread.start()
    started.wait(10)
    answer = client.post("/v1/search", json={"texts": ["red"]})
    go.set()
    thread.join()

    refused(answer, 503, "ask again")
    assert answer.headers["retry-after"] == "1"
    assert client.post("/v1/search", json={"texts": ["red"]}).status_code == 200


def test_a_service_that_cannot_load_lives_and_says_why() -> None:
    def fail() -> Loaded:
        raise IndexUnavailableError("no Qdrant server answers at http://127.0.0.1:9")

    state = ServiceState(build_settings(), (), fail)
    with TestClient(build_app(state), base_url=HERE) as client:
        state.wait()

        assert client.get("/healthz").status_code == 200
        refused(client.get("/readyz"), 503, "no Qdrant server")
        refused(client.post("/v1/search", json={"texts": ["red"]}), 503, "no Qdrant server")


def test_a_service_whose_index_was_away_is_ready_when_it_comes(tmp_path: Path) -> None:
    tries = iter([IndexLockedError("another process has it open"), IndexUnavailableError("no server"), None])

    def load_later() -> Loaded:
        if (error := next(tries)) is not None:
            raise error
        return load(tmp_path / "set", settings=build_settings())

    state = ServiceState(build_settings(), (), load_later, retry_s=0.01)
    with TestClient(build_app(state), base_url=HERE) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, what="the service is ready")

        assert first_hit(client)


def test_metrics_count_requests_by_path_and_status(client: TestClient) -> None:
    client.get("/v1/stats")
    client.get(f"/v1/images/{uuid4()}")

    text = client.get("/metrics").text

    assert 'segdex_requests_total{method="GET",path="/v1/stats",status="200"} 1.0' in text
    assert 'path="/v1/images/{image_id}",status="404"' in text
    assert "segdex_memory_bytes" in text


def test_the_page_asks_no_other_host(client: TestClient) -> None:
    page = client.get("/").text
    others = [found.name for found in (files("segdex") / "web").iterdir() if found.name != "index.html"]
    assert {"app.js", "style.css"} <= set(others)
    for name in others:
        answer = client.get(f"/{name}")
        assert answer.status_code == 200
        page += answer.text

    assert "http://" not in page
    assert "https://" not in page
    assert not re.search(r"""["'`]/v1""", page)  # below whatever path the page is


def test_the_document_of_the_interface_is_complete(client: TestClient) -> None:
    document = client.get("/v1/openapi.json").json()

    assert document["openapi"].startswith("3.1")
    assert document["components"]["schemas"]["SearchRequest"]["examples"]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["description"], path
            codes, sent = set(operation["responses"]), operation.get("requestBody", {}).get("content", {})
            if path.startswith("/v1"):
                assert {"401", "403", "429", "503"} <= codes, path
            if sent:
                assert {"400", "411", "413", "422"} <= codes, path
            if "multipart/form-data" in sent:  # which may not fit into the temporary folder
                assert "507" in codes, path
            if "multipart/form-data" in sent and path != "/v1/import":  # which takes no picture
                assert "415" in codes, path
            if "410" in codes:  # a file that is read again may have become too large, or no picture
                assert {"413", "415", "422"} <= codes, path
    references = set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(document)))
    named = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references
    assert references <= named


def ended(client: TestClient, job_id: str) -> dict[str, object]:
    """Wait until a job ended, by its events."""
    text = client.get(f"/v1/jobs/{job_id}/events").text
    last = [line for line in text.splitlines() if line.startswith("data: ")][-1]
    job: dict[str, object] = json.loads(last.removeprefix("data: "))
    assert job == client.get(f"/v1/jobs/{job_id}").json()
    return job


def test_a_job_ingests_a_folder_and_says_what_became_of_each_file(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "new.png").write_bytes(png("pink"))
    (folder / "broken.png").write_bytes(png("pink")[:150])
    client = make(job_roots=(folder,))

    asked = client.post("/v1/jobs", json={"paths": [str(folder)], "tags": ["new"]})
    job = ended(client, asked.json()["id"])

    assert asked.status_code == 202
    assert (job["status"], job["total"], job["done"]) == ("done", 2, 2)
    assert job["counts"] == {"added": 1, "unreadable": 1}
    image, _ = first_hit(client, "pink")
    assert str(image["path"]).endswith("new.png")
    assert image["tags"] == ["new"]
    assert [each["id"] for each in client.get("/v1/jobs").json()] == [job["id"]]
    assert client.delete(f"/v1/jobs/{job['id']}").json() == job
    refused(client.get("/v1/jobs/nothing"), 404)


def test_jobs_stay_below_the_allowed_folders(make: Make, tmp_path: Path) -> None:
    allowed, secret = tmp_path / "pictures", tmp_path / "secret"
    for folder in (allowed, secret):
        folder.mkdir()
        (folder / "a.png").write_bytes(png())
    (allowed / "link").symlink_to(secret)
    (allowed / "link.png").symlink_to(secret / "a.png")
    client = make(job_roots=(allowed,))

    for path in (
        str(secret),
        f"{allowed}/../secret",
        str(allowed / "link"),
        str(allowed / "link.png"),
        "/etc/passwd",
        "pictures",
        f"{allowed}2",
        str(allowed / "none"),
    ):
        refused(client.post("/v1/jobs", json={"paths": [path]}), 422, "allowed folders")
    job = ended(client, client.post("/v1/jobs", json={"paths": [str(allowed)]}).json()["id"])

    assert (job["status"], job["total"]) == ("done", 1)
    assert "left out 2 files outside the allowed folders" in str(job["detail"])
    refused(make().post("/v1/jobs", json={"paths": [str(allowed)]}), 422, "SEGDEX_JOB_ROOTS")


def test_one_picture_is_one_file_one_job_and_one_picture_however_often_it_is_sent(
    client: TestClient, tmp_path: Path
) -> None:
    waits = [
        client.post("/v1/images", files={"file": (f"q{n}.png", png("orange"))}, data={"wait": "false"})
        for n in range(4)
    ]
    ids = {answer.json()["job_id"] for answer in waits}
    assert len(ids) == 1
    list(client.get(f"/v1/jobs/{ids.copy().pop()}/events").iter_lines())  # until it ends
    later = client.post("/v1/images", files={"file": ("later.png", png("orange"))}, data={"wait": "false"})
    with ThreadPoolExecutor(4) as senders:
        outcomes = senders.map(
            lambda n: client.post("/v1/images", files={"file": (f"same{n}.png", png("pink"))}).json()[
                "outcome"
            ],
            range(4),
        )
        assert sorted(outcomes) == ["added", "unchanged", "unchanged", "unchanged"]

    assert later.json()["job_id"] in ids
    assert len([path for path in (tmp_path / "uploads").rglob("*") if path.is_file()]) == 2
    assert len(client.get("/v1/jobs").json()) == 1
    image_id = waits[0].json()["image_id"]
    client.delete(f"/v1/images/{image_id}")
    anew = client.post("/v1/images", files={"file": ("anew.png", png("orange"))}, data={"wait": "false"})
    assert anew.json()["job_id"] not in ids
    list(client.get(f"/v1/jobs/{anew.json()['job_id']}/events").iter_lines())
    assert client.get(f"/v1/images/{image_id}").status_code == 200


def test_a_full_queue_and_a_full_upload_folder_say_so(make: Make, tmp_path: Path) -> None:
    client = make(max_jobs=1, jobs_by="worker")
    file = {"file": ("x.png", png("orange"))}
    assert client.post("/v1/images", files=file, data={"wait": "false"}).status_code == 202
    other = {"file": ("y.png", png("pink"))}

    answer = client.post("/v1/images", files=other, data={"wait": "false"})
    refused(answer, 429, "1 jobs wait already", "SEGDEX_MAX_JOBS")
    assert answer.headers["retry-after"]
    with failing(full(), at=0, after=False):
        refused(
            client.post("/v1/images", files={"file": ("z.png", png("cyan"))}),
            507,
            "No space left",
            "SEGDEX_UPLOADS",
        )
    assert first_hit(client, "red")
    assert client.post("/v1/images", files={"file": ("z.png", png("cyan"))}).status_code == 201
