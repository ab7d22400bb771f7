"""How well an index is labelled: precision and recall of ``segdex label`` with class names."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from segdex.evaluation.dataset import EvalDataset
from segdex.evaluation.metrics import Floats, FoundMask, judge_each
from segdex.evaluation.search import class_truth, only_images
from segdex.evaluation.search_report import RESAMPLES
from segdex_core.errors import QueryError
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader
from segdex_core.records import Vectors
from segdex_search.labels import LabelScorer, find_labels

FOLDS = 5
"""Parts of the pictures; each is judged by a threshold that was chosen on the others."""

_LEAST_SCORE = 0.1
_SEED = 0


@dataclass(frozen=True, slots=True)
class JudgedLabel:
    """A label that a segment would get.

    Attributes:
        picture: Name of its picture.
        name: The label.
        score: See ``LabelScorer``.
        is_right: Whether the segment is an instance of that class that no better segment took.
    """

    picture: str
    name: str
    score: float
    is_right: bool


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """Precision and recall; None where nothing was labelled, or there is nothing to label.

    ``_low`` and ``_high`` are the 2.5th and 97.5th percentile of resampled pictures.
    """

    name: str
    instances: int
    labelled: int
    right: int
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None


@dataclass(frozen=True, slots=True, eq=False)
class LabelRun:
    """Every label that fits best, whatever its score, and what there is to label.

    Attributes:
        pictures: Names of the pictures.
        names: The labels.
        judged: The labels of segments that count.
        instances: Number of instances by picture and label.
    """

    pictures: tuple[str, ...]
    names: tuple[str, ...]
    judged: tuple[JudgedLabel, ...]
    instances: Mapping[tuple[str, str], int]

    def best_threshold(self, pictures: Sequence[str]) -> float:
        """Return the threshold with the best F1 over some pictures, a label counted once whatever its class.

        The F1 of neighbours on the scale is averaged, so that no single segment decides.
        """
        among = set(pictures)
        some = sorted((one for one in self.judged if one.picture in among), key=lambda one: -one.score)
        if not some:
            return _LEAST_SCORE
        total = sum(count for (picture, _), count in self.instances.items() if picture in among)
        right = np.cumsum([one.is_right for one in some])
        f1 = 2 * right / (np.arange(1, len(some) + 1) + total)
        width = min(max(len(some) // 100, 1), 51)
        smooth = np.convolve(f1, np.ones(width) / width, mode="same")
        return some[int(smooth.argmax())].score

    def cross_validated(self, folds: int = FOLDS) -> tuple[list[JudgedLabel], list[float]]:
        """Return the labels at thresholds that were chosen without their pictures, and the thresholds."""
        names = sorted(self.pictures)
        random.Random(_SEED).shuffle(names)  # noqa: S311 - not for secrets
        parts = [names[start::folds] for start in range(folds)]
        kept: list[JudgedLabel] = []
        thresholds: list[float] = []
        for part in parts:
            thresholds.append(self.best_threshold([name for name in names if name not in part]))
            kept += [one for one in self.judged if one.picture in part and one.score >= thresholds[-1]]
        return kept, thresholds

    def figures(self, kept: Sequence[JudgedLabel]) -> list[LabelFigures]:
        """Return the figures of all labels together, named ``all``, then those of each label."""
        place = {name: position for position, name in enumerate(self.pictures)}
        column = {name: position for position, name in enumerate(self.names)}
        shape = (len(self.pictures), len(self.names))
        instances, labelled, right = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for (picture, name), count in self.instances.items():
            instances[place[picture], column[name]] = count
        for one in kept:
            labelled[place[one.picture], column[one.name]] += 1
            right[place[one.picture], column[one.name]] += one.is_right
        rng = np.random.default_rng(_SEED)
        count = len(self.pictures)
        draws = np.concatenate(
            [np.ones((1, count)), rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)]
        )
        rows = [_figures("all", *(one.sum(axis=1) for one in (instances, labelled, right)), draws=draws)]
        return rows + [
            _figures(name, instances[:, at], labelled[:, at], right[:, at], draws=draws)
            for name, at in column.items()
        ]


def judge_labels(
    dataset: EvalDataset,
    *,
    index: IndexReader,
    embedder: Embedder,
    image_id_by_name: Mapping[str, UUID],
    others: Vectors,
) -> LabelRun:
    """Label the segments of a data set with its class names, and judge each; nothing is written.

    ``class_truth`` says which pictures count for a class, ``judge_each`` which segments are right. A class
    name that the embedder cannot read is left out.

    Args:
        dataset: With class queries.
        index: Holds its pictures.
        embedder: What filled it.
        image_id_by_name: From ``ingest_dataset``.
        others: (m, dim) unit rows of other words, those of the presence score.
    """
    rows: dict[str, Vectors] = {}
    for name in dataset.class_names:
        try:
            rows[name] = embedder.embed_texts([name])
        except QueryError:
            continue
    names = tuple(rows)
    pictures = {image_id_by_name[image.name]: image.name for image in dataset.images}
    found = find_labels(
        index,
        LabelScorer(names, np.concatenate(list(rows.values())), others),
        min_score=_LEAST_SCORE,
        where=only_images(index, pictures),
    )
    records = {one.segment_id: one for one in index.get_segments(list(found.by_segment))}
    judged: list[JudgedLabel] = []
    instances: dict[tuple[str, str], int] = {}
    for name in names:
        truth = class_truth(dataset, name)
        instances |= {(picture, name): len(one.instances) for picture, one in truth.items()}
        hits = sorted(
            (
                (label.score, records[key])
                for key, labels in found.by_segment.items()
                for label in labels
                if label.name == name
            ),
            key=lambda one: (-one[0], one[1].segment_id),
        )
        verdicts = judge_each(
            [FoundMask(record.image_id, record.mask) for _, record in hits],
            {image_id_by_name[picture]: one for picture, one in truth.items()},
        )
        judged += [
            JudgedLabel(pictures[record.image_id], name, score, verdict)
            for (score, record), verdict in zip(hits, verdicts, strict=True)
            if verdict is not None
        ]
    return LabelRun(tuple(image.name for image in dataset.images), names, tuple(judged), instances)


def _figures(name: str, instances: Floats, labelled: Floats, right: Floats, *, draws: Floats) -> LabelFigures:
    precision = _share(draws @ right, draws @ labelled)
    recall = _share(draws @ right, draws @ instances)
    return LabelFigures(
        name, int(instances.sum()), int(labelled.sum()), int(right.sum()), *precision, *recall
    )


def _share(part: Floats, whole: Floats) -> tuple[float | None, float | None, float | None]:
    """Return a share and its interval; the first draw is every picture once."""
    if not whole[0]:
        return None, None, None
    shares = part[whole > 0] / whole[whole > 0]
    low, high = np.percentile(shares[1:], [2.5, 97.5])
    return round(float(shares[0]), 4), round(float(low), 4), round(float(high), 4)
