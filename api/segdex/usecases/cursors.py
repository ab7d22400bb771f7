"""Cursors: where the next page of a query starts; the service stores nothing for them."""

import base64
import binascii
import hashlib

from segdex_core.errors import QueryError
from segdex_core.wire.limits import MAX_LIMIT

_DIGEST_BYTES = 12


def make_cursor(offset: int, limit: int, asked: str) -> str | None:
    """Return the cursor of the next page; None if the query cannot page further.

    Args:
        offset: Number of images before the current page.
        limit: Number of images on the current page.
        asked: Text that identifies the query.
    """
    after = offset + limit
    if after >= MAX_LIMIT:
        return None
    return base64.urlsafe_b64encode(after.to_bytes(4, "big") + _digest(asked)).decode("ascii")


def read_cursor(cursor: str | None, asked: str) -> int:
    """Return the number of images before a page; 0 without a cursor.

    Raises:
        QueryError: If the cursor is invalid, or belongs to another query.
    """
    if cursor is None:
        return 0
    try:
        data = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if data[4:] != _digest(asked):
        raise QueryError(
            "the cursor is not of this question: send `next_cursor` with exactly what was asked before"
        )
    return int.from_bytes(data[:4], "big")


def _digest(asked: str) -> bytes:
    return hashlib.sha256(asked.encode()).digest()[:_DIGEST_BYTES]
