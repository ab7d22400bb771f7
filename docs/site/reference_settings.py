"""The reference of the settings, from their class."""

from collections.abc import Mapping
from typing import Any

from docs.site.markdown import code, escaped, table

from segdex_core.settings import Settings

_WORDS = {
    "string": "text",
    "path": "path",
    "password": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "JSON list of paths",
}
_BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


def settings_page() -> str:
    """Return the page: each variable with its meaning, its values and its default."""
    rows = [
        (
            code(f"SEGDEX_{name.upper()}"),
            escaped(schema["description"]),
            _values(schema),
            _default(schema.get("default")),
        )
        for name, schema in Settings.model_json_schema()["properties"].items()
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            "This page is generated from the class of the settings. segdex reads them from environment",
            "variables; options of the command line win over them. [Settings of a",
            "service](../../deploy/README.md) explains those of an index, a GPU and the decoders.",
            "",
            *table(("variable", "meaning", "values", "default"), rows),
            "`SEGDEX_LOG=debug`, `info` or `warning` shows the logs of segdex and its libraries.",
            "",
        ]
    )


def _values(schema: Mapping[str, Any]) -> str:
    """Return the values that a JSON schema allows, as words.

    Example:
        >>> _values({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}]})
        'whole number, from 1 to 9'
    """
    chosen = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    if "enum" in chosen:
        return ", ".join(code(value) for value in chosen["enum"])
    bounds = " ".join(f"{word} {chosen[name]:,}" for name, word in _BOUNDS.items() if name in chosen)
    kind = _WORDS[chosen.get("format", chosen["type"])]
    return f"{kind}, {bounds}" if bounds else kind


def _default(value: object) -> str:
    if value is None or value == []:
        return ""
    return code(str(value).lower() if isinstance(value, bool) else str(value))
