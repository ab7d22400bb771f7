"""A learned score for masks: the likelihood that a mask is one whole object, not a chance outline.

SAM's predicted IoU rates the outline, not whether people would name the object. The decoder's mask token
contains more information. A small network reads the token and a few numbers about the mask. The network
belongs to the weights of one decoder; ``tests/reference/fit_ranker.py`` fits it on annotated images.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from segdex_core.networks import NETWORK_ARRAYS, Floats, HiddenLayerNetwork
from segdex_ingest.masks.compare import AlikePairs, CanvasMasks
from segdex_ingest.masks.decode import Candidates, Scores
from segdex_ingest.masks.grid import CropWindow

_FOLDER = "rankers"
TOKEN_SCALE = np.float32(0.25)  # tokens have a spread of about 4


@cache
def find_ranker(decoder_id: str | None) -> HiddenLayerNetwork | None:
    """Return the ranker that was fitted for a decoder (``NamesDecoder.decoder_id``), or None."""
    return None if decoder_id is None else _load(f"{decoder_id}.npz")


@cache
def find_object_ranker(decoder_id: str | None) -> HiddenLayerNetwork | None:
    """Return the ranker of finished masks (see ``objects``) that was fitted for a decoder, or None."""
    return None if decoder_id is None else _load(f"{decoder_id}-objects.npz")


def _load(name: str) -> HiddenLayerNetwork | None:
    content = ranker_file(name)
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return HiddenLayerNetwork(**{name: arrays[name].astype(np.float32) for name in NETWORK_ARRAYS})


def ranker_file(name: str) -> bytes | None:
    """Return the content of a shipped ranker file, or None."""
    file = resources.files("segdex_ingest.masks") / _FOLDER / name
    return file.read_bytes() if file.is_file() else None


def shipped_decoders() -> list[str]:
    """Return the ids of the decoders that have a shipped ranker."""
    files = (resources.files("segdex_ingest.masks") / _FOLDER).iterdir()
    return sorted({file.name.partition(".")[0].partition("-")[0] for file in files})


@cache
def ranker_fingerprint(decoder_id: str | None, *, read: Callable[[str], bytes | None] = ranker_file) -> str:
    """Return 16 hexadecimal digits that change with the shipped rankers of a decoder, or ``none``.

    Args:
        decoder_id: ``NamesDecoder.decoder_id``, or None.
        read: Returns the content of a shipped file, or None.
    """
    if decoder_id is None:
        return "none"
    contents = [read(f"{decoder_id}{part}.npz") for part in ("", "-objects")]
    shipped = b"".join(content for content in contents if content is not None)
    return hashlib.sha256(shipped).hexdigest()[:16] if shipped else "none"


RANKING_NUMBERS = 22
"""Number of features that are not tokens; they come first in ``ranking_features``."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The result of the first ranking for n masks.

    Attributes:
        scores: (n,) scores to rank by, higher is better.
        likelihood: (n,) likelihood of each mask being an object, 0 to 1.
        numbers: (n, 22) features without the tokens.
    """

    scores: Scores
    likelihood: Scores
    numbers: Floats


def ranked_scores(
    found: Sequence[tuple[CropWindow, Candidates]],
    canvas: CanvasMasks,
    pairs: AlikePairs,
    *,
    ranker: HiddenLayerNetwork | None,
) -> Ranked:
    """Return the scores of the masks of all windows, higher is better.

    With a ranker, the score is the likelihood plus a share of predicted IoU times stability. Without a
    ranker, it is predicted IoU times stability plus a share of the logarithm of the number of masks with
    about this shape: a real object is found from most points on it, a chance outline from one point.
    docs/research/mask-generation.md compares the alternatives.
    """
    if len(canvas) == 0:
        nothing = np.zeros(0, np.float32)
        return Ranked(nothing, nothing, np.zeros((0, RANKING_NUMBERS), np.float32))
    predicted_iou = np.concatenate([each.predicted_iou for _, each in found])
    good = predicted_iou * np.concatenate([each.stability for _, each in found])
    features = ranking_features(found, canvas, pairs)
    likelihood = good if ranker is None else ranker.probabilities(features)
    if ranker is None:
        scores = good + _AGREEMENT_WEIGHT * np.log(pairs.count_above(_SAME_IOU))
    else:
        scores = likelihood + _GOOD_WEIGHT * good
    return Ranked(scores.astype(np.float32), likelihood.astype(np.float32), features[:, :RANKING_NUMBERS])


def ranking_features(
    found: Sequence[tuple[CropWindow, Candidates]], canvas: CanvasMasks, pairs: AlikePairs
) -> Floats:
    """Return the (n, 22 + t) features of the masks of all windows: 22 numbers and t token values.

    Args:
        found: Windows with their masks.
        canvas: Masks of all windows on one canvas.
        pairs: Pairs of similar masks.
    """
    height, width = canvas.size_hw
    x1, y1, x2, y2 = (canvas.boxes_xyxy / np.array([width, height, width, height])).astype(np.float32).T
    share = np.log(canvas.areas_px / (height * width) + 1e-6)
    layer = np.concatenate([np.full(len(each), window.layer) for window, each in found])
    level, predicted_iou, stability, mask_px, tokens = (
        np.concatenate([getattr(each, name) for _, each in found])
        for name in ("level", "predicted_iou", "stability", "areas_px", "tokens")
    )
    return np.column_stack(
        [
            predicted_iou,
            stability,
            predicted_iou * stability,
            *(np.log(pairs.count_above(iou)) for iou in (0.5, 0.7, _SAME_IOU)),
            share,
            share**2,
            np.log1p(mask_px),
            *(layer == 0, layer == 1, layer >= 2),
            *(level == each for each in (0, 1)),
            x2 - x1,
            y2 - y1,
            np.log((x2 - x1) / (y2 - y1)),
            (x1 + x2) / 2,
            (y1 + y2) / 2,
            np.exp(share) / ((x2 - x1) * (y2 - y1)),
            (x1 < _AT_EDGE) | (x2 > 1 - _AT_EDGE),
            (y1 < _AT_EDGE) | (y2 > 1 - _AT_EDGE),
            tokens.astype(np.float32) * TOKEN_SCALE,
        ]
    ).astype(np.float32)


_SAME_IOU = 0.85
_AT_EDGE = 0.01  # share of the image's side
_AGREEMENT_WEIGHT = 0.1
_GOOD_WEIGHT = 0.3
