"""What an interrupted change of sets or labels leaves is completed by doing it again."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from tests.backends.index.stored_samples import DIM, FINGERPRINT, Picture, make_picture, unit_rows

from segdex.usecases.sets import Sets
from segdex_backends.index.memory import MemoryIndex
from segdex_core.errors import IndexUnavailableError, NotFoundError
from segdex_core.ids import make_segment_id
from segdex_core.masks import encode_mask
from segdex_core.records import SegmentLabel
from segdex_core.sets import SegmentSet, SetMember, sets_by_member, sets_of
from segdex_search.labels import LabelScorer, clear_labels, find_labels, write_labels


def with_masks(picture: Picture) -> Picture:
    """Return a made-up picture whose segments have real masks, beside each other."""
    records = []
    for place, record in enumerate(picture.segments.records):
        pixels = np.zeros(picture.record.size_hw, bool)
        pixels[:, 100 * place : 100 * place + 50] = True
        mask = encode_mask(pixels)
        segment_id = make_segment_id(picture.image_id, mask)
        records.append(replace(record, segment_id=segment_id, mask=mask, ancestor_ids=()))
    return replace(picture, segments=replace(picture.segments, records=records))


PICTURES = [with_masks(make_picture(number, 6)) for number in (1, 2, 3)]
FIRST, SECOND, THIRD = (picture.image_id for picture in PICTURES)


class FailingIndex(MemoryIndex):
    """Fails before or half-way through its n-th write of sets and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.fails_at: int | None = None

    def _write(self) -> None:
        self.writes += 1
        if self.writes == self.fails_at:
            raise IndexUnavailableError("away")

    def put_set(self, one: SegmentSet) -> None:
        self._write()
        super().put_set(one)

    def delete_set(self, set_id: UUID) -> None:
        self._write()
        members = [one.member_id for one in super().set_members(set_id)]
        super().remove_members(set_id, members)
        self._write()  # the members are gone, and the set is there
        super().delete_set(set_id)

    def add_members(self, members: Sequence[SetMember]) -> None:
        self._write()
        super().add_members(members[:1])
        self._write()
        super().add_members(members)

    def remove_members(self, set_id: UUID, member_ids: Collection[UUID]) -> None:
        self._write()
        super().remove_members(set_id, list(member_ids)[:1])
        self._write()
        super().remove_members(set_id, member_ids)

    def set_marks(self, marks: Mapping[UUID, Sequence[UUID]]) -> None:
        self._write()
        super().set_marks(dict(list(marks.items())[:1]))
        self._write()
        super().set_marks(marks)

    def set_labels(
        self, labels: Mapping[UUID, Sequence[SegmentLabel]], *, over: Mapping[UUID, str] | None = None
    ) -> list[UUID]:
        self._write()
        first = dict(list(labels.items())[:1])
        others = super().set_labels(first, over=over)
        self._write()
        rest = {key: some for key, some in labels.items() if key not in first}
        return [*others, *super().set_labels(rest, over=over)]


def segment_of(picture: Picture, place: int) -> UUID:
    return picture.segment_ids[place]


def filled() -> FailingIndex:
    """Return an index with a set of two segments and a picture, and labels."""
    index = FailingIndex()
    index.ensure(FINGERPRINT)
    for picture in PICTURES:
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)
    sets = Sets(index, nullcontext())
    sets.add("one", [segment_of(PICTURES[0], 0), segment_of(PICTURES[0], 1), SECOND])
    sets.add("two", [FIRST])
    label(index, seed=1)
    index.writes = 0
    return index


def label(index: FailingIndex, *, seed: int = 2) -> None:
    rng = np.random.default_rng(seed)
    scorer = LabelScorer(["cat", "dog"], unit_rows(rng, 2, DIM), unit_rows(rng, 20, DIM))
    found = find_labels(index, scorer, min_score=0.1)
    write_labels(found, index, index, author="model:fake", now_s=1.0)


