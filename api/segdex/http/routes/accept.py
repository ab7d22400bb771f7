"""Choice of the media type of a response."""

from typing import Annotated

from fastapi import Header, HTTPException
from mimeparse import MimeTypeParseException, best_match

Accept = Annotated[str, Header(max_length=1_000, include_in_schema=False)]
"""The ``Accept`` header; a document of OpenAPI names the media types of the answers instead."""


def best_form(accept: str, forms: tuple[str, ...]) -> str:
    """Return the preferred media type.

    Args:
        accept: ``Accept`` header of the request.
        forms: Available media types; the last one is chosen if all are equal.

    Raises:
        HTTPException: With 406, if no available media type is accepted.
    """
    try:
        best: str = best_match(forms, accept or "*/*")
    except MimeTypeParseException as error:
        raise HTTPException(406, f"Accept cannot be read: {error}") from error
    if not best:
        raise HTTPException(406, f"Accept must allow one of {', '.join(forms)}, but is {accept!r}")
    return best
