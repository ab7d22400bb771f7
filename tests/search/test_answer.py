"""A search over an index that is compared with every segment by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest
from tests.backends.index.stored_samples import (
    DIM,
    FINGERPRINT,
    FOLDERS,
    VIEWS,
    Picture,
    all_segments,
    make_picture,
    make_pictures,
)
from tests.fakes.embedder import ColourEmbedder

from segdex_backends.index.memory import MemoryIndex
from segdex_core.errors import ArgumentError, IndexMismatchError, IndexMissingError, QueryError
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import (
    EVERYTHING,
    EmbeddedSegments,
    FusedSegment,
    ImageRecord,
    RGBImage,
    SegmentFilter,
    Vectors,
)
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS, Level
from segdex_search.answer import SearchAnswer, check_embedder, search
from segdex_search.calibrate import UNKNOWN, Calibration
from segdex_search.explain import term_scores
from segdex_search.presence import PresenceJudge
from segdex_search.queries import ImageTerm, SearchQuery, SegmentTerm, TextTerm
from segdex_search.rank import SearchHit

PICTURES = make_pictures()


class SampleEmbedder(ColourEmbedder):
    """Embeds a text as a random direction, in the space of the made-up pictures."""

    @property
    def fingerprint(self) -> str:
        return FINGERPRINT.embedder

    @property
    def dim(self) -> int:
        return DIM

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        rows = np.array([np.random.default_rng(len(text)).normal(size=DIM) for text in texts], np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


EMBEDDER = SampleEmbedder()


def filled(pictures: Sequence[Picture] = PICTURES) -> MemoryIndex:
    index = MemoryIndex()
    index.ensure(FINGERPRINT)
    for picture in pictures:
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)
    return index


@pytest.fixture(name="index", scope="module")
def _index() -> MemoryIndex:
    return filled()


def ids_of(answer: SearchAnswer) -> list[list[UUID]]:
    return [[found.record.segment_id for found in hit.segments] for hit in answer.hits]


def scores_of_all(index: MemoryIndex, vectors: Mapping[str, npt.NDArray[np.float32]]) -> dict[UUID, float]:
    """Return the default score of every segment for a text, from what is stored alone."""
    records = {record.segment_id: record for record in index.scroll_segments()}
    stored = index.get_vectors(list(records))
    return {
        key: sum(DEFAULT_VIEW_WEIGHTS[view] * float(stored[key][view] @ vectors[view]) for view in VIEWS)
        + UNKNOWN.object_weight * record.object_score
        for key, record in records.items()
    }


def test_the_pictures_are_those_with_the_best_segments(index: MemoryIndex) -> None:
    """Nested hits are kept and each picture gives one: the order is that of the best fused score."""
    row = EMBEDDER.embed_texts(["some text"])[0]
    scores = scores_of_all(index, dict.fromkeys(VIEWS, row))
    best: dict[UUID, float] = {}
    for record in all_segments(PICTURES):
        score = scores[record.segment_id]
        best[record.image_id] = max(best.get(record.image_id, -9), score)
    expected = sorted(best, key=lambda image_id: -best[image_id])

    query = SearchQuery((TextTerm("some text"),), limit=100, per_image=1, nms=False)
    answer = search(query, index=index, embedder=EMBEDDER)

    assert [hit.image.image_id for hit in answer.hits] == expected
    for hit in answer.hits:
        assert hit.score == pytest.approx(best[hit.image.image_id], abs=1e-6)


def test_an_answer_is_a_page_of_distinct_pictures_with_segments_of_their_own(index: MemoryIndex) -> None:
    query = SearchQuery((TextTerm("some text"),), limit=5, per_image=2)
    answer = search(query, index=index, embedder=EMBEDDER)

    assert len({hit.image.image_id for hit in answer.hits}) == len(answer.hits) == 5
    assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)
    assert answer.embedder == EMBEDDER.name
    assert set(answer.timings_ms) == {"embed", "query"}
    for hit in answer.hits:
        assert 1 <= len(hit.segments) <= 2
        assert {found.record.image_id for found in hit.segments} == {hit.image.image_id}
        for i, found in enumerate(hit.segments):
            others = {other.record.segment_id for other in hit.segments[i + 1 :]}
            assert others.isdisjoint(found.record.ancestor_ids)


def test_a_smaller_page_is_the_start_of_a_larger_one(index: MemoryIndex) -> None:
    large = search(SearchQuery((TextTerm("dog"),), limit=12), index=index, embedder=EMBEDDER)

    for limit in (1, 3):
        small = search(SearchQuery((TextTerm("dog"),), limit=limit), index=index, embedder=EMBEDDER)
        assert ids_of(small) == ids_of(large)[:limit]


def test_pages_together_are_the_whole_answer_without_repeats(index: MemoryIndex) -> None:
    whole = search(SearchQuery((TextTerm("dog"),), limit=50), index=index, embedder=EMBEDDER)
    assert not whole.more

    pages: list[tuple[SearchHit, ...]] = []
    more, size = True, 5
    while more:
        query = SearchQuery((TextTerm("dog"),), limit=size, offset=len(pages) * size)
        answer = search(query, index=index, embedder=EMBEDDER)
        pages.append(answer.hits)
        more = answer.more

    assert [hit for page in pages for hit in page] == list(whole.hits)
    assert len(pages) > 2


def test_each_term_is_scored_alone_and_the_sum_with_the_object_score_is_the_score(
    index: MemoryIndex,
) -> None:
    one = SearchQuery((TextTerm("dog"),), view_weights={"crop": 3, "mask": 1})
    two = SearchQuery((TextTerm("dog"), TextTerm("horse", -0.5)))

    for query in (one, two):
        hits = search(query, index=index, embedder=EMBEDDER).hits
        scores = term_scores(query, hits, embedder=EMBEDDER, index=index)
        for segment in (segment for hit in hits for segment in hit.segments):
            weighted = zip(query.terms, scores[segment.segment_id], strict=True)
            expected = sum(term.weight * own for term, own in weighted)
            expected += UNKNOWN.object_weight * segment.record.object_score
            assert segment.score == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("segment_id", [PICTURES[0].segment_ids[7], PICTURES[5].segment_ids[0]])
def test_a_segment_finds_itself_first_with_score_one(index: MemoryIndex, segment_id: UUID) -> None:
    answer = search(SearchQuery((SegmentTerm(segment_id),)), index=index, embedder=EMBEDDER)

    first = answer.hits[0].segments[0]
    assert first.record.segment_id == segment_id
    assert first.score == pytest.approx(1, abs=1e-5)
    assert first.view_scores == pytest.approx(dict.fromkeys(VIEWS, 1), abs=1e-5)


def test_nothing_below_the_least_score_is_returned(index: MemoryIndex) -> None:
    query = SearchQuery((TextTerm("dog"),), limit=50, per_image=50, nms=False)
    every = search(query, index=index, embedder=EMBEDDER)
    cut = sorted(found.score for hit in every.hits for found in hit.segments)[-10]

    answer = search(replace(query, min_score=cut), index=index, embedder=EMBEDDER)

    found = [found.score for hit in answer.hits for found in hit.segments]
    assert len(found) == 10
    assert min(found) == cut


@pytest.mark.parametrize("terms", [(TextTerm("dog"),), (TextTerm("dog"), TextTerm("cat", -0.5))])
def test_a_least_score_that_no_hit_can_have_is_refused_with_the_range(
    index: MemoryIndex, terms: tuple[TextTerm, ...]
) -> None:
    query = SearchQuery(terms, limit=50)
    best = search(query, index=index, embedder=EMBEDDER).hits[0].score

    with pytest.raises(ArgumentError, match=r"^min_score must be at most \d\.\d\d, .*but got 25$") as caught:
        search(replace(query, min_score=25), index=index, embedder=EMBEDDER)

    most = float(str(caught.value).split("at most ")[1].split(",")[0])
    assert best <= most <= 1 + 0.5 * (len(terms) - 1) + 0.15  # the views, the object score and the color
    search(replace(query, min_score=most - 0.01), index=index, embedder=EMBEDDER)


@pytest.mark.parametrize(
    "where",
    [
        SegmentFilter(image_ids=(PICTURES[4].image_id, PICTURES[9].image_id)),
        SegmentFilter(min_area_fraction=0.4, max_area_fraction=0.6),
        SegmentFilter(tags=("odd", "cat")),
        SegmentFilter(sources=(FOLDERS[1],)),
        SegmentFilter(captured_from_s=1_700_003_000, captured_until_s=1_700_008_000),
    ],
)
def test_a_filter_holds_for_every_segment_of_the_answer(index: MemoryIndex, where: SegmentFilter) -> None:
    query = SearchQuery((TextTerm("dog"),), where=where, limit=100, per_image=100, nms=False)
    expected = {record.segment_id for record in index.scroll_segments(where)}

    answer = search(query, index=index, embedder=EMBEDDER)

    assert 0 < len(expected) < index.counts().segments
    assert {key for ids in ids_of(answer) for key in ids} == expected


class RecordingIndex(MemoryIndex):
    """Remembers with which options it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, SegmentFilter, bool]] = []
        self.object_weights: list[float] = []

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
        self.asked += [(view, where, exact) for view in weights]
        self.object_weights.append(object_weight)
        return super().query_fused(
            vectors, weights=weights, object_weight=object_weight, limit=limit, where=where, exact=exact
        )


