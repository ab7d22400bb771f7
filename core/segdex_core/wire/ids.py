"""Ids that start with some digits, as they cross HTTP."""

import re
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from segdex_core.wire.document import Document

MIN_PREFIX_CHARS = 4
"""Digits that a prefix has at least."""

MAX_CANDIDATES = 5
"""Ids that are listed for a prefix at most."""

_DIGITS = re.compile(r"[0-9a-f]+")
_ID_DIGITS = 32


def is_prefix(text: str) -> bool:
    """Return whether a text may be the start of an id."""
    digits = text.strip().lower().replace("-", "")
    return MIN_PREFIX_CHARS <= len(digits) <= _ID_DIGITS and _DIGITS.fullmatch(digits) is not None


def id_prefix(text: str) -> str:
    """Return the start of an id as its digits alone.

    Raises:
        ValueError: If it is too short, too long, or has other characters.

    Example:
        >>> id_prefix("3F2A9C01-7")
        '3f2a9c017'
    """
    if not is_prefix(text):
        raise ValueError(
            f"must be the first {MIN_PREFIX_CHARS} or more hexadecimal digits of an id, but got {text[:60]!r}"
        )
    return text.strip().lower().replace("-", "")


def id_range(prefix: str) -> tuple[UUID, UUID]:
    """Return the first and the last id that start with the digits that ``id_prefix`` returns.

    Example:
        >>> [str(one) for one in id_range("3f2a")]
        ['3f2a0000-0000-0000-0000-000000000000', '3f2affff-ffff-ffff-ffff-ffffffffffff']
    """
    return UUID(prefix.ljust(_ID_DIGITS, "0")), UUID(prefix.ljust(_ID_DIGITS, "f"))


IdPrefix = Annotated[str, Field(max_length=60), AfterValidator(id_prefix)]


class FoundId(BaseModel):
    """An id of the index, and whose it is."""

    id: UUID
    kind: Annotated[Literal["segment", "image"], Field(description="What has this id.")]


class FoundIds(Document):
    """Ids that start with some digits: all, or the first few of each kind."""

    ids: list[FoundId]
