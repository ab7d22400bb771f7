"""The types of an OpenAPI document in words, for the page of the service and the documentation site."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


@dataclass(frozen=True, slots=True)
class Markup:
    """How a page writes the parts of a type.

    Attributes:
        link: The name of a schema as a link to it.
        code: A value as code.
        plain: Words without markup.
    """

    link: Callable[[str], str]
    code: Callable[[str], str]
    plain: Callable[[str], str]


def type_in_words(schema: Mapping[str, Any], markup: Markup) -> str:
    """Return the type of a value, with links to the schemas that it names.

    Example:
        >>> plain = Markup(link=str, code=repr, plain=str)
        >>> type_in_words({"type": "array", "items": {"type": "integer", "minimum": 1}}, plain)
        'list of integer, ≥ 1'
    """
    if "$ref" in schema:
        return markup.link(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_in_words(one, markup) for one in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(markup.code(json.dumps(one)) for one in schema["enum"])
    if schema.get("type") == "array":
        inner = type_in_words(schema.get("items", {}), markup)
        is_fixed = schema.get("minItems") is not None and schema.get("minItems") == schema.get("maxItems")
        return f"{schema['minItems']} of {inner}" if is_fixed else f"list of {inner}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map to {type_in_words(schema['additionalProperties'], markup)}"
    kind = schema.get("format") or schema.get("type", "any value")
    return markup.plain(f"{kind}{', '.join(['', *_bounds(schema)])}")


def default_in_words(schema: Mapping[str, Any], markup: Markup) -> str:
    """Return a sentence about the default of a value; empty where it has none that is short."""
    value = schema.get("default")
    return "" if value is None or isinstance(value, dict) else f" Default: {markup.code(json.dumps(value))}."


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    for key, sign in _SIGNS.items():
        if key in schema:
            yield f"{sign} {schema[key]:,.10g}"
    if "maxLength" in schema:
        yield f"at most {schema['maxLength']:,} characters"
