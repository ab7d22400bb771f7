"""Query texts as terms and conditions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdex_core.errors import QueryError
from segdex_core.wire.limits import DEFAULT_NEGATIVE_WEIGHT, MAX_TERMS, MAX_WEIGHT
from segdex_search.grammar import ParsedText, parse_text
from segdex_search.queries import MAX_COUNT, Counted, Related, TextTerm


def terms(text: str) -> list[tuple[str, float]]:
    return [(term.text, term.weight) for term in parse_text(text).terms]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red umbrella", [("red umbrella", 1)]),
        ("  red\tumbrella ", [("  red umbrella ", 1)]),  # as it was written; NFKC makes the tab a space
        ("umbrella -red", [("umbrella", 1), ("red", -DEFAULT_NEGATIVE_WEIGHT)]),
        ("big -red umbrella", [("big umbrella", 1), ("red", -DEFAULT_NEGATIVE_WEIGHT)]),
        ('umbrella -"wet street"', [("umbrella", 1), ("wet street", -DEFAULT_NEGATIVE_WEIGHT)]),
        ("umbrella -red^0.25", [("umbrella", 1), ("red", -0.25)]),
        ('"cup" "wooden table"', [("cup", 1), ("wooden table", 1)]),
        ('"cup"^2 plate', [("cup", 2), ("plate", 1)]),
        ("black cat^2 sofa", [("black sofa", 1), ("cat", 2)]),
        ("-red", [("red", -DEFAULT_NEGATIVE_WEIGHT)]),  # beside a picture that says what to look for
        ("t-shirt", [("t-shirt", 1)]),
        ('27" screen', [('27" screen', 1)]),
        ("cup - plate", [("cup - plate", 1)]),
        ("a ^ b", [("a ^ b", 1)]),
        ('"-red ^2 LEFT OF >= 3"', [("-red ^2 LEFT OF >= 3", 1)]),
        (r'"a \"quoted\" word"', [('a "quoted" word', 1)]),
        ("“red cup” mug", [("red cup", 1), ("mug", 1)]),
        ("猫 -犬", [("猫", 1), ("犬", -DEFAULT_NEGATIVE_WEIGHT)]),
        ("street -🚗", [("street", 1), ("🚗", -DEFAULT_NEGATIVE_WEIGHT)]),
        ("beach -👍🏽^0.2", [("beach", 1), ("👍🏽", -0.2)]),
        ("cup -- plate", [("cup -- plate", 1)]),
    ],
)
def test_a_text_is_its_terms(text: str, expected: list[tuple[str, float]]) -> None:
    found = parse_text(text)

    assert [(term.text.replace("\t", " "), term.weight) for term in found.terms] == expected
    assert found.condition is None


@pytest.mark.parametrize(
    ("text", "subject", "name", "other"),
    [
        ("person LEFT OF bicycle", "person", "left_of", "bicycle"),
        ("tall person RIGHT OF red bicycle", "tall person", "right_of", "red bicycle"),
        ("lamp ABOVE table", "lamp", "above", "table"),
        ("shoe BELOW chair", "shoe", "below", "chair"),
        ("cup ON table", "cup", "on", "table"),
        ("apple INSIDE bowl", "apple", "inside", "bowl"),
        ("dog NEAR door", "dog", "near", "door"),
        ('"bus" LEFT OF "a sign ON a pole"', "bus", "left_of", "a sign ON a pole"),
        ("猫 ON 椅子", "猫", "on", "椅子"),
    ],
)
def test_capitals_name_a_position(text: str, subject: str, name: str, other: str) -> None:
    found = parse_text(text)

    assert [term.text for term in found.terms] == [subject]
    assert found.condition == Related(name, (TextTerm(other),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["DOG ON SOFA", "person left of bicycle", "Left of the house", '"cup ON table"']
)
def test_a_sentence_without_operators_of_its_own_is_a_text(text: str) -> None:
    found = parse_text(text)

    assert found.condition is None
    assert [term.text for term in found.terms] == [text.strip('"')]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog >= 2", Counted(">=", 2)),
        ("dog>=2", Counted(">=", 2)),
        ("dog >=2", Counted(">=", 2)),
        ("dog ≥ 2", Counted(">=", 2)),
        ("black dog = 3 ", Counted("=", 3)),
        ("dog < 4", Counted("<", 4)),
        ("dog <= 1", Counted("<=", 1)),
        ("dog > 1", Counted(">", 1)),
    ],
)
def test_a_comparison_at_the_end_counts(text: str, expected: Counted) -> None:
    found = parse_text(text)

    assert found.condition == expected
    assert [term.text for term in found.terms] in (["dog"], ["black dog"])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("person left of bicycle", "person LEFT OF bicycle"),
        ("a cup on the table", "a cup ON the table"),
        ("two dogs", "dogs >= 2"),
        ("at least 3 red cars", "red cars >= 3"),
        ("TV on table", "TV ON table"),
        ("DOG on SOFA", "dog ON sofa"),
        ("27\u201d TV on table", '27" TV ON table'),
        ("red umbrella", None),
        ("one dog", None),
        ("- on table", None),
        ("onion", None),
    ],
)
def test_what_looks_like_an_operator_is_hinted_at_and_the_hint_works(text: str, hint: str | None) -> None:
    found = parse_text(text)

    assert found.terms == (TextTerm(text),)
    if hint is None:
        assert found.hint is None
    else:
        assert found.hint is not None
        assert found.hint.endswith(f"write: {hint}")
        assert parse_text(hint).condition is not None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("cup color:red on the table", "cup color:red ON the table"),
        ("color:red two cups", "color:red cups >= 2"),
        ("two cups COLOR:red", "cups COLOR:red >= 2"),
        ("cup on the color:red table", None),  # whose colour this is, a filter cannot say
    ],
)
def test_a_hint_keeps_the_colour_filters(text: str, hint: str | None) -> None:
    found = parse_text(text)

    assert found.colors == ("red",)
    assert found.hint is None if hint is None else str(found.hint).endswith(f"write: {hint}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"open', ["quote", "open", "not closed"]),
        ('cup "', ["quote"]),
        ('"cup", plate', ["after \"cup\" comes ','", "space"]),
        ('-"cup"s', ["after \"cup\" comes 's'"]),
        ('"cup""plate"', ['after "cup" comes \'"plate"\'']),
        ('"cup"^x', ["after \"cup\" comes '^x'", "^2"]),
        ("TV ON color:red table", ["color:red", "before the position"]),
        ("tv LEFT color:red OF table", ["color:red", "before the position"]),
        ("cup^0", ["weight", "0"]),
        (f"cup^{MAX_WEIGHT + 1}", ["weight", str(MAX_WEIGHT)]),
        ("dog = 0", ["number", "1", str(MAX_COUNT), "minus"]),
        ("dog < 1", ["number"]),
        (f"dog > {10**30}", ["number", str(MAX_COUNT)]),
        ("a ON b NEAR c", ["ON and NEAR", "quotes"]),
        ("ON table", ["ON", "each side"]),
        ("cup ON", ["ON", "each side"]),
        ("cup ON -table", ["each side"]),
        ("dog ON sofa >= 2", ["not both"]),
        ("-dog >= 2", ["objects to count"]),
        (" ".join(f'"{n}"' for n in range(MAX_TERMS + 1)), [str(MAX_TERMS), str(MAX_TERMS + 1)]),
        ("", ["empty"]),
        ("\x00 cup", ["U+0000"]),
        ('cup -"..."', ["no word"]),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(text: str, words: list[str]) -> None:
    with pytest.raises(QueryError) as refused:
        parse_text(text)

    assert "\n" not in str(refused.value)
    for word in words:
        assert word in str(refused.value)


PHRASES = st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=3).map(" ".join)
WEIGHTS = st.floats(0.01, MAX_WEIGHT).map(lambda weight: round(weight, 3))


@given(st.lists(st.tuples(PHRASES, WEIGHTS, st.booleans()), min_size=1, max_size=MAX_TERMS))
def test_quoted_terms_come_back_as_they_were_written(written: list[tuple[str, float, bool]]) -> None:
    text = " ".join(
        f'{"-" if is_negative else ""}"{phrase}"^{weight}' for phrase, weight, is_negative in written
    )

    assert terms(text) == [
        (phrase, -weight if is_negative else weight) for phrase, weight, is_negative in written
    ]


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    found, refused = None, ""
    try:
        found = parse_text(text)
    except QueryError as error:
        refused = str(error)

    assert (found is None) == bool(refused)
    assert "\n" not in refused
    assert found is None or found.terms


@given(st.lists(st.from_regex(r"[a-z][a-z'-]{0,8}", fullmatch=True), min_size=1, max_size=12))
def test_a_sentence_in_lower_case_is_one_text_as_it_was_written(words: list[str]) -> None:
    text = " ".join(words)

    assert parse_text(text).terms == (TextTerm(text),)
    assert parse_text(text).condition is None


WORDS = [
    "dog",
    "DOG",
    "TV",
    "red",
    "two",
    "3",
    "at least",
    "猫",
    "🚗",
    "-",
    '27"',
    "ß",
    "a=1",
    "-cup",
    '"on"',
]
CAPITALS_WITHOUT_SMALL_LETTERS = "\U0001d403\U0001d40e\U0001d406"
OPERATORS = [
    "on",
    "near",
    "left of",
    "inside",
    "ON",
    "LEFT",
    "OF",
    "NEAR",
    ">= 2",
    "color:red",
    "COLOUR:Gray",
]
SENTENCES = st.lists(
    st.sampled_from([*WORDS, *OPERATORS, CAPITALS_WITHOUT_SMALL_LETTERS]), min_size=1, max_size=6
).map(" ".join)


def words_of(found: ParsedText) -> list[str]:
    other = found.condition.terms if isinstance(found.condition, Related) else ()
    return [word for term in (*found.terms, *other) for word in term.text.lower().split()]


@given(SENTENCES)
def test_what_a_hint_proposes_means_what_the_text_says(text: str) -> None:
    """It parses, it has the condition, and no word and no colour of the text is lost."""
    try:
        found = parse_text(text)
    except QueryError as error:
        for proposal in re.findall(r"(?:such as: |to exclude, write )(.+)$", str(error)):
            assert parse_text(proposal).terms
        return
    if found.hint is None:
        return
    read = parse_text(found.hint.split("write: ")[1])
    before, after = words_of(found), words_of(read)

    assert (read.colors, read.hint) == (found.colors, None)
    if isinstance(read.condition, Related):
        assert sorted(before) == sorted(after + read.condition.name.split("_"))
    else:
        assert isinstance(read.condition, Counted)
        said = before[: len(before) - len(after)]
        assert before == said + after
        assert {"two": 2, "3": 3}[said[-1]] == read.condition.number
        assert said[:-1] in ([], ["at", "least"])
