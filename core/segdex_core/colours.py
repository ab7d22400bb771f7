"""The eleven basic colour terms of English (Berlin and Kay, 1969), and their shares in a segment."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

ColourName = Literal[
    "black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"
]

COLOUR_NAMES: tuple[ColourName, ...] = get_args(ColourName)
"""All names, in the order in which shares are stored."""

SHARE_STEPS = (0.25, 0.5)
"""Shares that an index can filter by, smallest first. An index stores which of them a segment reaches."""

FILTER_SHARE = 0.25
"""Share that the filter for a colour asks for; one of ``SHARE_STEPS``."""

COLOUR_SYNONYMS: Mapping[str, ColourName] = MappingProxyType(
    {
        "gray": "grey",
        "violet": "purple",
        "magenta": "purple",
        "navy": "blue",
        "scarlet": "red",
        "crimson": "red",
    }
)
"""Other words for the eleven names."""


def colour_named(word: str) -> ColourName | None:
    """Return the name that a word stands for, in any case; None if it is no colour word.

    Example:
        >>> colour_named("Gray"), colour_named("car")
        ('grey', None)
    """
    lower = word.lower()
    return COLOUR_SYNONYMS.get(lower) or next((name for name in COLOUR_NAMES if name == lower), None)


@dataclass(frozen=True, slots=True)
class ColourShares:
    """What share of a segment has each of the eleven colours.

    Attributes:
        thousandths: 11 whole numbers of 0 or more that add up to 1,000, in the order of ``COLOUR_NAMES``.
            Whole numbers read back from any index as they were written.

    Example:
        >>> ColourShares((0, 250, 0, 750, 0, 0, 0, 0, 0, 0, 0)).by_name()
        {'red': 0.75, 'white': 0.25}
    """

    thousandths: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.thousandths) != len(COLOUR_NAMES) or min(self.thousandths) < 0:
            raise ValueError(f"colours must be {len(COLOUR_NAMES)} numbers of 0 or more: {self.thousandths}")
        if sum(self.thousandths) != 1000:
            raise ValueError(f"colours must add up to 1,000 thousandths, but are {self.thousandths}")

    def share(self, name: ColourName) -> float:
        """Return the share of one colour, 0 to 1."""
        return self.thousandths[COLOUR_NAMES.index(name)] / 1000

    def by_name(self) -> dict[ColourName, float]:
        """Return the shares above 0 by name, largest first."""
        shares = {name: count / 1000 for name, count in zip(COLOUR_NAMES, self.thousandths, strict=True)}
        return {name: shares[name] for name in sorted(shares, key=lambda each: -shares[each]) if shares[name]}


@dataclass(frozen=True, slots=True)
class ColourAtLeast:
    """The condition that a colour has at least some share of a segment.

    Attributes:
        name: The colour.
        share: One of ``SHARE_STEPS``.
    """

    name: ColourName
    share: float

    def __post_init__(self) -> None:
        if self.name not in COLOUR_NAMES:
            raise ValueError(f"a colour must be one of {', '.join(COLOUR_NAMES)}, but is {self.name!r}")
        if self.share not in SHARE_STEPS:
            raise ValueError(f"a share must be one of {SHARE_STEPS}, but is {self.share}")

    def holds(self, colours: ColourShares | None) -> bool:
        """Return whether a segment meets it; one whose colours were not measured does not."""
        return colours is not None and colours.share(self.name) >= self.share
