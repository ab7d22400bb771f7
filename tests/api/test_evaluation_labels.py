"""Precision and recall of labels, compared with counts by hand."""

import random
from collections.abc import Sequence

import pytest

from segdex.evaluation.labels import JudgedLabel, LabelRun


def run_of(seed: int = 0, pictures: int = 40) -> LabelRun:
    """Return labels of which those with high scores are mostly right."""
    rng = random.Random(seed)
    names = tuple(f"{number}.png" for number in range(pictures))
    judged = []
    for name in names:
        for _ in range(6):
            score = rng.uniform(0, 10)
            judged.append(JudgedLabel(name, rng.choice("ab"), score, rng.random() < score / 10))
    instances = {(name, label): rng.randrange(4) for name in names for label in "ab"}
    return LabelRun(names, ("a", "b"), tuple(judged), instances)


def f1(run: LabelRun, threshold: float, pictures: list[str]) -> float:
    kept = [one for one in run.judged if one.score >= threshold and one.picture in pictures]
    total = sum(count for (name, _), count in run.instances.items() if name in pictures)
    return 2 * sum(one.is_right for one in kept) / (len(kept) + total)


def test_the_threshold_is_nearly_the_one_with_the_best_f1() -> None:
    run = run_of()
    pictures = list(run.pictures)

    best = max(f1(run, one.score, pictures) for one in run.judged)

    assert f1(run, run.best_threshold(pictures), pictures) == pytest.approx(best, abs=0.02)
    assert LabelRun(("a",), ("x",), (), {("a", "x"): 1}).best_threshold(["a"]) > 0


def test_a_picture_has_no_say_in_its_own_threshold() -> None:
    run = run_of()
    kept, _ = run.cross_validated(folds=4)
    scaled = [
        JudgedLabel(one.picture, one.name, one.score, not one.is_right)
        if one.picture == run.pictures[0]
        else one
        for one in run.judged
    ]
    others, _ = LabelRun(run.pictures, run.names, tuple(scaled), run.instances).cross_validated(folds=4)

    def of_it(labels: Sequence[JudgedLabel]) -> list[float]:
        return [one.score for one in labels if one.picture == run.pictures[0]]

    assert of_it(kept) == of_it(others) != [one.score for one in run.judged]


def test_the_figures_are_counts_and_their_shares_within_their_intervals() -> None:
    run = run_of()
    kept, _ = run.cross_validated()

    whole, *rows = run.figures(kept)

    assert whole.name == "all"
    assert [row.name for row in rows] == ["a", "b"]
    for row, names in ((whole, "ab"), (rows[0], "a"), (rows[1], "b")):
        mine = [one for one in kept if one.name in names]
        assert row.labelled == len(mine)
        assert row.right == sum(one.is_right for one in mine)
        assert row.instances == sum(count for (_, name), count in run.instances.items() if name in names)
        assert row.precision == pytest.approx(row.right / row.labelled, abs=1e-4)
        assert row.recall == pytest.approx(row.right / row.instances, abs=1e-4)
        assert (row.precision_low or 1) < row.right / row.labelled < (row.precision_high or 0)
        assert (row.recall_low or 1) < row.right / row.instances < (row.recall_high or 0)
    empty = LabelRun(("p",), ("x",), (), {("p", "x"): 0}).figures([])[0]
    assert (empty.precision, empty.recall) == (None, None)
