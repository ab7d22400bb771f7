"""The reference of the HTTP API, from its OpenAPI document."""

from collections.abc import Iterator, Mapping
from typing import Any

from docs.site.markdown import code, escaped, table

from segdex.http.schema_words import Markup, default_in_words, type_in_words

Document = Mapping[str, Any]


def http_page(document: Document) -> str:
    """Return the page: each request with its parameters and answers, then each record.

    Args:
        document: An OpenAPI 3.1 document whose operations have a tag, as that of segdex.
    """
    lines = [
        "# HTTP",
        "",
        "This page is generated from the OpenAPI document, which a service has at `/v1/openapi.json`.",
        "[REST API and page](../service.md) explains keys, cursors, streams, jobs and uploads.",
        "",
    ]
    for tag in document["tags"]:
        lines += [f"## {tag['name'].capitalize()}", "", *_paragraphs(tag["description"])]
        for path, methods in document["paths"].items():
            for method, request in methods.items():
                if request["tags"] == [tag["name"]]:
                    lines += _request(method, path, request)
    lines += ["## Records", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += _record(name, schema)
    return "\n".join(lines)


def _request(method: str, path: str, request: Document) -> Iterator[str]:
    yield from (f"### `{method.upper()} {path}`", "", *_paragraphs(request["description"]))
    rows = [
        (code(each["name"]), each["in"], *_meaning(each["schema"], each, needed=each.get("required", False)))
        for each in request.get("parameters", ())
    ]
    if rows:
        yield from table(("parameter", "in", "type", "needed", "meaning"), rows)
    for media, body in request.get("requestBody", {}).get("content", {}).items():
        yield from (f"Body, `{media}`: {type_in_words(body['schema'], _MARKDOWN)}.", "")
    answers = [
        (status, _contents(answer), escaped(answer["description"]))
        for status, answer in request["responses"].items()
    ]
    yield from table(("status", "answer", "meaning"), answers)


def _contents(answer: Document) -> str:
    return ", ".join(
        f"`{media}` {type_in_words(body.get('schema', {}), _MARKDOWN)}"
        for media, body in answer.get("content", {}).items()
    )


def _record(name: str, schema: Document) -> Iterator[str]:
    yield from (f"({_anchor(name)})=", f"### {name}", "", *_paragraphs(schema.get("description", "")))
    required = schema.get("required", ())
    rows = [
        (code(field), *_meaning(value, value, needed=field in required))
        for field, value in schema.get("properties", {}).items()
    ]
    if rows:
        yield from table(("field", "type", "needed", "meaning"), rows)


def _meaning(schema: Document, described: Document, *, needed: bool) -> tuple[str, str, str]:
    """Return the type of a value, whether it is needed, and what it means, with its default."""
    said = escaped(described.get("description", "")) + default_in_words(schema, _MARKDOWN)
    return type_in_words(schema, _MARKDOWN), "yes" if needed else "", said.strip()


def _anchor(name: str) -> str:
    return f"record-{name.lower().replace('_', '-')}"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in filter(None, text.strip().split("\n\n")):
        yield from (escaped(paragraph), "")


_MARKDOWN = Markup(link=lambda name: f"[{name}](#{_anchor(name)})", code=code, plain=escaped)