@pytest.mark.parametrize("exact", [True, False])
def test_the_filter_and_the_wish_for_exactness_reach_the_index_once_for_each_view(exact: bool) -> None:
    index = RecordingIndex()
    index.ensure(FINGERPRINT)
    where = SegmentFilter(tags=("cat",))
    weights = {"crop": 1.0, "mask": 0.0}

    search(SearchQuery((TextTerm("dog"),), where=where, exact=exact), index=index, embedder=EMBEDDER)
    search(SearchQuery((TextTerm("dog"),), view_weights=weights), index=index, embedder=EMBEDDER)

    assert index.asked == [(view, where, exact) for view in VIEWS] + [("crop", EVERYTHING, False)]


WITHOUT_OBJECTS = Calibration(object_weight=0, threshold=0, growth=0)


@pytest.mark.parametrize(("level", "factor"), [("any", 1), ("whole", 3), ("part", 0)])
def test_the_level_says_how_much_the_object_score_counts(level: Level, factor: float) -> None:
    index = RecordingIndex()
    index.ensure(FINGERPRINT)
    known = Calibration(object_weight=0.2, threshold=1, growth=0)
    query = SearchQuery((TextTerm("dog"),), level=level)

    search(query, index=index, embedder=EMBEDDER, calibration=known)

    assert index.object_weights == pytest.approx([factor * 0.2])


