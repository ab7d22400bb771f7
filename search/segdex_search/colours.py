"""Colours that a query asks for: which words name them, and what a segment in such a colour scores more.

A text goes to the embedder as it is. A colour word in it also adds a bonus to the segments that have this
colour inside their mask.

A colour word counts where it describes what is looked for:

- before a noun: ``red umbrella``, ``dark blue car``, ``red and white flag``; or alone: ``dark red``;
- before the first preposition, verb or ``and``: in ``man in a red shirt`` no colour is that of the man;
- not in the name of a kind, which the embedder knows: ``orange juice``, ``brown bear``, ``red wine``;
- not last where it is a thing too: ``an orange``, ``yellow orange``, ``violet``, but ``dark orange``;
- not after a ``not`` or ``no``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from segdex_core.colours import SHARE_STEPS, ColourAtLeast, ColourName, ColourShares, colour_named
from segdex_search.queries import Term, TextTerm

STEP_BONUSES = (0.5, 1.0)
"""Share of the bonus for each of ``SHARE_STEPS``."""

_WORD = re.compile(r"[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*")
_ARTICLES = frozenset({"a", "an", "the", "my", "some"})
_SHADES = frozenset({"dark", "light", "bright", "pale", "deep", "vivid"})
_NEGATIONS = frozenset({"no", "not", "without", "never", "non"})
_THINGS = frozenset({"orange", "violet"})
_ENDS = frozenset(
    {
        "about",
        "above",
        "across",
        "after",
        "against",
        "along",
        "around",
        "at",
        "before",
        "behind",
        "below",
        "beneath",
        "beside",
        "between",
        "by",
        "down",
        "for",
        "from",
        "in",
        "inside",
        "into",
        "near",
        "next",
        "of",
        "off",
        "on",
        "onto",
        "or",
        "out",
        "outside",
        "over",
        "past",
        "that",
        "through",
        "to",
        "toward",
        "towards",
        "under",
        "up",
        "upon",
        "which",
        "who",
        "whose",
        "with",
        "within",
        "is",
        "are",
        "was",
        "were",
        "has",
        "have",
        "holding",
        "wearing",
        "sitting",
        "standing",
        "lying",
        "riding",
        "carrying",
        "eating",
        "painted",
        "dressed",
        "covered",
        "full",
    }
)
_KINDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "black": frozenset({"bear", "bears", "pepper", "tea", "belt", "hole", "box", "bean", "beans"}),
        "white": frozenset({"wine", "shark", "bread", "rice", "noise"}),
        "grey": frozenset({"wolf", "wolves", "whale", "heron", "seal"}),
        "red": frozenset({"wine", "panda", "pandas", "fox", "foxes", "squirrel", "onion", "carpet", "light"}),
        "orange": frozenset({"juice", "tree", "trees", "peel", "slice", "slices", "zest", "marmalade"}),
        "yellow": frozenset({"light", "card", "pages"}),
        "green": frozenset({"tea", "bean", "beans", "salad", "light", "onion", "onions"}),
        "blue": frozenset({"jay", "whale", "whales", "cheese", "tit"}),
        "brown": frozenset({"bear", "bears", "rice", "sugar", "bread"}),
    }
)


@dataclass(frozen=True, slots=True)
class ColourBonus:
    """What segments in some colours score more.

    The bonus rises with the share of the colour in steps, so that the best segments of each step, which an
    index finds by a filter, are the best of all.

    Attributes:
        names: Colours that a segment must have all to score more; at least one.
        weight: Score that is added where each has the largest of ``SHARE_STEPS``, above 0.
    """

    names: tuple[ColourName, ...]
    weight: float

    def of(self, colours: ColourShares | None) -> float:
        """Return what is added to the score of a segment; 0 where its colours were not measured."""
        return max(
            (bonus for conditions, bonus in self.steps() if all(one.holds(colours) for one in conditions)),
            default=0.0,
        )

    def steps(self) -> list[tuple[tuple[ColourAtLeast, ...], float]]:
        """Return the conditions of each step with its bonus, the lowest first."""
        return [
            (tuple(ColourAtLeast(name, share) for name in self.names), self.weight * bonus)
            for share, bonus in zip(SHARE_STEPS, STEP_BONUSES, strict=True)
        ]


def colour_bonus(terms: Sequence[Term], weight: float) -> ColourBonus | None:
    """Return the bonus of a query; None where no text names a colour, or several name different ones.

    Args:
        terms: Terms of the query, at least one with a positive weight.
        weight: ``Calibration.colour_weight``. Where a picture or another text is looked for too, the bonus
            counts as much as the text with the colour.
    """
    towards = [term for term in terms if term.weight > 0]
    named = [(term.weight, asked_colours(term.text)) for term in towards if isinstance(term, TextTerm)]
    asked = {names for _, names in named if names}
    if len(asked) != 1 or weight <= 0:
        return None
    share = sum(of_text for of_text, names in named if names) / sum(term.weight for term in towards)
    return ColourBonus(asked.pop(), weight * share)


def asked_colours(text: str) -> tuple[ColourName, ...]:
    """Return the colours that what a text looks for should have, each once.

    Example:
        >>> asked_colours("dark blue car"), asked_colours("red and white flag"), asked_colours("orange juice")
        (('blue',), ('red', 'white'), ())
    """
    words = [word for word in _WORD.findall(text.lower()) if word not in _ARTICLES]
    head = _head(words)
    if not _NEGATIONS.isdisjoint(head):
        return ()
    found: dict[ColourName, None] = {}
    is_alone = len(head) == len(words) and all(word in _SHADES or colour_named(word) for word in head)
    for place, word in enumerate(head):
        name = colour_named(word)
        if name is None:
            continue
        if place + 1 < len(head):
            counts = head[place + 1] not in _KINDS.get(name, ())
        else:
            counts = is_alone and (word not in _THINGS or (place > 0 and head[place - 1] in _SHADES))
        if counts:
            found[name] = None
    return tuple(found)


def _head(words: Sequence[str]) -> list[str]:
    """Return the words before a preposition or verb, without an ``and`` between colours."""
    head: list[str] = []
    for place, word in enumerate(words):
        if word == "and":
            around = (*words[place - 1 : place], *words[place + 1 : place + 2])
            if len(around) == 2 and all(map(colour_named, around)):
                continue
        if word == "and" or word in _ENDS:
            break
        head.append(word)
    return head
