r"""The grammar of a query text: one parser for the command line, the service, the page, Python and concepts.

==========================  ==========================================================================
text                        meaning
==========================  ==========================================================================
``red umbrella``            one phrase: all words outside quotes, in their order
``umbrella -red``           exclude ``red``; ``-"wet street"`` excludes a phrase
``"cup" "wooden table"``    several phrases, averaged
``"cup"^2 plate``           ``cup`` counts twice; ``cup^2`` too, and ``-red^0.3`` excludes a little
``person LEFT OF bicycle``  a position: LEFT OF, RIGHT OF, ABOVE, BELOW, ON, INSIDE or NEAR, in capitals
``dog >= 2``                a number of objects: = < > <= >=
``car color:red``           a filter: red covers at least a quarter of the object; ``colour:red`` too
``concept:valve -rusty``    a saved concept, which stands and is weighted and excluded as a phrase is
==========================  ==========================================================================

Quotes take everything literally, and ``\"`` is a quote inside them. A hyphen, a caret or a quote inside a
word, such as ``t-shirt`` or ``27"``, is part of it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from segdex_core.colours import COLOUR_NAMES, ColourName, colour_named
from segdex_core.errors import QueryError
from segdex_core.texts import has_word
from segdex_core.wire.concepts import check_concept_name
from segdex_core.wire.limits import DEFAULT_NEGATIVE_WEIGHT, MAX_TERMS, MAX_WEIGHT
from segdex_search.queries import (
    MAX_COUNT,
    Comparison,
    ConceptTerm,
    Condition,
    Counted,
    Related,
    RelationName,
    TextTerm,
    WrittenTerm,
    clean_text,
)

_OPERATORS: dict[str, RelationName] = {
    name.upper().replace("_", " "): name for name in get_args(RelationName)
}
_SIGNS: dict[str, Comparison] = {**{sign: sign for sign in get_args(Comparison)}, "≤": "<=", "≥": ">="}
_QUOTES = str.maketrans("“”„", '"""')  # as phones and word processors write them

