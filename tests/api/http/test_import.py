"""``/v1/import``: a document that is sent as a form."""

import json
from io import BytesIO
from zipfile import ZipFile

import pytest
from fastapi.testclient import TestClient
from tests.fakes.service import Make


def sent(client: TestClient, document: bytes, request: str = '{"format": "coco"}') -> tuple[int, str]:
    """Return the status of an import, and what its answer says."""
    answer = client.post(
        "/v1/import", data={"request": request}, files={"file": ("annotations.json", document)}
    )
    return answer.status_code, answer.text


def test_an_export_that_is_renamed_comes_back(client: TestClient) -> None:
    archive = client.post("/v1/export", json={"everything": True, "format": "coco"}).content
    with ZipFile(BytesIO(archive)) as files:
        renamed = files.read("annotations.json").replace(b'"name": "object"', b'"name": "thing"')

    status, text = sent(client, renamed)
    report = json.loads(text)
    assert status == 200
    assert report["matched"] == report["annotations"] == report["labels_added"] == report["counts"]["thing"]
    assert client.get("/v1/labels").json()["counts"] == report["counts"]


@pytest.mark.parametrize(
    ("document", "request_", "words"),
    [
        (b"{", '{"format": "coco"}', "the document: it is no JSON"),
        (b"[" * 50_000, '{"format": "label-studio"}', "the document: it is nested too deeply"),
        (b"{}", '{"format": "voc"}', "format"),
        (b"{}", '{"format": "coco", "min_iou": 0}', "min_iou"),
        (b"{}", '{"format": "coco", "path": "/x"}', "path"),
        (b"{}", "{", "request"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(
    client: TestClient, document: bytes, request_: str, words: str
) -> None:
    status, text = sent(client, document, request_)

    assert status == 422
    assert words in json.loads(text)["detail"]
    assert "\n" not in json.loads(text)["detail"]


def test_a_document_that_is_too_large_is_refused_before_it_is_read(make: Make) -> None:
    status, text = sent(make(max_upload_bytes=2_000), b" " * 3_000)

    assert status == 413
    assert "2,000 bytes" in json.loads(text)["detail"]