def state(index: FailingIndex) -> Any:
    """Return who is in which set, the names of the sets on each segment, and the labels."""
    names = {one.set_id: one.name for one in index.sets()}
    return (
        {name: {one.member_id for one in index.set_members(key)} for key, name in names.items()},
        {one.segment_id: {names[key] for key in one.sets} for one in index.scroll_segments()},
        {one.segment_id: one.labels for one in index.scroll_segments()},
    )


CHANGES: dict[str, Callable[[FailingIndex], object]] = {
    "add": lambda index: Sets(index, nullcontext()).add(
        "one", [segment_of(PICTURES[2], 2), segment_of(PICTURES[0], 3), THIRD]
    ),
    "add to a new set": lambda index: Sets(index, nullcontext()).add(
        "new", [segment_of(PICTURES[1], 2), THIRD]
    ),
    "remove": lambda index: Sets(index, nullcontext()).remove("one", [segment_of(PICTURES[0], 0), SECOND]),
    "delete": lambda index: Sets(index, nullcontext()).delete("one"),
    "label": label,
    "clear": lambda index: clear_labels(index, index, names=[], authors=["model"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_was_interrupted_is_completed_by_doing_it_again(name: str) -> None:
    change = CHANGES[name]
    start = filled()
    undisturbed = deepcopy(start)
    change(undisturbed)
    wanted = state(undisturbed)
    assert wanted != state(start)
    assert undisturbed.writes > 1

    for fails_at in range(1, undisturbed.writes + 1):
        index = deepcopy(start)
        index.fails_at = fails_at
        with pytest.raises(IndexUnavailableError):
            change(index)
        index.fails_at = None
        change(index)
        assert state(index) == wanted, f"after a failure at write {fails_at}"


class Meanwhile:
    """An index that lets another process change something once, right before one of the calls.

    Args:
        index: The index.
        at: Number of the call, from 1.
        change: What the other process does.
    """

    def __init__(self, index: FailingIndex, *, at: int, change: Callable[[FailingIndex], object]) -> None:
        self._index = index
        self._at = at
        self._change = change
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        if self.calls == self._at:
            self._change(self._index)
        return getattr(self._index, name)


OTHER_CHANGES: dict[str, Callable[[FailingIndex], object]] = {
    "add": lambda index: Sets(index, nullcontext()).add(
        "two", [segment_of(PICTURES[0], 0), segment_of(PICTURES[2], 2), SECOND]
    ),
    "remove": lambda index: Sets(index, nullcontext()).remove("two", [FIRST]),
    "delete": lambda index: Sets(index, nullcontext()).delete("one"),
}


@pytest.mark.parametrize("other", OTHER_CHANGES)
@pytest.mark.parametrize("name", ["add", "remove", "delete"])
def test_sets_that_two_processes_change_at_once_end_with_the_right_marks(name: str, other: str) -> None:
    start = filled()
    at = 0
    while True:
        at += 1
        index = deepcopy(start)
        meeting = Meanwhile(index, at=at, change=OTHER_CHANGES[other])
        with suppress(NotFoundError):  # the other process deleted the set before
            CHANGES[name](meeting)  # type: ignore[arg-type]
        if meeting.calls < at:
            break
        members = index.members_of_images([FIRST, SECOND, THIRD])
        assert {one.set_id for one in members} <= {one.set_id for one in index.sets()}
        by_member = sets_by_member(members)
        for record in index.scroll_segments():
            assert record.sets == sets_of(record, by_member), f"the other process came before call {at}"
    assert at > 6


def test_marks_are_exactly_the_sets_that_a_segment_or_its_picture_is_in() -> None:
    index = filled()
    for change in CHANGES.values():
        change(index)
        ids = [one.set_id for one in index.sets()]
        members = {key: {one.member_id for one in index.set_members(key)} for key in ids}
        for record in index.scroll_segments():
            wanted = {key for key, of in members.items() if {record.segment_id, record.image_id} & of}
            assert set(record.sets) == wanted
