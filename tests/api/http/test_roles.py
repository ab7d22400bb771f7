"""Every path belongs to a verb, and asks for the role that the verb has."""

from uuid import uuid4

import pytest
from tests.fakes.service import Make, refused

from segdex.http.keys import make_key
from segdex.roles import ROLES, Role

ROUTES = {
    "search": ["POST /v1/search", "POST /v1/search/by-image"],
    "refine": ["POST /v1/refine", "POST /v1/refine/by-image"],
    "similar": ["POST /v1/search"],
    "segment": ["POST /v1/segment", "POST /v1/segment/by-image"],
    "show": [
        f"GET /v1/segments/{{segment_id}}{form}" for form in ("", "/mask.png", "/cutout.png", "/polygon")
    ],
    "image": ["GET /v1/images/{image_id}"],
    "image_file": ["GET /v1/images/{image_id}/file"],
    "image_segments": ["GET /v1/images/{image_id}/segments"],
    "find_ids": ["GET /v1/ids/{prefix}"],
    "pixels": ["GET /v1/images/{image_id}/pixels.png"],
    "stats": ["GET /v1/stats"],
    "labels": ["GET /v1/labels"],
    "label": ["POST /v1/labels"],
    "clear_labels": ["DELETE /v1/labels"],
    "sets": ["GET /v1/sets"],
    "show_set": ["GET /v1/sets/{name}"],
    "create_set": ["POST /v1/sets"],
    "add_to_set": ["POST /v1/sets/{name}/add"],
    "remove_from_set": ["POST /v1/sets/{name}/remove"],
    "rename_set": ["PATCH /v1/sets/{name}"],
    "delete_set": ["DELETE /v1/sets/{name}"],
    "concepts": ["GET /v1/concepts"],
    "show_concept": ["GET /v1/concepts/{name}"],
    "mark": ["POST /v1/concepts/{name}/mark"],
    "rename_concept": ["PATCH /v1/concepts/{name}"],
    "delete_concept": ["DELETE /v1/concepts/{name}"],
    "import_labels": ["POST /v1/import"],
    "ingest": ["POST /v1/images"],
    "upload": ["POST /v1/images"],
    "delete": ["DELETE /v1/images/{image_id}"],
    "export": [
        "POST /v1/export",
        "POST /v1/export/by-image",
        "GET /v1/segments/{segment_id}/coco.json",
        "POST /v1/images/{image_id}/coco.json",
    ],
    "doctor": ["POST /v1/doctor"],
    "jobs": ["GET /v1/jobs"],
    "job": ["GET /v1/jobs/{job_id}"],
    "watch_job": ["GET /v1/jobs/{job_id}/events"],
    "add_job": ["POST /v1/jobs"],
    "stop_job": ["DELETE /v1/jobs/{job_id}"],
}
"""The paths behind each verb."""

SMALLER: dict[Role, list[Role]] = {"read": [], "write": ["read"], "admin": ["read", "write"]}


def test_every_path_is_that_of_a_verb_and_every_verb_of_a_service_has_one(make: Make) -> None:
    paths = make().get("/v1/openapi.json").json()["paths"]
    there = {
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/v1")
    }

    assert {route for routes in ROUTES.values() for route in routes} == there
    assert set(ROUTES) == {verb for verb, role in ROLES.items() if role is not None}


@pytest.mark.parametrize(("verb", "role"), [(verb, role) for verb, role in ROLES.items() if role is not None])
def test_the_paths_of_a_verb_need_its_role(make: Make, verb: str, role: Role) -> None:
    keys = {one: make_key(one, one) for one in SMALLER}
    client = make(tuple(kept for _, kept in keys.values()))
    for route in ROUTES[verb]:
        method, path = route.split(" ")
        path = path.format(segment_id=uuid4(), image_id=uuid4(), job_id="none", name="none", prefix="abcd")
        for name, (key, _) in keys.items():
            answer = client.request(method, path, headers={"Authorization": f"Bearer {key}"})

            if name in SMALLER[role]:
                refused(answer, 403, f"needs {role}")
            else:
                assert answer.status_code not in (401, 403), answer.text
