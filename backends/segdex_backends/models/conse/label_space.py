"""Label space of the offline embedder: labels besides ImageNet's classes, and the labels that a text means.

ConSE (see ``embedder``) embeds an image as the mean of the text vectors of its labels. This module adds three
objects to the paper:

* a **head** on the classifier's features, with everyday labels that ImageNet lacks (person, tree, sky, road);
* **centred** label vectors: the part that all have in common ("a photo of a") carries no information, and
  hides images with weak labels;
* a **readout** for texts. A text is similar to many labels, most of them wrong, so its own vector is a poor
  query. The text is compared with names that stand for labels (``landmarks``, with hypernyms: "dog" stands
  for a husky) under a narrow kernel. The query is the vector, fitted by ridge regression, that scores images
  by the labels that the text means.

``tests/reference/fit_label_head.py`` fits all three; docs/research/label-head.md describes the data and the
limitations.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from segdex_core.files import durable_file
from segdex_core.networks import Floats, HiddenLayerNetwork

LABEL_SPACE_FILE = "data/label_space.npz"
"""Path relative to the folder of this file."""

_KERNEL_WIDTH = 0.05
"""Kernel width in units of cosine, chosen from .03 to .2 on true boxes of COCO;
docs/research/label-head.md."""

LABEL_WEIGHT = 1.0
"""Weight of the head's probabilities relative to the classifier's; .5 and 2 give worse search results."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelSpace:
    """A label space with c classes of the classifier, m labels of the head, and k = c + m labels in total.

    Attributes:
        head: Network for the m labels.
        landmarks: (t, d) unit vectors, of length d, of the texts that stand for labels.
        stands_for: (t, k) degree, 0 to 1, to which each text stands for each label; mostly 0.
        label_landmarks: (k,) index of the landmark that is the name of each label.
        readout: (k, d) vector that each label contributes to a query.
    """

    head: HiddenLayerNetwork
    landmarks: Floats
    stands_for: Floats
    label_landmarks: npt.NDArray[np.int64]
    readout: Floats

    @classmethod
    def fit(
        cls,
        *,
        head: HiddenLayerNetwork,
        landmarks: Floats,
        stands_for: Floats,
        label_landmarks: npt.NDArray[np.int64],
        label_probabilities: Floats,
        ridge: float,
    ) -> Self:
        """Return the label space whose readout best scores images by the labels that a text means.

        Args:
            head: Network for the labels that the classifier lacks.
            landmarks: (t, d) unit vectors of the texts that stand for labels.
            stands_for: (t, k) degree, 0 to 1, to which each text stands for each label.
            label_landmarks: (k,) index of the landmark that is the name of each label.
            label_probabilities: (n, k) label probabilities of n images, classes first.
            ridge: Value above 0 that is added to the diagonal of the covariance of the image vectors.
        """
        vectors = _centred(landmarks, label_landmarks)
        sums = label_probabilities.astype(np.float64) @ vectors
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        rows = sums / lengths
        covariance = rows.T @ rows / len(rows) + ridge * np.eye(rows.shape[1])
        shares = label_probabilities / lengths
        readout = np.linalg.solve(covariance, rows.T @ shares / len(rows)).T.astype(np.float32)
        return cls(head, landmarks, stands_for, label_landmarks, readout)

    @property
    def label_vectors(self) -> Floats:
        """(k, d) centred vectors of the labels."""
        return _centred(self.landmarks, self.label_landmarks)

    def query(self, texts: Floats) -> Floats:
        """Return (n, d) unit query vectors for (n, d) unit vectors of texts."""
        # the largest kernel value is 1, so that a text far from all names still means the nearest ones
        nearness = texts @ self.landmarks.T
        kernel = np.exp((nearness - nearness.max(axis=1, keepdims=True)) / _KERNEL_WIDTH)
        rows = kernel @ self.stands_for @ self.readout
        queries: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return queries

    def save(self, path: Path) -> None:
        """Write the label space to a file; matrices have 8 bits and a scale for each row."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "label_landmarks": self.label_landmarks.astype(np.int16)
        }
        for name, matrix in self._matrices().items():
            arrays[name], arrays[f"{name}_scale"] = quantize_rows(matrix)
        for name in _HEAD_VECTORS:
            arrays[name] = getattr(self.head, name).astype(np.float32)
        text, label = np.nonzero(self.stands_for)
        arrays["stands_for_text"], arrays["stands_for_label"] = text.astype(np.int16), label.astype(np.int16)
        arrays["stands_for_share"] = self.stands_for[text, label].astype(np.float16)
        with durable_file(path) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, content: bytes) -> Self:
        """Return the label space from the content of a file that ``save`` wrote.

        Raises:
            ValueError: If ``content`` is not a label space.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            matrices = {
                name: arrays[name].astype(np.float32) * arrays[f"{name}_scale"][:, None]
                for name in ("landmarks", "readout", *_HEAD_MATRICES)
            }
            stands_for = np.zeros((len(matrices["landmarks"]), len(matrices["readout"])), np.float32)
            stands_for[arrays["stands_for_text"], arrays["stands_for_label"]] = arrays["stands_for_share"]
            head = HiddenLayerNetwork(
                **{name: arrays[name].astype(np.float32) for name in _HEAD_VECTORS},
                **{name: matrices[name] for name in _HEAD_MATRICES},
            )
            place = arrays["label_landmarks"].astype(np.int64)
        except (KeyError, OSError, EOFError, ValueError, BadZipFile, TokenError) as error:
            raise ValueError(f"this is no label space: {error}") from error
        return cls(head, matrices["landmarks"], stands_for, place, matrices["readout"])

    def _matrices(self) -> Mapping[str, Floats]:
        heads = {name: getattr(self.head, name) for name in _HEAD_MATRICES}
        return {"landmarks": self.landmarks, "readout": self.readout, **heads}


_HEAD_VECTORS = ("centre", "scale", "hidden_bias", "bias")
_HEAD_MATRICES = ("hidden_weight", "weight")


def quantize_rows(matrix: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return (n, d) int8 values, and the (n,) factors that restore the floats of each row.

    Example:
        >>> quantize_rows(np.array([[0.5, -1.0]], np.float32))[0].tolist()
        [[64, -127]]
    """
    scale = np.maximum(np.abs(matrix).max(axis=1), 1e-12) / 127
    return np.round(matrix / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def _centred(landmarks: Floats, label_landmarks: npt.NDArray[np.int64]) -> Floats:
    vectors = landmarks[label_landmarks]
    centred: Floats = (vectors - vectors.mean(axis=0)).astype(np.float32)
    return centred
