"""Presence scores: how far an image and its best segments stand out for a query among other words."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.files import durable_file
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
        of_segments = self.segment_scores(stored, query, weights=weights)
        as_views = {key: dict.fromkeys(weights, whole) for key, whole in wholes.items()}
        of_scenes = self.segment_scores(as_views, query, weights=weights)
        scores = []
        for hit, ids in zip(hits, best, strict=True):
            segments = [of_segments[key] for key in ids if key in of_segments]
            scene = of_scenes.get(hit.image.image_id)
            if not segments or scene is None:  # deleted in the meantime
                scores.append(float("-inf"))
                continue
            scores.append((1 - _WHOLE_SHARE) * float(np.mean(segments)) + _WHOLE_SHARE * scene)
        return scores

    def segment_scores(
        self,
        stored: Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]],
        query: Mapping[str, npt.NDArray[np.float32]],
        *,
        weights: Mapping[str, float],
    ) -> dict[UUID, float]:
        """Return the standard deviations that a query scores above other words on each segment.

        Args:
            stored: (dim,) vectors of the segments by view.
            query: (dim,) vector of the query by view.
            weights: Share of each view.
        """
        if not stored:
            return {}
        rows = {view: np.stack([vectors[view] for vectors in stored.values()]) for view in weights}
        others = mean_cosines(rows, dict.fromkeys(weights, self.distractors), weights)
        own = mean_cosines(rows, {view: query[view][None] for view in weights}, weights)
        return dict(zip(stored, stands_out(own, others)[:, 0].tolist(), strict=True))


def mean_cosines(
    rows: Mapping[str, Vectors], words: Mapping[str, Vectors], weights: Mapping[str, float]
) -> Vectors:
    """Return (n, m) the weighted means over the views of the cosines of n segments and m words.

    Args:
        rows: (n, dim) unit rows of the segments by view.
        words: (m, dim) unit rows of the words by view.
        weights: Weight of each view, 0 or more, not all 0.
    """
    total = sum(weights.values())
    each = [weight / total * (rows[view] @ words[view].T) for view, weight in weights.items()]
    whole: Vectors = np.sum(each, axis=0)
    return whole


def stands_out(own: Vectors, others: Vectors) -> Vectors:
    """Return (n, k) by how many standard deviations scores of segments lie above those of other words.

    Args:
        own: (n, k) scores.
        others: (n, m) scores of other words for the same segments.
    """
    spread = np.maximum(others.std(axis=1, keepdims=True), STD_FLOOR)
    above: Vectors = (own - others.mean(axis=1, keepdims=True)) / spread
    return above


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
    with suppress(OSError), durable_file(kept) as file:
        np.save(file, judge.distractors)
    return judge
