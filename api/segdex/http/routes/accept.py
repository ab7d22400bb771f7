"""Which form of an answer the sender prefers."""

from typing import Annotated

from fastapi import Header, HTTPException
from mimeparse import MimeTypeParseException, best_match

Accept = Annotated[str, Header(max_length=1_000)]
"""The header of that name."""


def best_form(accept: str, forms: tuple[str, ...]) -> str:
    """Return the media type that is preferred.

    Args:
        accept: What the sender takes.
        forms: What there is; the last one is taken where all are equal.

    Raises:
        HTTPException: With 406, if the sender takes none of them.
    """
    try:
        best: str = best_match(forms, accept or "*/*")
    except MimeTypeParseException as error:
        raise HTTPException(406, f"Accept cannot be read: {error}") from error
    if not best:
        raise HTTPException(406, f"Accept must allow one of {', '.join(forms)}, but is {accept!r}")
    return best
