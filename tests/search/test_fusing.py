"""An index that fuses the views itself is asked for what is needed, and answers as one that cannot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest
from tests.core.index.stored_samples import FINGERPRINT, FOLDERS, make_picture
from tests.search.test_service import EMBEDDER, PICTURES, ids_of

from segdex.core.index.memory import MemoryIndex
from segdex.core.records import EVERYTHING, SegmentFilter, SegmentRecord
from segdex.search.queries import SearchQuery, SegmentTerm, TextTerm
from segdex.search.service import search


@dataclass(frozen=True)
class Found:
    segment_id: str
    image_id: str
    ancestor_ids: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class Viewed:
    record: SegmentRecord
    view_scores: Mapping[str, float]


class FusingIndex(MemoryIndex):
    """Fuses exactly, and remembers how many pictures and segments it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []
        self.viewed = 0

    def query_fused(
        self,
        vectors: Mapping[str, npt.NDArray[np.float32]],
        *,
        weights: Mapping[str, float],
        limit: int,
        filters: Sequence[SegmentFilter] = (EVERYTHING,),
        exact: bool = False,
    ) -> list[list[Found]]:
        del exact
        self.asked.append((len(filters), limit))
        total = sum(weights.values())
        answers = []
        for where in filters:
            found = []
            for record in self.scroll_segments(where):
                rows = self.get_vectors([record.segment_id])[record.segment_id]
                score = sum(weights[view] * float(rows[view] @ vectors[view]) for view in weights) / total
                ancestors = tuple(map(str, record.ancestor_ids))
                found.append(Found(str(record.segment_id), str(record.image_id), ancestors, score))
            answers.append(sorted(found, key=lambda hit: -hit.score)[:limit])
        return answers

    def view_segments(
        self, segment_ids: Sequence[UUID], vectors: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[UUID, Viewed]:
        self.viewed += len(segment_ids)
        rows = self.get_vectors(segment_ids)
        return {
            record.segment_id: Viewed(
                record,
                {view: float(rows[record.segment_id][view] @ vector) for view, vector in vectors.items()},
            )
            for record in self.get_segments(segment_ids)
        }


def fill(index: MemoryIndex) -> None:
    index.ensure(FINGERPRINT)
    for picture in PICTURES:
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)
    index.upsert_segments(make_picture(99, 4).segments)  # of a picture that is not in the ledger


@pytest.fixture(name="fusing", scope="module")
def _fusing() -> FusingIndex:
    index = FusingIndex()
    fill(index)
    return index


@pytest.fixture(name="plain", scope="module")
def _plain() -> MemoryIndex:
    index = MemoryIndex()
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
        replace(QUERY, nested=True),
        replace(QUERY, min_score=0.2),
        replace(QUERY, min_score=2.0),
        replace(QUERY, view_weights={"crop": 1.0, "context": 0.0}),
        replace(QUERY, view_weights={"crop": 3.0, "context": 1.0}),
        replace(QUERY, where=SegmentFilter(tags=("cat",), sources=(FOLDERS[0],))),
        replace(QUERY, where=SegmentFilter(image_ids=(PICTURES[0].image_id,))),
        replace(QUERY, where=SegmentFilter(tags=("unknown",))),
        replace(QUERY, terms=(SegmentTerm(PICTURES[0].segment_ids[7]), TextTerm("dog", -0.5))),
        replace(QUERY, terms=(SegmentTerm(make_picture(99, 4).segment_ids[0]),)),
    ],
    ids=str,
)
def test_the_answer_is_the_one_of_an_index_that_cannot_fuse(
    fusing: FusingIndex, plain: MemoryIndex, query: SearchQuery
) -> None:
    """The samples are so few that the united best of each view are all segments, and so exact."""
    wanted = search(query, index=plain, embedder=EMBEDDER)

    found = search(query, index=fusing, embedder=EMBEDDER)

    assert [hit.image for hit in found.hits] == [hit.image for hit in wanted.hits]
    if query.per_image > 3 or query.limit > 10:  # beyond these one view brings only its best
        assert [ids[:1] for ids in ids_of(found)] == [ids[:1] for ids in ids_of(wanted)]
    for hit, other in zip(found.hits, wanted.hits, strict=True):
        for one, same in zip(hit.segments, other.segments, strict=False):
            assert one.score == pytest.approx(same.score, abs=1e-6) or one.score > same.score


def test_masks_are_fetched_of_what_is_shown_alone(fusing: FusingIndex) -> None:
    fusing.asked.clear()
    fusing.viewed = 0

    answer = search(QUERY, index=fusing, embedder=EMBEDDER)

    assert fusing.viewed == sum(len(hit.segments) for hit in answer.hits)
    assert fusing.asked[0] == (1, 40)
    assert all(limit <= 12 or pictures < 10 for pictures, limit in fusing.asked[1:])


def test_pictures_whose_segments_are_all_known_are_not_asked_for_again(fusing: FusingIndex) -> None:
    fusing.asked.clear()

    search(replace(QUERY, per_image=1, limit=5), index=fusing, embedder=EMBEDDER)

    assert len(fusing.asked) == 1  # each picture that was found has a segment to show
