"""Labels of a whole index, compared with each segment's scores by hand."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from tests.backends.index.stored_samples import DIM, FINGERPRINT, VIEWS, make_picture, unit_rows
from tests.conftest import Tried

from segdex_backends.index.memory import MemoryIndex
from segdex_core.geometry import BoxXYXY
from segdex_core.ids import make_image_id, make_segment_id
from segdex_core.masks import encode_mask
from segdex_core.records import EVERYTHING, EmbeddedSegments, SegmentFilter, SegmentLabel, SegmentRecord
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS
from segdex_search.labels import LabelScorer, clear_labels, find_labels, write_labels

AUTHOR = "model:fake"
RNG = np.random.default_rng(3)
NAMES = ("cat", "dog", "cup")
TEXTS = unit_rows(RNG, 3, DIM)
SCORER = LabelScorer(NAMES, TEXTS, unit_rows(RNG, 40, DIM))
SPLIT = ((0, 20), (20, 40), (0, 18), (22, 40))
"""Columns of four masks: two objects, and one more mask of each that overlaps it."""


def record(picture: int, columns: tuple[int, int], object_score: float) -> SegmentRecord:
    first, last = columns
    mask = np.zeros((10, 40), bool)
    mask[:, first:last] = True
    image_id = make_image_id(f"{picture:064x}")
    encoded = encode_mask(mask)
    area_px = int(mask.sum())
    return replace(
        make_picture(3, 1).segments.records[0],
        segment_id=make_segment_id(image_id, encoded),
        image_id=image_id,
        box=BoxXYXY(first, 0, last, 10),
        mask=encoded,
        area_px=area_px,
        area_fraction=area_px / mask.size,
        object_score=object_score,
    )


def filled(seed: int = 0, pictures: int = 6) -> MemoryIndex:
    """Return an index of pictures with four masks each and random vectors."""
    index = MemoryIndex()
    fill(index, seed, pictures)
    return index


def fill(index: MemoryIndex, seed: int = 0, pictures: int = 6) -> None:
    rng = np.random.default_rng(seed)
    index.ensure(FINGERPRINT)
    for picture in range(pictures):
        records = [record(picture, columns, float(rng.uniform(0.2, 1))) for columns in SPLIT]
        index.upsert_segments(EmbeddedSegments(records, {view: unit_rows(rng, 4, DIM) for view in VIEWS}))


def by_hand(index: MemoryIndex, key: UUID) -> dict[str, float]:
    """Return the score of each label: standard deviations above all words, times the object score."""
    [stored] = index.get_segments([key])
    vectors = index.get_vectors([key])[key]
    words = [*SCORER.others, *TEXTS]
    cosines = [
        sum(weight * float(vectors[view] @ word) for view, weight in DEFAULT_VIEW_WEIGHTS.items())
        for word in words
    ]
    mean, spread = float(np.mean(cosines)), float(np.std(cosines))
    above = [(one - mean) / spread for one in cosines[-len(NAMES) :]]
    return {name: max(one, 0.0) * stored.object_score for name, one in zip(NAMES, above, strict=True)}


def given(index: MemoryIndex) -> dict[UUID, tuple[SegmentLabel, ...]]:
    return {one.segment_id: one.labels for one in index.scroll_segments() if one.labels}


def overlaps(a: SegmentRecord, b: SegmentRecord) -> bool:
    return a.image_id == b.image_id and (a.box.x1 < 20) == (b.box.x1 < 20)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("min_score", [0.05, 0.4, 0.9])
def test_every_object_gets_what_fits_best_once(several: bool, min_score: float) -> None:
    index = filled()
    records = list(index.scroll_segments())
    scores = {one.segment_id: by_hand(index, one.segment_id) for one in records}

    found = find_labels(index, SCORER, min_score=min_score, several=several)

    wanted: dict[UUID, set[str]] = {}
    for name in NAMES:
        fits = [
            one
            for one in records
            if scores[one.segment_id][name] >= min_score
            and (several or name == max(NAMES, key=lambda each: scores[one.segment_id][each]))
        ]
        for one in fits:
            better = [
                other
                for other in fits
                if overlaps(one, other) and scores[other.segment_id][name] > scores[one.segment_id][name]
            ]
            if not better:
                wanted.setdefault(one.segment_id, set()).add(name)
    assert wanted
    assert {key: {one.name for one in labels} for key, labels in found.by_segment.items()} == wanted
    for key, labels in found.by_segment.items():
        assert [one.score for one in labels] == pytest.approx(
            sorted((scores[key][one.name] for one in labels), reverse=True), abs=1e-3
        )
    assert found.segments == len(records)
    assert sum(found.counts(NAMES).values()) == sum(map(len, wanted.values()))


def test_a_higher_threshold_only_removes_labels() -> None:
    index = filled()
    before: set[tuple[UUID, str]] | None = None
    for min_score in (0.05, 0.3, 0.6, 1.2, 50):
        found = find_labels(index, SCORER, min_score=min_score, several=True)
        pairs = {(key, one.name) for key, labels in found.by_segment.items() for one in labels}
        assert before is None or pairs < before
        before = pairs
    assert before == set()


def test_the_order_of_other_words_changes_no_score() -> None:
    index = filled()
    alone = LabelScorer(NAMES[:1], TEXTS[:1], SCORER.others)

    first = find_labels(index, alone, min_score=0.01, several=True)
    turned = LabelScorer(NAMES[:1], TEXTS[:1], SCORER.others[::-1])
    second = find_labels(index, turned, min_score=0.01, several=True)

    assert first.by_segment.keys() == second.by_segment.keys()
    for key, labels in first.by_segment.items():
        assert [one.score for one in labels] == pytest.approx(
            [one.score for one in second.by_segment[key]], abs=2e-3
        )


def label(
    index: MemoryIndex, names: Sequence[str] = NAMES, *, author: str = AUTHOR, now_s: float = 5.0
) -> None:
    columns = [NAMES.index(name) for name in names]
    scorer = LabelScorer(names, TEXTS[columns], SCORER.others)
    found = find_labels(index, scorer, min_score=0.2)
    write_labels(found, index, index, author=author, now_s=now_s)


def test_a_label_that_a_person_gives_while_labels_are_cleared_stays() -> None:
    mine = SegmentLabel("my cat", "person:me", None, 1.0)

    class Meanwhile(MemoryIndex):
        """Lets a person label everything after the labelled segments were listed."""

        def scroll_segments(self, where: SegmentFilter = EVERYTHING) -> Iterator[SegmentRecord]:
            found = list(super().scroll_segments(where))
            yield from found
            if where.labels:
                self.set_labels({one.segment_id: [*one.labels, mine] for one in found})

    index = Meanwhile()
    fill(index)
    label(index)

    assert clear_labels(index, index, names=[], authors=["model"])
    assert set(given(index).values()) == {(mine,)}


@pytest.mark.promise("Index", "Labels that two processes give one segment at the same moment both stay.")
def test_labels_of_two_processes_at_the_same_moment_both_stay(tried: Tried) -> None:
    theirs = SegmentLabel("my cat", "person:me", None, 1.0)

    class Meanwhile(MemoryIndex):
        """Another process labels everything after the segments were read, the first few times."""

        times = 3

        def get_segments(self, segment_ids: Sequence[UUID]) -> list[SegmentRecord]:
            found = super().get_segments(segment_ids)
            if self.times:
                self.times -= 1
                at = float(self.times)
                mine = replace(theirs, labelled_s=at)
                self.set_labels({one.segment_id: [*_without(one.labels, theirs), mine] for one in found})
            return found

    def _without(labels: Sequence[SegmentLabel], one: SegmentLabel) -> list[SegmentLabel]:
        return [other for other in labels if other.author != one.author]

    index = Meanwhile()
    fill(index)
    index.times = 0
    label(index)
    wanted = set(given(index))
    index.times = 3
    label(index, author="model:other")

    assert wanted
    assert index.times == 0
    for key in wanted:
        assert {one.author for one in given(index)[key]} == {AUTHOR, "model:other", "person:me"}
    tried(3, "labellings by another process in between")


def test_labelling_again_replaces_the_labels_of_that_author_alone() -> None:
    index = filled()
    key = next(index.scroll_segments()).segment_id
    mine = SegmentLabel("my cat", "person:me", None, 1.0)
    index.set_labels({key: [mine]})
    label(index)
    first = given(index)

    label(index, now_s=6.0)
    assert given(index) == first  # the same labels keep their time

    label(index, ["dog"], now_s=7.0)
    after = given(index)
    assert mine in after[key]
    assert {one.name for labels in after.values() for one in labels} == {"dog", "my cat"}
    label(index, author="model:other", now_s=8.0)
    authors = {one.author for labels in given(index).values() for one in labels}
    assert authors == {AUTHOR, "model:other", "person:me"}


def test_labels_are_cleared_by_name_and_kind_of_author() -> None:
    index = filled()
    label(index)
    key = next(index.scroll_segments()).segment_id
    [stored] = index.get_segments([key])
    index.set_labels({key: [*stored.labels, SegmentLabel("dog", "person:me", None, 1.0)]})
    before = dict(index.label_counts())
    models = {
        name: sum(
            one.name == name and one.author == AUTHOR for labels in given(index).values() for one in labels
        )
        for name in NAMES
    }
    assert models["dog"] > 0

    assert clear_labels(index, index, names=["dog", "no such"], authors=["model"]) == {"dog": models["dog"]}
    assert index.label_counts()["dog"] == 1
    assert {name: count for name, count in index.label_counts().items() if name != "dog"} == {
        name: count for name, count in before.items() if name != "dog"
    }
    clear_labels(index, index, names=[], authors=["model", "person"])
    assert index.label_counts() == {}
    assert clear_labels(index, index, names=[], authors=["model"]) == {}
