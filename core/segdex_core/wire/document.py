"""What all answers share: the version of the documents, sets of values that may grow, and points in time."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

JSON_SCHEMA_VERSION = 1
"""Of the JSON of the service and the command line; raised when a field changes its meaning or goes."""


class Document(BaseModel):
    """An answer that is a document of its own."""

    schema_version: Annotated[int, Field(description="Of this form of the JSON, not of the index.")] = (
        JSON_SCHEMA_VERSION
    )


def known_values(*values: str) -> Any:
    """Return what describes a text of an answer that has one of some values, as of today.

    A reader takes any text, so that it shows the value of a newer service instead of failing.
    """
    return Field(
        json_schema_extra={"enum": [str(value) for value in values]},
        description="Newer services may know more values.",
    )


UtcText = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""ISO 8601 in UTC, such as 2026-11-23T18:30:00Z."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_text(seconds: float | None) -> UtcText | None:
    """Return seconds since 1970 as an ISO 8601 time in UTC; None of none, and outside the years 1 to 9999.

    Example:
        >>> utc_text(1795458600.7)
        '2026-11-23T18:30:00Z'
    """
    if seconds is None:
        return None
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return None
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def parse_moment(given: object) -> datetime:
    """Return the moment of an ISO 8601 date or time; UTC where it names no zone.

    Raises:
        ValueError: If it is none.

    Example:
        >>> parse_moment("2026-11-23").isoformat()
        '2026-11-23T00:00:00+00:00'
    """
    moment = given if isinstance(given, datetime) else None
    if isinstance(given, str):
        try:
            moment = datetime.fromisoformat(given)
        except ValueError:
            moment = None
    if moment is None:
        raise ValueError(f"must be a date such as 2026-11-23 or 2026-11-23T18:30, but is {given!r}")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[
    datetime,
    BeforeValidator(parse_moment),
    WithJsonSchema(
        {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]}, mode="validation"
    ),
]
"""ISO 8601 date or time; UTC where it names no zone."""
