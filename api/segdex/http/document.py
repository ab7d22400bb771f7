"""The OpenAPI document of the service, and the page that shows it to people."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import Response

from segdex.http.etags import answer_with_etag, known_tags
from segdex.http.keys import strongest
from segdex.http.problems import Problem
from segdex.http.reference import reference_html

PATH = "/v1/openapi.json"
_PAGE = "/docs"

_DESCRIPTION = """\
Find the objects in pictures: SAM 2 segments, CLIP vectors, Qdrant, text queries.

All paths are below the address of the service, which has a path of its own behind some proxies. Errors are
problem+json, with one line in `detail`. HEAD answers as GET without a body. A field whose name ends in `_s`
is in seconds: since 1970 UTC if there is a field that ends in `_at`, otherwise a duration. Boxes are
`x1, y1, x2, y2` in pixels of the upright picture; `x2` and `y2` are exclusive."""

_TAGS = {
    "search": "Find segments by text, by segments and by pictures; re-decode their masks for a query.",
    "pictures": "What the index holds: pictures, their segments and masks, and its size and health.",
    "segment": "The mask of an object in a picture, from points, a box, an earlier mask or a text.",
    "labels": "What segments show, in words: given by the model, by concepts and by people.",
    "export": "Segments with their masks in the formats of other tools.",
    "ids": "Whole ids of what starts with some digits.",
    "sets": "Named sets of segments and pictures.",
    "concepts": "Saved concepts, which are learnt from segments that are marked right or wrong.",
    "jobs": "Ingests of folders on the machine of the service.",
    "health": "Whether the process answers, whether it is ready, and its metrics.",
}


def add_document(app: FastAPI) -> None:
    """Add the document, and a page for people made from it; both are complete without any other host."""

    @cache
    def document() -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False).encode()

    @cache
    def page() -> bytes:
        return reference_html(app.openapi()).encode()

    async def openapi_json(request: Request) -> Response:
        return _answer(request, document(), "application/json")

    async def docs(request: Request) -> Response:
        return _answer(request, page(), "text/html; charset=utf-8")

    app.openapi = _once(lambda: _document(app))  # type: ignore[method-assign] # as FastAPI documents it
    app.add_api_route(PATH, openapi_json, include_in_schema=False, response_model=None)
    app.add_api_route(_PAGE, docs, include_in_schema=False, response_model=None)


def _answer(request: Request, data: bytes, media_type: str) -> Response:
    return answer_with_etag(data, media_type=media_type, if_none_match=known_tags(request))


def _once(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    return cache(make)


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary="Search a library of pictures by the objects in them.",
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        # relative to this document, so that it is right below any path
        servers=[{"url": "..", "description": "The service that this document came from."}],
        contact={"name": "segdex"},
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    )
    schemas = found["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema()
    for schema in schemas.values():
        _describe_properties(schema)
    for part in _parts(found):
        _even_items(part)
    for operation in _operations(found):
        _name_role(operation)
        _describe_answers(operation, schemas)
    return _with_form_names(found)


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a document."""
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(one)


def _describe_properties(schema: dict[str, Any]) -> None:
    """Move what a docstring says of attributes to the properties."""
    text, _, attributes = schema.get("description", "").partition("\n\nAttributes:\n")
    if not attributes:
        return
    schema["description"] = text
    for names, said in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", attributes, flags=re.MULTILINE):
        for name in names.split(", "):
            if name in schema["properties"]:
                schema["properties"][name].setdefault("description", " ".join(said.split()))


def _even_items(schema: dict[str, Any]) -> None:
    """Write a tuple of equal members as an array of fixed length, which more generators know."""
    members = schema.get("prefixItems")
    if members and all(one == members[0] for one in members):
        del schema["prefixItems"]
        schema["items"] = members[0]


def _name_role(operation: dict[str, Any]) -> None:
    """Say which role an operation needs: only OAuth has scopes for linters and generators."""
    roles = [role for one in operation.get("security", ()) for role in one.get("key", ())]
    if roles:
        operation["security"] = [{"key": []}]
        operation["description"] += f"\n\nNeeds a key with the role `{strongest(roles)}`."


def _describe_answers(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Describe an answer by its schema, where nothing else is said of it."""
    for answer in operation["responses"].values():
        if answer["description"] != "Successful Response":
            continue
        [content, *_] = answer["content"].values()
        kind = content["schema"].get("$ref", "").rpartition("/")[2]
        answer["description"] = schemas.get(kind, {}).get("description", "The answer.").partition("\n")[0]


def _with_form_names(document: dict[str, Any]) -> dict[str, Any]:
    """Rename ``Body_upload_image`` to ``UploadImageForm``, as a class of a client is named."""

    def name(found: re.Match[str]) -> str:
        return "".join(word.capitalize() for word in found[1].split("_")) + "Form"

    renamed: dict[str, Any] = json.loads(re.sub(r"\bBody_(\w+)", name, json.dumps(document)))
    return renamed
