"""How the segments of a query score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdex_search.colours import ColourBonus
from segdex_search.queries import Term


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """What hits should be like any of, and unlike all of.

    Attributes:
        towards: (dim,) unit vector by view of each example to look like; at least one.
        away: Those of the examples to be unlike.
    """

    towards: Sequence[Mapping[str, npt.NDArray[np.float32]]]
    away: Sequence[Mapping[str, npt.NDArray[np.float32]]]

    @classmethod
    def of(
        cls, terms: Sequence[Term], vectors: Sequence[Mapping[str, npt.NDArray[np.float32]]]
    ) -> "Examples":
        """Return the examples of the terms of a query, whose weights only say like or unlike."""
        pairs = list(zip(terms, vectors, strict=True))
        return cls([one for t, one in pairs if t.weight > 0], [one for t, one in pairs if t.weight < 0])


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """What segments are compared with, and what counts how much.

    Attributes:
        vectors: (dim,) query vector by view.
        weights: Weight of each view, 0 or more, not all 0.
        object_weight: Weight of the object score, added to the mean of the views.
        bonus: What segments in some colours score more; None for nothing.
        examples: What hits should be like any of, in place of ``vectors``; None for ``vectors``.
    """

    vectors: Mapping[str, npt.NDArray[np.float32]]
    weights: Mapping[str, float]
    object_weight: float = 0.0
    bonus: ColourBonus | None = None
    examples: Examples | None = None

    @property
    def highest(self) -> float:
        """A score that no segment exceeds: of a whole object in all colors, with the vector of the query."""
        total = sum(self.weights.values())
        lengths = {
            view: 1.0 if self.examples is not None else float(np.linalg.norm(vector))
            for view, vector in self.vectors.items()
        }
        alike = sum(weight / total * lengths[view] for view, weight in self.weights.items())
        return alike + self.object_weight + (0.0 if self.bonus is None else self.bonus.weight)
