"""The reference of the HTTP API, from its OpenAPI document."""

from collections.abc import Iterator, Mapping
from typing import Any

from docs.site.markdown import code, escaped, table

Document = Mapping[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")


def http_page(document: Document) -> str:
    """Return the page: each request with its parameters and answers, then each record.

    Args:
        document: An OpenAPI 3.1 document.
    """
    requests = [
        (method, path, request[method])
        for path, request in document["paths"].items()
        for method in METHODS
        if method in request
    ]
    tags = list(dict.fromkeys(tag for _, _, request in requests for tag in request.get("tags", ["other"])))
    lines = [
        "# HTTP",
        "",
        "This page is generated from the OpenAPI document, which a service has at `/openapi.json`.",
        "[REST API and page](../service.md) explains keys, cursors, streams, jobs and uploads.",
        "",
    ]
    for tag in tags:
        lines += [f"## {tag.capitalize()}", ""]
        for method, path, request in requests:
            if tag in request.get("tags", ["other"]):
                lines += _request(method, path, request, document)
    lines += ["## Records", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += _record(name, schema)
    return "\n".join(lines)


def _request(method: str, path: str, request: Document, document: Document) -> Iterator[str]:
    yield from (f"### `{method.upper()} {path}`", "")
    yield from _paragraphs(request.get("description") or request.get("summary") or "")
    parameters = [_resolved(each, document) for each in request.get("parameters", ())]
    rows = [
        (
            code(each["name"]),
            each["in"],
            _type(each["schema"]),
            _needed(each),
            escaped(each.get("description", "")),
        )
        for each in parameters
        if each["name"] != "authorization"
    ]
    if rows:
        yield from table(("parameter", "in", "type", "needed", "meaning"), rows)
    for media, body in _resolved(request.get("requestBody", {}), document).get("content", {}).items():
        yield from (f"Body, `{media}`: {_type(body.get('schema', {}))}.", "")
    yield from table(
        ("status", "answer", "meaning"),
        [_answer(status, answer, document) for status, answer in request["responses"].items()],
    )


def _answer(status: str, answer: Document, document: Document) -> tuple[str, str, str]:
    answer = _resolved(answer, document)
    bodies = [
        f"`{media}` {_type(body.get('schema', {}))}".strip()
        for media, body in answer.get("content", {}).items()
    ]
    return status, ", ".join(bodies), escaped(answer.get("description", ""))


def _record(name: str, schema: Document) -> Iterator[str]:
    yield from (f"({_anchor(name)})=", f"### {name}", "")
    yield from _paragraphs(schema.get("description", "").partition("\n\nAttributes:")[0])
    required = schema.get("required", ())
    told = _attributes(schema.get("description", ""))
    rows = [
        (
            code(field),
            _type(value),
            "yes" if field in required else "",
            escaped(value.get("description") or told.get(field, "")),
        )
        for field, value in schema.get("properties", {}).items()
    ]
    if rows:
        yield from table(("field", "type", "needed", "meaning"), rows)


def _attributes(description: str) -> dict[str, str]:
    """Return what the section Attributes of a docstring says of each field."""
    told: dict[str, str] = {}
    name = ""
    for line in description.partition("\n\nAttributes:\n")[2].splitlines():
        if line.startswith("    ") and not line.startswith("     ") and ": " in line:
            name, _, told[name] = line.strip().partition(": ")
        elif name:
            told[name] += f" {line.strip()}"
    return told


def _type(schema: Document) -> str:
    """Return a schema as words; the name of a record is a link to it."""
    choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        said = f"[{name}](#{_anchor(name)})"
    elif choices or values:
        said = " or ".join(
            dict.fromkeys([_type(each) for each in choices] or [code(str(each)) for each in values])
        )
    elif schema.get("type") == "array":
        said = f"list of {_type(schema.get('items', {}))}"
    elif schema.get("title") == "Problem":  # given in place where a framework does not refer to it
        said = "problem"
    else:
        said = str(schema.get("format") or schema.get("type") or "any value")
    return said


def _needed(parameter: Document) -> str:
    default = parameter["schema"].get("default")
    return "yes" if parameter.get("required") else "" if default is None else f"no, {code(str(default))}"


def _resolved(value: Document, document: Document) -> Document:
    """Return what a reference such as ``#/components/responses/Problem`` means; other values as they are."""
    for part in value.get("$ref", "#")[2:].split("/"):
        if part:
            document = document[part]
    return document if "$ref" in value else value


def _anchor(name: str) -> str:
    return f"record-{name.lower().replace('_', '-')}"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in filter(None, text.strip().split("\n\n")):
        yield from (escaped(paragraph), "")
