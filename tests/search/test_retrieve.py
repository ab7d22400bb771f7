"""The index is asked for what is needed, and the answer is that of scoring every segment."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest
from tests.backends.index.stored_samples import FINGERPRINT, FOLDERS, make_picture
from tests.search.test_answer import EMBEDDER, PICTURES

from segdex_backends.index.memory import MemoryIndex
from segdex_core.records import EVERYTHING, FusedSegment, SegmentFilter, SegmentRecord, ViewedSegment
from segdex_search.answer import search
from segdex_search.calibrate import UNKNOWN
from segdex_search.embed import embed_query
from segdex_search.queries import SearchQuery, SegmentTerm, TextTerm


class CountingIndex(MemoryIndex):
    """Remembers how many pictures and segments it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []
        self.viewed = 0

    def query_fused(
        self,
        vectors: Mapping[str, npt.NDArray[np.float32]],
        *,
        weights: Mapping[str, float],
        object_weight: float = 0.0,
        limit: int,
        where: SegmentFilter = EVERYTHING,
        exact: bool = False,
    ) -> list[FusedSegment]:
        self.asked.append((len(where.image_ids), limit))
        return super().query_fused(
            vectors, weights=weights, object_weight=object_weight, limit=limit, where=where, exact=exact
        )

    def view_segments(
        self, segment_ids: Sequence[UUID], vectors: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[UUID, ViewedSegment]:
        self.viewed += len(segment_ids)
        return super().view_segments(segment_ids, vectors)


def by_hand(index: MemoryIndex, query: SearchQuery) -> list[tuple[UUID, list[tuple[UUID, float]]]]:
    """Score every segment from the stored vectors, and return each picture with its segments and scores."""
    weights = {view: weight for view, weight in query.view_weights.items() if weight > 0}
    vectors = embed_query(query.terms, views=tuple(weights), embedder=EMBEDDER, index=index)
    known = {image.image_id for image in index.scroll_images()}
    records = [record for record in index.scroll_segments(query.where) if record.image_id in known]
    if query.level == "part":
        records = [record for record in records if record.ancestor_ids]
    texts = sum(one.weight for one in query.terms if isinstance(one, TextTerm) and one.weight > 0)
    share = texts / sum(one.weight for one in query.terms if one.weight > 0)
    object_weight = UNKNOWN.object_weight * share * {"any": 1, "whole": 3, "part": 0}[query.level]
    stored = index.get_vectors([record.segment_id for record in records])

    def score(record: SegmentRecord) -> float:
        rows = stored[record.segment_id]
        mean = sum(weight * float(rows[view] @ vectors[view]) for view, weight in weights.items())
        return mean / sum(weights.values()) + object_weight * record.object_score

    shown: dict[UUID, list[tuple[UUID, float]]] = {}
    kept: list[SegmentRecord] = []
    for record in sorted(records, key=lambda each: (-score(each), each.segment_id)):
        if query.min_score is not None and score(record) < query.min_score:
            continue
        is_nested = any(
            other.segment_id in record.ancestor_ids or record.segment_id in other.ancestor_ids
            for other in kept
        )
        if is_nested and query.nms:
            continue
        kept.append(record)
        if record.image_id in shown or len(shown) < query.limit:
            of_image = shown.setdefault(record.image_id, [])
            if len(of_image) < query.per_image:
                of_image.append((record.segment_id, score(record)))
    return list(shown.items())


def fill(index: MemoryIndex) -> None:
    index.ensure(FINGERPRINT)
    for picture in PICTURES:
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)
    index.upsert_segments(make_picture(99, 4).segments)  # of a picture that is not in the ledger


@pytest.fixture(name="index", scope="module")
def _index() -> CountingIndex:
    index = CountingIndex()
    fill(index)
    return index


QUERY = SearchQuery((TextTerm("dog"),))


@pytest.mark.parametrize(
    "query",
    [
        QUERY,
        replace(QUERY, limit=1, per_image=1),
        replace(QUERY, limit=3, per_image=9),
        replace(QUERY, limit=100, per_image=100),
        replace(QUERY, nms=False),
        replace(QUERY, level="whole", limit=30, per_image=5),
        replace(QUERY, level="part", limit=30, per_image=5),
        replace(QUERY, terms=(TextTerm("dog", 3.0), SegmentTerm(PICTURES[0].segment_ids[7]))),
        replace(QUERY, min_score=0.2),
        replace(QUERY, min_score=1.04),
        replace(QUERY, view_weights={"crop": 1.0, "mask": 0.0}),
        replace(QUERY, view_weights={"crop": 3.0, "mask": 1.0}),
        replace(QUERY, where=SegmentFilter(tags=("cat",), sources=(FOLDERS[0],))),
        replace(QUERY, where=SegmentFilter(image_ids=(PICTURES[0].image_id,))),
        replace(QUERY, where=SegmentFilter(tags=("unknown",))),
        replace(QUERY, terms=(SegmentTerm(PICTURES[0].segment_ids[7]), TextTerm("dog", -0.5))),
        replace(QUERY, terms=(SegmentTerm(make_picture(99, 4).segment_ids[0]),)),
    ],
    ids=str,
)
def test_the_answer_is_that_of_scoring_every_segment_by_hand(
    index: CountingIndex, query: SearchQuery
) -> None:
    found = search(query, index=index, embedder=EMBEDDER)

    wanted = by_hand(index, query)
    assert [hit.image.image_id for hit in found.hits] == [image_id for image_id, _ in wanted]
    for hit, (_, segments) in zip(found.hits, wanted, strict=True):
        assert [one.segment_id for one in hit.segments] == [segment_id for segment_id, _ in segments]
        assert [one.score for one in hit.segments] == pytest.approx([s for _, s in segments], abs=1e-6)


def test_masks_are_fetched_of_what_is_shown_alone(index: CountingIndex) -> None:
    index.asked.clear()
    index.viewed = 0

    answer = search(QUERY, index=index, embedder=EMBEDDER)

    assert index.viewed == sum(len(hit.segments) for hit in answer.hits)
    assert index.asked[0] == (0, 44)
    assert len(index.asked) <= 3
    assert all(pictures <= 10 for pictures, _ in index.asked[1:])


def test_pictures_whose_segments_are_all_known_are_not_asked_for_again(index: CountingIndex) -> None:
    index.asked.clear()

    search(replace(QUERY, per_image=1, limit=5), index=index, embedder=EMBEDDER)

    assert len(index.asked) == 1  # each picture that was found has a segment to show
