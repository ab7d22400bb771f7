"""How many objects of a kind does a picture show? An estimate from the segments that a text finds in it.

Each candidate is an object of that kind with some probability, and the probabilities add up to the expected
number. They come from a logistic model that was fitted on labelled photographs and
cross-validated by picture; docs/research/search.md has the figures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdex_core.masks import MaskRLE, rle_containment, rle_iou

MAX_CANDIDATES = 40
"""Segments of a picture that are looked at, best first."""

_SAME_IOU, _SAME_CONTAINMENT = 0.5, 0.7
"""A candidate that overlaps a better one so much is the same object, or a part of it, or its surroundings."""

_WEIGHTS = (-6.68, 1.38, 2.98, 3.15, -1.09, 0.31, -1.66, 0.24)
"""Weights of the columns of ``candidate_features``, fitted by ``tests.quality.conditions --fit``."""

_UNKNOWN_OBJECT_SCORE = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Segments of one picture that a text found, best first.

    Attributes:
        masks: Their n masks.
        presence: (n,) standard deviations that the text scores above other words, see ``PresenceJudge``.
        vectors: (n, d) unit rows that look alike for objects that do.
        object_scores: (n,) how likely each is one whole object, 0 to 1.
        area_fractions: (n,) share of the picture that each covers, above 0.
    """

    masks: Sequence[MaskRLE]
    presence: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float32]
    object_scores: npt.NDArray[np.float64]
    area_fractions: npt.NDArray[np.float64]


def distinct(masks: Sequence[MaskRLE]) -> list[int]:
    """Return the positions of masks that overlap no earlier one that stays: one for each object."""
    if not masks:
        return []
    iou, inside = rle_iou(masks, masks), rle_containment(masks, masks)
    same = (iou >= _SAME_IOU) | (inside >= _SAME_CONTAINMENT) | (inside.T >= _SAME_CONTAINMENT)
    kept: list[int] = []
    for position in range(len(masks)):
        if not same[position, kept].any():
            kept.append(position)
    return kept


def object_probabilities(candidates: Candidates) -> npt.NDArray[np.float64]:
    """Return (n,) the probability that each distinct candidate is an object of the kind asked for.

    The best candidate has the probability 1: a picture that shows none is not counted, see ``PresenceJudge``.
    """
    odds = np.exp(candidate_features(candidates) @ np.array(_WEIGHTS))
    probabilities: npt.NDArray[np.float64] = odds / (1 + odds)
    probabilities[:1] = 1.0
    return probabilities


def estimated_count(probabilities: npt.NDArray[np.float64]) -> int:
    """Return the expected number of objects, rounded, of their (n,) probabilities."""
    return math.floor(float(probabilities.sum()) + 0.5)


def candidate_features(candidates: Candidates) -> npt.NDArray[np.float64]:
    """Return (n, 8) numbers of about -2 to 2 that tell the objects of a kind from other segments.

    They are a constant; presence, likeness to the best candidate and object score together; the object score;
    the likeness; the difference in size from the best candidate; its presence; the rank; and the presence
    beside its own.
    """
    rank = np.arange(len(candidates.masks))
    presence, areas, scores = candidates.presence, candidates.area_fractions, candidates.object_scores
    if not scores.any():  # of a segmenter whose decoder no ranker was fitted to
        scores = np.full(len(scores), _UNKNOWN_OBJECT_SCORE)
    below = np.minimum(presence - presence[0], 0.0)
    likeness = candidates.vectors @ candidates.vectors[0]
    return np.stack(
        [
            np.ones(len(rank)),
            np.exp(below) * likeness**2 * scores,
            scores,
            likeness,
            np.abs(np.log(areas / areas[0])).clip(0, 4) / 4,
            np.full(len(rank), presence[0] / 3),
            np.log1p(rank) / 4,
            (presence - presence[0]) / 3,
        ],
        axis=1,
    )
