"""Labels that were corrected in another tool: what changes of those that a segment has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from segdex_core.records import SegmentLabel, SegmentRecord


@dataclass(slots=True)
class Said:
    """What a document says of a segment.

    Attributes:
        labels: Labels that it has now, each once.
        exported: Labels that it was exported with; None if the document does not say.
        is_missing: Whether no annotation is this segment.
    """

    labels: dict[str, None] = field(default_factory=dict)
    exported: set[str] | None = None
    is_missing: bool = False


@dataclass(frozen=True, slots=True)
class Correction:
    """How the labels of a segment change.

    Attributes:
        author: Whose labels the labels of the document become.
        now_s: When, in seconds since 1970 UTC.
        overrule: Whether labels of others go too where they were changed.
    """

    author: str
    now_s: float
    overrule: bool

    def labels_after(self, record: SegmentRecord, said: Said) -> tuple[SegmentLabel, ...]:
        """Return the labels of a segment after the import; a label that anybody gave is not given twice."""
        mine = {one.name for one in record.labels if one.author == self.author}
        if said.is_missing:
            gone = mine
        elif said.exported is not None:
            gone = said.exported - said.labels.keys()
        elif said.labels.keys() <= {one.name for one in record.labels}:
            gone = set()
        else:
            gone = mine - said.labels.keys()
        overrules = self.overrule and not said.is_missing
        kept = [
            one
            for one in record.labels
            if one.name not in gone or (one.author != self.author and not overrules)
        ]
        known = {one.name for one in kept}
        new = (SegmentLabel(name, self.author, None, self.now_s) for name in said.labels if name not in known)
        return (*kept, *new)

    def all_of(self, said: Mapping[UUID, Said]) -> Callable[[SegmentRecord], tuple[SegmentLabel, ...]]:
        """Return what ``change_labels`` calls for each segment."""
        return lambda record: self.labels_after(record, said[record.segment_id])
