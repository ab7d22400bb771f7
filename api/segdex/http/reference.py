"""The OpenAPI document as a page for people: plain HTML without a script, so that it needs no other host."""

import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from segdex.http.schema_words import Markup, default_in_words, type_in_words

Object = dict[str, Any]

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: HTTP reference</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs.css">
</head>
<body>
"""


def reference_html(document: Object) -> str:
    """Return an OpenAPI document as HTML: operations by tag, then the schemas that they name.

    Args:
        document: OpenAPI 3.1 document.
    """
    info = document["info"]
    by_tag: dict[str, list[tuple[str, str, Object]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag[operation["tags"][0]].append((method.upper(), path, operation))
    schemas = document["components"]["schemas"]
    parts = [
        _HEAD.format(title=escape(info["title"])),
        _contents(by_tag, schemas),
        f"<main>\n<h1>{escape(info['title'])} {escape(info['version'])}: HTTP reference</h1>\n",
        _prose(info["description"]),
        '<p>For programs: <a href="v1/openapi.json">the OpenAPI 3.1 document</a>.</p>\n<h2>Keys</h2>\n',
        *(_prose(scheme["description"]) for scheme in document["components"]["securitySchemes"].values()),
    ]
    for tag in document["tags"]:
        parts += [
            f'<h2 id="tag-{escape(tag["name"])}">{escape(tag["name"])}</h2>\n',
            _prose(tag["description"]),
        ]
        parts += [_operation(*one) for one in by_tag[tag["name"]]]
    parts.append("<h2>Schemas</h2>\n")
    parts += [_schema(name, schema) for name, schema in sorted(schemas.items())]
    return "".join([*parts, "</main>\n</body>\n</html>\n"])


def _contents(by_tag: dict[str, list[tuple[str, str, Object]]], schemas: Object) -> str:
    parts = ['<nav aria-label="Contents">\n']
    for tag, operations in by_tag.items():
        links = (_link(one["operationId"], one["operationId"]) for _, _, one in operations)
        parts.append(f"<p><b>{escape(tag)}</b></p>\n{_list(links)}")
    parts.append(f"<p><b>schemas</b></p>\n{_list(_link(_anchor(name), name) for name in sorted(schemas))}")
    return "".join([*parts, "</nav>\n"])


def _operation(method: str, path: str, operation: Object) -> str:
    name = escape(operation["operationId"])
    parts = [
        f'<section id="{name}">\n<h3><code class="method">{method}</code> <code>{escape(path)}</code></h3>\n',
        f"<p><code>{name}</code></p>\n{_prose(operation['description'])}",
    ]
    rows = [
        (
            f"<code>{escape(one['name'])}</code>",
            f"{one['in']}{', required' if one.get('required') else ''}",
            _type(one["schema"]),
            _inline(one.get("description") or one["schema"].get("description", "")),
        )
        for one in operation.get("parameters", [])
    ]
    parts.append(_table(("parameter", "in", "type", "meaning"), rows))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body: <code>{escape(media_type)}</code>, {_type(content['schema'])}</p>\n")
    answers = [
        (f"<code>{code}</code>", _inline(answer["description"]), _contents_of(answer))
        for code, answer in operation["responses"].items()
    ]
    parts.append(_table(("answer", "meaning", "body"), answers))
    return "".join([*parts, "</section>\n"])


def _contents_of(answer: Object) -> str:
    return "<br>".join(
        f"<code>{escape(media_type)}</code> {_type(content.get('schema', {}))}"
        for media_type, content in answer.get("content", {}).items()
    )


def _schema(name: str, schema: Object) -> str:
    rows = [
        (
            f"<code>{escape(field)}</code>{', required' if field in schema.get('required', ()) else ''}",
            _type(one),
            _inline(one.get("description", "")) + default_in_words(one, _HTML),
        )
        for field, one in schema.get("properties", {}).items()
    ]
    examples = "".join(
        f"<pre>{escape(json.dumps(one, indent=2, ensure_ascii=False))}</pre>\n"
        for one in schema.get("examples", ())
    )
    head = f'<section id="{_anchor(name)}">\n<h3>{escape(name)}</h3>\n{_prose(schema.get("description", ""))}'
    return f"{head}{_table(('field', 'type', 'meaning'), rows)}{examples}</section>\n"


def _type(schema: Object) -> str:
    return type_in_words(schema, _HTML)


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(one)}</p>\n" for one in text.split("\n\n") if one)


def _inline(text: str) -> str:
    """Return a line with `code`, as descriptions write it."""
    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escape(text, quote=False))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    cells = ["".join(f"<th>{one}</th>" for one in head)]
    cells += ["".join(f"<td>{one}</td>" for one in row) for row in rows]
    return "<table>\n" + "".join(f"<tr>{row}</tr>\n" for row in cells) + "</table>\n"


def _list(items: Iterator[str]) -> str:
    return "<ul>\n" + "".join(f"<li>{one}</li>\n" for one in items) + "</ul>\n"


def _link(anchor: str, text: str) -> str:
    return f'<a href="#{escape(anchor)}">{escape(text)}</a>'


def _anchor(name: str) -> str:
    return f"schema-{name}"


_HTML = Markup(
    link=lambda name: _link(_anchor(name), name),
    code=lambda text: f"<code>{escape(text)}</code>",
    plain=escape,
)
