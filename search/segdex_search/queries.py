"""Search queries: validated values."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.errors import ArgumentError, QueryError
from segdex_core.records import EVERYTHING, RGBImage, SegmentFilter
from segdex_core.texts import fold_text, has_word
from segdex_core.wire.limits import (
    DEFAULT_VIEW_WEIGHTS,
    MAX_LIMIT,
    MAX_PER_IMAGE,
    MAX_TEXT_CHARS,
    MAX_WEIGHT,
    Combine,
    Level,
)

_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Bidirectional controls: a text with them reads differently from its display (Unicode TR 36)."""


def clean_text(text: str) -> str:
    """Return a text normalized for a model, see ``fold_text``.

    Raises:
        QueryError: If the text is empty or too long, has no letter, digit or emoji, or contains a lone
            surrogate, a bidirectional control character, or another control character that is not white
            space.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise QueryError(
            f"the query text has {len(text):,} characters; at most {MAX_TEXT_CHARS:,} are allowed"
        )
    if not text.strip():
        raise QueryError("the query text is empty; write what to look for, such as: red umbrella")
    for character in text:
        is_control = unicodedata.category(character) in {"Cc", "Cs"} and not character.isspace()
        if is_control or character in _DIRECTIONS:
            raise QueryError(
                f"the query text contains the control character U+{ord(character):04X}; remove it"
            )
    if not has_word(text):
        raise QueryError(
            f"the query text {text.strip()!r} has no word; write what to look for, such as: red umbrella"
        )
    return fold_text(text)


def clean_labels(labels: Sequence[str]) -> list[str]:
    """Return labels as they are stored: normalized as texts are, with single spaces, each once, in order.

    Raises:
        QueryError: If a label has no letter, digit or emoji, or a character that is not allowed.
    """
    names: dict[str, None] = {}
    for label in labels:
        try:
            clean_text(label)  # names stay as they are stored: only compatible forms are folded
            names[" ".join(unicodedata.normalize("NFKC", label).split())] = None
        except QueryError as error:
            raise QueryError(
                f"a label must have a letter or digit and no control characters, but got {label!r}"
            ) from error
    return list(names)


@dataclass(frozen=True, slots=True)
class TextTerm:
    """A text that hits should match, or should not match if the weight is negative."""

    text: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", clean_text(self.text))
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class ImageTerm:
    """An image, or a part of an image, as (H, W, 3) uint8."""

    pixels: RGBImage
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True)
class SegmentTerm:
    """A segment of the index."""

    segment_id: UUID
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True)
class ConceptTerm:
    """A saved concept.

    Attributes:
        name: Its name.
        weight: As of other terms.
        learnt: (dim,) unit vector by view, learnt from its marks; None before it is looked up, see
            ``segdex_search.concepts``.
    """

    name: str
    weight: float = 1.0
    learnt: Mapping[str, npt.NDArray[np.float32]] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_weight(self.weight)

    @property
    def text(self) -> str:
        """The concept as a query text names it."""
        return f"concept:{self.name}"


WrittenTerm = TextTerm | ConceptTerm
"""A term that a text can write."""

Term = WrittenTerm | ImageTerm | SegmentTerm


RelationName = Literal["left_of", "right_of", "above", "below", "on", "inside", "near"]
Comparison = Literal["=", "<", ">", "<=", ">="]

MAX_COUNT = 100
"""Largest number that objects are compared with."""


@dataclass(frozen=True, slots=True)
class Related:
    """The condition that a hit lies in some position to another object of its picture.

    Attributes:
        name: The position of the hit.
        terms: What the other object is.
    """

    name: RelationName
    terms: tuple[WrittenTerm, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """The condition that a picture shows some number of objects, each of which is a hit.

    Attributes:
        comparison: How the number of objects compares with ``number``.
        number: 1 to ``MAX_COUNT``.
    """

    comparison: Comparison
    number: int

    def holds(self, count: int) -> bool:
        """Return whether a number of objects meets the condition."""
        return {
            "=": count == self.number,
            "<": count < self.number,
            ">": count > self.number,
            "<=": count <= self.number,
            ">=": count >= self.number,
        }[self.comparison]


Condition = Related | Counted


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A search query.

    Attributes:
        terms: Terms, at least one with a positive weight.
        where: Conditions on the segments.
        limit: Maximum number of images to return, 1 to 1,000.
        offset: Number of images to skip, which earlier pages returned.
        per_image: Maximum number of segments to return per image, 1 to 100.
        min_score: Minimum score of a hit; None for no minimum.
        view_weights: Weight of each view in the score; normalized to a sum of 1.
        level: Whether to find whole objects or parts; see ``Level``.
        nms: Non-maximum suppression: drop hits that lie inside, or around, a better hit of the same image.
            A query with a condition always does.
        exact: Compare with every vector instead of walking the HNSW graph.
        condition: A position or a number of objects that a picture must show; None for neither.
        combine: Whether hits are like the weighted mean of the terms, or like any of them; see ``Combine``.
        diversity: How much different images come first: 0, by score alone, to 1.
        collapse_duplicates: Whether to return one image of each group of near-duplicates.
    """

    terms: tuple[Term, ...]
    where: SegmentFilter = EVERYTHING
    limit: int = 10
    offset: int = 0
    per_image: int = 3
    min_score: float | None = None
    view_weights: Mapping[str, float] = field(default_factory=lambda: DEFAULT_VIEW_WEIGHTS)
    level: Level = "any"
    nms: bool = True
    exact: bool = False
    condition: Condition | None = None
    combine: Combine = "mean"
    diversity: float = 0.0
    collapse_duplicates: bool = False

    def __post_init__(self) -> None:
        if not any(term.weight > 0 for term in self.terms):
            if self.terms:
                raise QueryError("the query only excludes; add what to look for, such as: umbrella -red")
            raise QueryError("the query needs a text, a picture or a segment to look for")
        for name, high in (("limit", MAX_LIMIT), ("per_image", MAX_PER_IMAGE)):
            value = getattr(self, name)
            if not 1 <= value <= high:
                raise ArgumentError(name, f"must be between 1 and {high:,}, but got {value:,}")
        if not 0 <= self.offset <= MAX_LIMIT - self.limit:
            raise QueryError(
                f"only the first {MAX_LIMIT:,} pictures can be looked through, but {self.offset:,} + "
                f"{self.limit:,} are asked for; narrow the question"
            )
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise ArgumentError("min_score", f"must be a finite number, but got {self.min_score}")
        if self.level not in get_args(Level):
            raise ArgumentError(
                "level", f"must be one of {', '.join(get_args(Level))}, but is {self.level!r}"
            )
        self._check_arrangement()
        weights = self.view_weights.values()
        if not all(math.isfinite(w) and w >= 0 for w in weights) or sum(weights) <= 0:
            raise QueryError(
                f"view weights must be 0 or more, one above 0, but got {dict(self.view_weights)}"
            )
        if self.condition is not None and not self.nms:
            raise ArgumentError(
                "nms", "must be on in a query with a position or a number, which is of objects"
            )

    @property
    def is_arranged(self) -> bool:
        """Whether images are returned in another order than that of their scores, or collapsed."""
        return self.diversity > 0 or self.collapse_duplicates

    def _check_arrangement(self) -> None:
        if self.combine not in get_args(Combine):
            raise ArgumentError(
                "combine", f"must be one of {', '.join(get_args(Combine))}, but is {self.combine!r}"
            )
        if self.combine == "best" and any(isinstance(term, WrittenTerm) for term in self.terms):
            raise QueryError(
                "combine best compares pictures and segments one by one: leave texts and concepts out, or "
                "combine by mean"
            )
        if not 0 <= self.diversity <= 1:
            raise ArgumentError("diversity", f"must be between 0 and 1, but got {self.diversity}")
        if self.condition is not None and self.is_arranged:
            raise QueryError(
                "a position or a number goes neither with diversity nor with collapse_duplicates: leave one "
                "out"
            )


def has_text(query: SearchQuery) -> bool:
    """Return whether a query has a text term with a positive weight, so that presence can be judged."""
    return any(isinstance(term, TextTerm) and term.weight > 0 for term in query.terms)


def _check_weight(weight: float) -> None:
    if not math.isfinite(weight) or weight == 0 or abs(weight) > MAX_WEIGHT:
        raise QueryError(
            f"a weight must be between -{MAX_WEIGHT} and {MAX_WEIGHT} and not 0, but got {weight}"
        )
