"""Saved concepts: what a text and marked examples say to look for, under a name."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from segdex_core.masks import MaskRLE
from segdex_core.records import SegmentRecord


@dataclass(frozen=True, slots=True)
class Mark:
    """A segment that somebody called right or wrong, whether or not the index holds it now.

    Attributes:
        segment_id: Id of the segment; it is derived from content.
        image_id: Its picture.
        mask: Its mask, which finds the object again among other masks of the picture.
        is_right: Whether the segment shows the concept.
    """

    segment_id: UUID
    image_id: UUID
    mask: MaskRLE
    is_right: bool

    @classmethod
    def of(cls, record: SegmentRecord, *, is_right: bool) -> "Mark":
        """Return the mark of a segment."""
        return cls(record.segment_id, record.image_id, record.mask, is_right)


@dataclass(frozen=True, slots=True)
class Concept:
    """A saved concept. It holds no vector, so that it outlives a change of the embedder.

    Attributes:
        name: Unique in an index.
        text: Query text that it started from; None where it only has marks.
        marks: The marks, each segment once, in the order in which they were made.
        created_s: Seconds since 1970 UTC; stored with 3 decimal places.
        revision: Number of times the index has written it; 0 if it was not read from an index. A write
            succeeds only if the index still has this revision. Comparisons ignore it.
    """

    name: str
    text: str | None
    marks: tuple[Mark, ...]
    created_s: float
    revision: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "created_s", round(self.created_s, 3))
        if self.text is None and not any(mark.is_right for mark in self.marks):
            raise ValueError(f"the concept {self.name!r} has neither a text nor a right mark")


def change_marks(
    held: Sequence[Mark], added: Sequence[Mark], *, without: Collection[UUID] = ()
) -> tuple[Mark, ...]:
    """Return marks with some added, which replace earlier ones of the same segments, and some removed.

    Args:
        held: Earlier marks.
        added: New marks.
        without: Segments whose marks are removed.
    """
    marks = {mark.segment_id: mark for mark in (*held, *added)}
    return tuple(mark for key, mark in marks.items() if key not in without)
