"""Different pictures first, and near-duplicates collapsed: against greedy loops, and over pages."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.backends.index.stored_samples import DIM, Picture, make_picture, unit_rows
from tests.search.test_answer import EMBEDDER, PICTURES, filled

from segdex_backends.index.memory import MemoryIndex
from segdex_core.errors import ArgumentError, QueryError
from segdex_core.geometry import BoxXYXY
from segdex_core.ids import make_segment_id
from segdex_core.records import EmbeddedSegments, SegmentFilter
from segdex_search.answer import SearchAnswer, search
from segdex_search.arrange import MAX_ARRANGED, diverse_order, layout_agreement
from segdex_search.queries import ConceptTerm, Counted, SearchQuery, SegmentTerm, TextTerm

QUERY = SearchQuery((TextTerm("dog"),), limit=100)
DIVERSE = replace(QUERY, diversity=0.5)
SEEDS = st.integers(0, 1_000)
DIVERSITIES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])


def greedy(relevance: Sequence[float], rows: np.ndarray, diversity: float) -> list[int]:
    """Return the order of maximal marginal relevance, by its definition."""
    order: list[int] = []
    while len(order) < len(relevance):
        values = {
            place: (1 - diversity) * relevance[place]
            - diversity * (max(float(rows[place] @ rows[one]) for one in order) if order else 0)
            for place in range(len(relevance))
            if place not in order
        }
        order.append(min(values, key=lambda place: (-values[place], place)))
    return order


def samples(seed: int, count: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Return relevances and unit rows, some of which are copies."""
    rng = np.random.default_rng(seed)
    rows = unit_rows(rng, count, DIM).astype(np.float64)
    rows[rng.integers(count, size=5)] = rows[rng.integers(count, size=5)]
    return np.sort(rng.random(count))[::-1], rows


def images(answer: SearchAnswer) -> list[UUID]:
    return [hit.image.image_id for hit in answer.hits]


def ask(query: SearchQuery, index: MemoryIndex) -> SearchAnswer:
    return search(query, index=index, embedder=EMBEDDER)


@pytest.fixture(name="index", scope="module")
def _index() -> MemoryIndex:
    return filled()


@given(SEEDS, DIVERSITIES)
def test_the_order_is_that_of_a_greedy_loop(seed: int, diversity: float) -> None:
    relevance, rows = samples(seed)

    assert diverse_order(relevance, rows, diversity) == greedy(list(relevance), rows, diversity)


@given(SEEDS, DIVERSITIES)
def test_the_order_does_not_depend_on_that_of_the_candidates(seed: int, diversity: float) -> None:
    rng = np.random.default_rng(seed)
    relevance, rows = rng.random(20), unit_rows(rng, 20, DIM)
    shuffled = rng.permutation(20)

    found = diverse_order(relevance[shuffled], rows[shuffled], diversity)

    expected = diverse_order(relevance, rows, diversity)
    # where only differences count, the first one is the first candidate
    assert diversity == 1 or [int(shuffled[place]) for place in found] == expected


@given(SEEDS)
def test_without_diversity_the_order_is_that_of_the_scores(seed: int) -> None:
    relevance, rows = samples(seed)

    assert diverse_order(relevance, rows, 0) == list(range(len(relevance)))


