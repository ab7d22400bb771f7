"""Is the object there at all? How far a picture and its best segments stand out among other words."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader
from segdex_core.records import Vectors
from segdex_search.calibrate import Calibration, calibration_file, load_calibration, shipped_calibration
from segdex_search.distractors import DISTRACTORS
from segdex_search.rank import SearchHit

BEST_SEGMENTS = 3
"""Segments of a picture that are looked at: their mean is steadier than the best alone."""

STD_FLOOR = 0.01
"""Of the scores of other words; real ones are spread by .05 to .1."""

_WHOLE_SHARE = 0.35
"""Of the whole picture beside its best segments: a scene says what to expect in it."""


@dataclass(frozen=True, slots=True, eq=False)
class PresenceJudge:
    """Compares a text with other words on the segments that it found.

    Attributes:
        distractors: (m, dim) unit rows of ``DISTRACTORS``.
        calibration: Below which score the answer is "not there".
    """

    distractors: Vectors
    calibration: Calibration

    @classmethod
    def of(cls, embedder: Embedder, calibration: Calibration | None = None) -> "PresenceJudge":
        """Return the judge for an embedder; embeds two hundred words.

        Args:
            embedder: What filled the index.
            calibration: Its own, or None for the one that is shipped.
        """
        known = calibration or shipped_calibration(embedder.fingerprint)
        return cls(embedder.embed_texts(DISTRACTORS), known)

    def scores(
        self,
        hits: Sequence[SearchHit],
        query: Mapping[str, npt.NDArray[np.float32]],
        *,
        index: IndexReader,
        weights: Mapping[str, float],
    ) -> list[float]:
        """Return the presence score of each picture: standard deviations above other words, about -1 to 5.

        Args:
            hits: The pictures, with the segments that the question found.
            query: (dim,) vector of the question by view.
            index: Where their vectors are.
            weights: Share of each view.
        """
        best = [[one.segment_id for one in hit.segments[:BEST_SEGMENTS]] for hit in hits]
        stored = index.get_vectors([key for ids in best for key in ids])
        wholes = index.get_image_vectors([hit.image.image_id for hit in hits])
        scores = []
        for hit, ids in zip(hits, best, strict=True):
            segments = [self._stands_out(stored[key], query, weights) for key in ids if key in stored]
            whole = wholes.get(hit.image.image_id)
            if not segments or whole is None:  # deleted meanwhile
                scores.append(float("-inf"))
                continue
            scene = self._stands_out(dict.fromkeys(query, whole), query, weights)
            scores.append((1 - _WHOLE_SHARE) * float(np.mean(segments)) + _WHOLE_SHARE * scene)
        return scores

    def _stands_out(
        self,
        vectors: Mapping[str, npt.NDArray[np.float32]],
        query: Mapping[str, npt.NDArray[np.float32]],
        weights: Mapping[str, float],
    ) -> float:
        """Return how many standard deviations the question scores above other words."""
        total = sum(weights.values())
        own = sum(weights[view] * float(vectors[view] @ query[view]) for view in weights) / total
        others = sum(weights[view] * (self.distractors @ vectors[view]) for view in weights) / total
        return (own - float(np.mean(others))) / max(float(np.std(others)), STD_FLOOR)


def kept_judge(folder: Path, embedder: Embedder) -> PresenceJudge:
    """Return the judge of an embedder with its calibration; the vectors of its words are kept beside that.

    Args:
        folder: Of calibrations; made when it is first needed. One that cannot be written only costs time.
        embedder: What filled the index.

    Raises:
        UsageError: If the file of a calibration is damaged.
    """
    calibration = load_calibration(folder, embedder.fingerprint)
    kept = calibration_file(folder, embedder.fingerprint).with_suffix(".npy")
    with suppress(OSError, ValueError, EOFError):  # not made yet, or cut short: made again
        words: Vectors = np.load(kept, allow_pickle=False)
        if words.shape == (len(DISTRACTORS), embedder.dim):
            return PresenceJudge(words, calibration)
    judge = PresenceJudge.of(embedder, calibration)
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}.npy")
        np.save(part, judge.distractors)
        part.replace(kept)
    return judge
