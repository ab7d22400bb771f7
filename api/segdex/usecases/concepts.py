"""Saved concepts: mark segments, show, rename and delete."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from segdex_core.concepts import Concept, Mark, change_marks
from segdex_core.errors import IndexConflictError, NotFoundError, QueryError, UsageError
from segdex_core.ports.index import ConceptStore, SegmentIndex
from segdex_core.wire.concepts import (
    ConceptDetails,
    ConceptOut,
    ConceptsOut,
    ConceptSummary,
    MarkOut,
    MarkRequest,
)
from segdex_core.wire.document import utc_text
from segdex_core.wire.limits import MAX_MARKS
from segdex_search.answer import require_filled
from segdex_search.concepts import check_concept_text, segments_of_marks


class Concepts:
    """The saved concepts of an index.

    Args:
        index: Holds them.
        writing: Held while they change.
    """

    def __init__(self, index: SegmentIndex, writing: AbstractContextManager[object]) -> None:
        require_filled(index)
        self._index = index
        self._writing = writing

    def all(self) -> ConceptsOut:
        """Return all concepts."""
        return ConceptsOut(concepts=[ConceptSummary(**_values(one)) for one in self._index.concepts()])

    def show(self, name: str) -> ConceptDetails:
        """Return a concept with its marks.

        Raises:
            NotFoundError: If there is no concept of the name.
        """
        found = find_concept(self._index, name)
        used = segments_of_marks(found.marks, self._index)
        return ConceptDetails(
            **_values(found),
            marks=[
                MarkOut(
                    segment_id=mark.segment_id,
                    image_id=mark.image_id,
                    is_right=mark.is_right,
                    used_id=used.get(mark.segment_id),
                )
                for mark in found.marks
            ],
        )

    def mark(self, name: str, request: MarkRequest) -> ConceptOut:
        """Add marks and a text to a concept, which is made if there is none of the name.

        Raises:
            QueryError: If the text is not allowed, or there would be neither a text nor a right mark.
            NotFoundError: If a segment that is right or wrong is not in the index; then nothing is changed.
        """
        if request.text is not None:
            check_concept_text(request.text)
        marks = [
            *self._marks(request.right, is_right=True),
            *self._marks(request.wrong, is_right=False),
        ]

        with self._writing:
            while True:
                changed = _changed(self._index.concept(name), name, marks, request)
                with suppress(IndexConflictError):  # another process changed it meanwhile: both changes stay
                    return ConceptOut(**_values(self._index.put_concept(changed)))

    def rename(self, name: str, new_name: str) -> ConceptOut:
        """Give a concept another name. Labels that it gave keep the old one.

        Raises:
            NotFoundError: If there is no concept of the name.
            UsageError: If there is one of the new name.
        """
        with self._writing:
            found = find_concept(self._index, name)
            if new_name == name:
                return ConceptOut(**_values(found))
            try:
                renamed = self._index.put_concept(replace(found, name=new_name, revision=0))
            except IndexConflictError as error:
                raise UsageError(f"there is a concept {new_name!r} already; choose another name") from error
            self._index.delete_concept(name)
            return ConceptOut(**_values(renamed))

    def delete(self, name: str) -> ConceptOut:
        """Delete a concept; segments and their labels stay. Return what it was.

        Raises:
            NotFoundError: If there is no concept of the name.
        """
        with self._writing:
            found = find_concept(self._index, name)
            self._index.delete_concept(name)
            return ConceptOut(**_values(found))

    def _marks(self, ids: Sequence[UUID], *, is_right: bool) -> list[Mark]:
        unique = list(dict.fromkeys(ids))
        found = {one.segment_id: one for one in self._index.get_segments(unique)}
        for key in unique:
            if key not in found:
                raise NotFoundError(f"there is no segment {key} in {self._index.location}")
        return [Mark.of(found[key], is_right=is_right) for key in unique]


def find_concept(index: ConceptStore, name: str) -> Concept:
    """Return the concept of a name.

    Raises:
        NotFoundError: If there is none.
    """
    found = index.concept(name)
    if found is None:
        raise NotFoundError(f"there is no concept {name!r}; `segdex concept list` names all")
    return found


def _changed(known: Concept | None, name: str, marks: Sequence[Mark], request: MarkRequest) -> Concept:
    """Return a concept with the changes of a request.

    Raises:
        QueryError: If it would have neither a text nor a right mark, or too many marks.
    """
    text = request.text if known is None or request.text is not None else known.text
    kept = change_marks(() if known is None else known.marks, marks, without=request.neither)
    if len(kept) > MAX_MARKS:
        raise QueryError(f"a concept has {MAX_MARKS:,} marks at most, but {name!r} would have {len(kept):,}")
    if text is None and not any(mark.is_right for mark in kept):
        raise QueryError(f"the concept {name!r} needs a text, or a segment that is right")
    if known is None:
        return Concept(name, text, kept, time.time())
    return replace(known, text=text, marks=kept)


def _values(one: Concept) -> dict[str, Any]:
    right = sum(mark.is_right for mark in one.marks)
    return {
        "name": one.name,
        "text": one.text,
        "right": right,
        "wrong": len(one.marks) - right,
        "created_at": utc_text(one.created_s),
    }