@given(SEEDS)
def test_a_copy_comes_after_all_that_differ(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = unit_rows(rng, 10, DIM)
    order = diverse_order(np.ones(20), np.concatenate([rows, rows]), 0.5)

    assert sorted(order[:10]) == list(range(10))


def test_the_first_picture_is_the_best_and_none_is_left_out(index: MemoryIndex) -> None:
    plain, diverse = images(ask(QUERY, index)), images(ask(DIVERSE, index))

    assert diverse[0] == plain[0]
    assert diverse != plain
    assert sorted(diverse) == sorted(plain)


def test_a_diverse_answer_has_the_hits_of_the_plain_one(index: MemoryIndex) -> None:
    plain = {hit.image.image_id: hit for hit in ask(QUERY, index).hits}

    assert all(hit == plain[hit.image.image_id] for hit in ask(DIVERSE, index).hits)


@pytest.mark.parametrize("changes", [{"diversity": 0.7}, {"combine": "best", "diversity": 0.3}], ids=str)
@pytest.mark.parametrize("limit", [1, 7])
def test_pages_are_one_large_answer(index: MemoryIndex, changes: dict[str, object], limit: int) -> None:
    segments = tuple(SegmentTerm(PICTURES[0].segment_ids[place]) for place in (3, 9))
    terms = segments if "combine" in changes else QUERY.terms
    query = replace(QUERY, terms=terms, **changes)  # type: ignore[arg-type]
    whole = ask(query, index)
    pages = [ask(replace(query, limit=limit, offset=start), index) for start in range(0, 30, limit)]

    assert [hit for page in pages for hit in page.hits][: len(whole.hits)] == list(whole.hits)
    assert [page.more for page in pages] == [start + limit < len(whole.hits) for start in range(0, 30, limit)]


def test_an_answer_of_more_pictures_says_that_the_best_were_looked_through() -> None:
    many = [make_picture(number, 1) for number in range(MAX_ARRANGED + 3)]
    index = filled(many)

    last = ask(replace(DIVERSE, offset=MAX_ARRANGED - 2, limit=10), index)

    assert len(last.hits) == 2
    assert not last.more
    assert last.hints == (f"only the {MAX_ARRANGED} best pictures were looked through; narrow the query",)


def test_a_filter_and_a_lowest_score_hold(index: MemoryIndex) -> None:
    where = SegmentFilter(tags=("cat",))
    plain = ask(replace(QUERY, where=where, min_score=0.1), index)
    diverse = ask(replace(DIVERSE, where=where, min_score=0.1), index)

    assert sorted(images(diverse)) == sorted(images(plain))


@pytest.mark.parametrize("diversity", [-0.1, 1.1, float("nan")])
def test_a_diversity_out_of_range_is_refused(diversity: float) -> None:
    with pytest.raises(ArgumentError, match="diversity must be between 0 and 1"):
        replace(QUERY, diversity=diversity)


def test_a_number_is_not_asked_for_with_diversity() -> None:
    with pytest.raises(QueryError, match="leave one out"):
        replace(DIVERSE, condition=Counted(">=", 2))


def test_an_example_finds_its_own_kind_and_a_mean_neither(index: MemoryIndex) -> None:
    a, b = (SegmentTerm(PICTURES[0].segment_ids[place]) for place in (3, 9))

    best = ask(SearchQuery((a, b), combine="best", limit=1, per_image=2, nms=False), index)

    assert {one.segment_id for one in best.hits[0].segments} == {a.segment_id, b.segment_id}
    assert [one.score for one in best.hits[0].segments] == pytest.approx([1, 1], abs=1e-5)


def test_what_is_most_like_an_excluded_example_is_left_out(index: MemoryIndex) -> None:
    like, unlike = (SegmentTerm(PICTURES[0].segment_ids[3]), SegmentTerm(PICTURES[0].segment_ids[9], -0.5))

    found = ask(SearchQuery((like, unlike), combine="best", limit=100, per_image=100, nms=False), index)

    stored = index.get_vectors([record.segment_id for record in index.scroll_segments()])

    def score(a: UUID, b: UUID) -> float:
        return sum(
            weight * float(stored[a][view] @ stored[b][view]) for view, weight in QUERY.view_weights.items()
        )

    wanted = {key for key in stored if score(key, like.segment_id) > score(key, unlike.segment_id)}
    assert {one.segment_id for hit in found.hits for one in hit.segments} == wanted
    assert unlike.segment_id not in wanted


def test_texts_are_not_compared_with_examples_one_by_one() -> None:
    segment = SegmentTerm(PICTURES[0].segment_ids[3])
    for term in (TextTerm("dog"), TextTerm("dog", -0.5), ConceptTerm("dogs")):
        with pytest.raises(QueryError, match="leave texts and concepts out"):
            replace(QUERY, terms=(segment, term), combine="best")


def copied(picture: Picture, number: int, *, noise: float = 0.0) -> Picture:
    """Return another picture with the segments of one, as a copy of its file in another size has them."""
    other = make_picture(number, 0)
    rng = np.random.default_rng(number)
    segments = [
        replace(
            one,
            segment_id=make_segment_id(other.image_id, one.mask),
            image_id=other.image_id,
            ancestor_ids=(),
        )
        for one in picture.segments.records
    ]
    vectors = {
        view: _unit(rows + noise * rng.normal(size=rows.shape))
        for view, rows in picture.segments.vectors.items()
    }
    record = replace(other.record, status="done", segment_count=len(segments))
    vector = _unit(picture.vector + noise * rng.normal(size=picture.vector.shape))
    return Picture(record, vector, EmbeddedSegments(segments, vectors))


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _flat(picture: Picture) -> Picture:
    """Return a picture without a mask tree."""
    records = [replace(one, ancestor_ids=()) for one in picture.segments.records]
    return replace(picture, segments=EmbeddedSegments(records, picture.segments.vectors))


BURST = [_flat(make_picture(3_000, 8))]
BURST += [copied(BURST[0], 3_001 + number, noise=0.01) for number in range(4)]
COLLAPSED = replace(QUERY, collapse_duplicates=True, per_image=100)


@pytest.fixture(name="with_burst", scope="module")
def _with_burst() -> MemoryIndex:
    return filled([*PICTURES, *BURST])


def test_a_burst_is_one_picture_with_the_ids_of_the_others(with_burst: MemoryIndex) -> None:
    plain = ask(replace(QUERY, per_image=100), with_burst)
    answer = ask(COLLAPSED, with_burst)

    of_burst = [key for key in images(plain) if key in {one.image_id for one in BURST}]
    assert len(of_burst) == len(BURST)
    [found] = [hit for hit in answer.hits if hit.near_duplicates]
    assert [found.image.image_id, *found.near_duplicates] == of_burst  # the best one, then the others
    assert images(answer) == [key for key in images(plain) if key not in of_burst[1:]]
    shown = {hit.image.image_id: hit.segments for hit in plain.hits}
    assert all(hit.segments == shown[hit.image.image_id] for hit in answer.hits)


def test_pictures_that_only_look_alike_as_a_whole_are_not_collapsed() -> None:
    first = _flat(make_picture(3_100, 8))
    other = _flat(make_picture(3_101, 8))
    moved = [
        replace(one, box=BoxXYXY(300, 9 * n, 600, 9 * n + 5)) for n, one in enumerate(other.segments.records)
    ]
    index = filled(
        [
            first,
            replace(
                other,
                vector=first.vector,
                segments=EmbeddedSegments(moved, other.segments.vectors),
            ),
        ]
    )

    assert [hit.near_duplicates for hit in ask(COLLAPSED, index).hits] == [(), ()]


BOXES = st.lists(
    st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 40)] * 2).map(
        lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
    ),
    min_size=1,
    max_size=6,
).map(lambda boxes: np.array(boxes) / 80)


