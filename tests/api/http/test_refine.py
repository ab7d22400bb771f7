"""Refining by the question and the ids of segments: at once or by events, with nothing kept in between."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from tests.api.http.asking import first_hit
from tests.fakes.dataset import png
from tests.fakes.parts import parts
from tests.fakes.service import HERE, refused

from segdex.http.app import build_app
from segdex.http.state import ServiceState
from segdex.wiring import build_settings, load_service
from segdex_core.masks import MaskRLE, decode_mask

JSON, EVENTS = "application/json", "text/event-stream"
QUESTION = {"texts": ["red"]}

Refinement = dict[str, object]


def found_ids(client: TestClient, **question: object) -> list[str]:
    """Return the ids of all hits, those of one picture side by side."""
    asked = {"limit": 5, "per_image": 50, "nms": False, **question}
    hits = client.post("/v1/search", json=asked).json()["hits"]
    return [segment["id"] for hit in hits for segment in hit["segments"]]


def without_timings(refinements: list[Refinement]) -> list[Refinement]:
    return [{name: value for name, value in one.items() if name != "timings_ms"} for one in refinements]


def events_of(answer: Any) -> list[tuple[str, Refinement]]:
    """Return the names and data of server-sent events."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(EVENTS)
    assert answer.headers["cache-control"] == "no-store"
    parsed = []
    for event in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        parsed.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return parsed


def refined(client: TestClient, path: str = "/v1/refine", **request: object) -> list[Refinement]:
    """Return refinements, which must be the same at once and by events."""
    answer = client.post(path, headers={"Accept": JSON}, **request)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    at_once = without_timings(answer.json()["refinements"])
    *each, last = events_of(client.post(path, headers={"Accept": EVENTS}, **request))  # type: ignore[arg-type]

    assert last == ("done", {})
    assert {name for name, _ in each} == {"refinement"}
    assert without_timings([data for _, data in each]) == at_once
    return at_once


def test_segments_are_refined_alone_and_together_alike(client: TestClient) -> None:
    ids = found_ids(client, **QUESTION)
    assert len(ids) >= 3

    together = refined(client, json={**QUESTION, "segment_ids": ids})
    alone = [refined(client, json={**QUESTION, "segment_ids": [one]}) for one in ids]
    backwards = refined(client, json={**QUESTION, "segment_ids": [*reversed(ids), ids[0]]})

    assert [one["segment_id"] for one in together] == ids
    assert alone == [[one] for one in together]
    assert backwards == together[::-1]  # each once
    assert together[0]["answer"] == "refined"


def test_a_refined_mask_is_a_mask_of_the_picture(client: TestClient) -> None:
    image, segment = first_hit(client)

    [one] = refined(client, json={**QUESTION, "segment_ids": [segment["id"]]})

    rle, box = one["rle"], one["box_xyxy"]
    assert isinstance(rle, dict)
    assert isinstance(box, list)
    mask = decode_mask(MaskRLE(tuple(rle["size"]), rle["counts"]))
    assert mask.shape == (image["height"], image["width"])
    assert mask.sum() == one["area_px"]
    assert mask[box[1] : box[3], box[0] : box[2]].sum() == one["area_px"]


def test_a_segment_of_no_answer_is_refined(client: TestClient) -> None:
    image, segment = first_hit(client)
    segments = client.get(f"/v1/images/{image['id']}/segments").json()
    others = [one["id"] for one in segments if one["id"] != segment["id"]]

    assert [one["segment_id"] for one in refined(client, json={**QUESTION, "segment_ids": others})] == others


@pytest.mark.parametrize("accept", [JSON, EVENTS])
def test_what_cannot_be_refined_is_refused_before_anything_is_sent(client: TestClient, accept: str) -> None:
    _, segment = first_hit(client)

    def asked(**request: object) -> object:
        return client.post("/v1/refine", json={**QUESTION, **request}, headers={"Accept": accept})

    known, unknown = segment["id"], str(uuid4())
    refused(asked(segment_ids=[known, unknown]), 404, unknown)
    refused(asked(segment_ids=[known] * 101), 422, "100")
    refused(asked(segment_ids=[]), 422, "segment_ids")
    refused(asked(), 422, "segment_ids")
    refused(asked(segment_ids=[known], texts=[]), 422, "needs a text")
    refused(asked(segment_ids=[known], texts=[], negative=["red"]), 422, "needs a text")
    refused(asked(segment_ids=[known], limit=3), 422, "limit")
    refused(asked(segment_ids=[known], segments=[unknown]), 422, unknown)
    assert len(refined(client, json={**QUESTION, "segment_ids": [known] * 100})) == 1


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", JSON),
        ("", JSON),
        ("text/html, application/json", JSON),
        (f"{JSON};q=0.1, {EVENTS}", EVENTS),
        (f"{EVENTS};q=0.1, {JSON}", JSON),
    ],
)
def test_masks_come_in_the_form_that_is_accepted(client: TestClient, accept: str, kind: str) -> None:
    _, segment = first_hit(client)

    answer = client.post(
        "/v1/refine", json={**QUESTION, "segment_ids": [segment["id"]]}, headers={"Accept": accept}
    )

    assert answer.headers["content-type"].split(";")[0] == kind


