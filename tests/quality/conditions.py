"""How often are numbers and positions right? Questions about labelled pictures, asked of an index of them.

    python -m tests.quality.conditions DATA edge:INDEX         # the figures, with intervals by picture
    python -m tests.quality.conditions DATA edge:INDEX --fit   # weights for ``segdex_search.counting``

A count is asked for of each class of each picture with one to five instances. A position is asked for of
pairs of classes with one instance each whose boxes lie apart, once the true one and once its opposite.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from tests.quality.pictures import TRUE_IOU, image_ids_of, interval

from segdex.evaluation.dataset import EvalDataset, EvalInstance
from segdex.evaluation.load import load_dataset
from segdex.wiring import build_settings, load_embedder, load_judge, open_index, profile_of
from segdex_core.masks import MaskRLE, decode_mask, mask_box, rle_iou
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader
from segdex_core.records import SegmentFilter
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS
from segdex_search.answer import search
from segdex_search.conditions import RELATED_CANDIDATES, candidates_of
from segdex_search.counting import MAX_CANDIDATES, candidate_features, distinct, estimated_count
from segdex_search.presence import PresenceJudge
from segdex_search.queries import Counted, Related, RelationName, SearchQuery, TextTerm
from segdex_search.rank import SearchHit
from segdex_search.relations import Shape, holds

MOST = 5
"""Largest number of instances that is asked for."""

_OPPOSITES: tuple[tuple[RelationName, RelationName], ...] = (("left_of", "right_of"), ("above", "below"))
_FOLDS, _SHRINKAGE = 5, 1e-4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """An index of labelled pictures, and what asks it."""

    index: IndexReader
    embedder: Embedder
    judge: PresenceJudge
    image_ids: dict[str, UUID]

    def ask(self, query: SearchQuery, image: str) -> SearchHit | None:
        """Return the hit of a query in one picture; None if there is none."""
        where = SegmentFilter(image_ids=(self.image_ids[image],))
        one = SearchQuery(
            query.terms,
            where=where,
            condition=query.condition,
            per_image=query.per_image,
            nms=query.nms,
            exact=True,
        )
        answer = search(one, index=self.index, embedder=self.embedder, judge=self.judge, keep_weak=True)
        return answer.hits[0] if answer.hits else None


@dataclass(frozen=True, slots=True, eq=False)
class CountQuestion:
    """How many instances of a class a picture shows."""

    image: str
    text: str
    instances: list[EvalInstance]


@dataclass(frozen=True, slots=True, eq=False)
class PositionQuestion:
    """Where an instance lies beside another, and where it does not."""

    image: str
    subject: EvalInstance
    other: EvalInstance
    true: RelationName
    false: RelationName


def questions_of(dataset: EvalDataset) -> tuple[list[CountQuestion], list[PositionQuestion]]:
    """Return the questions of labelled pictures, in the order of the pictures and classes."""
    counts: list[CountQuestion] = []
    for image in dataset.images:
        crowded = {crowd.category for crowd in image.crowds}
        by_class: dict[str, list[EvalInstance]] = defaultdict(list)
        for instance in image.instances:
            if instance.category is not None and not instance.is_stuff:
                by_class[instance.category].append(instance)
        counts += [
            CountQuestion(image.name, text, found)
            for text, found in sorted(by_class.items())
            if text not in crowded and len(found) <= MOST
        ]
    single: dict[str, list[EvalInstance]] = defaultdict(list)
    for question in counts:
        if len(question.instances) == 1:
            single[question.image].append(question.instances[0])
    boxes = {
        instance.id: mask_box(decode_mask(instance.mask)) for found in single.values() for instance in found
    }
    positions = [
        PositionQuestion(image, a, b, true, false)
        for image, found in single.items()
        for a, b in permutations(found, 2)
        for axis, (true, false) in enumerate(_OPPOSITES)
        if boxes[a.id][axis + 2] <= boxes[b.id][axis]
    ]
    return counts, positions


def measure(place: Place, counts: Sequence[CountQuestion], positions: Sequence[PositionQuestion]) -> None:
    """Print the figures."""
    estimated = [
        hit.count or 0 if (hit := place.ask(_count_query(question), question.image)) is not None else 0
        for question in counts
    ]
    of_counts = [question.image for question in counts]
    true = np.array([len(question.instances) for question in counts])
    for name, numbers in (("estimate", np.array(estimated)), ("always 1", np.ones(len(true), int))):
        off = np.abs(numbers - true)
        _print(f"count, {name}: within one", (off <= 1).astype(float), of_counts)
        _print(f"count, {name}: exact", (off == 0).astype(float), of_counts)
        _print(f"count, {name}: mean error", off.astype(float), of_counts)
    of_positions = [question.image for question in positions]
    on_truth, asked, is_found = [], [], []
    causes: Counter[str] = Counter()
    for question in positions:
        truth = question.subject.mask, question.other.mask
        on_truth.append(_share_right(question, truth))
        found = [
            place.ask(_position_query(question, name), question.image) is not None
            for name in (question.true, question.false)
        ]
        asked.append((found[0] + (not found[1])) / 2)
        is_found.append(float(found[0]))
        wrong = (not found[0]) + found[1]
        causes["right"] += 2 - wrong
        if wrong:
            causes[_cause(place, question)] += wrong
    _print("position, on true masks", on_truth, of_positions)
    _print("position, asked by text", asked, of_positions)
    _print("position, the true one is found", is_found, of_positions)
    for cause, number in causes.most_common():
        print(f"    {number / (2 * len(positions)):.3f} {cause}")


def _share_right(question: PositionQuestion, masks: tuple[MaskRLE, MaskRLE]) -> float:
    """Return which share of the two positions is decided right on the masks of the two objects."""
    first, second = map(Shape.of, masks)
    return (holds(question.true, first, second) + (not holds(question.false, first, second))) / 2


def _cause(place: Place, question: PositionQuestion) -> str:
    """Return why a position is answered wrong: the first of the steps that fails."""
    masks: list[MaskRLE] = []
    for instance in (question.subject, question.other):
        query = SearchQuery((TextTerm(instance.category or ""),), per_image=100, nms=False)
        every = place.ask(query, question.image)
        best = place.ask(replace(query, per_image=RELATED_CANDIDATES, nms=True), question.image)
        if every is None or best is None or not _fitting(every, instance):
            return "no segment is the object"
        fitting = _fitting(best, instance)
        if not fitting:
            return "the object is not among the candidates"
        masks.append(fitting[0])
    if _share_right(question, (masks[0], masks[1])) < 1:
        return "the position of the right candidates is wrong"
    return "another candidate is taken for the object"


def _fitting(hit: SearchHit, instance: EvalInstance) -> list[MaskRLE]:
    """Return the masks of a hit that are an object, best score first."""
    masks = [one.record.mask for one in hit.segments]
    iou = rle_iou(masks, [instance.mask])[:, 0]
    return [mask for mask, fits in zip(masks, iou >= TRUE_IOU, strict=True) if fits]


def _count_query(question: CountQuestion) -> SearchQuery:
    return SearchQuery((TextTerm(question.text),), condition=Counted(">=", 1))


def _position_query(question: PositionQuestion, name: RelationName) -> SearchQuery:
    subject, other = (TextTerm(one.category or "") for one in (question.subject, question.other))
    return SearchQuery((subject,), condition=Related(name, (other,)))


def _print(name: str, values: Sequence[float] | Floats, images: Sequence[str]) -> None:
    mean, low, high = interval(list(values), images)
    print(f"{name:32} {mean:.3f} [{low:.3f}, {high:.3f}]  {len(images)} questions")


def fit(place: Place, counts: Sequence[CountQuestion]) -> None:
    """Print the weights that are fitted to all questions, and what they find in folds that were left out.

    Only questions whose best candidate is right are learnt from: a wrong best one says nothing of the others.
    """
    features, targets, owners = [], [], []
    for number, question in enumerate(counts):
        hit = place.ask(SearchQuery((TextTerm(question.text),), per_image=MAX_CANDIDATES), question.image)
        if hit is None:
            continue
        group = [hit.segments[i] for i in distinct([one.record.mask for one in hit.segments])]
        ids = [one.segment_id for one in group]
        row = place.embedder.embed_texts([question.text])[0]
        stored = place.index.get_vectors(ids)
        presence = place.judge.segment_scores(
            stored, dict.fromkeys(DEFAULT_VIEW_WEIGHTS, row), weights=DEFAULT_VIEW_WEIGHTS
        )
        candidates = candidates_of(group, presence, stored, weights=DEFAULT_VIEW_WEIGHTS)
        iou = rle_iou(candidates.masks, [one.mask for one in question.instances])
        used: set[int] = set()
        target = np.zeros(len(group))
        for i, best in enumerate(iou.argmax(axis=1).tolist()):
            if iou[i, best] >= TRUE_IOU and best not in used:
                target[i] = 1
                used.add(best)
        features.append(candidate_features(candidates))
        targets.append(target)
        owners.append(number)
    images = sorted({question.image for question in counts})
    fold = np.array([images.index(counts[number].image) % _FOLDS for number in owners])
    right = np.array([target[0] == 1 for target in targets])
    true = np.array([len(counts[number].instances) for number in owners])
    estimate = np.zeros(len(owners), int)
    for left_out in range(_FOLDS):
        learnt = np.flatnonzero((fold != left_out) & right)
        weights = _logistic([features[i][1:] for i in learnt], [targets[i][1:] for i in learnt])
        for i in np.flatnonzero(fold == left_out).tolist():
            odds = np.exp(features[i] @ weights)
            estimate[i] = estimated_count(np.concatenate([[1.0], (odds / (1 + odds))[1:]]))
    of_all = [counts[number].image for number in owners]
    for name, chosen in (("all", np.ones(len(owners), bool)), ("best candidate right", right)):
        kept = [image for image, keep in zip(of_all, chosen, strict=True) if keep]
        for kind, numbers in (("left out", estimate), ("always 1", np.ones(len(true), int))):
            off = np.abs(numbers - true)[chosen]
            _print(f"{name}, {kind}: within one", (off <= 1).astype(float), kept)
            _print(f"{name}, {kind}: mean error", off.astype(float), kept)
    everything = np.flatnonzero(right)
    print(np.round(_logistic([features[i][1:] for i in everything], [targets[i][1:] for i in everything]), 2))


def _logistic(features: Sequence[Floats], targets: Sequence[Floats]) -> Floats:
    """Return the weights of a logistic regression with shrinkage; the first column is the constant."""
    x, y = np.concatenate(features), np.concatenate(targets)

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = x @ weights
        probabilities = 1 / (1 + np.exp(-logits))
        value = np.mean(np.logaddexp(0, logits) - y * logits) + _SHRINKAGE * float(weights[1:] @ weights[1:])
        slope = x.T @ (probabilities - y) / len(y)
        slope[1:] += 2 * _SHRINKAGE * weights[1:]
        return float(value), slope

    found: Floats = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return found


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("index")
    parser.add_argument("--fit", action="store_true")
    given = parser.parse_args()
    settings = build_settings(index=given.index)
    index = open_index(settings, create=False)
    try:
        embedder = load_embedder(settings, profile_of(settings, index))
        names = image_ids_of(index)
        dataset = load_dataset(given.data)
        counts, positions = questions_of(dataset)
        image_ids = {question.image: names[Path(question.image).name] for question in counts}
        place = Place(index, embedder, load_judge(settings, embedder), image_ids)
        if given.fit:
            fit(place, counts)
        else:
            measure(place, counts, positions)
    finally:
        index.close()


if __name__ == "__main__":
    main()
