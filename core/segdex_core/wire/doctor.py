"""What ``segdex doctor`` finds, as it crosses HTTP."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, Field

from segdex_core.wire.document import Document, known_values
from segdex_core.wire.fields import StrictRequest

FindingKind = Literal[
    "unreadable_picture",
    "unreadable_segment",
    "unreadable_set",
    "orphans",
    "unfinished_picture",
    "missing_segments",
    "extra_segments",
    "damaged_mask",
    "damaged_vector",
    "object_score",
    "wrong_id",
    "ancestors",
    "copied_fields",
    "marks",
    "members_without_set",
    "same_name",
    "other_embedder",
    "missing_file",
    "replaced_file",
    "unfinished_reembedding",
    "leftover_collection",
    "calibration",
    "upload_part",
    "upload_without_picture",
    "stuck_job",
]
"""Kinds of damage, as docs/doctor.md explains them."""

KINDS: tuple[FindingKind, ...] = get_args(FindingKind)


class DoctorRequest(StrictRequest):
    """An examination of the index."""

    fix: Annotated[bool, Field(description="Whether to mend what can be mended without loss.")] = False


class FindingOut(BaseModel):
    """One thing that is not as it should be."""

    kind: Annotated[str, known_values(*KINDS)]
    what: Annotated[str, Field(description="Id or name of what is damaged.")]
    path: Annotated[str | None, Field(description="File of the picture, if it is known.")] = None
    detail: Annotated[str, Field(description="What is wrong, in one line.")]
    mend: Annotated[str, Field(description="What mends it: a command, or words.")]
    fixable: Annotated[bool, Field(description="Whether --fix mends it, without losing anything.")]
    fixed: Annotated[bool, Field(description="Whether this run mended it.")] = False


class Examined(Document):
    """What an examination of an index found."""

    findings: list[FindingOut]
    images: Annotated[int, Field(description="How many pictures were examined.")]
    segments: Annotated[int, Field(description="How many segments the index holds.")]

    @property
    def left(self) -> int:
        """Number of findings that are not mended."""
        return sum(not one.fixed for one in self.findings)
