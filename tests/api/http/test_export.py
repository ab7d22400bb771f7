"""``/v1/export`` and the COCO documents of one mask."""

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from segdex.client import Client
from segdex.client.errors import UnreachableError
from segdex_core.wire.export import Exported


def archive(client: TestClient, **request: Any) -> zipfile.ZipFile:
    answer = client.post("/v1/export", json=request)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert "content-length" not in answer.headers  # it is made while it is sent
    return zipfile.ZipFile(BytesIO(answer.content))


def best(client: TestClient, text: str) -> dict[str, Any]:
    answer = client.post("/v1/search", json={"texts": [text], "limit": 1, "per_image": 1}).json()
    found: dict[str, Any] = answer["hits"][0]["segments"][0]
    return found


def test_an_export_is_an_archive_with_its_record_at_the_end(client: TestClient) -> None:
    made = archive(client, everything=True, format="yolo")
    record = Exported.model_validate_json(made.read(made.namelist()[-1]))

    assert made.namelist()[0] == "data.yaml"
    assert made.testzip() is None
    assert record.segments == client.get("/v1/stats").json()["segments"]
    assert record.pictures == record.images == sum(name.startswith("images/") for name in made.namelist())


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"format": "coco"}, "give a question, segment_ids, or everything"),
        ({"format": "voc", "everything": True}, "format"),
        ({"format": "parquet", "everything": True}, "format"),
        ({"everything": True}, "format"),
        ({"format": "coco", "texts": ["red"], "everything": True}, "only one of"),
        ({"format": "coco", "everything": True, "filter": {"tags": ["none"]}}, "nothing to export"),
        ({"format": "coco", "everything": True, "out": "x"}, "out"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_sent(
    client: TestClient, request_: dict[str, Any], words: str
) -> None:
    answer = client.post("/v1/export", json=request_)

    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_the_coco_document_of_a_segment_is_that_of_its_export(client: TestClient) -> None:
    red = best(client, "red")
    made = archive(client, segment_ids=[red["id"]], format="coco")
    single = client.get(f"/v1/segments/{red['id']}/coco.json", params={"asked": "red -blue"}).json()
    exported = json.loads(made.read("annotations.json"))

    assert exported["categories"][0]["name"] == "object"
    assert single["categories"][0]["name"] == "red"
    for document in (single, exported):
        del document["annotations"][0]["attributes"]["category"]
    for name in ("images", "annotations", "info", "licenses"):
        assert single[name] == exported[name]
    assert single["annotations"][0]["segmentation"] == red["rle"]


def test_a_mask_that_no_index_holds_is_a_coco_document_too(client: TestClient) -> None:
    red = best(client, "red")
    path = f"/v1/images/{red['image_id']}"
    [mask] = client.post(
        "/v1/segment", json={"image_id": red["image_id"], "points": [{"x": 30, "y": 60}]}
    ).json()["masks"]
    body = {"rle": mask["rle"], "predicted_iou": mask["predicted_iou"]}

    drawn = client.post(f"{path}/coco.json", json=body).json()
    replaced = client.post(f"{path}/coco.json", json={**body, "segment_id": red["id"]}).json()

    x1, y1, x2, y2 = mask["box_xyxy"]
    for document in (drawn, replaced):
        [one] = document["annotations"]
        assert (one["bbox"], one["area"]) == ([x1, y1, x2 - x1, y2 - y1], mask["area_px"])
        assert one["segmentation"] == mask["rle"]
    assert replaced["annotations"][0]["attributes"]["segment_id"] == red["id"]


def test_a_mask_that_does_not_fit_is_refused_in_one_line(client: TestClient) -> None:
    red, green = best(client, "red"), best(client, "green")
    path = f"/v1/images/{red['image_id']}/coco.json"
    height, width = red["rle"]["size"]
    for rle, words in (
        ({"size": [3, 3], "counts": "09"}, "must be that of the picture"),
        ({"size": [height, width], "counts": "1"}, "add up"),
        ({"size": [height, width], "counts": "é"}, "ASCII"),
        ({"size": [height, width], "counts": "P[k0"}, "rle"),
    ):
        answer = client.post(path, json={"rle": rle, "predicted_iou": 1.0})
        assert answer.status_code == 422, rle
        assert words in answer.json()["detail"]
    body = {"rle": red["rle"], "predicted_iou": 1.0, "segment_id": green["id"]}
    assert client.post(path, json=body).status_code == 404


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_an_answer_that_is_cut_off_leaves_nothing(client: TestClient, tmp_path: Path, kept: float) -> None:
    whole = client.post("/v1/export", json={"format": "coco", "everything": True}).content
    cut = httpx.MockTransport(lambda _: httpx.Response(200, content=whole[: int(kept * len(whole))]))

    with (
        Client("http://127.0.0.1:8600", transport=cut) as remote,
        pytest.raises(UnreachableError, match="broke off"),
    ):
        remote.export(tmp_path / "out" / "a.json", format="coco", everything=True)
    assert not (tmp_path / "out").exists()