@given(BOXES, BOXES)
def test_the_agreement_of_layouts_is_that_of_comparing_each_box(a: np.ndarray, b: np.ndarray) -> None:
    def is_same(one: np.ndarray, other: np.ndarray) -> bool:
        return 2 * len(_cells(one) & _cells(other)) >= len(_cells(one) | _cells(other))

    shares = [
        sum(any(is_same(one, other) for other in others) for one in boxes) / len(boxes)
        for boxes, others in ((a, b), (b, a))
    ]
    exactly_half = any(
        2 * len(shared) == len(whole)
        for shared, whole in (
            (_cells(one) & _cells(other), _cells(one) | _cells(other)) for one in a for other in b
        )
    )
    assert exactly_half or layout_agreement(a, b) == pytest.approx(sum(shares) / 2)
    assert layout_agreement(a, b) == layout_agreement(b, a)
    assert layout_agreement(a, a) == 1


def _cells(box: np.ndarray) -> set[tuple[int, int]]:
    x1, y1, x2, y2 = (round(float(side)) for side in box * 80)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


def test_a_picture_without_segments_agrees_with_none() -> None:
    assert layout_agreement(np.zeros((0, 4)), np.array([[0, 0, 1, 1]])) == 0


def test_pages_of_collapsed_pictures_are_one_large_answer(with_burst: MemoryIndex) -> None:
    query = replace(COLLAPSED, diversity=0.4)
    whole = ask(query, with_burst)
    pages = [ask(replace(query, limit=4, offset=start), with_burst) for start in range(0, 40, 4)]

    assert [hit for page in pages for hit in page.hits] == list(whole.hits)


def test_a_copy_is_not_shown_before_other_pictures() -> None:
    pictures = [_flat(make_picture(3_200 + number, 1)) for number in range(6)]
    index = filled([*pictures, *(copied(one, 3_300 + n) for n, one in enumerate(pictures))])

    first = images(ask(replace(QUERY, diversity=1.0, limit=6), index))

    best = {n: {one.image_id, copied(one, 3_300 + n).image_id} for n, one in enumerate(pictures)}
    assert all(len(pair & set(first)) == 1 for pair in best.values())
