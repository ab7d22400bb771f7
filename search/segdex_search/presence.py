"""Presence scores: how far an image and its best segments stand out for a query among other words."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader
from segdex_core.records import Vectors
from segdex_search.calibrate import Calibration, calibration_file, load_calibration, shipped_calibration
from segdex_search.distractors import DISTRACTORS
from segdex_search.rank import SearchHit

BEST_SEGMENTS = 3
"""Number of segments per image that are scored: their mean is steadier than the best score alone."""

STD_FLOOR = 0.01
"""Lower bound of the standard deviation of the scores of other words; actual values are 0.05 to 0.1."""

_WHOLE_SHARE = 0.35
"""Weight of the whole image beside its best segments: a scene tells which objects to expect."""


@dataclass(frozen=True, slots=True, eq=False)
class PresenceJudge:
    """Compares a query with other words on the segments that the query found.

    Attributes:
        distractors: (m, dim) unit rows of ``DISTRACTORS``.
        calibration: Calibration of the embedder, with the presence threshold.
    """

    distractors: Vectors
    calibration: Calibration

    @classmethod
    def of(cls, embedder: Embedder, calibration: Calibration | None = None) -> "PresenceJudge":
        """Return the judge for an embedder; this embeds two hundred words.

        Args:
            embedder: Embedder that filled the index.
            calibration: Calibration of the embedder; None for the shipped calibration.
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
        """Return the presence score of each image: standard deviations above other words, about -1 to 5.

        Args:
            hits: Images with the segments that the query found.
            query: (dim,) query vector by view.
            index: Index with the vectors of the segments and images.
            weights: Weight of each view.
        """
        best = [[one.segment_id for one in hit.segments[:BEST_SEGMENTS]] for hit in hits]
        stored = index.get_vectors([key for ids in best for key in ids])
        wholes = index.get_image_vectors([hit.image.image_id for hit in hits])
        scores = []
        for hit, ids in zip(hits, best, strict=True):
            segments = [self._stands_out(stored[key], query, weights) for key in ids if key in stored]
            whole = wholes.get(hit.image.image_id)
            if not segments or whole is None:  # deleted in the meantime
                scores.append(float("-inf"))
                continue
            scene = self._stands_out(dict.fromkeys(query, whole), query, weights)
            scores.append((1 - _WHOLE_SHARE) * float(np.mean(segments)) + _WHOLE_SHARE * scene)
        return scores

    def segment_scores(
        self,
        segment_ids: Sequence[UUID],
        query: Mapping[str, npt.NDArray[np.float32]],
        *,
        index: IndexReader,
        weights: Mapping[str, float],
    ) -> dict[UUID, float]:
        """Return the standard deviations that a query scores above other words on each segment that exists.

        Args:
            segment_ids: The segments.
            query: (dim,) vector of the query by view.
            index: Where their vectors are.
            weights: Share of each view.
        """
        stored = index.get_vectors(segment_ids)
        return {key: self._stands_out(vectors, query, weights) for key, vectors in stored.items()}

    def _stands_out(
        self,
        vectors: Mapping[str, npt.NDArray[np.float32]],
        query: Mapping[str, npt.NDArray[np.float32]],
        weights: Mapping[str, float],
    ) -> float:
        """Return how many standard deviations the query scores above other words."""
        total = sum(weights.values())
        own = sum(weights[view] * float(vectors[view] @ query[view]) for view in weights) / total
        others = sum(weights[view] * (self.distractors @ vectors[view]) for view in weights) / total
        return (own - float(np.mean(others))) / max(float(np.std(others)), STD_FLOOR)


def kept_judge(folder: Path, embedder: Embedder) -> PresenceJudge:
    """Return the judge for an embedder. The vectors of its words are cached beside the calibration file.

    Args:
        folder: Folder of calibrations, created when first needed. If it is not writable, the words are
            embedded each time.
        embedder: Embedder that filled the index.

    Raises:
        UsageError: If the calibration file is damaged.
    """
    calibration = load_calibration(folder, embedder.fingerprint)
    kept = calibration_file(folder, embedder.fingerprint).with_suffix(".npy")
    with suppress(OSError, ValueError, EOFError):  # missing or truncated: made again
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
