"""Answers with an ETag, and 304 for who has them already."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Depends, Header, Request
from starlette.responses import Response

CACHE = "private, no-cache"
"""Asked for each time: a picture may be deleted, or its file changed."""

_TAG = re.compile(r'(?:W/)?("[^"]*")')


def known_tags(
    request: Request,
    if_none_match: Annotated[  # noqa: ARG001 - documents the header, which may have several lines
        str | None,
        Header(description='ETags of answers that the client has: `"a"`, `W/"b"`, a list of them, or `*`.'),
    ] = None,
) -> list[str]:
    """Return the ``If-None-Match`` headers of a request."""
    return request.headers.getlist("if-none-match")


IfNoneMatch = Annotated[list[str], Depends(known_tags)]
"""The ``If-None-Match`` headers."""


def etag_of(content: str | bytes) -> str:
    """Return a strong ETag of some content, or of a text that names it."""
    data = content.encode() if isinstance(content, str) else content
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def is_known(etag: str, if_none_match: Sequence[str]) -> bool:
    """Return whether a client has an answer already (RFC 9110, 13.1.2): a weak comparison with each tag.

    Args:
        etag: Strong ETag of the answer.
        if_none_match: The ``If-None-Match`` headers.

    Example:
        >>> is_known('"b"', ['"a", W/"b"'])
        True
    """
    return any(line.strip() == "*" or etag in _TAG.findall(line) for line in if_none_match)


def not_modified(etag: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer 304, with the headers about caching that the whole answer would have.

    Args:
        etag: ETag of the whole answer.
        headers: Further headers of the whole answer.
    """
    return Response(status_code=304, headers={"ETag": etag, "Cache-Control": CACHE, **(headers or {})})


def answer_with_etag(
    data: bytes,
    *,
    media_type: str,
    if_none_match: Sequence[str],
    etag: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an answer with an ETag, or 304 if the client has it.

    Args:
        data: Body of the answer.
        media_type: Media type of the body.
        if_none_match: The ``If-None-Match`` headers.
        etag: ETag of the answer; None for one of its bytes.
        headers: Further headers.
    """
    etag = etag_of(data) if etag is None else etag
    if is_known(etag, if_none_match):
        return not_modified(etag, headers)
    return Response(
        data, media_type=media_type, headers={"ETag": etag, "Cache-Control": CACHE, **(headers or {})}
    )
