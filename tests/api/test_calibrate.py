"""``fit_calibration`` on coloured boxes: thresholds lose little of what is there."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.api.test_evaluation_search import PICTURES, recipe
from tests.fakes.dataset import write_colour_set
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder

from segdex.evaluation.calibrate import PresenceScores, fit_calibration
from segdex.evaluation.labels import judge_labels
from segdex.evaluation.load import load_dataset
from segdex.evaluation.search import ingest_dataset
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_search.calibrate import Calibration
from segdex_search.presence import PresenceJudge


def test_the_best_score_is_of_the_first_page_and_of_the_pictures_that_were_drawn() -> None:
    scores = PresenceScores(
        order={"cat": ["a", "b", "c"]},
        scores={"cat": {"a": 1.0, "b": 3.0, "c": 2.0}},
        shows={"cat": frozenset({"b"})},
    )

    assert scores.best("cat", frozenset("abc")) == 3
    assert scores.best("cat", frozenset("ac")) == 2
    assert scores.best("cat", frozenset()) == float("-inf")
    assert scores.maxima(None) == ([3.0], [2.0])


def test_what_is_there_is_kept_and_what_is_absent_is_said_to_be(tmp_path: Path) -> None:
    dataset = load_dataset(write_colour_set(tmp_path, PICTURES))
    index, embedder = MemoryIndex(), ColourEmbedder()
    ids = ingest_dataset(dataset, index=index, recipe=recipe(), source=FileSource(), profile="offline")
    judge = PresenceJudge(embedder.embed_texts(tuple(COLOURS_RGB)), Calibration(0, 0, 0))

    calibration, weights, rows = fit_calibration(
        dataset, index=index, embedder=embedder, image_id_by_name=ids, judge=judge
    )

    assert calibration.growth >= 0
    run = judge_labels(
        replace(dataset, refs=(), captions=(), pairs=()),
        index=index,
        embedder=embedder,
        image_id_by_name=ids,
        others=judge.distractors,
    )
    assert calibration.label_threshold == round(run.best_threshold(run.pictures), 2)
    assert calibration.object_weight in {row["object_weight"] for row in weights}
    best = max(row["map"] + row["right_in_picture"] for row in weights)
    chosen = next(row for row in weights if row["object_weight"] == calibration.object_weight)
    assert chosen["map"] + chosen["right_in_picture"] == best
    everything = rows[-1]
    assert everything.pictures == len(PICTURES)
    assert everything.threshold == pytest.approx(calibration.threshold_of(len(PICTURES)), abs=1e-3)
    assert everything.absent_false == 0
    assert everything.absent_true >= 0.8
