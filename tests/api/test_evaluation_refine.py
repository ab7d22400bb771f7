"""``eval refine`` and ``eval prompts`` on coloured boxes, where what is right is known."""

from pathlib import Path

import numpy as np
import pytest
from tests.fakes.dataset import write_colour_set, write_lines
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex.evaluation.dataset import EvalDataset
from segdex.evaluation.load import load_dataset
from segdex.evaluation.prompts import centre_point, evaluate_prompts, true_prompts
from segdex.evaluation.refine import RefineReport, absent_texts, evaluate_refine
from segdex.evaluation.search import ingest_dataset
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import UsageError
from segdex_core.geometry import BoxXYXY
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings
from segdex_search.calibrate import Calibration
from segdex_search.presence import PresenceJudge
from segdex_search.refine.encodings import EncodingCache
from segdex_search.refine.gate import GateSettings
from segdex_search.refine.refiner import Refiner

LEFT, RIGHT = BoxXYXY(8, 30, 58, 90), BoxXYXY(96, 30, 152, 90)
PICTURES = {"a.png": [("red", LEFT), ("blue", RIGHT)], "b.png": [("green", LEFT)]}
REFS: list[dict[str, object]] = [
    {"image": "images/a.png", "text": "the red box", "instance_id": "0"},
    {"image": "images/a.png", "text": "something purple", "instance_id": None, "absent": True},
    {"image": "images/b.png", "text": "no mask", "instance_id": None, "bbox_xywh": [1, 2, 3, 4]},
    {"image": "images/elsewhere.png", "text": "no such picture", "instance_id": "9"},
]
EMBEDDER = ColourEmbedder()
OTHERS = EMBEDDER.embed_texts(list(COLOURS_RGB))
CALIBRATION = Calibration(object_weight=0.05, threshold=0.3, growth=0)


@pytest.fixture(name="dataset")
def _dataset(tmp_path: Path) -> EvalDataset:
    write_colour_set(tmp_path, PICTURES)
    write_lines(tmp_path / "refs.jsonl", REFS)
    return load_dataset(tmp_path)


def evaluate(dataset: EvalDataset, *, gain_threshold: float) -> RefineReport:
    segmenter = FloodSegmenter()
    generator = GeneratorSettings(points_per_side=8, explained_above=1.0, redraws=False)
    index = MemoryIndex()
    ids = ingest_dataset(
        dataset,
        index=index,
        recipe=Recipe(segmenter, EMBEDDER, generator),
        source=FileSource(),
        profile="offline",
    )
    refiner = Refiner(
        segmenter=segmenter,
        embedder=EMBEDDER,
        distractors=OTHERS,
        encodings=EncodingCache(64),
        gate=GateSettings(gain_threshold=gain_threshold),
    )
    judge = PresenceJudge(OTHERS, CALIBRATION)
    return evaluate_refine(dataset, index=index, refiner=refiner, judge=judge, image_id_by_name=ids)


def test_expressions_are_read_where_their_picture_has_masks(dataset: EvalDataset) -> None:
    assert [(ref.text, ref.instance_id, ref.is_absent) for ref in dataset.refs] == [
        ("the red box", "0", False),
        ("something purple", None, True),
        ("no mask", None, False),
    ]


def test_an_expression_for_an_instance_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_colour_set(tmp_path, PICTURES)
    write_lines(tmp_path / "refs.jsonl", [{**REFS[0], "instance_id": "7"}])

    with pytest.raises(UsageError, match=r"refs\.jsonl, line 1: .* no instance '7'"):
        load_dataset(tmp_path)


def test_right_hits_are_counted_and_absent_things_are_not_there(dataset: EvalDataset) -> None:
    report = evaluate(dataset, gain_threshold=-1)
    values = report.to_json()

    assert values["queries"] == 4  # three unique classes and one expression
    assert values["queries_medium"] == 4
    assert values["stored_iou"] == pytest.approx(1, abs=0.05)
    assert values["refined_iou"] == values["proposed_iou"]
    assert values["accepted"] == 1
    assert values["worse"] == 0
    assert values["present_texts"] == 3
    assert values["absent_texts"] == 4  # blue and red in b, green in a, something purple in a
    assert values["absent_true"] == 1
    assert values["absent_false"] == 0
    assert (values["decode_p95_ms"] or 0) >= (values["decode_p50_ms"] or 0) > 0


def test_a_closed_gate_leaves_every_answer_as_it_was(dataset: EvalDataset) -> None:
    values = evaluate(dataset, gain_threshold=2).to_json()

    assert values["accepted"] == 0
    assert values["refined_iou"] == values["stored_iou"]


def test_absent_texts_are_not_in_their_pictures_and_chosen_by_the_seed(dataset: EvalDataset) -> None:
    here = {image.name: {one.category for one in image.instances} for image in dataset.images}

    chosen = absent_texts(dataset, seed=0, count=2)

    assert sum(map(len, chosen.values())) == 3
    assert all(text not in here[name] for name, texts in chosen.items() for text in texts)
    assert absent_texts(dataset, seed=0, count=2) == chosen


def test_a_set_without_questions_is_refused(tmp_path: Path) -> None:
    write_colour_set(tmp_path, PICTURES)
    (tmp_path / "class_queries.jsonl").unlink()
    dataset = load_dataset(tmp_path)

    with pytest.raises(UsageError, match="neither class queries nor refs"):
        evaluate_refine(
            dataset,
            index=MemoryIndex(),
            refiner=Refiner(FloodSegmenter(), EMBEDDER, OTHERS, EncodingCache(1)),
            judge=PresenceJudge(OTHERS, CALIBRATION),
            image_id_by_name={},
        )


def test_prompts_of_plain_things_are_answered_by_them(dataset: EvalDataset) -> None:
    values = evaluate_prompts(dataset, segmenter=FloodSegmenter()).to_json()

    assert values["images"] == 2
    assert values["instances"] == values["instances_medium"] == 3
    assert values["instances_small"] == values["instances_large"] == 0
    assert values["point_iou_small"] is None
    for kind in ("point", "box", "box_point"):
        assert (values[f"{kind}_iou"] or 0) > 0.9


def test_the_centre_of_a_thing_lies_deep_inside_it() -> None:
    ring = np.zeros((60, 80), bool)
    ring[10:50, 10:70] = True
    ring[20:40, 20:50] = False  # the middle of the box is not in the thing

    x, y = centre_point(ring)

    assert ring[int(y), int(x)]
    assert ring[int(y) - 5 : int(y) + 6, int(x) - 5 : int(x) + 6].all()
    assert true_prompts(ring)["box"].box_xyxy == (10, 10, 70, 50)
