"""The likelihood that a finished mask is one whole object, which ranks masks and the hits of a text.

The first ranking (``rank``) rates each mask separately, from the output of the decoder. The few masks that it
keeps are re-decoded and brought to full size. Then they can be compared: a wheel lies inside another object,
and a person contains a shirt, trousers and a head. ``tests/reference/fit_objects.py`` fits this ranking.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdex_core.masks import rle_containment
from segdex_core.networks import Floats, HiddenLayerNetwork
from segdex_core.records import Segment
from segdex_ingest.masks.rank import find_object_ranker
from segdex_ingest.masks.tree import parents_by_containment


@dataclass(frozen=True, slots=True, eq=False)
class FinishedMasks:
    """n masks of an image at full size, with the results of the first ranking.

    Attributes:
        segments: n segments, in any order.
        first_scores: (n,) scores of the first ranking.
        likelihood: (n,) likelihood from the first ranking, 0 to 1.
        numbers: (n, 22) features of the first ranking, see ``Ranked``.
        tokens: (n, t) decoder tokens of the re-decoded masks, times ``TOKEN_SCALE``.
    """

    segments: Sequence[Segment]
    first_scores: Floats
    likelihood: Floats
    numbers: Floats
    tokens: Floats


def second_scores(
    finished: FinishedMasks,
    *,
    decoder_id: str | None,
    min_containment: float,
    find: Callable[[str | None], HiddenLayerNetwork | None] = find_object_ranker,
) -> Floats:
    """Return (n,) scores of the second ranking, likelihoods in 0 to 1.

    Without a ranker for the decoder, the score is predicted IoU times stability.

    Args:
        finished: Masks to rank.
        decoder_id: Id of the decoder that made the masks, or None.
        min_containment: See ``find_parents``.
        find: Returns the ranker that was fitted for a decoder, or None.
    """
    if not finished.segments:
        return np.zeros(0, np.float32)
    ranker = find(decoder_id)
    if ranker is None:
        good = [one.predicted_iou * one.stability for one in finished.segments]
        return np.clip(np.asarray(good, np.float32), 0, 1)
    return ranker.probabilities(object_features(finished, min_containment=min_containment))


def selection_scores(second: Floats, first: Floats) -> Floats:
    """Return (n,) scores that select the budget: a weighted mean, because each ranking adds information."""
    return _SECOND_SHARE * second + (1 - _SECOND_SHARE) * first


def object_scores(second: Floats, first: Floats) -> Floats:
    """Return (n,) scores in 0 to 1 that rank the hits of a text.

    The first ranking has more weight than in ``selection_scores``. The sum saturates, because otherwise
    large, plain objects would rank above small objects that the text means.
    """
    mixed = _SECOND_SHARE_OF_HITS * second + (1 - _SECOND_SHARE_OF_HITS) * first.clip(0, 1)
    return np.minimum(mixed / _SATURATION, 1).astype(np.float32)


_SECOND_SHARE, _SECOND_SHARE_OF_HITS, _SATURATION = 0.7, 0.3, 0.7
"""Chosen on images that no ranking was fitted on; see docs/research/mask-generation.md and
docs/research/search.md."""


def object_features(finished: FinishedMasks, *, min_containment: float) -> Floats:
    """Return the (n, 48 + t) features: mask, mask tree, first ranking and tokens."""
    return np.column_stack(
        [
            _own_features(finished),
            tree_features(finished.segments, _log_odds(finished.likelihood), min_containment=min_containment),
            finished.numbers,
            finished.tokens,
        ]
    ).astype(np.float32)


def _own_features(finished: FinishedMasks) -> Floats:
    segments = finished.segments
    height, width = segments[0].mask.size_hw
    area = np.array([one.area_px for one in segments], np.float64)
    x1, y1, x2, y2 = np.array([one.box for one in segments], np.float64).T
    share = np.log(area / (height * width))
    return np.column_stack(
        [
            _log_odds(finished.likelihood),
            [one.predicted_iou for one in segments],
            [one.stability for one in segments],
            share,
            share**2,
            np.log(area),
            (x2 - x1) / width,
            (y2 - y1) / height,
            np.log((x2 - x1) / (y2 - y1)),
            area / ((x2 - x1) * (y2 - y1)),
            (x1 + x2) / 2 / width,
            (y1 + y2) / 2 / height,
            (x1 <= 1) | (x2 >= width - 1),
            (y1 <= 1) | (y2 >= height - 1),
        ]
    ).astype(np.float32)


def tree_features(segments: Sequence[Segment], log_odds: Floats, *, min_containment: float) -> Floats:
    """Return (n, 12) features about what each mask contains and what contains it.

    The columns are the number of children and of descendants (log1p), the share of the mask that its children
    and its largest child cover, the best log odds of a child and of a descendant, the mask's share of its
    parent, the log odds of the parent, the best log odds of an ancestor, the number of ancestors, the number
    of siblings (log1p), and the best IoU with another mask.

    Args:
        segments: n segments of one image.
        log_odds: (n,) log odds of each segment being an object, from an earlier ranking.
        min_containment: See ``find_parents``.
    """
    masks = [one.mask for one in segments]
    area = np.array([one.area_px for one in segments], np.float64)
    inside = rle_containment(masks, masks)
    contains, parents = parents_by_containment(inside, area, min_containment=min_containment)
    iou = iou_of_containment(inside, area)
    np.fill_diagonal(iou, 0)
    rows = np.zeros((len(segments), 12), np.float64)
    for i, row in enumerate(rows):
        children, descendants = np.flatnonzero(parents == i), np.flatnonzero(contains[:, i])
        ancestors, parent = np.flatnonzero(contains[i]), parents[i]
        siblings = np.count_nonzero(parents == parent) if parent >= 0 else 0
        row[:] = (
            np.log1p(len(children)),
            np.log1p(len(descendants)),
            min(area[children].sum() / area[i], 2),
            area[children].max(initial=0) / area[i],
            log_odds[children].max(initial=_NONE),
            log_odds[descendants].max(initial=_NONE),
            area[i] / area[parent] if parent >= 0 else 1,
            log_odds[parent] if parent >= 0 else _NONE,
            log_odds[ancestors].max(initial=_NONE),
            len(ancestors),
            np.log1p(siblings),
            iou[i].max(initial=0),
        )
    return rows.astype(np.float32)


_NONE = -5.0
"""Log odds in place of a missing child, descendant, parent or ancestor."""


def iou_of_containment(
    inside: npt.NDArray[np.float64], area_px: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the (n, n) IoU of masks, from the share of mask i (row) inside mask j (column)."""
    shared = inside * area_px[:, None]
    iou: npt.NDArray[np.float64] = shared / (area_px[:, None] + area_px[None] - shared)
    return iou


def _log_odds(likelihood: Floats) -> Floats:
    clipped = np.clip(likelihood, 1e-4, 1 - 1e-4)
    odds: Floats = np.log(clipped / (1 - clipped))
    return odds
