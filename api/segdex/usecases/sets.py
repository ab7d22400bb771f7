"""Named sets: make, fill, rename, show and delete them.

Members are written before the marks of their segments, and removed with their set only after these marks, so
that what is interrupted is completed by doing it again.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID, uuid4

from segdex_core.errors import NotFoundError, UsageError
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import ImageRecord, SegmentFilter, SegmentRecord
from segdex_core.sets import SegmentSet, SetMember
from segdex_core.slices import slices
from segdex_core.wire.document import utc_text
from segdex_core.wire.sets import SetChanged, SetDetails, SetMemberOut, SetOut, SetsOut, SetSummary
from segdex_ingest.marks import mark_segments
from segdex_search.answer import require_filled

_IDS_AT_ONCE = 1_000


class Sets:
    """The named sets of an index.

    Args:
        index: Holds them.
        writing: Held while they change.
    """

    def __init__(self, index: SegmentIndex, writing: AbstractContextManager[object]) -> None:
        require_filled(index)
        self._index = index
        self._writing = writing

    def all(self) -> SetsOut:
        """Return all sets."""
        return SetsOut(sets=[SetSummary(**self._values(one)) for one in self._index.sets()])

    def create(self, name: str) -> SetOut:
        """Make a set.

        Raises:
            UsageError: If there is one of this name.
        """
        with self._writing:
            return self._shown(self._create(name))

    def rename(self, name: str, new_name: str) -> SetOut:
        """Give a set another name.

        Raises:
            NotFoundError: If there is no set of the name.
            UsageError: If there is one of the new name.
        """
        with self._writing:
            found = find_set(self._index, name)
            if new_name != found.name:
                self._refuse_taken(new_name)
                found = SegmentSet(found.set_id, new_name, found.created_s)
                self._index.put_set(found)
            return self._shown(found)

    def delete(self, name: str) -> SetOut:
        """Delete a set; segments and pictures stay. Return what it was.

        Raises:
            NotFoundError: If there is no set of the name.
        """
        with self._writing:
            found = find_set(self._index, name)
            shown = self._shown(found)
            marks: dict[UUID, list[UUID]] = {}
            images: set[UUID] = set()
            # read to the end before anything is written: what is written no longer matches
            for one in self._index.scroll_segments(SegmentFilter(sets=(found.set_id,))):
                marks[one.segment_id] = [key for key in one.sets if key != found.set_id]
                images.add(one.image_id)
            self._index.set_marks(marks)
            self._index.delete_set(found.set_id)
            # another process may have added some to this set or to other ones meanwhile
            late = self._index.scroll_segments(SegmentFilter(sets=(found.set_id,)))
            mark_segments(self._index, images | {one.image_id for one in late})
            return shown

    def add(self, name: str, ids: Sequence[UUID]) -> SetChanged:
        """Add segments and pictures to a set, which is made if there is none of the name.

        Raises:
            NotFoundError: If an id is none of the index; then nothing is added.
        """
        with self._writing:
            while True:
                found, added = self._add(name, list(dict.fromkeys(ids)))
                if any(one.set_id == found.set_id for one in self._index.sets()):
                    return self._changed(found, len(added))
                # another process deleted the set meanwhile
                self._index.remove_members(found.set_id, [one.member_id for one in added])
                mark_segments(self._index, {one.image_id for one in added})

    def _add(self, name: str, ids: Sequence[UUID]) -> tuple[SegmentSet, list[SetMember]]:
        """Add members to the set of a name, and return it and those that were not in it."""
        found = next((one for one in self._index.sets() if one.name == name), None)
        set_id = uuid4() if found is None else found.set_id
        members = self._members_of(ids, set_id=set_id, added_s=time.time())
        if found is None:
            found = self._create(name, set_id)
        known = {one.member_id for one in self._index.set_members(found.set_id)}
        added = [one for one in members if one.member_id not in known]
        self._index.add_members(added)
        # those too that were in it: their marks may lack
        mark_segments(self._index, {one.image_id for one in members})
        return found, added

    def remove(self, name: str, ids: Sequence[UUID]) -> SetChanged:
        """Remove segments and pictures from a set; what is not in it is removed already.

        Raises:
            NotFoundError: If there is no set of the name.
        """
        with self._writing:
            found = find_set(self._index, name)
            asked = set(ids)
            gone = [one for one in self._index.set_members(found.set_id) if one.member_id in asked]
            self._index.remove_members(found.set_id, [one.member_id for one in gone])
            # pictures of segments that an interrupted call removed are found by the segments
            present = self._segments(list(asked)).values()
            images = {one.image_id for one in gone} | {one.image_id for one in present} | asked
            mark_segments(self._index, images)
            return self._changed(found, len(gone))

    def show(self, name: str) -> SetDetails:
        """Return a set with its members.

        Raises:
            NotFoundError: If there is no set of the name.
        """
        found = find_set(self._index, name)
        members = sorted(self._index.set_members(found.set_id), key=lambda one: (one.added_s, one.member_id))
        ids = {kind: [one.member_id for one in members if one.kind == kind] for kind in ("segment", "image")}
        present = self._segments(ids["segment"]).keys() | self._images(ids["image"]).keys()
        return SetDetails(
            **self._values(found, members),
            members=[
                SetMemberOut(
                    id=one.member_id,
                    kind=one.kind,
                    image_id=one.image_id,
                    is_present=one.member_id in present,
                    added_at=utc_text(one.added_s),
                )
                for one in members
            ],
        )

    def _create(self, name: str, set_id: UUID | None = None) -> SegmentSet:
        self._refuse_taken(name)
        made = SegmentSet(set_id or uuid4(), name, time.time())
        self._index.put_set(made)
        first = find_set(self._index, name)
        if first != made:  # another process was faster
            self._index.delete_set(made.set_id)
            raise _taken(name)
        return made

    def _refuse_taken(self, name: str) -> None:
        if any(one.name == name for one in self._index.sets()):
            raise _taken(name)

    def _members_of(self, ids: Sequence[UUID], *, set_id: UUID, added_s: float) -> list[SetMember]:
        segments = self._segments(ids)
        image_ids = list({one.image_id for one in segments.values()} | (set(ids) - segments.keys()))
        images = self._images(image_ids)
        members: list[SetMember] = []
        for key in ids:
            if key in segments and segments[key].image_id in images:
                members.append(SetMember.of_segment(segments[key], set_id=set_id, added_s=added_s))
            elif key in images:
                members.append(SetMember.of_image(images[key], set_id=set_id, added_s=added_s))
            else:
                raise NotFoundError(f"there is no segment or picture {key} in {self._index.location}")
        return members

    def _segments(self, ids: Sequence[UUID]) -> dict[UUID, SegmentRecord]:
        found = (one for some in slices(ids, _IDS_AT_ONCE) for one in self._index.get_segments(some))
        return {one.segment_id: one for one in found}

    def _images(self, ids: Sequence[UUID]) -> dict[UUID, ImageRecord]:
        found = (one for some in slices(ids, _IDS_AT_ONCE) for one in self._index.get_images(some))
        return {one.image_id: one for one in found}

    def _shown(self, one: SegmentSet) -> SetOut:
        return SetOut(**self._values(one))

    def _values(self, one: SegmentSet, members: Sequence[SetMember] | None = None) -> dict[str, Any]:
        if members is None:
            members = list(self._index.set_members(one.set_id))
        segments = sum(member.kind == "segment" for member in members)
        return {
            "name": one.name,
            "segments": segments,
            "images": len(members) - segments,
            "created_at": utc_text(one.created_s),
        }

    def _changed(self, one: SegmentSet, changed: int) -> SetChanged:
        shown = self._shown(one)
        return SetChanged(name=one.name, changed=changed, segments=shown.segments, images=shown.images)


def find_set(index: SegmentIndex, name: str) -> SegmentSet:
    """Return the set of a name.

    Raises:
        NotFoundError: If there is none.
    """
    for one in index.sets():
        if one.name == name:
            return one
    raise NotFoundError(f"there is no set {name!r} in {index.location}; `segdex set list` names all")


def _taken(name: str) -> UsageError:
    return UsageError(f"there is a set {name!r} already; choose another name")
