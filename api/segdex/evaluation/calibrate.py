"""``segdex calibrate``: fit the weight of the object score and the presence threshold of an embedder."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np

from segdex.evaluation.dataset import EvalDataset
from segdex.evaluation.labels import judge_labels
from segdex.evaluation.metrics import ImageTruth
from segdex.evaluation.search import JUDGED_PICTURES, class_truth, evaluate_search, only_images
from segdex_core.errors import QueryError, UsageError
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS, MAX_LIMIT
from segdex_search.answer import search
from segdex_search.calibrate import Calibration
from segdex_search.presence import BEST_SEGMENTS, PresenceJudge
from segdex_search.queries import SearchQuery, TextTerm

WEIGHT_STEPS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
"""Object weights to try, in standard deviations of the scores of all segments."""

COLOUR_SPREADS = 7.5
"""Colour weight, in standard deviations of the scores of all segments; see docs/research/search.md."""

SMALL_COLLECTION = 8
"""Number of images in the small collections at which a threshold is measured, besides all images."""

_SMALL_DRAWS = 20  # small collections per class name
_FALSE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class PresenceRow:
    """Results of a threshold in collections of one size.

    Attributes:
        pictures: Number of images in a collection.
        threshold: Presence score below which the answer is "not there".
        absent_true: Share of collections without an object for which the answer is "not there".
        absent_false: Share of collections with an object for which the answer is "not there".
    """

    pictures: int
    threshold: float
    absent_true: float
    absent_false: float


@dataclass(frozen=True, slots=True, eq=False)
class PresenceScores:
    """The presence scores of class names in a collection.

    Attributes:
        order: Images that count for each class name, best first.
        scores: Presence scores by class name and image.
        shows: Images that show the class, by class name.
    """

    order: Mapping[str, Sequence[str]]
    scores: Mapping[str, Mapping[str, float]]
    shows: Mapping[str, frozenset[str]]

    def best(self, text: str, among: frozenset[str]) -> float:
        """Return the best score on the first page of a query among some images."""
        page = [name for name in self.order[text] if name in among][:JUDGED_PICTURES]
        return max((self.scores[text][name] for name in page), default=float("-inf"))

    def maxima(self, pictures: int | None, *, seed: int = 0) -> tuple[list[float], list[float]]:
        """Return the best scores of collections with an object, and of collections without it.

        Args:
            pictures: Number of images drawn for each collection; None for one collection of all images.
            seed: Random seed of the draws.
        """
        rng = random.Random(seed)  # noqa: S311 - not for secrets
        present, absent = [], []
        for text, order in self.order.items():
            names = sorted(order)
            for _ in range(1 if pictures is None else _SMALL_DRAWS):
                drawn = frozenset(names if pictures is None else rng.sample(names, min(pictures, len(names))))
                if drawn & self.shows[text]:
                    present.append(self.best(text, drawn))
                if drawn - self.shows[text]:
                    absent.append(self.best(text, drawn - self.shows[text]))
        return present, absent


def fit_calibration(
    dataset: EvalDataset,
    *,
    index: IndexReader,
    embedder: Embedder,
    image_id_by_name: Mapping[str, UUID],
    judge: PresenceJudge,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[Calibration, list[dict[str, float]], list[PresenceRow]]:
    """Return the calibration that fits labeled images best, and the results of each choice.

    The object weight has the best sum of mean average precision and ``right_in_picture``. The thresholds
    answer "not there" for at most 5 % of the objects that are there, in collections of eight images and of
    all images; between and beyond these sizes a threshold grows with the logarithm of the number of images.
    The threshold of labels has the best F1.

    Args:
        dataset: Data set with class queries.
        index: Index that holds the images of the data set.
        embedder: Embedder that filled the index.
        image_id_by_name: Ids of the images, from ``ingest_dataset``.
        judge: Presence judge with the words to compare with; its calibration is not read.
        on_step: Called with a line of progress.

    Raises:
        UsageError: If the data set has no class queries.
    """
    if not dataset.class_queries:
        raise UsageError(
            f"{dataset.path} has no class queries; calibrate needs class_queries.jsonl or COCO JSON"
        )
    only_classes = replace(dataset, refs=(), captions=(), pairs=())
    spread = score_spread(only_classes, index=index, embedder=embedder)
    weights: list[dict[str, float]] = []
    for step in WEIGHT_STEPS:
        tried = Calibration(object_weight=round(step * spread, 4), threshold=0.0, growth=0.0)
        values = evaluate_search(
            only_classes,
            index=index,
            embedder=embedder,
            image_id_by_name=image_id_by_name,
            judge=replace(judge, calibration=tried),
        ).to_json()
        row = {name: float(values[name] or 0) for name in ("map", "p_at_1", "right_in_picture")}
        weights.append({"object_weight": tried.object_weight, **row})
        on_step(" ".join(f"{name} {value:.3f}" for name, value in weights[-1].items()))
    best = max(weights, key=lambda row: row["map"] + row["right_in_picture"])["object_weight"]
    chosen = Calibration(
        object_weight=best, threshold=0.0, growth=0.0, colour_weight=round(COLOUR_SPREADS * spread, 4)
    )
    scores = presence_scores(
        only_classes,
        index=index,
        embedder=embedder,
        image_id_by_name=image_id_by_name,
        judge=replace(judge, calibration=chosen),
    )
    everything = len(dataset.images)
    small = min(SMALL_COLLECTION, max(everything // 4, 1))  # closer to all images, the growth would be noise
    thresholds = {
        count: float(
            np.quantile(
                scores.maxima(None if count == everything else count)[0], _FALSE_SHARE, method="lower"
            )
        )
        for count in (small, everything)
    }
    growth = 0.0
    if everything > small:
        growth = max((thresholds[everything] - thresholds[small]) / np.log(everything / small), 0.0)
    threshold = min(thresholds[count] - growth * float(np.log(count)) for count in thresholds)
    run = judge_labels(
        only_classes,
        index=index,
        embedder=embedder,
        image_id_by_name=image_id_by_name,
        others=judge.distractors,
    )
    calibration = replace(
        chosen,
        threshold=float(np.floor(threshold * 1000 - 1) / 1000),
        growth=round(float(growth), 4),
        label_threshold=round(run.best_threshold(run.pictures), 2),
    )
    rows = []
    for count in sorted({1, small, 32, everything}):
        if count <= everything:
            present, absent = scores.maxima(None if count == everything else count)
            rows.append(_row(count, calibration.threshold_of(count), present, absent))
    return calibration, weights, rows


def _row(count: int, threshold: float, present: Sequence[float], absent: Sequence[float]) -> PresenceRow:
    return PresenceRow(
        pictures=count,
        threshold=round(threshold, 3),
        absent_true=round(float(np.mean(np.array(absent) < threshold)), 4),
        absent_false=round(float(np.mean(np.array(present) < threshold)), 4),
    )


def score_spread(dataset: EvalDataset, *, index: IndexReader, embedder: Embedder) -> float:
    """Return the standard deviation of the scores of all segments and class names, without object scores."""
    ids = [record.segment_id for record in index.scroll_segments()]
    stored = index.get_vectors(ids)
    texts = embedder.embed_texts(dataset.class_names)
    total = sum(DEFAULT_VIEW_WEIGHTS.values())
    rows = np.stack(
        [sum(weight * one[view] for view, weight in DEFAULT_VIEW_WEIGHTS.items()) for one in stored.values()]
    )
    return float((rows @ texts.T / total).std())


def presence_scores(
    dataset: EvalDataset,
    *,
    index: IndexReader,
    embedder: Embedder,
    image_id_by_name: Mapping[str, UUID],
    judge: PresenceJudge,
) -> PresenceScores:
    """Return the presence score of every class name in every image that counts for it."""
    names = {image_id_by_name[image.name]: image.name for image in dataset.images}
    where = only_images(index, names)
    order: dict[str, list[str]] = {}
    scores: dict[str, dict[str, float]] = {}
    shows: dict[str, frozenset[str]] = {}
    for text in dataset.class_names:
        truth = class_truth(dataset, text)
        query = SearchQuery(
            terms=(TextTerm(text),),
            where=where,
            limit=min(len(names), MAX_LIMIT),
            per_image=BEST_SEGMENTS,
        )
        try:
            answer = search(query, index=index, embedder=embedder, calibration=judge.calibration)
        except QueryError:  # the model knows no word of the name: reported as an error, not as absence
            continue
        found = judge.scores(answer.hits, answer.query_vectors, index=index, weights=DEFAULT_VIEW_WEIGHTS)
        ranked = [(names[hit.image.image_id], score) for hit, score in zip(answer.hits, found, strict=True)]
        order[text] = [name for name, _ in ranked if name in truth]
        scores[text] = dict(ranked)
        shows[text] = _shown(truth)
    return PresenceScores(order, scores, shows)


def _shown(truth: Mapping[str, ImageTruth]) -> frozenset[str]:
    return frozenset(name for name, image in truth.items() if image.has_class)