_WEIGHT = r"(?:\^(?P<{0}>\d+(?:\.\d+)?|\.\d+))?"
_TOKEN = re.compile(
    rf"""\s*(?P<minus>-)?(?:
        "(?P<quoted>(?:[^"\\]|\\.)*)"{_WEIGHT.format("quoted_weight")}(?=\s|$)
        | (?P<open>")
        | (?P<word>\S+?){_WEIGHT.format("word_weight")}(?=\s|$)
    )""",
    re.VERBOSE,
)
_CLOSED = re.compile(r'(?P<phrase>"(?:[^"\\]|\\.)*")(?P<after>\S+)')
_GLUED = re.compile(r"(.*[^<>=≤≥])((?:<=|>=|<|>|≤|≥)\d+)")
_COLOR = re.compile(r"colou?r:(.*)", re.IGNORECASE)
_CONCEPT = re.compile(r"concept:(.*)", re.IGNORECASE)
_LOWER_RELATION = re.compile(r"\S\s+(left of|right of|above|below|on|inside|near)\s+\S")
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_LOWER_COUNT = re.compile(
    r"(?P<colors>(?i:colou?r:\S+\s+)*)(?:at least\s+)?"
    rf"(?P<number>\d{{1,2}}|{'|'.join(_NUMBERS[1:])})\s+(?P<what>[^\W\d].*)"
)


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A query text as its terms.

    Attributes:
        terms: Phrases to look for and, with negative weights, to exclude.
        condition: A position or a number that was asked for; None for neither.
        hint: How to write what the text seems to mean, in one line; None where it is clear.
        colors: Colours that hits must have, each once.
    """

    terms: tuple[WrittenTerm, ...]
    condition: Condition | None = None
    hint: str | None = None
    colors: tuple[ColourName, ...] = ()


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    weight: float | None
    is_negative: bool
    is_quoted: bool


def parse_text(text: str) -> ParsedText:
    """Return the terms of a query text; they may all exclude, where a picture says what to look for.

    A text of colour filters alone has no terms.

    Raises:
        QueryError: If the text is empty, a quote is not closed, a weight is out of range, or operators do not
            go together; the message shows the right form.

    Example:
        >>> [(term.text, term.weight) for term in parse_text('umbrella -red').terms]
        [('umbrella', 1.0), ('red', -0.5)]
        >>> parse_text("person LEFT OF bicycle").condition
        Related(name='left_of', terms=(TextTerm(text='bicycle', weight=1.0),))
    """
    found, is_plain = _read(text)
    return replace(found, hint=_hint(text)) if is_plain else found


def _read(text: str) -> tuple[ParsedText, bool]:
    """Return the terms of a text, and whether it has words alone, beside filters."""
    clean_text(text)
    tokens, colors = _split_colors(_tokens(text.translate(_QUOTES)))
    if not tokens:
        return ParsedText((), colors=colors), False
    rest = " ".join(token.text for token in tokens) if colors else text
    found = _parsed(rest, tokens)
    return replace(found, colors=colors), found.condition is None and all(map(_is_bare, tokens))


def _parsed(text: str, tokens: list[_Token]) -> ParsedText:
    """Return the terms of a text without colour filters."""
    counted = _split_count(tokens)
    if counted is not None:
        tokens, condition = counted
        if _operators(tokens):
            raise QueryError("a query compares positions or counts objects, not both: remove one operator")
        if not _positive(tokens):
            raise QueryError("a number needs objects to count, such as: dog >= 2")
        return ParsedText(_terms(tokens), condition)
    found = _operators(tokens)
    if len(found) > 1:
        names = " and ".join(name for _, _, name in found)
        raise QueryError(
            f"a query compares one position, but this one has {names}; put words that are none in quotes"
        )
    if found:
        [(start, end, operator)] = found
        before, after = tokens[:start], tokens[end:]
        if not (_positive(before) and _positive(after)):
            raise QueryError(f"{operator} needs an object on each side, such as: person {operator} bicycle")
        return ParsedText(_terms(before), Related(_OPERATORS[operator], _terms(after)))
    if all(_is_bare(token) and _concept_named(token) is None for token in tokens):
        return ParsedText((TextTerm(text),))  # as it was written, white space included
    return ParsedText(_terms(tokens))


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    end = 0
    while text[end:].strip():
        match = _TOKEN.match(text, end)
        if match is None or match["open"]:
            raise QueryError(_quote_problem(text[end:].strip().lstrip("-")))
        end = match.end()
        is_quoted = match["quoted"] is not None
        content = re.sub(r"\\(.)", r"\1", match["quoted"]) if is_quoted else match["word"]
        weight = match["quoted_weight"] if is_quoted else match["word_weight"]
        is_negative = match["minus"] is not None
        if is_negative and not is_quoted and not has_word(content):
            content, is_negative = f"-{content}", False  # a dash
        tokens.append(_Token(content, None if weight is None else float(weight), is_negative, is_quoted))
    return tokens


def _quote_problem(rest: str) -> str:
    """Return what is wrong with the quote that a text begins with."""
    closed = _CLOSED.match(rest)
    if closed is None:
        return f"the quote before {rest[1:21]!r} is not closed: add the other one, or remove it"
    return (
        f"a phrase in quotes ends with a space or a weight such as ^2, but after {closed['phrase']} comes "
        f"{closed['after'][:20]!r}: put a space between them, or remove it"
    )


def _split_colors(tokens: Sequence[_Token]) -> tuple[list[_Token], tuple[ColourName, ...]]:
    """Return the tokens that are no colour filter, and the colours of the filters.

    Raises:
        QueryError: If a filter has no known colour, excludes, has a weight, or comes after a position, where
            it would seem to be meant for the other object.
    """
    rest: list[_Token] = []
    colors: dict[ColourName, None] = {}
    last: tuple[str, int] = "", 0  # the last filter, and how many other tokens are before it
    for token in tokens:
        match = None if token.is_quoted else _COLOR.fullmatch(token.text)
        if match is None:
            rest.append(token)
            continue
        name = colour_named(match[1])
        if name is None:
            raise QueryError(f"{token.text!r}: a colour must be one of {', '.join(COLOUR_NAMES)}")
        if not _is_bare(token):
            raise QueryError(
                f"{token.text!r} is a filter: it cannot exclude and has no weight; to exclude, write -{name}"
            )
        colors[name] = None
        last = token.text, len(rest)
    if any(start < last[1] for start, _, _ in _operators(rest)):
        raise QueryError(f"{last[0]!r} is for what is looked for: put it before the position")
    return rest, tuple(colors)


def _is_bare(token: _Token) -> bool:
    return not (token.is_quoted or token.is_negative or token.weight is not None)


def _concept_named(token: _Token) -> str | None:
    """Return the name of the concept that a token is; None for another token.

    Raises:
        QueryError: If the name is not allowed.
    """
    match = None if token.is_quoted else _CONCEPT.fullmatch(token.text)
    if match is None:
        return None
    try:
        return check_concept_name(match[1])
    except ValueError as error:
        raise QueryError(
            f"{token.text!r}: the name of a concept {error}; put words that are none in quotes"
        ) from error


def _split_count(tokens: Sequence[_Token]) -> tuple[list[_Token], Counted] | None:
    """Return the tokens before a comparison at the end, and the comparison."""
    if tokens and _is_bare(tokens[-1]) and (glued := _GLUED.fullmatch(tokens[-1].text)):
        bare = (_Token(part, None, is_negative=False, is_quoted=False) for part in glued.groups())
        tokens = [*tokens[:-1], *bare]
    for length in (1, 2):
        tail = tokens[len(tokens) - length :]
        if len(tokens) <= length or not all(map(_is_bare, tail)):
            continue
        match = re.fullmatch(r"(<=|>=|≤|≥|=|<|>) ?(\d+)", " ".join(token.text for token in tail))
        if match is None:
            continue
        number = int(match[2]) if len(match[2]) < 5 else MAX_COUNT + 1
        comparison = _SIGNS[match[1]]
        if not 1 <= number <= MAX_COUNT or (comparison == "<" and number == 1):
            raise QueryError(
                f"a number of objects must be between 1 and {MAX_COUNT}, but is {match[0]!r}; to exclude "
                "objects, put a minus before their name"
            )
        return list(tokens[: len(tokens) - length]), Counted(comparison, number)
    return None


def _operators(tokens: Sequence[_Token]) -> list[tuple[int, int, str]]:
    """Return the start, the end and the name of each operator; none where everything is in capitals."""
    words = [token.text if _is_bare(token) else None for token in tokens]
    found: list[tuple[int, int, str]] = []
    at = 0
    while at < len(words):
        for length in (2, 1):
            name = " ".join(filter(None, words[at : at + length]))
            if None not in words[at : at + length] and name in _OPERATORS:
                found.append((at, at + length, name))
                at += length - 1
                break
        at += 1
    inside = {position for start, end, _ in found for position in range(start, end)}
    others = "".join(token.text for position, token in enumerate(tokens) if position not in inside)
    return [] if others.isupper() and sum(map(str.isalpha, others)) > 1 else found


def _positive(tokens: Sequence[_Token]) -> bool:
    return any(not token.is_negative for token in tokens)


def _terms(tokens: Sequence[_Token]) -> tuple[WrittenTerm, ...]:
    """Return the phrases of tokens: all words without a weight or quotes are one, where the first one is."""
    terms: list[WrittenTerm | None] = []
    phrase: list[str] = []
    place = 0
    for token in tokens:
        concept = _concept_named(token)
        if concept is None and _is_bare(token):
            if not phrase:
                place = len(terms)
                terms.append(None)
            phrase.append(token.text)
            continue
        weight = 1.0 if token.weight is None else token.weight
        if not 0 < weight <= MAX_WEIGHT:
            raise QueryError(
                f"a weight must be above 0 and at most {MAX_WEIGHT}, but {token.text!r} has {weight:g}; "
                "to exclude it, put a minus before it"
            )
        if token.is_negative:
            weight = -weight * (DEFAULT_NEGATIVE_WEIGHT if token.weight is None else 1.0)
        terms.append(TextTerm(token.text, weight) if concept is None else ConceptTerm(concept, weight))
    if phrase:
        terms[place] = TextTerm(" ".join(phrase))
    found = tuple(term for term in terms if term is not None)
    if len(found) > MAX_TERMS:
        raise QueryError(f"a query text has {MAX_TERMS} terms at most, but this one has {len(found)}")
    return found


def _hint(text: str) -> str | None:
    """Return how to write a position or a number that a sentence in lower case seems to name.

    It was read: it has this position or number, and means what the text does in all else.
    """
    words = " ".join(text.translate(_QUOTES).split())
    related = _LOWER_RELATION.search(words)
    if related is not None:
        operator = related[1].upper()
        as_written = words[: related.start(1)].strip(), words[related.end(1) :].strip()
        # a text in capitals has no operators
        for before, after in (as_written, (as_written[0].lower(), as_written[1].lower())):
            proposal = f"{before} {operator} {after}"
            subject, other = _readable(before), _readable(after)
            if subject is None or other is None or other.colors:
                continue
            if _readable(proposal) == replace(subject, condition=Related(_OPERATORS[operator], other.terms)):
                return f"to require the position, write: {proposal}"
    counted = _LOWER_COUNT.fullmatch(words)
    if counted is not None:
        word = counted["number"]
        number = int(word) if word.isdigit() else _NUMBERS.index(word) + 1
        objects = counted["colors"] + counted["what"]
        kind, proposal = _readable(objects), f"{objects} >= {number}"
        if (
            number > 1
            and kind is not None
            and _readable(proposal) == replace(kind, condition=Counted(">=", number))
        ):
            return f"to require the number, write: {proposal}"
    return None


def _readable(text: str) -> ParsedText | None:
    """Return the terms of a text; None if it is refused."""
    try:
        return _read(text)[0]
    except QueryError:
        return None
