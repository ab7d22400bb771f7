"""Grouping by fetching more and more equals grouping everything."""

from collections import Counter
from uuid import UUID

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.core.index.stored_samples import make_picture

from segdex.core.index.grouping import group_by_image, rank_groups
from segdex.core.records import EVERYTHING, ScoredSegment, SegmentFilter

PICTURES = [make_picture(number, 12) for number in range(8)]


@given(
    counts=st.lists(st.integers(0, 12), min_size=8, max_size=8),
    seed=st.integers(0, 1000),
    crowding=st.floats(0, 5),
    limit=st.integers(1, 9),
    group_size=st.integers(1, 13),
)
def test_fetching_in_steps_equals_grouping_all_hits(
    counts: list[int], seed: int, crowding: float, limit: int, group_size: int
) -> None:
    rng = np.random.default_rng(seed)
    hits = [
        # The larger `crowding`, the more the first pictures have all the best segments.
        ScoredSegment(record, float(rng.random() - crowding * number))
        for number, (picture, count) in enumerate(zip(PICTURES, counts, strict=True))
        for record in picture.segments.records[:count]
    ]
    hits.sort(key=lambda hit: -hit.score)
    asked: Counter[tuple[UUID, ...]] = Counter()

    def rank(where: SegmentFilter, most: int) -> list[ScoredSegment]:
        asked[where.image_ids] += 1
        wanted = [hit for hit in hits if not where.image_ids or hit.record.image_id in where.image_ids]
        return wanted[:most]

    found = rank_groups(rank, EVERYTHING, limit=limit, group_size=group_size)

    assert found == list(group_by_image(hits, limit=limit, group_size=group_size).values())
    assert max(asked.values()) <= 5  # 4 ** 4 > 8 * 12
    assert len(asked) <= 1 + limit
