"""The document of the interface: as committed, complete, with names for clients, and readable by people."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any
from urllib.parse import urljoin

import jsonschema_rs
import pytest
from tests.api.http.test_roles import ROUTES
from tests.api.http.write_openapi import COMMITTED, openapi_text

from segdex.http.problems import MEDIA_TYPE
from segdex.http.reference import reference_html
from segdex.roles import ROLES


@pytest.fixture(name="text", scope="module")
def _text() -> str:
    return openapi_text()


@pytest.fixture(name="document", scope="module")
def _document(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_the_document_is_the_committed_one(text: str) -> None:
    assert text == COMMITTED.read_text(encoding="utf-8"), (
        "the interface changed: if that is meant, run python -m tests.api.http.write_openapi and commit"
    )


def test_operations_are_named_as_methods_of_a_client_are(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations(document).values()]

    assert len(set(names)) == len(names)
    assert {"search", "get_image", "upload_image", "list_sets", "add_job", "watch_job"} <= set(names)
    for name in names:
        assert re.fullmatch(r"[a-z]+(_[a-z]+){0,3}", name), name
        assert "v1" not in name
    forms = {name for name in document["components"]["schemas"] if name.endswith("Form")}
    assert {"UploadImageForm", "SearchByImageForm"} <= forms
    assert not [name for name in document["components"]["schemas"] if not re.fullmatch(r"[A-Z]\w+", name)]


def test_every_error_is_the_one_problem(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        for code, answer in operation["responses"].items():
            if code >= "400":
                assert answer["content"] == {
                    MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}
                }, (name, code)
    titles = [part for part in document["components"]["schemas"].values() if part.get("title") == "Problem"]
    assert len(titles) == 1


def test_every_operation_names_the_role_that_it_needs(document: dict[str, Any]) -> None:
    [(scheme, said)] = document["components"]["securitySchemes"].items()
    assert (said["type"], said["scheme"]) == ("http", "bearer")
    known = operations(document)
    for verb, routes in ROUTES.items():
        for route in routes:
            assert known[route]["security"] == [{scheme: []}]
            assert f"Needs a key with the role `{ROLES[verb]}`." in known[route]["description"], route
    assert "security" not in known["GET /healthz"]
    assert "security" not in known["GET /readyz"]


def test_descriptions_are_for_readers_of_http(document: dict[str, Any]) -> None:
    """Tags have descriptions, answers say what they are, and no docstring of Python is left over."""
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    text = json.dumps(document)

    assert {tag for operation in operations(document).values() for tag in operation["tags"]} == tags
    assert "Successful Response" not in text
    for left in ("Attributes:", "Args:", "Raises:", "``Library"):
        assert left not in text
    assert document["components"]["schemas"]["Job"]["properties"]["left_s"]["description"]
    assert document["components"]["schemas"]["Job"]["properties"]["ended_s"]["description"]


def test_examples_are_what_their_schemas_allow(document: dict[str, Any]) -> None:
    checked = 0
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            jsonschema_rs.validate({"$ref": f"#/components/schemas/{name}", **_only(document)}, example)
            checked += 1
    assert checked >= 5
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate({"$ref": "#/components/schemas/JobRequest", **_only(document)}, {"paths": 1})


def _only(document: dict[str, Any]) -> dict[str, Any]:
    return {"components": document["components"]}


def test_addresses_of_the_document_are_right_below_any_path(document: dict[str, Any]) -> None:
    [server] = document["servers"]

    for base in ("https://pictures.example/", "https://example.org/tools/segdex/"):
        assert urljoin(f"{base}v1/openapi.json", server["url"]) == base


class Page(HTMLParser):
    """What a page links to and what can be linked to in it."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.add(value or "")
            if name == "id":
                self.places.add(value or "")


def test_the_reference_has_every_operation_and_schema_and_no_other_host(document: dict[str, Any]) -> None:
    document = {**document, "info": {**document["info"], "version": "1"}}
    html, page = reference_html(document), Page()
    page.feed(html)

    assert {one["operationId"] for one in operations(document).values()} <= page.places
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= page.places
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.places
    outside = {link for link in page.links if not link.startswith("#")}
    assert outside == {"data:,", "docs.css", "v1/openapi.json"}  # beside it, below whatever path
    assert (files("segdex") / "web" / "docs.css").is_file()
    assert not {"script", "style"} & page.tags
    assert " style=" not in html  # the content security policy forbids them
