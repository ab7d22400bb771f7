"""What is learnt from marks, and what a query text with a concept means."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.backends.index.stored_samples import DIM, FINGERPRINT, VIEWS, make_picture

from segdex_backends.index.memory import MemoryIndex
from segdex_core.concepts import Concept, Mark, change_marks
from segdex_core.errors import QueryError
from segdex_core.ids import make_segment_id
from segdex_core.masks import encode_mask
from segdex_core.records import EmbeddedSegments, Vectors
from segdex_search.calibrate import Calibration, object_weight
from segdex_search.concepts import (
    Direction,
    FitSettings,
    KnownSpreads,
    Learnt,
    Spread,
    check_concept_text,
    fit,
    learn,
    look_up,
    segments_of_marks,
)
from segdex_search.grammar import ParsedText, parse_text
from segdex_search.queries import ConceptTerm, Counted, SearchQuery, SegmentTerm, Term, TextTerm

SEEDS = st.integers(0, 10_000)
COUNTS = st.integers(1, 6)
NOTHING = np.zeros((0, 12), np.float32)


def rows_of(seed: int, count: int, dim: int = 12) -> Vectors:
    """Return unit rows around a common mean, as those of an embedder are."""
    rows = np.random.default_rng(seed).normal(size=(count, dim)) * np.linspace(0.1, 1, dim) + 0.5
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def learnt_from(
    right: Vectors, wrong: Vectors, *, everything: Vectors | None = None, settings: FitSettings | None = None
) -> Direction | None:
    settings = settings or FitSettings()
    sample = rows_of(0, 400) if everything is None else everything
    spread = Spread.of(sample, shrinkage=settings.shrinkage)
    return fit({"crop": right}, {"crop": wrong}, {"crop": spread}, settings=settings)


@given(seed=SEEDS)
def test_a_right_mark_rises_above_the_others_and_a_wrong_one_falls_below(seed: int) -> None:
    marked, everything = rows_of(seed, 1), rows_of(0, 400)
    as_right, as_wrong = learnt_from(marked, NOTHING), learnt_from(NOTHING, marked)
    assert as_right is not None
    assert as_wrong is not None

    for found, sign in ((as_right, 1), (as_wrong, -1)):
        own = (marked @ found.vectors["crop"]).item()
        others = everything @ found.vectors["crop"]
        assert sign * (own - float(others.mean())) > 0


@given(seed=SEEDS, right=COUNTS, wrong=COUNTS)
def test_the_order_of_the_marks_changes_no_digit(seed: int, right: int, wrong: int) -> None:
    rights, wrongs = rows_of(seed, right), rows_of(seed + 1, wrong)
    found, other = learnt_from(rights, wrongs), learnt_from(rights[::-1], wrongs[::-1])
    assert found is not None
    assert other is not None

    assert np.array_equal(found.vectors["crop"], other.vectors["crop"])
    assert found.weight == other.weight


@given(seed=SEEDS, count=COUNTS, exponent=st.integers(-2, 2))
def test_the_direction_does_not_depend_on_the_scale_of_the_vectors(
    seed: int, count: int, exponent: int
) -> None:
    scale = np.float32(2.0**exponent)
    found = learnt_from(rows_of(seed, count), NOTHING)
    scaled = learnt_from(scale * rows_of(seed, count), NOTHING, everything=scale * rows_of(0, 400))
    assert found is not None
    assert scaled is not None

    assert np.allclose(found.vectors["crop"], scaled.vectors["crop"], atol=1e-5)
    assert np.isclose(np.linalg.norm(found.vectors["crop"]), 1, atol=1e-5)


@given(seed=SEEDS, count=COUNTS)
def test_more_marks_weigh_more_but_never_more_than_the_limit(seed: int, count: int) -> None:
    few, more = learnt_from(rows_of(seed, count), NOTHING), learnt_from(rows_of(seed, count + 1), NOTHING)
    assert few is not None
    assert more is not None

    assert 0 < few.weight < more.weight < FitSettings().right


def test_without_shrinkage_to_speak_of_the_direction_is_that_of_lda() -> None:
    settings = FitSettings(shrinkage=1e-9, wrong=0.0)
    everything, marked = rows_of(0, 400).astype(np.float64), rows_of(3, 4)
    found = learnt_from(marked, NOTHING, settings=settings)
    assert found is not None

    expected = np.linalg.inv(np.cov(everything.T, bias=True)) @ (marked.mean(0) - everything.mean(0))
    assert np.allclose(found.vectors["crop"], expected / np.linalg.norm(expected), atol=1e-3)


def test_marks_that_say_nothing_teach_nothing() -> None:
    assert learnt_from(NOTHING, NOTHING) is None
    unknown = np.zeros((3, 12), np.float32)  # an index in which nothing was recognised
    alone = learnt_from(rows_of(1, 1), NOTHING, everything=unknown)
    assert alone is not None
    assert np.allclose(alone.vectors["crop"], rows_of(1, 1)[0])


def test_a_mark_replaces_an_earlier_one_of_its_segment() -> None:
    records = make_picture(1, 3).segments.records
    first, second, third = (Mark.of(record, is_right=True) for record in records)
    other = replace(first, is_right=False)

    assert change_marks((first, second), (other, third)) == (other, second, third)
    assert change_marks((first, second), (), without=[first.segment_id, uuid4()]) == (second,)
    with pytest.raises(ValueError, match="neither a text nor a right mark"):
        Concept("none", None, (other,), 0.0)


# What a text with a concept means.


def texts_only(texts: Mapping[str, str], name: str) -> Learnt:
    return Learnt(name, parse_text(texts[name]), None)


WORDS = st.sampled_from(["red", "umbrella", '"wet street"', "-grey", '"cup"^2', "-shop^0.3", "color:red"])
PLAIN = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)
CONDITIONS = st.sampled_from(["red LEFT OF blue", "red -grey ON table", "red >= 2", "red color:blue = 3"])


@given(text=st.one_of(PLAIN, CONDITIONS))
def test_a_concept_without_marks_is_its_text(text: str) -> None:
    found = look_up(parse_text("concept:x"), partial(texts_only, {"x": text}))

    assert found == parse_text(text)


DIRECTION = Direction({"crop": np.ones(3, np.float32)}, 0.5)


def with_marks(text: str | None, name: str) -> Learnt:
    return Learnt(name, None if text is None else parse_text(text), DIRECTION)


def weights_of(parsed: ParsedText) -> list[tuple[str, float]]:
    return [(term.text, round(term.weight, 6)) for term in parsed.terms]


def test_a_concept_weighs_as_much_as_a_phrase() -> None:
    parsed = parse_text('plate concept:x -"concept:x" -concept:x^0.4')
    assert [(type(term), term.weight) for term in parsed.terms] == [
        (TextTerm, 1.0),
        (ConceptTerm, 1.0),
        (TextTerm, -0.5),
        (ConceptTerm, -0.4),
    ]
    found = look_up(parse_text("plate concept:x"), partial(with_marks, '"cup" "mug"^3 -red'))
    assert weights_of(found) == [
        ("plate", 1),
        ("cup", 0.166667),
        ("mug", 0.5),
        ("red", -0.5),
        ("concept:x", 0.333333),
    ]
    assert sum(term.weight for term in found.terms if term.weight > 0) == pytest.approx(2)
    alone = look_up(parse_text("concept:x -concept:x"), partial(with_marks, None))
    assert weights_of(alone) == [("concept:x", 1), ("concept:x", -0.5)]


def test_what_was_learnt_leaves_the_weight_of_the_object_score_to_the_texts() -> None:
    calibration = Calibration(object_weight=0.4, threshold=0, growth=0)

    def weight_of(text: str, of_concept: str | None, *others: Term) -> float:
        terms = look_up(parse_text(text), partial(with_marks, of_concept)).terms
        return object_weight(SearchQuery((*terms, *others)), calibration)

    assert weight_of("concept:x", "cup -red") == weight_of("concept:x plate", "cup") == pytest.approx(0.4)
    assert weight_of("concept:x", None) == 0
    assert weight_of("plate", None, SegmentTerm(uuid4())) == pytest.approx(0.2)


def test_conditions_go_with_concepts() -> None:
    counted = look_up(parse_text("concept:x >= 2"), partial(with_marks, "cup"))
    assert counted.condition == Counted(">=", 2)
    assert weights_of(counted) == [("cup", 0.666667), ("concept:x", 0.333333)]
    assert parse_text("concept:x>=2") == parse_text("concept:x >= 2")
    related = look_up(parse_text("cup LEFT OF concept:x"), partial(texts_only, {"x": "plate -red"}))
    assert related == parse_text("cup LEFT OF plate -red")


@pytest.mark.parametrize(
    ("text", "of_concept"),
    [
        ("plate concept:x", "cup >= 2"),
        ("-concept:x plate", "cup color:red"),
        ("concept:x^2", "cup color:red"),
        ("concept:x >= 2", "cup ON plate"),
        ("cup ON concept:x", "plate color:red"),
    ],
)
def test_a_concept_with_a_condition_is_the_whole_text(text: str, of_concept: str) -> None:
    with pytest.raises(QueryError, match="must be the whole query text"):
        look_up(parse_text(text), partial(texts_only, {"x": of_concept}))


@pytest.mark.parametrize(
    "text", ["concept:", "concept: x", "-concept:_a", "concept:a/b", "concept:" + "a" * 101]
)
def test_a_name_that_is_not_allowed_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="the name of a concept must be"):
        parse_text(text)


def test_a_concept_does_not_name_another_one() -> None:
    check_concept_text("umbrella -red")
    for text in ("concept:x", "a -concept:x", "a ON concept:x"):
        with pytest.raises(QueryError, match="cannot name another one"):
            check_concept_text(text)
    with pytest.raises(QueryError, match="16 terms at most"):
        look_up(parse_text("concept:x concept:x"), partial(texts_only, {"x": '"a" ' * 9}))


# Marks and the index.


@pytest.fixture(name="index")
def _index() -> MemoryIndex:
    index = MemoryIndex()
    index.ensure(FINGERPRINT)
    for seed in (1, 2):
        picture = make_picture(seed, 5)
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)
    return index


def test_a_mark_is_found_again_by_its_mask(index: MemoryIndex) -> None:
    picture = make_picture(1, 5)
    pixels = np.zeros(picture.segments.records[0].mask.size_hw, bool)
    pixels[10:50, 20:60] = True
    mask = encode_mask(pixels)
    whole, other = (replace(record, mask=mask) for record in picture.segments.records[:2])
    marks = [
        Mark.of(whole, is_right=True),
        Mark.of(replace(other, mask=encode_mask(~pixels)), is_right=False),
    ]
    assert segments_of_marks(marks, index) == {mark.segment_id: mark.segment_id for mark in marks}

    pixels[10:15] = False  # another segmenter draws it a little smaller
    mask = encode_mask(pixels)
    again = replace(whole, mask=mask, segment_id=make_segment_id(whole.image_id, mask))
    index.delete_segments(whole.image_id)
    assert segments_of_marks(marks, index) == {}
    vectors = {view: rows[:1] for view, rows in picture.segments.vectors.items()}
    index.upsert_segments(EmbeddedSegments([again], vectors))

    assert segments_of_marks(marks, index) == {whole.segment_id: again.segment_id}


def test_what_is_learnt_follows_the_vectors_of_the_index(index: MemoryIndex) -> None:
    picture = make_picture(1, 5)
    first = picture.segments.records[0]
    concept = Concept("x", None, (Mark.of(first, is_right=True),), 0.0)
    spreads = KnownSpreads()
    before = learn(concept, index, spreads).direction
    assert before is not None
    assert set(before.vectors) == set(VIEWS)
    assert before.vectors[VIEWS[0]].shape == (DIM,)

    index.delete_image(first.image_id)
    with pytest.raises(QueryError, match="none of the segments that are right"):
        learn(concept, index, spreads)
    with_text = learn(replace(concept, text="cup"), index, spreads)
    assert with_text.direction is None
    assert with_text.text == parse_text("cup")
    index.upsert_segments(picture.segments)
    index.upsert_image(picture.record, picture.vector)
    after = learn(concept, index, spreads).direction
    assert after is not None
    assert all(np.array_equal(before.vectors[view], after.vectors[view]) for view in VIEWS)
