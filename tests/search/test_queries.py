"""A query that exists is valid; what is refused is refused in one line that says what to change."""

import math
import unicodedata
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdex_core.errors import QueryError
from segdex_core.records import SEGMENT_VIEWS
from segdex_core.texts import fold_text
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS, MAX_LIMIT, MAX_PER_IMAGE, MAX_TEXT_CHARS
from segdex_search.queries import ImageTerm, SearchQuery, SegmentTerm, Term, TextTerm, clean_text, has_text

DOG = TextTerm("a dog")
PIXELS = np.zeros((4, 4, 3), np.uint8)


def refusal(kind: type[Any], *args: object, **values: object) -> str:
    """Return the message with which a value is refused: one line without control characters."""
    with pytest.raises(QueryError) as caught:
        kind(*args, **values)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300
    assert caught.value.exit_code == 2
    return message


@pytest.mark.parametrize("text", ["", " ", "\t\n  \r", "\N{NO-BREAK SPACE}", "\N{IDEOGRAPHIC SPACE}" * 3])
def test_a_text_of_nothing_but_spaces_is_refused(text: str) -> None:
    assert "is empty" in refusal(TextTerm, text)


@pytest.mark.parametrize("length", [MAX_TEXT_CHARS + 1, 10_000])
def test_a_text_that_is_too_long_is_refused_with_both_lengths(length: int) -> None:
    message = refusal(TextTerm, "x" * length)

    assert f"{length:,}" in message
    assert "1,000" in message


@pytest.mark.parametrize(
    ("character", "name"), [("\0", "U+0000"), ("\x1b", "U+001B"), ("\x7f", "U+007F"), ("\ud800", "U+D800")]
)
def test_control_characters_and_halves_of_pairs_are_refused_by_their_number(
    character: str, name: str
) -> None:
    assert name in refusal(TextTerm, f"a{character}dog")


@pytest.mark.parametrize(
    "text", ["x", "x" * MAX_TEXT_CHARS, "two\nlines\tand a tab", "Straße 犬 \N{DOG FACE}", "7", "?! no"]
)
def test_any_other_text_is_kept_as_it_is(text: str) -> None:
    assert TextTerm(text).text == text


def test_the_two_ways_to_write_an_accent_are_one_query() -> None:
    assert TextTerm("cafe\u0301") == TextTerm("caf\u00e9")
    assert TextTerm("cafe\u0301").text == "caf\u00e9"


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("\uff43\uff41\uff54", "cat"),  # full-width letters
        ("\ufb01sh", "fish"),  # a ligature
        ("dog\u00b2", "dog2"),
        ("red\N{NO-BREAK SPACE}umbrella", "red umbrella"),
        ("\u200bcat", "cat"),  # invisible
        ("c\u00adat", "cat"),
        ("\ufeffcat", "cat"),
        ("c\u200dat", "cat"),
        ("cat\u2019s \u2018eye\u2019", "cat's 'eye'"),
        ("\u201ccat\u201d", '"cat"'),
        ("t\u2011shirt", "t-shirt"),
        ("\N{MAN}\u200d\N{GIRL}", "\N{MAN}\u200d\N{GIRL}"),  # one emoji
        ("\u0646\u0645\u06cc\u200c\u062e", "\u0646\u0645\u06cc\u200c\u062e"),  # Persian
    ],
)
def test_compatible_forms_of_letters_are_folded(text: str, folded: str) -> None:
    assert TextTerm(text).text == clean_text(text) == folded


@pytest.mark.parametrize("text", ["???", "...", "?!", " - ", "\N{IDEOGRAPHIC FULL STOP}", "\u0301", "\u200b"])
def test_a_text_without_a_word_is_refused(text: str) -> None:
    assert "has no word" in refusal(TextTerm, text)


@pytest.mark.parametrize("text", ["\N{DOG FACE}", "\u2603", "\u72ac", "3"])
def test_a_picture_character_or_a_digit_is_enough_of_a_word(text: str) -> None:
    assert TextTerm(text).text == text


