"""Which colours a text asks for, and that they rank as scoring every segment by hand does."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from tests.search.test_answer import EMBEDDER, PICTURES
from tests.search.test_retrieve import CountingIndex, fill

from segdex_core.colours import SHARE_STEPS, ColourAtLeast, ColourName
from segdex_core.errors import QueryError
from segdex_core.records import SegmentFilter, SegmentRecord
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS
from segdex_search.answer import SearchAnswer, search
from segdex_search.calibrate import UNKNOWN
from segdex_search.colours import ColourBonus, asked_colours, colour_bonus
from segdex_search.embed import embed_query
from segdex_search.grammar import parse_text
from segdex_search.queries import Related, SearchQuery, SegmentTerm, TextTerm


@pytest.mark.parametrize(
    ("text", "colours"),
    [
        ("red umbrella", ("red",)),
        ("a Red umbrella", ("red",)),
        ("dark blue car", ("blue",)),
        ("gray cat", ("grey",)),
        ("violet dress", ("purple",)),
        ("magenta scarf", ("purple",)),
        ("red and white flag", ("red", "white")),
        ("two red, white and blue flags", ("red", "white", "blue")),
        ("orange cat", ("orange",)),
        ("red", ("red",)),
        ("dark orange", ("orange",)),
        ("white truck in front of a red house", ("white",)),
        ("red car and blue bus", ("red",)),
        ("umbrella", ()),
        ("orange juice", ()),
        ("an orange", ()),
        ("yellow orange", ("yellow",)),
        ("oranges", ()),
        ("rose", ()),
        ("brown bear", ()),
        ("red wine", ()),
        ("traffic light that is red", ()),
        ("man in a red shirt", ()),
        ("red-haired woman", ()),
        ("red or blue car", ()),
        ("not a red car", ()),
        ("and red", ()),
        ("greenhouse", ()),
        ("27 _ !", ()),
    ],
)
def test_a_colour_counts_where_it_describes_what_is_looked_for(
    text: str, colours: tuple[ColourName, ...]
) -> None:
    assert asked_colours(text) == colours


def test_a_bonus_weighs_as_much_as_the_text_that_names_the_colour() -> None:
    segment = SegmentTerm(PICTURES[0].segment_ids[0], 3.0)

    assert colour_bonus([TextTerm("red cup")], 0.2) == ColourBonus(("red",), 0.2)
    assert colour_bonus([TextTerm("red cup"), segment], 0.2) == ColourBonus(("red",), 0.05)
    assert colour_bonus([TextTerm("red cup"), TextTerm("red cup")], 0.2) == ColourBonus(("red",), 0.2)


@pytest.mark.parametrize(
    "terms",
    [
        [TextTerm("cup")],
        [TextTerm("cup"), TextTerm("red", -0.5)],
        [TextTerm("red cup"), TextTerm("blue cup")],
        [SegmentTerm(PICTURES[0].segment_ids[0])],
    ],
)
def test_a_query_without_one_colour_has_no_bonus(terms: Sequence[TextTerm | SegmentTerm]) -> None:
    assert colour_bonus(terms, 0.2) is None
    assert colour_bonus([TextTerm("red cup")], 0) is None


def by_hand(index: CountingIndex, query: SearchQuery, weight: float) -> list[tuple[UUID, UUID, float]]:
    """Return the best segment of each picture with its score, all segments scored and none left out."""
    vectors = embed_query(query.terms, views=tuple(DEFAULT_VIEW_WEIGHTS), embedder=EMBEDDER, index=index)
    known = {image.image_id for image in index.scroll_images()}
    records = [one for one in index.scroll_segments(query.where) if one.image_id in known]
    stored = index.get_vectors([one.segment_id for one in records])
    bonus = colour_bonus(query.terms, weight)

    def score(record: SegmentRecord) -> float:
        rows = stored[record.segment_id]
        mean = sum(share * float(rows[view] @ vectors[view]) for view, share in DEFAULT_VIEW_WEIGHTS.items())
        extra = 0.0 if bonus is None else bonus.of(record.colours)
        return mean + UNKNOWN.object_weight * record.object_score + extra

    best: dict[UUID, tuple[UUID, UUID, float]] = {}
    for one in sorted(records, key=lambda each: (-score(each), each.segment_id)):
        best.setdefault(one.image_id, (one.image_id, one.segment_id, score(one)))
    return list(best.values())


@pytest.fixture(name="index", scope="module")
def _index() -> CountingIndex:
    index = CountingIndex()
    fill(index)
    return index


def found(answer: SearchAnswer) -> list[tuple[UUID, UUID, float]]:
    return [(hit.image.image_id, hit.segments[0].segment_id, hit.score) for hit in answer.hits]


@pytest.mark.parametrize("weight", [0.01, 0.15, 0.5, 3.0])
@pytest.mark.parametrize("text", ["red cup", "blue and white cup", "cup"])
@pytest.mark.parametrize("limit", [1, 4, 100])
def test_the_best_segments_are_those_of_scoring_every_segment_by_hand(
    index: CountingIndex, text: str, weight: float, limit: int
) -> None:
    query = SearchQuery((TextTerm(text),), limit=limit, per_image=1)

    answer = search(query, index=index, embedder=EMBEDDER, calibration=replace(UNKNOWN, colour_weight=weight))

    wanted = by_hand(index, query, weight)[:limit]
    assert [one[:2] for one in found(answer)] == [one[:2] for one in wanted]
    assert [one[2] for one in found(answer)] == pytest.approx([one[2] for one in wanted], abs=1e-6)


def test_pages_of_a_colour_are_parts_of_one_order(index: CountingIndex) -> None:
    calibration = replace(UNKNOWN, colour_weight=0.3)
    query = SearchQuery((TextTerm("red cup"),), limit=20)
    whole = search(query, index=index, embedder=EMBEDDER, calibration=calibration)

    pages = [
        search(
            replace(query, limit=5, offset=offset), index=index, embedder=EMBEDDER, calibration=calibration
        )
        for offset in range(0, 20, 5)
    ]

    assert [one for page in pages for one in found(page)] == found(whole)
    assert len(found(whole)) == 20


def test_a_text_without_a_colour_asks_and_scores_as_if_there_were_no_colours(index: CountingIndex) -> None:
    query = SearchQuery((TextTerm("orange juice"),), limit=30, per_image=9)
    answers = []
    for weight in (0.0, 5.0):
        index.asked.clear()
        known = replace(UNKNOWN, colour_weight=weight)
        answer = search(query, index=index, embedder=EMBEDDER, calibration=known)
        answers.append((list(index.asked), [(hit.image, hit.segments) for hit in answer.hits]))

    assert answers[0] == answers[1]


def test_a_colour_filter_holds_for_every_segment_of_an_answer(index: CountingIndex) -> None:
    where = SegmentFilter(colours=(ColourAtLeast("red", SHARE_STEPS[0]),))
    query = SearchQuery((TextTerm("blue cup"),), where=where, limit=100, per_image=100, nms=False)

    answer = search(query, index=index, embedder=EMBEDDER)

    segments = [one.record for hit in answer.hits for one in hit.segments]
    known = {image.image_id for image in index.scroll_images()}
    assert len(segments) == sum(one.image_id in known for one in index.scroll_segments(where)) > 0
    assert all(one.colours is not None and one.colours.share("red") >= SHARE_STEPS[0] for one in segments)


def test_a_colour_filter_of_a_text_is_no_term_of_it() -> None:
    parsed = parse_text("car color:red -truck COLOUR:Gray")

    assert [(term.text, term.weight) for term in parsed.terms] == [("car", 1.0), ("truck", -0.5)]
    assert parsed.colors == ("red", "grey")
    assert parse_text("red car").colors == ()
    assert parse_text('"color:red"').colors == ()
    assert parse_text("color:red").terms == ()


@pytest.mark.parametrize("text", ["car", "red  car", "person LEFT OF bicycle", "dog >= 2", "cup^2 -red"])
def test_a_colour_filter_leaves_the_rest_of_a_text_as_it_is(text: str) -> None:
    filtered = parse_text(f"color:blue {text}")

    assert replace(filtered, colors=()) == replace(parse_text(" ".join(text.split())), colors=())
    assert filtered.colors == ("blue",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("car color:teal", "a colour must be one of black, white"),
        ("car color:", "a colour must be one of"),
        ("car -color:red", "it cannot exclude"),
        ("car color:red^2", "has no weight"),
        ("person LEFT OF bicycle color:red", "put it before the position"),
    ],
)
def test_a_colour_filter_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        parse_text(text)


def test_a_filter_beside_a_position_is_for_the_subject() -> None:
    parsed = parse_text("person color:red LEFT OF bicycle")

    assert parsed.colors == ("red",)
    assert isinstance(parsed.condition, Related)