def test_parts_are_the_segments_inside_others_alone() -> None:
    index = filled(PICTURES[1:])  # none of them has more segments than an answer can hold
    query = SearchQuery((TextTerm("dog"),), level="part", limit=100, per_image=100, nms=False)
    inside = {record.segment_id for record in index.scroll_segments() if record.ancestor_ids}
    deep = {record.segment_id for record in index.scroll_segments() if len(record.ancestor_ids) >= 2}

    def found(query: SearchQuery) -> set[UUID]:
        answer = search(query, index=index, embedder=EMBEDDER)
        return {one.segment_id for hit in answer.hits for one in hit.segments}

    assert 0 < len(deep) < len(inside) < index.counts().segments
    assert found(query) == inside
    assert found(replace(query, where=SegmentFilter(min_depth=2))) == deep
    assert len(found(replace(query, level="whole"))) == index.counts().segments


def test_the_level_whole_moves_likelier_objects_up(index: MemoryIndex) -> None:
    def mean_object_score(query: SearchQuery, calibration: Calibration | None = None) -> float:
        answer = search(query, index=index, embedder=EMBEDDER, calibration=calibration)
        return float(np.mean([one.record.object_score for hit in answer.hits for one in hit.segments]))

    text = SearchQuery((TextTerm("dog"),), per_image=1)

    without = mean_object_score(text, WITHOUT_OBJECTS)
    assert without < mean_object_score(replace(text, level="whole"))
    assert mean_object_score(text, replace(WITHOUT_OBJECTS, object_weight=9)) > 0.8


