"""Cursors: where the next page of a question starts, without anything that the service has to remember."""

import base64
import binascii
import hashlib

from segdex_core.errors import QueryError
from segdex_core.wire.limits import MAX_LIMIT

_DIGEST_BYTES = 12


def make_cursor(offset: int, limit: int, asked: str) -> str | None:
    """Return the cursor of the page after one, None where no question may reach further.

    Args:
        offset: How many pictures came before that page.
        limit: How many were on it.
        asked: All that tells the question from others.
    """
    after = offset + limit
    if after >= MAX_LIMIT:
        return None
    return base64.urlsafe_b64encode(after.to_bytes(4, "big") + _digest(asked)).decode("ascii")


def read_cursor(cursor: str | None, asked: str) -> int:
    """Return how many pictures come before the page; 0 without a cursor.

    Raises:
        QueryError: If it is none of ours, or of another question.
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
