"""Positions and numbers over made-up segments, compared with looking at every segment by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest
from tests.backends.index.stored_samples import DIM, VIEWS, Picture, make_picture, unit_rows
from tests.search.test_answer import EMBEDDER, filled

from segdex_backends.index.memory import MemoryIndex
from segdex_core.colours import ColourAtLeast
from segdex_core.errors import ArgumentError
from segdex_core.geometry import BoxXYXY
from segdex_core.ids import make_segment_id
from segdex_core.masks import encode_mask
from segdex_core.records import (
    EmbeddedSegments,
    FusedSegment,
    ImageRecord,
    SegmentFilter,
    SegmentLabel,
    SegmentRecord,
    Vectors,
    ViewedSegment,
)
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS, Level
from segdex_search.answer import SearchAnswer, search
from segdex_search.calibrate import Calibration, object_weight
from segdex_search.colours import colour_bonus
from segdex_search.conditions import MAX_PICTURES
from segdex_search.counting import Candidates, distinct, estimated_count, object_probabilities
from segdex_search.embed import embed_query
from segdex_search.presence import PresenceJudge
from segdex_search.queries import Counted, Related, RelationName, SearchQuery, SegmentTerm, Term, TextTerm
from segdex_search.relations import Shape, holds

HEIGHT, WIDTH = 30, 40
CALIBRATION = Calibration(object_weight=0.2, threshold=0.3, growth=0.1, colour_weight=0.4)
JUDGE = PresenceJudge(unit_rows(np.random.default_rng(5), 30, DIM), CALIBRATION)
SUBJECT, OTHER = TextTerm("red cup"), TextTerm("green plate")
SET_ID = UUID(int=7)


def scene(number: int, segments: int, *, likeness: float = 0.0) -> Picture:
    """Return a picture of boxes; some are nested, have a label, or are in a set.

    Args:
        number: Of the picture.
        segments: How many boxes.
        likeness: How much of one direction all vectors of the picture have: 0 for none.
    """
    rng = np.random.default_rng(number)
    base = make_picture(number, segments)
    records: list[SegmentRecord] = []
    for place, record in enumerate(base.segments.records):
        x, y = int(rng.integers(0, WIDTH - 12)), int(rng.integers(0, HEIGHT - 12))
        box = BoxXYXY(x, y, x + int(rng.integers(3, 12)), y + int(rng.integers(3, 12)))
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[box.y1 : box.y2, box.x1 : box.x2] = True
        encoded = encode_mask(mask)
        records.append(
            replace(
                record,
                segment_id=make_segment_id(record.image_id, encoded),
                box=box,
                mask=encoded,
                area_px=int(mask.sum()),
                area_fraction=float(mask.mean()),
                object_score=1 - (1 - record.object_score) / (1 + 4 * likeness),
                ancestor_ids=(records[place - 1].segment_id,) if place % 3 == 2 else (),
                labels=(SegmentLabel("mine", "person:me", None, 1.0),) if place % 2 else (),
                sets=(SET_ID,) if place % 2 else (),
            )
        )
    shared = likeness * unit_rows(rng, 1, DIM)
    vectors = {view: unit(rows + shared) for view, rows in base.segments.vectors.items()}
    return replace(base, segments=EmbeddedSegments(records, vectors))


def unit(rows: Vectors) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.fixture(name="alike", scope="module")
def _alike() -> MemoryIndex:
    """Twelve pictures of up to fourteen segments that look alike, so that several are of one kind."""
    return filled([scene(number, 6 + 2 * (number % 5), likeness=2 * (number % 4)) for number in range(12)])


@pytest.fixture(name="index", scope="module")
def _index() -> MemoryIndex:
    """Twenty-four pictures, which are all looked through at once."""
    return filled([scene(number, 3 + number % 3) for number in range(24)])


shape_of = cache(Shape.of)


@dataclass(frozen=True, slots=True)
class ByHand:
    """Answers a query by looking at every segment of an index, one after the other."""

    index: MemoryIndex
    query: SearchQuery
    embedded: dict[Sequence[Term], Mapping[str, npt.NDArray[np.float32]]] = field(default_factory=dict)

    def rows(self, key: UUID) -> Mapping[str, npt.NDArray[np.float32]]:
        return self.index.get_vectors([key])[key]

    def vectors(self, terms: Sequence[Term]) -> Mapping[str, npt.NDArray[np.float32]]:
        if terms not in self.embedded:
            self.embedded[terms] = embed_query(terms, views=VIEWS, embedder=EMBEDDER, index=self.index)
        return self.embedded[terms]

    def cosine(self, terms: Sequence[Term], key: UUID) -> float:
        vectors, rows = self.vectors(terms), self.rows(key)
        return sum(share * float(rows[view] @ vectors[view]) for view, share in DEFAULT_VIEW_WEIGHTS.items())

    def score(self, terms: Sequence[Term], weight: float, record: SegmentRecord) -> float:
        bonus = colour_bonus(terms, CALIBRATION.colour_weight)
        extra = 0.0 if bonus is None else bonus.of(record.colours)
        return self.cosine(terms, record.segment_id) + weight * record.object_score + extra

    def presence_on(self, terms: Sequence[Term], rows: Mapping[str, npt.NDArray[np.float32]]) -> float:
        vectors = self.vectors(terms)
        own = sum(share * float(rows[view] @ vectors[view]) for view, share in DEFAULT_VIEW_WEIGHTS.items())
        others = [
            sum(share * float(rows[view] @ word) for view, share in DEFAULT_VIEW_WEIGHTS.items())
            for word in JUDGE.distractors
        ]
        return (own - float(np.mean(others))) / float(np.std(others))

    def presence(self, terms: Sequence[Term], key: UUID) -> float:
        return self.presence_on(terms, self.rows(key))

    def presence_of_picture(self, terms: Sequence[Term], image_id: UUID, keys: Sequence[UUID]) -> float:
        whole = self.index.get_image_vectors([image_id])[image_id]
        best = float(np.mean([self.presence(terms, key) for key in keys[:3]]))
        return 0.65 * best + 0.35 * self.presence_on(terms, dict.fromkeys(VIEWS, whole))

    def best(self, terms: Sequence[Term], weight: float, where: SegmentFilter) -> list[SegmentRecord]:
        """Return all segments of a filter, best first."""
        scored = [
            (-self.score(terms, weight, one), one.segment_id, one)
            for one in self.index.scroll_segments(where)
        ]
        return [one for _, _, one in sorted(scored, key=lambda each: each[:2])]

    def of_subject(self) -> list[SegmentRecord]:
        where = replace(self.query.where, min_depth=1) if self.query.level == "part" else self.query.where
        weight = object_weight(self.query, CALIBRATION)
        least = self.query.min_score
        return [
            one
            for one in self.best(self.query.terms, weight, where)
            if least is None or self.score(self.query.terms, weight, one) >= least
        ]

    def of_picture(
        self, found: Sequence[SegmentRecord], image: ImageRecord, most: int
    ) -> list[SegmentRecord]:
        kept: list[SegmentRecord] = []
        for one in found:
            is_nested = any(
                one.segment_id in other.ancestor_ids or other.segment_id in one.ancestor_ids for other in kept
            )
            if one.image_id == image.image_id and not is_nested:
                kept.append(one)
        return kept[:most]

    def related(self, condition: Related) -> list[tuple[UUID, list[tuple[UUID, UUID]], float]]:
        """Return the pictures: their id, subjects with what they lie beside, and presence; best first."""
        query = self.query
        own_weight, other_weight = object_weight(query, CALIBRATION), CALIBRATION.object_weight
        subjects = self.of_subject()
        # only what is of the picture is a condition on the other object
        around = SegmentFilter(image_ids=query.where.image_ids, tags=query.where.tags)
        others = self.best(condition.terms, other_weight, around)

        def own(one: SegmentRecord) -> float:
            return self.score(query.terms, own_weight, one)

        def second(one: SegmentRecord) -> float:
            return self.score(condition.terms, other_weight, one)

        images = self.index.get_images(list(dict.fromkeys(one.image_id for one in subjects)))
        others = [one for one in others if one.image_id in {image.image_id for image in images}]
        own_scores, other_scores = [own(one) for one in subjects], [second(one) for one in others]

        def standing(image: ImageRecord) -> float:
            total = 0.0
            for scores, found in ((own_scores, subjects), (other_scores, others)):
                best = max(
                    score for score, one in zip(scores, found, strict=True) if one.image_id == image.image_id
                )
                total += (best - float(np.mean(scores))) / float(np.std(scores))
            return total

        answer = []
        for image in sorted(images, key=lambda image: (-standing(image), image.image_id)):
            firsts, seconds = (self.of_picture(found, image, 3) for found in (subjects, others))
            firsts = self.likely(firsts, query.terms, condition.terms)
            seconds = self.likely(seconds, condition.terms, query.terms)
            pairs = [
                (own(a) + second(b), a, b)
                for a, b in product(firsts, seconds)
                if a.segment_id != b.segment_id and holds(condition.name, shape_of(a.mask), shape_of(b.mask))
            ]
            shown: dict[UUID, UUID] = {}
            for _, a, b in sorted(pairs, key=lambda pair: (-pair[0], pair[1].segment_id)):
                shown.setdefault(a.segment_id, b.segment_id)
            kept = list(shown.items())[: query.per_image]
            if kept:
                presence = min(
                    self.presence_of_picture(query.terms, image.image_id, [a for a, _ in kept]),
                    self.presence_of_picture(
                        condition.terms, image.image_id, list(dict.fromkeys(b for _, b in kept))
                    ),
                )
                answer.append((image.image_id, kept, presence))
        return answer

    def likely(
        self, found: Sequence[SegmentRecord], terms: Sequence[Term], not_as: Sequence[Term]
    ) -> list[SegmentRecord]:
        as_one = {one.segment_id: self.presence(terms, one.segment_id) for one in found}
        kept = [one for one in found if as_one[one.segment_id] >= self.presence(not_as, one.segment_id)]
        return [one for one in kept if as_one[one.segment_id] >= as_one[kept[0].segment_id] - 1]

    def counted(self, condition: Counted) -> list[tuple[UUID, list[UUID], int, float]]:
        """Return the pictures: their id, their objects, how many there are, and presence; best first."""
        terms, subjects = self.query.terms, self.of_subject()
        answer = []
        for image in self.index.get_images(list(dict.fromkeys(one.image_id for one in subjects))):
            found = self.of_picture(subjects, image, 40)
            found = [found[place] for place in distinct([one.mask for one in found])]
            probabilities = object_probabilities(
                Candidates(
                    masks=[one.mask for one in found],
                    presence=np.array([self.presence(terms, one.segment_id) for one in found]),
                    vectors=np.stack(
                        [
                            np.concatenate(
                                [
                                    share**0.5 * self.rows(one.segment_id)[view]
                                    for view, share in DEFAULT_VIEW_WEIGHTS.items()
                                ]
                            )
                            for one in found
                        ]
                    ),
                    object_scores=np.array([one.object_score for one in found]),
                    area_fractions=np.array([one.area_fraction for one in found]),
                )
            )
            count = estimated_count(probabilities)
            if condition.holds(count):
                likely = sorted(range(len(found)), key=lambda place: -probabilities[place])[:count]
                keys = [found[place].segment_id for place in sorted(likely)][: self.query.per_image]
                presence = self.presence_of_picture(terms, image.image_id, keys)
                answer.append((image.image_id, keys, count, presence))
        return answer


def ask(index: MemoryIndex, query: SearchQuery, judge: PresenceJudge | None = JUDGE) -> SearchAnswer:
    return search(query, index=index, embedder=EMBEDDER, judge=judge, keep_weak=True, calibration=CALIBRATION)


def check_related(index: MemoryIndex, query: SearchQuery) -> int:
    """Compare an answer with that by hand, and return the number of pictures."""
    assert isinstance(query.condition, Related)
    answer = ask(index, query)
    wanted = ByHand(index, query).related(query.condition)
    page = wanted[query.offset : query.offset + query.limit]

    assert [
        (hit.image.image_id, [(one.segment_id, one.related_id) for one in hit.segments])
        for hit in answer.hits
    ] == [one[:2] for one in page]
    assert [hit.presence for hit in answer.hits] == pytest.approx([one[2] for one in page], abs=1e-4)
    assert answer.more == (query.offset + query.limit < len(wanted))
    return len(wanted)


RELATIONS: list[RelationName] = ["left_of", "right_of", "above", "below", "on", "inside", "near"]


@pytest.mark.parametrize("name", RELATIONS)
def test_positions_are_those_of_all_pairs(index: MemoryIndex, name: RelationName) -> None:
    query = SearchQuery((SUBJECT,), limit=50, per_image=9, condition=Related(name, (OTHER,)))

    check_related(index, query)


def test_positions_are_found_at_all(index: MemoryIndex) -> None:
    query = SearchQuery((SUBJECT,), limit=50, condition=Related("left_of", (OTHER,)))

    every = check_related(index, query)
    assert every >= 5
    assert check_related(index, replace(query, limit=2, offset=1)) == every
    assert check_related(index, replace(query, limit=every)) == every  # the last page is known to be the last
    assert check_related(index, replace(query, per_image=1)) >= 5


@pytest.mark.parametrize(
    "where",
    [
        SegmentFilter(min_area_fraction=0.03),
        SegmentFilter(max_area_fraction=0.03),
        SegmentFilter(colours=(ColourAtLeast("red", 0.25),)),
        SegmentFilter(labels=("mine",)),
        SegmentFilter(sets=(SET_ID,)),
        SegmentFilter(min_depth=1),
        SegmentFilter(tags=("odd",)),
    ],
)
def test_filters_of_segments_are_for_the_subject_and_those_of_pictures_for_both(
    index: MemoryIndex, where: SegmentFilter
) -> None:
    query = SearchQuery((SUBJECT,), where=where, limit=50, condition=Related("near", (OTHER,)))

    assert check_related(index, query) > 0


@pytest.mark.parametrize("level", ["whole", "part"])
@pytest.mark.parametrize("name", ["near", "left_of", "right_of"])
def test_the_level_is_that_of_the_subject(index: MemoryIndex, level: Level, name: RelationName) -> None:
    query = SearchQuery((SUBJECT,), level=level, limit=50, condition=Related(name, (OTHER,)))

    assert check_related(index, query) > 1


@pytest.mark.parametrize("name", ["near", "left_of"])
def test_an_object_is_not_beside_itself(index: MemoryIndex, name: RelationName) -> None:
    query = SearchQuery((SUBJECT,), limit=50, per_image=9, condition=Related(name, (SUBJECT,)))

    assert check_related(index, query) > 1


def test_the_lowest_score_is_that_of_the_subject(index: MemoryIndex) -> None:
    query = SearchQuery((SUBJECT,), limit=50, condition=Related("near", (OTHER,)))
    every = check_related(index, query)

    assert 0 < check_related(index, replace(query, min_score=0.35)) < every


def test_a_segment_beside_the_text_weighs_nothing_for_the_other_object(index: MemoryIndex) -> None:
    """A query segment counts no object score, but the other object is a text alone."""
    like = SegmentTerm(next(iter(index.scroll_segments())).segment_id, 4.0)
    query = SearchQuery((SUBJECT, like), limit=50, condition=Related("near", (OTHER,)))

    assert check_related(index, query) > 0


@pytest.mark.parametrize(
    "options",
    [{}, {"per_image": 2}, {"limit": 3, "offset": 2}, {"level": "part"}, {"min_score": 0.3}],
)
@pytest.mark.parametrize("condition", [Counted(">=", 1), Counted("=", 2), Counted(">", 2), Counted("<", 3)])
def test_numbers_are_those_of_all_segments(
    alike: MemoryIndex, condition: Counted, options: dict[str, object]
) -> None:
    query = SearchQuery((SUBJECT,), condition=condition, **{"limit": 50, "per_image": 50} | options)  # type: ignore[arg-type]
    answer = ask(alike, query)
    wanted = ByHand(alike, query).counted(condition)
    page = wanted[query.offset : query.offset + query.limit]

    assert [
        (hit.image.image_id, [one.segment_id for one in hit.segments], hit.count) for hit in answer.hits
    ] == [one[:3] for one in page]
    assert [hit.presence for hit in answer.hits] == pytest.approx([one[3] for one in page], abs=1e-4)
    assert answer.more == (query.offset + query.limit < len(wanted))


def test_there_are_several_numbers_to_tell_apart(alike: MemoryIndex) -> None:
    answer = ask(alike, SearchQuery((SUBJECT,), limit=50, condition=Counted(">=", 1)))

    assert len({hit.count for hit in answer.hits}) >= 4


def test_the_best_pictures_are_looked_through_and_the_answer_says_so(index: MemoryIndex) -> None:
    many = filled([scene(number, 1) for number in range(MAX_PICTURES + 8)])
    query = SearchQuery((SUBJECT,), limit=1000, condition=Counted("=", 1))
    plain = replace(query, condition=None, per_image=1)

    answer = ask(many, query)
    none = ask(many, replace(query, condition=Counted(">", 5)))
    few = ask(many, replace(query, limit=5))

    best = [hit.image.image_id for hit in ask(many, plain).hits]
    assert [hit.image.image_id for hit in answer.hits] == best[:MAX_PICTURES]
    assert [hit.image.image_id for hit in few.hits] == best[:5]
    for cut in (answer, none):
        assert f"{MAX_PICTURES} best" in cut.hints[0]
    assert none.hits == ()
    assert (few.hints, few.more, answer.more) == ((), True, False)
    assert ask(index, replace(query, condition=Counted(">", 50))).hints == ()


class FadingIndex(MemoryIndex):
    """Deletes the segments of a picture before a read, as another process may."""

    def __init__(self, source: MemoryIndex, *, gone: UUID, before: int) -> None:
        super().__init__()
        fingerprint = source.fingerprint()
        assert fingerprint is not None
        self.ensure(fingerprint)
        for batch in source.scroll_vectors():
            self.upsert_segments(batch)
        for image in source.scroll_images():
            self.upsert_image(
                replace(image, revision=0), source.get_image_vectors([image.image_id])[image.image_id][None]
            )
        self.reads: list[tuple[str, list[UUID]]] = []
        self._gone, self._before = gone, before

    def _read(self, what: str, ids: Sequence[UUID] = ()) -> None:
        self.reads.append((what, list(ids)))
        if len(self.reads) == self._before:
            self.delete_segments(self._gone)

    def query_fused(self, *args: object, **options: object) -> list[FusedSegment]:
        self._read("query")
        return super().query_fused(*args, **options)  # type: ignore[arg-type]

    def view_segments(self, segment_ids: Sequence[UUID], *args: object) -> dict[UUID, ViewedSegment]:
        self._read("view", segment_ids)
        return super().view_segments(segment_ids, *args)  # type: ignore[arg-type]

    def get_vectors(
        self, segment_ids: Sequence[UUID]
    ) -> Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]]:
        self._read("vectors", segment_ids)
        return super().get_vectors(segment_ids)


CONDITIONS: list[Related | Counted] = [Related("left_of", (OTHER,)), Counted(">=", 1)]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_what_is_deleted_between_two_reads_is_absent(condition: Related | Counted) -> None:
    index = filled([scene(number, 3) for number in range(14)])
    query = SearchQuery((SUBJECT,), limit=50, condition=condition)
    whole = [hit.image.image_id for hit in ask(index, query).hits]
    unchanged = FadingIndex(index, gone=whole[0], before=0)
    ask(unchanged, query)

    assert len(whole) > 1
    for before in range(1, len(unchanged.reads) + 1):
        found = ask(FadingIndex(index, gone=whole[0], before=before), query).hits
        assert {hit.image.image_id for hit in found} - {whole[0]} == set(whole[1:])


@pytest.mark.parametrize("condition", CONDITIONS)
def test_vectors_are_read_once_to_look_through_pictures(
    index: MemoryIndex, condition: Related | Counted
) -> None:
    watched = FadingIndex(index, gone=UUID(int=0), before=0)
    answer = ask(watched, SearchQuery((SUBJECT,), limit=50, condition=condition))
    shown = {key for hit in answer.hits for one in hit.segments for key in (one.segment_id, one.related_id)}
    times = [key for what, ids in watched.reads if what == "vectors" for key in ids]

    assert {times.count(key) for key in times if key not in shown} == {1}


def test_without_a_judge_no_picture_is_judged(index: MemoryIndex) -> None:
    for condition in CONDITIONS:
        query = SearchQuery((SUBJECT,), limit=50, condition=condition)
        judged, plain = ask(index, query), ask(index, query, judge=None)

        assert {hit.presence for hit in plain.hits} == {None}
        assert all(hit.is_match for hit in plain.hits)
        assert plain.timings_ms.keys() == {"embed", "query"}
        assert judged.hits
        assert len(search(query, index=index, embedder=EMBEDDER, calibration=CALIBRATION).hits) == len(
            plain.hits
        )


@pytest.mark.parametrize("condition", CONDITIONS)
def test_nested_hits_cannot_be_kept_with_a_condition(condition: Related | Counted) -> None:
    with pytest.raises(ArgumentError, match="nms must be on"):
        SearchQuery((SUBJECT,), nms=False, condition=condition)