def test_a_segment_as_the_question_does_not_ask_for_objects(index: MemoryIndex) -> None:
    query = SearchQuery((SegmentTerm(PICTURES[1].segment_ids[0]),))

    with_any = search(query, index=index, embedder=EMBEDDER)
    without = search(query, index=index, embedder=EMBEDDER, calibration=WITHOUT_OBJECTS)

    assert with_any.hits == without.hits


def judged(
    index: MemoryIndex, threshold: float, query: SearchQuery, *, keep_weak: bool = False, growth: float = 0
) -> SearchAnswer:
    words = EMBEDDER.embed_texts(["x" * length for length in range(20, 60)])
    judge = PresenceJudge(words, Calibration(object_weight=0, threshold=threshold, growth=growth))
    return search(query, index=index, embedder=EMBEDDER, judge=judge, keep_weak=keep_weak)


def test_weaker_hits_are_kept_with_a_mark_or_left_out(index: MemoryIndex) -> None:
    query = SearchQuery((TextTerm("dog"),), limit=20)
    plain = search(query, index=index, embedder=EMBEDDER, calibration=WITHOUT_OBJECTS)
    every = judged(index, 0, query, keep_weak=True)
    presences = sorted(hit.presence or 0 for hit in every.hits)
    threshold = (presences[9] + presences[10]) / 2

    kept = judged(index, threshold, query, keep_weak=True)
    dropped = judged(index, threshold, query)

    assert [hit.image for hit in kept.hits] == [hit.image for hit in plain.hits]
    assert all(hit.presence is None and hit.is_match for hit in plain.hits)
    assert all(hit.presence is not None for hit in kept.hits)
    assert [hit.is_match for hit in kept.hits] == [(hit.presence or 0) >= threshold for hit in kept.hits]
    assert sum(hit.is_match for hit in kept.hits) == len(every.hits) - 10
    assert dropped.hits == tuple(hit for hit in kept.hits if hit.is_match)
    assert "presence" in kept.timings_ms


def test_the_threshold_grows_with_the_pictures_that_are_looked_at(index: MemoryIndex) -> None:
    every = judged(index, -99, SearchQuery((TextTerm("dog"),), limit=5)).hits
    one = SegmentFilter(image_ids=(every[0].image.image_id,))
    threshold = (every[0].presence or 0) - 0.1

    alone = judged(index, threshold, SearchQuery((TextTerm("dog"),), where=one), growth=1.0)
    among_all = judged(index, threshold, SearchQuery((TextTerm("dog"),), limit=5), growth=1.0)

    assert [hit.image for hit in alone.hits] == [every[0].image]
    assert among_all.hits == ()  # the threshold is log(24) higher


def test_a_negative_term_moves_what_it_means_down(index: MemoryIndex) -> None:
    target = PICTURES[1].segment_ids[0]
    both = (SegmentTerm(target), SegmentTerm(PICTURES[4].segment_ids[0]))
    away = (both[1], SegmentTerm(target, -0.5))

    def score(terms: tuple[SegmentTerm, ...]) -> float:
        query = SearchQuery(terms, limit=100, per_image=100, nms=False)
        answer = search(query, index=index, embedder=EMBEDDER)
        return next(
            found.score for hit in answer.hits for found in hit.segments if found.record.segment_id == target
        )

    assert score(both) > score(both[1:]) > score(away)


