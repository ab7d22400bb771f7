"""Reading of JSON documents of other tools: each value is checked, and a problem names its place."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from segdex_core.errors import UsageError
from segdex_core.masks import MAX_SIDE_PX


def parse_json(data: bytes) -> object:
    """Return the value of a JSON document.

    Raises:
        UsageError: If it is none.
    """
    try:
        return json.loads(data)
    except RecursionError as error:
        raise UsageError("it is nested too deeply to be a list of annotations") from error
    except ValueError as error:  # also of bytes that are no text, and of numbers with thousands of digits
        raise UsageError(f"it is no JSON: {error}") from error


def as_object(value: object, where: str) -> Mapping[str, Any]:
    """Return a JSON object.

    Raises:
        UsageError: If it is none.
    """
    if not isinstance(value, dict):
        raise UsageError(f"{where} must be an object, but is {shown(value)}")
    return value


def as_list(value: object, where: str) -> Sequence[Any]:
    """Return a JSON array.

    Raises:
        UsageError: If it is none.
    """
    if not isinstance(value, list):
        raise UsageError(f"{where} must be an array, but is {shown(value)}")
    return value


def as_text(value: object, where: str) -> str:
    """Return a text that is not empty.

    Raises:
        UsageError: If it is none.
    """
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where} must be a text, but is {shown(value)}")
    return value


def as_side(value: object, where: str) -> int:
    """Return the width or height of a picture in pixels.

    Raises:
        UsageError: If it is none.
    """
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(whole, int) or isinstance(whole, bool) or not 1 <= whole <= MAX_SIDE_PX:
        raise UsageError(
            f"{where} must be a whole number between 1 and {MAX_SIDE_PX:,}, but is {shown(value)}"
        )
    return whole


def as_numbers(value: object, where: str) -> list[float]:
    """Return finite numbers.

    Raises:
        UsageError: If it is no array of such.
    """
    try:
        numbers = [_number(one) for one in as_list(value, where)]
    except (OverflowError, TypeError) as error:  # a whole number that is no float
        raise UsageError(f"{where} must have numbers alone") from error
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"{where} must have finite numbers alone")
    return numbers


def as_counts(value: object, where: str) -> list[int]:
    """Return whole numbers from 0 to 2^40.

    Raises:
        UsageError: If it is no array of such.
    """
    counts = as_list(value, where)
    if not all(type(one) is int and 0 <= one <= 1 << 40 for one in counts):
        raise UsageError(f"{where} must have whole numbers of 0 or more alone")
    return list(counts)


def as_uuid(value: object) -> UUID | None:
    """Return an id; None if the value is none: another tool may have changed it."""
    if not isinstance(value, str):
        return None
    try:
        return UUID(value)
    except ValueError:
        return None


def as_names(value: object) -> list[str] | None:
    """Return texts, each once; None if the value is no array of texts."""
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        return None
    return list(dict.fromkeys(value))


def as_sha256(value: object) -> str | None:
    """Return a SHA-256 in hexadecimal digits; None if the value is none."""
    is_one = isinstance(value, str) and len(value) == 64 and all(one in "0123456789abcdef" for one in value)
    return str(value) if is_one else None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def shown(value: object) -> str:
    """Return a value for a message: short, and in ASCII."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
