"""Fusing, thinning and grouping of hits agree with brute force."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.backends.index.stored_samples import FINGERPRINT, make_picture, unit_rows

from segdex_backends.index.memory import MemoryIndex
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import MaskRLE
from segdex_core.records import FusedSegment, SegmentRecord, ViewedSegment
from segdex_search.rank import HitSegment, SearchHit, drop_nested, fuse_views

Vectors = dict[UUID, dict[str, npt.NDArray[np.float32]]]


def record_of(
    number: int, *, image: int = 0, ancestors: Sequence[int] = (), object_score: float = 0.5
) -> SegmentRecord:
    return SegmentRecord(
        segment_id=UUID(int=number),
        image_id=UUID(int=1_000 + image),
        box=BoxXYXY(0, 0, 4, 4),
        mask=MaskRLE((4, 4), "0`0"),
        area_px=16,
        area_fraction=1.0,
        predicted_iou=0.9,
        stability=0.9,
        object_score=object_score,
        touches_border=True,
        ancestor_ids=tuple(UUID(int=ancestor) for ancestor in ancestors),
        sources=(),
        tags=(),
        captured_s=0,
    )


def fused(record: SegmentRecord, score: float) -> FusedSegment:
    return FusedSegment(
        str(record.segment_id), str(record.image_id), tuple(map(str, record.ancestor_ids)), score
    )


def hit(record: SegmentRecord, score: float) -> HitSegment:
    return HitSegment(record=record, score=score, view_scores={})


@st.composite
def forests(draw: st.DrawFn) -> list[FusedSegment]:
    """Draw hits of a few pictures with random mask trees, best first."""
    hits = []
    ancestors: dict[int, list[int]] = {}
    image_of: dict[int, int] = {}
    for number in range(draw(st.integers(0, 25))):
        parent = draw(st.one_of(st.none(), st.integers(0, number - 1))) if number else None
        ancestors[number] = [] if parent is None else [parent, *ancestors[parent]]
        image_of[number] = draw(st.integers(0, 3)) if parent is None else image_of[parent]
        record = record_of(number, image=image_of[number], ancestors=ancestors[number])
        if draw(st.booleans()):  # not every level of a tree is among the hits
            hits.append(fused(record, draw(st.integers(0, 5)) / 5))
    return sorted(hits, key=lambda found: -found.score)


def on_one_branch(a: FusedSegment, b: FusedSegment) -> bool:
    return a.segment_key in b.ancestor_keys or b.segment_key in a.ancestor_keys


@given(forests())
def test_of_every_branch_the_best_hit_stays_alone(hits: list[FusedSegment]) -> None:
    kept = drop_nested(hits)

    assert kept == [found for found in hits if found in kept]
    for i, found in enumerate(kept):
        assert not any(on_one_branch(found, other) for other in kept[i + 1 :])
    for position, found in enumerate(hits):
        better = [other for other in hits[:position] if other in kept]
        assert (found in kept) == (not any(on_one_branch(found, other) for other in better))


def test_brothers_stay_and_parents_and_children_go() -> None:
    grandparent, parent = record_of(0), record_of(1, ancestors=[0])
    left, right = record_of(2, ancestors=[1, 0]), record_of(3, ancestors=[1, 0])
    hits = [fused(left, 0.9), fused(parent, 0.8), fused(right, 0.7), fused(grandparent, 0.6)]

    assert [found.segment_id for found in drop_nested(hits)] == [left.segment_id, right.segment_id]


def test_a_hit_between_two_levels_that_are_no_hits_still_covers_both() -> None:
    hits = [fused(record_of(5, ancestors=[4, 3]), 0.9), fused(record_of(3), 0.5)]

    assert [found.score for found in drop_nested(hits)] == [0.9]


@given(
    seed=st.integers(0, 2**32 - 1),
    crop_weight=st.sampled_from([0.0, 0.3, 1.0, 7.0]),
    mask_weight=st.sampled_from([0.5, 2.0]),
    object_weight=st.sampled_from([0.0, 0.2, 3.0]),
)
def test_fused_scores_are_weighted_means_of_dot_products_and_the_object_score_times_its_weight(
    seed: int, crop_weight: float, mask_weight: float, object_weight: float
) -> None:
    rng = np.random.default_rng(seed)
    picture = make_picture(3, 9, seed=seed)
    vectors: Vectors = {
        record.segment_id: {view: rows[i] for view, rows in picture.segments.vectors.items()}
        for i, record in enumerate(picture.segments.records)
    }
    query = {"crop": unit_rows(rng, 1, 12)[0] * 2, "mask": unit_rows(rng, 1, 12)[0]}
    weights = {"crop": crop_weight, "mask": mask_weight}

    index = MemoryIndex()
    index.ensure(FINGERPRINT)
    index.upsert_segments(picture.segments)
    viewed = index.view_segments(list(vectors), query)
    hits = fuse_views(viewed.values(), weights=weights, object_weight=object_weight)

    assert {found.record.segment_id for found in hits} == set(vectors)
    assert [found.score for found in hits] == sorted((found.score for found in hits), reverse=True)
    for found in hits:
        stored = vectors[found.record.segment_id]
        dots = {
            view: sum(float(a) * float(b) for a, b in zip(stored[view], query[view], strict=True))
            for view in weights
        }
        expected = (crop_weight * dots["crop"] + mask_weight * dots["mask"]) / (crop_weight + mask_weight)
        expected += object_weight * found.record.object_score
        assert found.score == pytest.approx(expected, abs=1e-5)
        assert found.view_scores == pytest.approx(dots, abs=1e-5)


def test_ties_go_by_id() -> None:
    viewed = [ViewedSegment(record_of(number), {"crop": 3.0}) for number in (5, 2, 9)]

    hits = fuse_views(viewed, weights={"crop": 1})

    assert [found.record.segment_id.int for found in hits] == [2, 5, 9]


def test_of_equal_views_the_whole_object_comes_first() -> None:
    viewed = [
        ViewedSegment(record_of(number, object_score=number / 10), {"crop": 3.0}) for number in (5, 2, 9)
    ]

    hits = fuse_views(viewed, weights={"crop": 1}, object_weight=0.2)

    assert [found.record.segment_id.int for found in hits] == [9, 5, 2]
    assert hits[0].score == pytest.approx(3.18)


def test_the_score_of_a_picture_is_that_of_its_best_segment() -> None:
    picture = make_picture(1, 1)
    segments = (hit(record_of(1), 0.7), hit(record_of(2), 0.4))

    assert SearchHit(image=picture.record, segments=segments).score == 0.7