def test_an_unknown_segment_is_a_wrong_query(index: MemoryIndex) -> None:
    with pytest.raises(QueryError, match="there is no segment"):
        search(SearchQuery((SegmentTerm(UUID(int=3)),)), index=index, embedder=EMBEDDER)


def test_an_index_that_was_never_filled_is_missing_and_says_how_to_fill_it() -> None:
    with pytest.raises(IndexMissingError, match=r"^memory is empty; fill it with: segdex ingest FOLDER$"):
        search(SearchQuery((TextTerm("dog"),)), index=MemoryIndex(), embedder=EMBEDDER)


def test_an_index_without_a_picture_answers_with_no_hits() -> None:
    assert search(SearchQuery((TextTerm("dog"),)), index=filled([]), embedder=EMBEDDER).hits == ()


def test_an_index_of_another_embedder_is_refused_before_anything_is_embedded(index: MemoryIndex) -> None:
    class OtherEmbedder(SampleEmbedder):
        @property
        def fingerprint(self) -> str:
            return "other model"

        def embed_texts(self, texts: Sequence[str]) -> Vectors:
            raise AssertionError("nothing is embedded for this index")

    with pytest.raises(IndexMismatchError) as caught:
        search(SearchQuery((TextTerm("dog"),)), index=index, embedder=OtherEmbedder())

    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in (FINGERPRINT.embedder, "other model", "--profile", "--index"))
    check_embedder(index, EMBEDDER)


def test_segments_whose_picture_is_not_in_the_ledger_are_left_out() -> None:
    index = filled(PICTURES[:6])
    orphan = make_picture(99, 4)
    index.upsert_segments(orphan.segments)

    answer = search(SearchQuery((SegmentTerm(orphan.segment_ids[0]),)), index=index, embedder=EMBEDDER)

    assert orphan.image_id not in {hit.image.image_id for hit in answer.hits}
    assert answer.hits


def test_orphans_take_no_place_on_the_page() -> None:
    index = filled(PICTURES[4:12])
    orphan = make_picture(99, 4)
    index.upsert_segments(orphan.segments)
    query = SearchQuery((SegmentTerm(orphan.segment_ids[0]),), limit=3)

    assert len(search(query, index=index, embedder=EMBEDDER).hits) == 3


def coloured(colour: tuple[int, int, int]) -> RGBImage:
    return np.full((20, 20, 3), colour, np.uint8)


def colour_index(embedder: Embedder) -> tuple[SegmentIndex, list[ImageRecord]]:
    """Return an index of three pictures with one red, one green and one blue segment."""
    index = MemoryIndex()
    index.ensure(replace(FINGERPRINT, embedder=embedder.fingerprint, dim=embedder.dim))
    records = []
    for number, colour in enumerate([(220, 30, 30), (30, 160, 60), (30, 60, 220)]):
        picture = make_picture(number, 1, dim=embedder.dim)
        rows = embedder.embed_images([coloured(colour)])
        index.upsert_segments(EmbeddedSegments(picture.segments.records, dict.fromkeys(VIEWS, rows)))
        index.upsert_image(picture.record, rows)
        records.append(picture.record)
    return index, records


def test_a_text_and_a_picture_of_it_find_the_same_thing() -> None:
    embedder = ColourEmbedder()
    index, [red, green, _] = colour_index(embedder)

    def first(*terms: TextTerm | ImageTerm) -> ImageRecord:
        return search(SearchQuery(terms), index=index, embedder=embedder).hits[0].image

    assert first(TextTerm("a red thing")) == red
    assert first(ImageTerm(coloured((215, 35, 35)))) == red
    assert first(TextTerm("green red"), TextTerm("red", -0.5)) == green
