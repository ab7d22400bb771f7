"""Errors as one line: of pydantic, what is wrong, what is allowed and what was given; and of full disks."""

import errno
import re
from collections.abc import Mapping, Sequence
from typing import Any

from segdex_core.errors import ArgumentError, QueryError


def fault(errors: Sequence[Mapping[str, Any]], name: str = "") -> QueryError:
    """Return the first of some pydantic errors as an error of segdex.

    Args:
        errors: Errors as listed by ``ValidationError.errors`` and FastAPI, at least one.
        name: Name of the validated value; empty for none.
    """
    first = errors[0]
    # of a union type, the member that was validated most deeply is reported
    first = max(
        (one for one in errors if one["loc"][:2] == first["loc"][:2]), key=lambda one: len(one["loc"])
    )
    where = ".".join([name] * bool(name) + [str(part) for part in first["loc"] if not _is_kind(part)])
    problem = _problem(first)
    if not where or not problem.startswith(("must ", "is ")):
        return QueryError(f"{where}: {problem}" if where and first["type"] != "value_error" else problem)
    given = first["input"]
    # a location may hold a password: its message says what was given, as far as it may be shown
    says_it = first["type"] == "location" or problem.startswith(("is ", "must not ")) or ", but " in problem
    if not says_it and isinstance(given, str | int | float):
        shown = repr(given) if len(str(given)) <= _SHOWN_CHARS else f"{len(str(given)):,} characters"
        problem += f", but got {shown}"
    return ArgumentError(where, problem)


def full_disk(error: BaseException) -> str | None:
    """Return one line about a disk that is full, if that is what an error came from; otherwise None.

    It is for the outermost handlers: whoever knows which folder is full says so itself.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            place = f" ({cause.filename})" if cause.filename else ", for example the one for temporary files"
            return f"a disk{place} is full: make room there, or set TMPDIR to another folder"
        cause = cause.__cause__ or cause.__context__
    return None


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_SHOWN_CHARS = 60
_PROBLEMS: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "is not known",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "uuid_parsing": "must be an id",
    "uuid_type": "must be an id",
    "greater_than": "must be above {gt:,}",
    "greater_than_equal": "must be {ge:,} or more",
    "less_than_equal": "must be {le:,} or less",
    "string_too_short": "must not be empty",
    "string_too_long": "must have {max_length:,} characters or less",
    "too_short": "must not be empty",
    "too_long": "must have {max_length:,} items or less, but got {actual_length}",
}


def _problem(error: Mapping[str, Any]) -> str:
    if error["type"] in _PROBLEMS:
        return _PROBLEMS[error["type"]].format(**error.get("ctx", {}))
    text = str(error["msg"]).removeprefix("Value error, ")
    return re.sub(r"^(Input|Value|[A-Z][a-z]+) should (?=be|have|match)", "must ", text)


def _is_kind(part: int | str) -> bool:
    """Return whether a part of a location names a type, such as ``WeightedText`` or ``uuid``, not a field."""
    return isinstance(part, str) and (part == "uuid" or not re.fullmatch("[a-z_]+", part))
