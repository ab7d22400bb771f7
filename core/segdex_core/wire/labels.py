"""Labels of segments as they cross HTTP."""

from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from segdex_core.wire.document import Document, UtcText, utc_text
from segdex_core.wire.fields import StrictRequest, names_range
from segdex_core.wire.limits import MAX_LABELLED, MAX_LABELS

LabelName = Annotated[str, Field(min_length=1, max_length=100)]


class LabelOut(BaseModel):
    """What somebody says that a segment shows."""

    name: str
    author: Annotated[str, Field(description="`model:FINGERPRINT`, `concept:NAME` or `person:NAME`.")]
    score: Annotated[
        float | None, Field(description="How sure the author is, on a scale of its own; none of a person.")
    ]
    labelled_at: UtcText | None

    @classmethod
    def of(cls, name: str, author: str, score: float | None, labelled_s: float) -> "LabelOut":
        """Return a label with its time as text."""
        return cls(name=name, author=author, score=score, labelled_at=utc_text(labelled_s))


class LabelRequest(StrictRequest):
    """Words to label segments of the index with."""

    labels: Annotated[list[LabelName], Field(min_length=1, max_length=MAX_LABELS)]
    several: Annotated[
        bool, Field(description="Give an object every label that fits, not only the best one.")
    ] = False
    min_score: Annotated[
        Annotated[float, Field(gt=0), names_range("above 0")] | None,
        Field(description="Lowest score of a label that fits; none: that of the embedder's calibration."),
    ] = None
    segments: Annotated[
        list[UUID],
        Field(
            max_length=MAX_LABELLED,
            description="These alone get all the labels, from a person; none: the model decides on all.",
        ),
    ] = []
    by: Annotated[
        str,
        Field(min_length=1, max_length=100, description="Name of the person who labels `segments`."),
    ] = "me"
    dry_run: Annotated[bool, Field(description="Count, and write nothing.")] = False

    @model_validator(mode="after")
    def _has_one_author(self) -> Self:
        if self.segments and (self.several or self.min_score is not None):
            raise ValueError("several and min_score cannot go with segments: a person gives no scores")
        return self


class LabelReport(Document):
    """What became of the segments of an index that were labelled."""

    counts: Annotated[dict[str, int], Field(description="How many objects got each label.")]
    labelled: Annotated[int, Field(description="Segments that got a label.")]
    segments: Annotated[int, Field(description="Segments that were looked at; nothing fits the others.")]
    min_score: Annotated[float | None, Field(description="None of a person's labels.")]
    author: str
    dry_run: bool
    elapsed_s: float


class LabelCounts(Document):
    """The labels of an index."""

    counts: Annotated[dict[str, int], Field(description="How many segments carry each label, by any author.")]


class LabelsCleared(Document):
    """Labels that were removed."""

    counts: Annotated[dict[str, int], Field(description="How many segments lost each label.")]