@pytest.mark.parametrize("accept", ["text/html", ";;"])
def test_a_form_that_there_is_not_is_refused(client: TestClient, accept: str) -> None:
    _, segment = first_hit(client)
    request = {**QUESTION, "segment_ids": [segment["id"]]}

    refused(client.post("/v1/refine", json=request, headers={"Accept": accept}), 406)


def test_a_picture_that_is_gone_is_said_at_once_and_by_an_event(client: TestClient) -> None:
    (image, segment), (_, other) = first_hit(client), first_hit(client, "green")
    Path(str(image["path"])).unlink()
    request = {**QUESTION, "segment_ids": [other["id"], segment["id"]]}

    refused(client.post("/v1/refine", json=request), 410, "segdex sync")
    (first, done), (last, problem) = events_of(
        client.post("/v1/refine", json=request, headers={"Accept": EVENTS})
    )

    assert (first, done["segment_id"]) == ("refinement", other["id"])  # what came before it stays
    assert last == "error"
    assert "segdex sync" in str(problem["detail"])


@contextmanager
def service(folder: Path, library: object) -> Iterator[TestClient]:
    settings = build_settings(jobs_file=folder / "jobs.sqlite")
    state = ServiceState(settings, (), lambda: load_service(settings, library))  # type: ignore[arg-type]
    with TestClient(build_app(state), base_url=HERE) as client:
        state.wait()
        yield client


def test_another_service_over_the_same_index_refines_a_hit(tmp_path: Path) -> None:
    made = parts(tmp_path / "set")
    index = made.open_index(build_settings(), create=True)
    shared = replace(made, open_index=lambda *_, **__: index)
    with service(tmp_path, shared) as first:
        ids = found_ids(first, **QUESTION)
        expected = refined(first, json={**QUESTION, "segment_ids": ids})

    with service(tmp_path, shared) as second:  # which was asked nothing before
        assert refined(second, json={**QUESTION, "segment_ids": ids}) == expected


def test_a_question_with_a_picture_refines_as_the_same_region_does(client: TestClient) -> None:
    image, segment = first_hit(client, "green")
    ids = found_ids(client, **QUESTION)
    box = segment["box_xyxy"]
    assert isinstance(box, list)
    region = {"image_id": image["id"], "box_xyxy": box, "weight": 2}
    request = {"texts": ["blue"], "segment_ids": ids}

    by_file = refined(
        client,
        "/v1/refine/by-image",
        files={"file": ("x.png", Path(str(image["path"])).read_bytes())},
        data={"box": ",".join(map(str, box)), "weight": "2", "request": json.dumps(request)},
    )

    assert by_file == refined(client, json={**request, "regions": [region]})
    assert by_file != refined(client, json=request)


def test_several_pictures_refine_together(client: TestClient) -> None:
    ids = found_ids(client, **QUESTION)
    data = {"request": json.dumps({"segment_ids": ids})}

    def by(*colours: str) -> list[Refinement]:
        pictures = [("file", (f"{colour}.png", png(colour))) for colour in colours]
        return refined(client, "/v1/refine/by-image", files=pictures, data=data)

    assert [one["segment_id"] for one in by("red", "green")] == ids
    assert by("red", "green") == by("green", "red")
    assert by("red", "green") != by("red")


def test_pictures_that_are_no_question_are_refused(client: TestClient) -> None:
    _, segment = first_hit(client)
    request = json.dumps({"segment_ids": [segment["id"]]})

    def asked(data: bytes = png("red"), **form: str) -> object:
        return client.post("/v1/refine/by-image", files={"file": ("x.png", data)}, data=form)

    refused(asked(b"no picture", request=request), 415, "the upload")
    refused(asked(request=request, weight="-1"), 422, "needs a text")
    refused(asked(request=request, box="900,900,950,950"), 422, "no pixel")
    refused(asked(request="{"), 422, "request: Invalid JSON")
    refused(asked(request="{}"), 422, "request.segment_ids")
    refused(asked(), 422, "request")
    refused(client.post("/v1/refine/by-image", data={"request": request}), 422, "file")
