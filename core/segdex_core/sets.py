"""Named sets of segments and pictures.

A membership stays when its segment is deleted. It holds again when the same mask of the same picture is back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from segdex_core.records import ImageRecord, SegmentRecord

MemberKind = Literal["segment", "image"]


@dataclass(frozen=True, slots=True)
class SegmentSet:
    """A named set.

    Attributes:
        set_id: Stays when the set is renamed.
        name: Unique in an index.
        created_s: Seconds since 1970 UTC; stored with 3 decimal places.
    """

    set_id: UUID
    name: str
    created_s: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "created_s", round(self.created_s, 3))


@dataclass(frozen=True, slots=True)
class SetMember:
    """A segment or a picture in a set, whether or not the index holds it now.

    Attributes:
        set_id: The set.
        member_id: Id of the segment or the picture; both are derived from content.
        kind: What it is. A picture stands for all its segments.
        image_id: The picture of the segment, or the picture itself.
        added_s: Seconds since 1970 UTC; stored with 3 decimal places.
    """

    set_id: UUID
    member_id: UUID
    kind: MemberKind
    image_id: UUID
    added_s: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "added_s", round(self.added_s, 3))

    @classmethod
    def of_segment(cls, record: SegmentRecord, *, set_id: UUID, added_s: float) -> "SetMember":
        """Return the membership of a segment."""
        return cls(set_id, record.segment_id, "segment", record.image_id, added_s)

    @classmethod
    def of_image(cls, image: ImageRecord, *, set_id: UUID, added_s: float) -> "SetMember":
        """Return the membership of a picture."""
        return cls(set_id, image.image_id, "image", image.image_id, added_s)


def sets_by_member(members: Iterable[SetMember]) -> Mapping[UUID, frozenset[UUID]]:
    """Return the ids of the sets of each segment or picture that is a member of any."""
    found: dict[UUID, set[UUID]] = {}
    for member in members:
        found.setdefault(member.member_id, set()).add(member.set_id)
    return {key: frozenset(ids) for key, ids in found.items()}


def sets_of(record: SegmentRecord, by_member: Mapping[UUID, frozenset[UUID]]) -> tuple[UUID, ...]:
    """Return the sets that a segment is in by itself or with its picture, sorted.

    Args:
        record: The segment.
        by_member: From ``sets_by_member``, with all members of its picture.
    """
    nothing: frozenset[UUID] = frozenset()
    own, whole = by_member.get(record.segment_id, nothing), by_member.get(record.image_id, nothing)
    return tuple(sorted(own | whole))
