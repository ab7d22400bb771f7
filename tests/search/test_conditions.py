"""Positions and numbers over an index of drawn pictures, compared with what was drawn."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.dataset import write_colour_set
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex.evaluation.load import load_dataset
from segdex.evaluation.search import ingest_dataset
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.geometry import BoxXYXY
from segdex_core.records import SegmentFilter
from segdex_ingest.analyse import Recipe
from segdex_search.answer import SearchAnswer, search
from segdex_search.calibrate import Calibration
from segdex_search.grammar import parse_text
from segdex_search.presence import PresenceJudge
from segdex_search.queries import SearchQuery

LEFT, RIGHT = BoxXYXY(8, 40, 40, 80), BoxXYXY(112, 40, 150, 80)
TOP, BOTTOM = BoxXYXY(60, 6, 96, 30), BoxXYXY(60, 90, 96, 114)
SHELF, VASE = BoxXYXY(20, 70, 140, 100), BoxXYXY(60, 30, 84, 70)

PICTURES = {
    "beside.png": [("red", LEFT), ("blue", RIGHT)],
    "turned.png": [("blue", LEFT), ("red", RIGHT)],
    "over.png": [("red", TOP), ("blue", BOTTOM)],
    "under.png": [("blue", TOP), ("red", BOTTOM)],
    "standing.png": [("red", VASE), ("blue", SHELF)],
    "alone.png": [("red", LEFT)],
    "other.png": [("green", RIGHT)],
    "two.png": [("red", LEFT), ("red", RIGHT)],
    "three.png": [("red", LEFT), ("red", RIGHT), ("red", TOP)],
    "four.png": [("red", LEFT), ("red", RIGHT), ("red", TOP), ("red", BOTTOM)],
}
EMBEDDER = ColourEmbedder()
JUDGE = PresenceJudge(EMBEDDER.embed_texts(list(COLOURS_RGB)), Calibration(0.05, -1.0, 0.0))


@pytest.fixture(name="index", scope="module")
def _index(tmp_path_factory: pytest.TempPathFactory) -> MemoryIndex:
    index = MemoryIndex()
    dataset = load_dataset(write_colour_set(tmp_path_factory.mktemp("drawn"), PICTURES))
    recipe = Recipe(FloodSegmenter(), EMBEDDER, replace(SMALL_FRAME, frame_px=320, points_per_side=8))
    ingest_dataset(dataset, index=index, recipe=recipe, source=FileSource(), profile="offline")
    return index


Find = Callable[..., SearchAnswer]


@pytest.fixture(name="find", scope="module")
def _find(index: MemoryIndex) -> Find:
    def find(text: str, **options: object) -> SearchAnswer:
        parsed = parse_text(text)
        query = SearchQuery(parsed.terms, condition=parsed.condition, **{"limit": 100} | options)  # type: ignore[arg-type]
        return search(query, index=index, embedder=EMBEDDER, judge=JUDGE, keep_weak=True)

    return find


def names(answer: SearchAnswer) -> list[str]:
    return [Path(hit.image.files[0].uri).name for hit in answer.hits]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red LEFT OF blue", {"beside.png"}),
        ("red RIGHT OF blue", {"turned.png"}),
        ("blue LEFT OF red", {"turned.png"}),
        ("red ABOVE blue", {"over.png", "standing.png"}),
        ("red BELOW blue", {"under.png"}),
        ("red ON blue", {"standing.png"}),
        ("blue ON red", set()),
        ("red NEAR blue", {"standing.png"}),
    ],
)
def test_a_position_finds_the_pictures_that_were_drawn_so(find: Find, text: str, expected: set[str]) -> None:
    found = find(text)

    plain = {name for name, things in PICTURES.items() if {"red", "blue"} <= {colour for colour, _ in things}}
    assert {name for name in names(found) if name in plain} == expected
    assert names(found)[: len(expected)] == [name for name in names(found) if name in expected]


def test_a_hit_names_the_other_object(index: MemoryIndex, find: Find) -> None:
    hit = find("red LEFT OF blue").hits[0]
    [subject] = hit.segments[:1]
    assert subject.related_id is not None
    [other] = index.get_segments([subject.related_id])

    assert other.image_id == subject.image_id == hit.image.image_id
    assert subject.record.box.x2 <= other.box.x1
    assert [one.related_id is None for one in find("red").hits[0].segments] == [True] * len(
        find("red").hits[0].segments
    )


def test_both_objects_must_be_there_for_a_match(index: MemoryIndex) -> None:
    strict = PresenceJudge(JUDGE.distractors, Calibration(0.05, 0.8, 0.0))

    def matches(text: str) -> list[str]:
        parsed = parse_text(text)
        query = SearchQuery(parsed.terms, condition=parsed.condition, limit=100)
        return names(search(query, index=index, embedder=EMBEDDER, judge=strict))

    assert matches("red LEFT OF blue") == ["beside.png"]
    assert matches("red LEFT OF purple") == []
    assert matches("purple LEFT OF red") == []


def test_numbers_are_near_those_that_were_drawn_and_in_their_order(find: Find) -> None:
    found = find("red >= 1", per_image=100)
    counts = dict(zip(names(found), (hit.count or 0 for hit in found.hits), strict=True))

    for number, name in ((1, "alone.png"), (2, "two.png"), (3, "three.png"), (4, "four.png")):
        assert abs(counts[name] - number) <= 1
    assert counts["alone.png"] < counts["two.png"] <= counts["three.png"] <= counts["four.png"]
    assert counts["two.png"] < counts["four.png"]
    for hit in found.hits:
        assert len(hit.segments) == hit.count


@given(st.integers(1, 5), st.sampled_from(["red", "blue", "green"]))
@settings(max_examples=15)
def test_every_picture_meets_a_comparison_or_its_opposite(find: Find, number: int, colour: str) -> None:
    """The shape of each answer, whatever the model of the counts says."""
    everything = names(find(f"{colour} >= 1"))

    for yes, no in (("<=", ">"), (">=", "<")):
        if no == "<" and number == 1:
            continue
        first, second = names(find(f"{colour} {yes} {number}")), names(find(f"{colour} {no} {number}"))
        assert sorted(first + second) == sorted(everything)
    assert sorted(names(find(f"{colour} = {number}"))) == sorted(
        set(names(find(f"{colour} >= {number}"))) & set(names(find(f"{colour} <= {number}")))
    )


@pytest.mark.parametrize("text", ["red >= 1", "red NEAR grey", "red LEFT OF grey"])
def test_pages_are_parts_of_the_whole_answer(find: Find, text: str) -> None:
    whole = names(find(text))
    pages: list[str] = []
    for offset in range(0, len(PICTURES), 2):
        page = find(text, limit=2, offset=offset)
        pages += names(page)
        assert page.more == (offset + 2 < len(whole))

    assert pages == whole


def test_conditions_of_the_query_are_for_the_subject_alone(find: Find) -> None:
    small = SegmentFilter(max_area_fraction=0.1)

    # the shelf covers a fifth of its picture: too large to be the subject, and the vase stands on it still
    assert names(find("red ON blue", where=small))[0] == "standing.png"
    assert "standing.png" in names(find("blue BELOW red"))
    assert "standing.png" not in names(find("blue BELOW red", where=small))


def test_a_part_of_the_pictures_can_be_looked_at(find: Find) -> None:
    [turned] = [hit.image.image_id for hit in find("red RIGHT OF blue").hits[:1]]

    assert names(find("red LEFT OF blue", where=SegmentFilter(image_ids=(turned,)))) == []
    assert names(find("red RIGHT OF blue", where=SegmentFilter(image_ids=(turned,)))) == ["turned.png"]
