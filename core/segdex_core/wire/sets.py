"""Named sets of segments and pictures as they cross HTTP."""

import re
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from segdex_core.wire.document import Document, UtcText, known_values
from segdex_core.wire.fields import StrictRequest
from segdex_core.wire.limits import MAX_SET_CHANGES, MAX_SET_CHARS

_NAME = re.compile(r"[^\W_][\w .-]*")


def check_set_name(name: str) -> str:
    """Return the name of a set, without spaces around it.

    Raises:
        ValueError: If it is empty or too long, or has characters that an address or a shell reads otherwise.
    """
    clean = name.strip()
    if len(clean) > MAX_SET_CHARS or not _NAME.fullmatch(clean):
        raise ValueError(
            f"must be 1 to {MAX_SET_CHARS} letters, digits, spaces, '.', '_' or '-', the first a letter or "
            f"digit, but got {name[:MAX_SET_CHARS]!r}"
        )
    return clean


SetName = Annotated[str, Field(min_length=1), AfterValidator(check_set_name)]


class SetRequest(StrictRequest):
    """A new set, or the new name of one."""

    name: SetName


class SetMembersRequest(StrictRequest):
    """Segments and pictures to add to a set, or to remove from it."""

    ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_SET_CHANGES)]


class SetSummary(BaseModel):
    """A named set, in a list of them."""

    name: str
    segments: Annotated[int, Field(description="Segments that were added one by one.")]
    images: Annotated[int, Field(description="Pictures that were added; each stands for all its segments.")]
    created_at: UtcText | None


class SetOut(SetSummary, Document):
    """A named set."""


class SetsOut(Document):
    """The sets of an index, sorted by name."""

    sets: list[SetSummary]


class SetMemberOut(BaseModel):
    """A segment or a picture in a set."""

    id: UUID
    kind: Annotated[str, known_values("segment", "image")]
    image_id: UUID
    is_present: Annotated[
        bool, Field(description="False while the index does not hold it: the same picture brings it back.")
    ]
    added_at: UtcText | None


class SetDetails(SetOut):
    """A named set with its members, oldest first."""

    members: list[SetMemberOut]


class SetChanged(Document):
    """What became of the members of a set."""

    name: str
    changed: Annotated[int, Field(description="Members that were added or removed; others were so already.")]
    segments: int
    images: int
