"""``evaluate_search`` end to end on coloured boxes, and the rule of which pictures count for a class."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from PIL import Image
from tests.fakes.dataset import SIZE_HW, box_rle, write_colour_set, write_lines
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter
from tests.needs import shared

from segdex.evaluation.dataset import EvalDataset, sample_dataset
from segdex.evaluation.load import load_dataset
from segdex.evaluation.search import class_truth, evaluate_search, ingest_dataset, record_of
from segdex.evaluation.search_report import QueryRecord, SearchReport
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import ImageError, IndexMismatchError, QueryError, UsageError
from segdex_core.geometry import BoxXYXY
from segdex_core.records import Vectors
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings
from segdex_ingest.report import FileOutcome, Outcome
from segdex_search.answer import search
from segdex_search.calibrate import Calibration
from segdex_search.presence import PresenceJudge
from segdex_search.queries import SearchQuery, TextTerm

LEFT, MIDDLE, RIGHT = BoxXYXY(8, 30, 48, 80), BoxXYXY(60, 30, 100, 80), BoxXYXY(112, 30, 152, 80)
PICTURES = {
    "a.png": [("red", LEFT), ("blue", RIGHT)],
    "b.png": [("red", LEFT), ("red", MIDDLE), ("green", RIGHT)],
    "c.png": [("purple", MIDDLE)],
    "d.png": [("yellow", LEFT), ("cyan", RIGHT)],
}
WRONG_WORDS = {"red": "blue", "blue": "green", "green": "purple", "purple": "yellow"}
WRONG_WORDS |= {"yellow": "cyan", "cyan": "red"}
JUDGE = PresenceJudge(
    ColourEmbedder().embed_texts(list(COLOURS_RGB)), Calibration(object_weight=0.05, threshold=0.3, growth=0)
)


class MisledEmbedder(ColourEmbedder):
    """Takes each colour word for another colour."""

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return super().embed_texts([WRONG_WORDS[text] for text in texts])


class SpeechlessEmbedder(ColourEmbedder):
    """Knows no word."""

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        raise QueryError(f"no word of {texts} is known")


def recipe() -> Recipe:
    return Recipe(
        FloodSegmenter(),
        ColourEmbedder(),
        GeneratorSettings(points_per_side=3, explained_above=1.0, redraws=False),
    )


@pytest.fixture(name="dataset", scope="module")
def _dataset(tmp_path_factory: pytest.TempPathFactory) -> EvalDataset:
    return load_dataset(write_colour_set(tmp_path_factory.mktemp("set"), PICTURES))


@pytest.fixture(name="index", scope="module")
def _index() -> MemoryIndex:
    return MemoryIndex()


@pytest.fixture(name="ids", scope="module")
def _ids(dataset: EvalDataset, index: MemoryIndex) -> dict[str, UUID]:
    return ingest_dataset(dataset, index=index, recipe=recipe(), source=FileSource(), profile="offline")


def evaluate(
    dataset: EvalDataset, index: MemoryIndex, ids: dict[str, UUID], *, embedder: ColourEmbedder | None = None
) -> SearchReport:
    return evaluate_search(
        dataset,
        index=index,
        embedder=embedder or ColourEmbedder(),
        image_id_by_name=ids,
        judge=JUDGE,
        exact=True,
    )


def records(report: SearchReport) -> list[QueryRecord]:
    return [replace(one, elapsed_ms=0) for one in report.queries]


FIGURES = (
    *("map", "p_at_1", "p_at_10", "image_recall_1", "image_recall_5", "image_recall_10"),
    *("right_in_picture", "right_in_picture_medium", "absent_true", "absent_false"),
)


def test_an_embedder_that_knows_the_classes_finds_everything_first(
    dataset: EvalDataset, index: MemoryIndex, ids: dict[str, UUID]
) -> None:
    values = evaluate(dataset, index, ids).to_json()

    assert values["images"] == 4
    assert values["queries"] == 6
    assert values["instances"] == 8
    assert values["p_at_1"] == values["map"] == values["image_recall_1"] == 1
    assert values["p_at_10"] == pytest.approx((0.3 + 5 * 0.1) / 6, abs=1e-4)  # three red, one of the others
    assert values["right_in_picture"] == values["right_in_picture_medium"] == 1
    assert values["absent_true"] == 1
    assert values["absent_false"] == 0
    assert (values["latency_p95_ms"] or 0) >= (values["latency_p50_ms"] or 0) > 0
    assert set(values) == {
        *("images", "instances", "queries", "latency_p50_ms", "latency_p95_ms"),
        *(f"{name}{suffix}" for name in FIGURES for suffix in ("", "_low", "_high")),
    }


def test_an_embedder_that_confuses_the_classes_finds_nothing_first(
    dataset: EvalDataset, index: MemoryIndex, ids: dict[str, UUID]
) -> None:
    right, wrong = evaluate(dataset, index, ids), evaluate(dataset, index, ids, embedder=MisledEmbedder())

    assert wrong.to_json()["p_at_1"] == 0
    assert wrong.to_json()["absent_false"] == 0  # what it looks for instead is there
    for name, bad, good in zip(
        dataset.class_names, average_precisions(wrong), average_precisions(right), strict=True
    ):
        assert bad < good, name


def test_a_query_that_cannot_be_embedded_counts_as_nothing_found(
    dataset: EvalDataset, index: MemoryIndex, ids: dict[str, UUID]
) -> None:
    values = evaluate(dataset, index, ids, embedder=SpeechlessEmbedder()).to_json()

    assert values["queries"] == 6
    assert values["map"] == values["image_recall_10"] == 0
    assert values["absent_false"] == values["absent_true"] == 1


def test_what_is_there_is_not_ingested_again(
    dataset: EvalDataset, index: MemoryIndex, ids: dict[str, UUID]
) -> None:
    seen: list[FileOutcome] = []
    again = ingest_dataset(
        dataset, index=index, recipe=recipe(), source=FileSource(), profile="offline", on_file=seen.append
    )

    assert again == ids
    assert [one.outcome for one in seen] == [Outcome.UNCHANGED] * 4


def test_other_pictures_of_the_index_change_no_figure(tmp_path: Path) -> None:
    mine = {name: PICTURES[name] for name in ("a.png", "c.png")}
    # red all over, so that these come before all of mine
    more = {f"{n}.png": [("red", BoxXYXY(0, 0, 160, 120 - n))] for n in range(2)}
    dataset = load_dataset(write_colour_set(tmp_path / "mine", mine))
    others = load_dataset(write_colour_set(tmp_path / "more", more))
    index = MemoryIndex()
    ids = ingest_dataset(dataset, index=index, recipe=recipe(), source=FileSource(), profile="offline")
    before = records(evaluate(dataset, index, ids))
    ingest_dataset(others, index=index, recipe=recipe(), source=FileSource(), profile="offline")

    assert index.counts().images == 4
    assert records(evaluate(dataset, index, ids)) == before


def test_a_sample_asks_for_the_classes_of_its_pictures_alone(
    dataset: EvalDataset, index: MemoryIndex, ids: dict[str, UUID]
) -> None:
    part = sample_dataset(dataset, 1, 1)
    report = evaluate(part, index, ids)

    assert report.images == tuple(image.name for image in part.images)
    assert len(report.images) == 1
    assert [one.text for one in report.queries] == sorted({q.text for q in part.class_queries})


def average_precision(record: QueryRecord) -> float:
    verdicts = [right for _, right in record.hits]
    found = [sum(verdicts[:rank]) / rank for rank, right in enumerate(verdicts, 1) if right]
    return sum(found) / sum(record.instances.values())


def average_precisions(report: SearchReport) -> list[float]:
    return [average_precision(one) for one in report.queries]


def test_reversing_the_answer_lowers_the_average_precision(
    dataset: EvalDataset, index: MemoryIndex, ids: dict[str, UUID]
) -> None:
    answer = search(SearchQuery((TextTerm("red"),), per_image=20), index=index, embedder=ColourEmbedder())
    reversed_hits = tuple(
        replace(hit, segments=tuple(replace(one, score=-one.score) for one in hit.segments[::-1]))
        for hit in answer.hits[::-1]
    )
    truth = class_truth(dataset, "red")
    names = {image_id: name for name, image_id in ids.items()}
    forward, backward = (record_of("red", hits, truth, names=names) for hits in (answer.hits, reversed_hits))

    assert average_precision(forward) == 1
    assert average_precision(backward) < 0.6
    assert [has for _, has in forward.pictures] == [True, True, False, False]
    assert [has for _, has in backward.pictures] == [False, False, True, True]


def test_a_record_says_what_was_there_and_what_was_found_in_each_picture(
    dataset: EvalDataset, index: MemoryIndex, ids: dict[str, UUID]
) -> None:
    [red] = [one for one in evaluate(dataset, index, ids).queries if one.text == "red"]

    area = LEFT.area_px
    assert red.instances == {"images/a.png": 1, "images/b.png": 2}
    assert red.first_right == {"images/a.png": True, "images/b.png": True}
    assert red.largest_px == {"images/a.png": area, "images/b.png": area}
    assert [right for _, right in red.hits[:3]] == [True] * 3
    assert {name for name, right in red.hits if right} == set(red.instances)
    assert (red.said_absent, red.said_absent_without, red.is_known) == (False, True, None)
    assert red.elapsed_ms > 0


def test_a_vocabulary_says_which_classes_it_knows(
    dataset: EvalDataset, index: MemoryIndex, ids: dict[str, UUID]
) -> None:
    class Reader(ColourEmbedder):
        def knows(self, text: str) -> bool:
            return text in ("red", "blue")

    report = evaluate(dataset, index, ids, embedder=Reader())

    assert {one.text for one in report.queries if one.is_known} == {"red", "blue"}
    assert {"map_known", "map_unknown"} <= set(report.to_json())


def test_expressions_and_captions_find_their_picture(tmp_path: Path) -> None:
    folder = write_colour_set(tmp_path, PICTURES)
    write_lines(
        folder / "refs.jsonl",
        [
            {"image": "images/c.png", "text": "the purple box", "instance_id": "0"},
            {"image": "images/b.png", "text": "green please", "instance_id": "0"},  # that is a red one
            {"image": "images/a.png", "text": "orange", "instance_id": None, "absent": True},
        ],
    )
    write_lines(
        folder / "captions.jsonl",
        [
            {"image": "images/c.png", "text": "purple on grey"},
            {"image": "images/a.png", "text": "???"},
            {"image": "images/elsewhere.png", "text": "not in the set"},
        ],
    )
    dataset = load_dataset(folder)
    index = MemoryIndex()
    ids = ingest_dataset(dataset, index=index, recipe=recipe(), source=FileSource(), profile="offline")

    report = evaluate(dataset, index, ids)

    assert [(one.kind, one.image, one.rank, one.is_right) for one in report.texts] == [
        ("ref", "images/c.png", 1, True),
        ("ref", "images/b.png", 1, False),
        ("caption", "images/c.png", 1, None),
        ("caption", "images/a.png", None, None),
    ]
    values = report.to_json()
    assert values["ref_image_recall_1"] == 1
    assert values["ref_right_in_picture"] == 0.5
    assert values["caption_image_recall_10"] == 0.5


def test_a_picture_of_a_thing_and_its_name_find_the_picture_that_shows_it(tmp_path: Path) -> None:
    write_colour_set(tmp_path, PICTURES)
    (tmp_path / "segments.jsonl").unlink()
    Image.new("RGB", (40, 30), COLOURS_RGB["purple"]).save(tmp_path / "query.png")
    write_lines(
        tmp_path / "pairs.jsonl",
        [
            {"image": "images/c.png", "query_image": "query.png", "text": "purple"},
            {"image": "images/d.png", "query_image": "query.png", "text": "purple"},
        ],
    )
    dataset = load_dataset(tmp_path)
    index = MemoryIndex()
    ids = ingest_dataset(dataset, index=index, recipe=recipe(), source=FileSource(), profile="offline")

    report = evaluate(dataset, index, ids)

    assert report.queries == ()
    assert [(one.kind, one.image, one.rank) for one in report.texts] == [
        ("pair_picture", "images/c.png", 1),
        ("pair_text", "images/c.png", 1),
        ("pair_picture", "images/d.png", 2),
        ("pair_text", "images/d.png", 2),
    ]


def test_a_picture_that_cannot_be_read_stops_the_evaluation(tmp_path: Path) -> None:
    dataset = load_dataset(write_colour_set(tmp_path, {"a.png": PICTURES["a.png"]}))
    dataset.images[0].path.write_bytes(b"not a picture")

    with pytest.raises(ImageError, match=r"^1 of 1 pictures could not be ingested: .*a\.png"):
        ingest_dataset(dataset, index=MemoryIndex(), recipe=recipe(), source=FileSource(), profile="offline")


def test_a_set_without_class_queries_is_refused_before_the_work(dataset: EvalDataset) -> None:
    index = MemoryIndex()

    with pytest.raises(UsageError, match=r"has nothing to ask for; eval search needs class_queries\.jsonl"):
        ingest_dataset(
            replace(dataset, class_queries=()),
            index=index,
            recipe=recipe(),
            source=FileSource(),
            profile="offline",
        )
    assert index.fingerprint() is None


def test_another_embedder_than_the_index_has_is_refused(
    dataset: EvalDataset, index: MemoryIndex, ids: dict[str, UUID]
) -> None:
    with pytest.raises(IndexMismatchError):
        evaluate(dataset, index, ids, embedder=ColourEmbedder(samples_per_side=8))


@pytest.fixture(name="mixed")
def _mixed(tmp_path: Path) -> EvalDataset:
    """One picture each with things only, with things and stuff, and with both sources."""
    folder = write_colour_set(tmp_path / "mixed", {"t.png": [], "p.png": [], "b.png": []})
    rows = [
        ("t.png", "things", "dog", 1, 0),
        ("t.png", "things", "dog", 1, 1),
        ("p.png", "all", "cat", 1, 0),
        ("p.png", "all", "sky", 0, 0),
        ("b.png", "things", "dog", 1, 0),
        ("b.png", "all", "dog", 1, 0),
        ("b.png", "all", "dog", 1, 0),
        ("b.png", "all", "sky", 0, 0),
        ("b.png", "all", "cat", 1, 0),
        ("b.png", "things", "fox", 1, 0),
    ]
    write_lines(
        folder / "segments.jsonl",
        [
            {
                "image": f"images/{image}",
                "height": SIZE_HW[0],
                "width": SIZE_HW[1],
                "instance_id": number,
                "category": category,
                "source": source,
                "isthing": is_thing,
                "iscrowd": is_crowd,
                "rle": box_rle(LEFT),
            }
            for number, (image, source, category, is_thing, is_crowd) in enumerate(rows)
        ],
    )
    return load_dataset(folder)


def counted(dataset: EvalDataset, category: str) -> dict[str, tuple[int, int]]:
    return {
        name.removeprefix("images/"): (len(image.instances), len(image.crowds))
        for name, image in class_truth(dataset, category).items()
    }


def test_a_thing_counts_where_a_source_annotates_things_and_by_the_first_such_source_alone(
    mixed: EvalDataset,
) -> None:
    assert counted(mixed, "dog") == {"t.png": (1, 1), "p.png": (0, 0), "b.png": (2, 0)}


def test_a_thing_that_one_source_alone_uses_is_taken_from_that_source(mixed: EvalDataset) -> None:
    assert counted(mixed, "cat") == {"t.png": (0, 0), "p.png": (1, 0), "b.png": (1, 0)}
    assert counted(mixed, "fox") == {"t.png": (0, 0), "p.png": (0, 0), "b.png": (1, 0)}


def test_stuff_counts_only_where_a_source_annotates_stuff(mixed: EvalDataset) -> None:
    assert counted(mixed, "sky") == {"p.png": (1, 0), "b.png": (1, 0)}


def test_a_part_of_a_set_keeps_the_rule_of_the_whole(mixed: EvalDataset) -> None:
    alone = replace(mixed, images=tuple(i for i in mixed.images if i.name == "images/t.png"))

    assert counted(alone, "cat") == {"t.png": (0, 0)}
    assert counted(alone, "sky") == {}


def test_on_coco_all_pictures_count_for_things_and_the_panoptic_ones_for_stuff() -> None:
    dataset = load_dataset(shared("data", "coco"))
    people, sky = class_truth(dataset, "person"), class_truth(dataset, "sky-other-merged")

    assert (len(people), len(sky)) == (142, 52)
    assert sum(len(image.crowds) for image in people.values()) == 6
    assert np.sum([len(image.instances) for image in people.values()]) == 216 + 121 - 6