@pytest.mark.parametrize("mark", ["\u202e", "\u202a", "\u2066", "\u2069"])
def test_marks_that_turn_the_direction_of_writing_are_refused_by_their_number(mark: str) -> None:
    assert f"U+{ord(mark):04X}" in refusal(TextTerm, f"cat{mark}gpj.exe")


@given(st.text(max_size=40))
def test_every_text_is_either_kept_or_refused_in_one_line(text: str) -> None:
    message, kept = "", fold_text(text)
    try:
        kept = TextTerm(text).text
        again = TextTerm(kept).text
    except QueryError as error:
        message, again = str(error), kept

    assert kept == again == fold_text(text) == unicodedata.normalize("NFKC", kept)
    assert message.isprintable()


@pytest.mark.parametrize("weight", [0, 101, -101, math.nan, math.inf])
def test_a_weight_out_of_range_is_refused_for_every_kind_of_term(weight: float) -> None:
    for kind, what in ((TextTerm, "dog"), (ImageTerm, PIXELS), (SegmentTerm, UUID(int=1))):
        assert str(weight) in refusal(kind, what, weight)


@pytest.mark.parametrize("value", [-1, 0, MAX_LIMIT + 1, 10**12])
def test_a_limit_out_of_range_names_the_argument(value: int) -> None:
    message = refusal(SearchQuery, (DOG,), limit=value)

    assert message.startswith("limit must be between 1 and 1,000")
    assert f"{value:,}" in message


@pytest.mark.parametrize("value", [-1, 0, MAX_PER_IMAGE + 1])
def test_a_number_of_segments_out_of_range_names_the_argument(value: int) -> None:
    assert refusal(SearchQuery, (DOG,), per_image=value).startswith("per_image must be between 1 and 100")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_cut_off_that_is_no_number_names_the_argument(value: float) -> None:
    assert "min_score must be a finite number" in refusal(SearchQuery, (DOG,), min_score=value)


def test_a_query_needs_something_to_look_for() -> None:
    assert "needs a text, a picture or a segment" in refusal(SearchQuery, ())
    assert "only excludes" in refusal(SearchQuery, (TextTerm("cat", -1),))


@pytest.mark.parametrize(
    "weights", [{}, {"crop": 0.0}, {"crop": -1.0, "mask": 2.0}, {"crop": math.nan}, {"crop": math.inf}]
)
def test_view_weights_that_make_no_mean_are_refused(weights: dict[str, float]) -> None:
    assert "view weights" in refusal(SearchQuery, (DOG,), view_weights=weights)


@pytest.mark.parametrize("level", ["", "parts", "Whole"])
def test_an_unknown_level_is_refused_with_those_that_there_are(level: str) -> None:
    message = refusal(SearchQuery, (DOG,), level=level)

    assert message.startswith("level must be one of any, whole, part")
    assert repr(level) in message


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ((DOG,), True),
        ((ImageTerm(PIXELS), DOG), True),
        ((ImageTerm(PIXELS),), False),
        ((SegmentTerm(UUID(int=1)),), False),
        ((ImageTerm(PIXELS), TextTerm("cat", -1)), False),
    ],
)
def test_a_question_has_text_where_words_say_what_to_look_for(
    terms: tuple[Term, ...], expected: bool
) -> None:
    assert has_text(SearchQuery(terms)) is expected


def test_the_default_weights_are_of_the_views_of_a_segment_and_add_up_to_1() -> None:
    assert tuple(DEFAULT_VIEW_WEIGHTS) == SEGMENT_VIEWS
    assert sum(DEFAULT_VIEW_WEIGHTS.values()) == pytest.approx(1)


def test_the_bounds_themselves_are_allowed() -> None:
    for limit, per_image in ((1, 1), (MAX_LIMIT, MAX_PER_IMAGE)):
        query = SearchQuery((DOG, TextTerm("cat", -0.5)), limit=limit, per_image=per_image, min_score=-5)

        assert (query.limit, query.per_image) == (limit, per_image)
