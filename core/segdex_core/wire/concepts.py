"""Saved concepts as they cross HTTP."""

import re
import unicodedata
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, model_validator

from segdex_core.wire.document import Document, UtcText
from segdex_core.wire.fields import StrictRequest, Text
from segdex_core.wire.limits import MAX_CONCEPT_CHARS, MAX_MARKS

_NAME = re.compile(r"[^\W_][\w.-]*")


def check_concept_name(name: str) -> str:
    """Return the name of a concept, normalized (NFKC).

    Raises:
        ValueError: If it is empty or too long, or has characters that end a word of a query text.
    """
    clean = unicodedata.normalize("NFKC", name)
    if len(clean) > MAX_CONCEPT_CHARS or not _NAME.fullmatch(clean):
        raise ValueError(
            f"must be 1 to {MAX_CONCEPT_CHARS} letters, digits, '.', '_' or '-', the first a letter or "
            f"digit, but got {name[:MAX_CONCEPT_CHARS]!r}"
        )
    return clean


ConceptName = Annotated[str, Field(min_length=1), AfterValidator(check_concept_name)]
SegmentIds = Annotated[list[UUID], Field(max_length=MAX_MARKS)]


class ConceptRequest(StrictRequest):
    """The new name of a concept."""

    name: ConceptName


class MarkRequest(StrictRequest):
    """What a concept is to learn. A concept is made if there is none of the name."""

    right: Annotated[SegmentIds, Field(description="Segments that show it.")] = []
    wrong: Annotated[SegmentIds, Field(description="Segments that do not, though they look so.")] = []
    neither: Annotated[SegmentIds, Field(description="Segments whose marks are removed.")] = []
    text: Annotated[
        Text | None, Field(description="Query text that it starts from; none leaves it as it is.")
    ] = None

    @model_validator(mode="after")
    def _marks_each_once(self) -> Self:
        ids = [*self.right, *self.wrong, *self.neither]
        if len(set(ids)) < len({*self.right}) + len({*self.wrong}) + len({*self.neither}):
            raise ValueError("a segment is right, wrong or neither, but one is given twice")
        if not ids and self.text is None:
            raise ValueError("give segments that are right or wrong, or a text")
        return self


class ConceptSummary(BaseModel):
    """A saved concept, in a list of them."""

    name: str
    text: Annotated[str | None, Field(description="Query text that it started from.")]
    right: Annotated[int, Field(description="Segments that were marked right.")]
    wrong: Annotated[int, Field(description="Segments that were marked wrong.")]
    created_at: UtcText | None


class ConceptOut(ConceptSummary, Document):
    """A saved concept."""


class ConceptsOut(Document):
    """The saved concepts of an index, sorted by name."""

    concepts: list[ConceptSummary]


class MarkOut(BaseModel):
    """A segment that was marked."""

    segment_id: UUID
    image_id: UUID
    is_right: bool
    used_id: Annotated[
        UUID | None,
        Field(
            description="The segment that is learnt from: itself, or after another ingest the mask that "
            "covers the same object; none while the index has neither."
        ),
    ]


class ConceptDetails(ConceptOut):
    """A saved concept with its marks, in the order in which they were made."""

    marks: list[MarkOut]
