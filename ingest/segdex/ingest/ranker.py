"""A learned score for masks: how likely each is one whole thing rather than a chance outline.

SAM's own estimate says how good an outline is, not whether people would name what is inside. The decoder's
mask token knows more. A small network reads it beside a few numbers about the mask. It belongs to the weights
of one decoder; ``tests/reference/fit_ranker.py`` fits it on annotated pictures.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from segdex.ingest.candidates import Candidates
from segdex.ingest.select import packed_areas

Floats = npt.NDArray[np.float32]

_FOLDER = "rankers"
_TOKEN_SCALE = np.float32(0.25)  # tokens have a spread of about 4


@dataclass(frozen=True, slots=True, eq=False)
class MaskRanker:
    """A network with one hidden layer of h units on f features.

    Attributes:
        centre: (f,) mean of each feature.
        scale: (f,) factor to a spread of about 1.
        hidden_weight: (f, h)
        hidden_bias: (h,)
        weight: (h,)
        bias: (1,)
    """

    centre: Floats
    scale: Floats
    hidden_weight: Floats
    hidden_bias: Floats
    weight: Floats
    bias: Floats

    def likelihood(self, features: Floats) -> Floats:
        """Return (n,) values in 0..1 for (n, f) features: how much each mask is a thing."""
        hidden = np.maximum((features - self.centre) * self.scale @ self.hidden_weight + self.hidden_bias, 0)
        logits = hidden @ self.weight + self.bias
        likelihood: Floats = (1 / (1 + np.exp(-logits.clip(-30, 30)))).astype(np.float32)
        return likelihood


RANKER_ARRAYS = ("centre", "scale", "hidden_weight", "hidden_bias", "weight", "bias")


@cache
def find_ranker(decoder_id: str) -> MaskRanker | None:
    """Return the ranker that was fitted for a decoder (``PromptableSegmenter.decoder_id``), or None."""
    content = _ranker_file(decoder_id)
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return MaskRanker(**{name: arrays[name].astype(np.float32) for name in RANKER_ARRAYS})


@cache
def ranker_fingerprint(decoder_id: str) -> str:
    """Return what changes whenever another ranker is shipped for a decoder: 16 digits, or ``none``."""
    content = _ranker_file(decoder_id)
    return "none" if content is None else hashlib.sha256(content).hexdigest()[:16]


def _ranker_file(decoder_id: str) -> bytes | None:
    file = resources.files("segdex.ingest") / _FOLDER / f"{decoder_id}.npz"
    return file.read_bytes() if file.is_file() else None


def ranking_features(
    candidates: Candidates, agreeing: npt.NDArray[np.int64], *, frame_share: float, layer: int
) -> Floats:
    """Return the (n, 10 + t) features of the masks of one window.

    Args:
        candidates: The masks.
        agreeing: (n,) how many masks of the window have about the same shape (``agreement_counts``).
        frame_share: The window's share of the picture, 0 to 1.
        layer: 0 for the whole picture.
    """
    in_window = packed_areas(candidates.packed).astype(np.float32)
    in_picture = np.log1p(in_window * np.float32(frame_share))
    return np.column_stack(
        [
            candidates.predicted_iou,
            candidates.stability,
            candidates.predicted_iou * candidates.stability,
            np.log(np.maximum(agreeing, 1)),
            in_picture,
            in_picture**2,
            np.log1p(in_window),
            np.full(len(candidates), layer),
            candidates.level == 0,
            candidates.level == 1,
            candidates.tokens.astype(np.float32) * _TOKEN_SCALE,
        ]
    ).astype(np.float32)
