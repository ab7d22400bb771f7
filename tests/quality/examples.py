"""Several examples at once, and different pictures first: what do ``combine`` and ``diversity`` find?

    python -m tests.quality.examples DATA edge:INDEX               # examples, then diversity
    python -m tests.quality.examples DATA edge:INDEX --draws 1     # faster
    python -m tests.quality.examples DATA edge:INDEX --only diversity

The classes are those with a right segment in six pictures or more; a segment is right where its mask has an
IoU of .5 or more with an instance of the class. Examples are right segments of different pictures, which are
left out of the answer. The hit of a picture is its best segment. Intervals resample the classes, and where a
question is of several classes, the questions.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args
from uuid import UUID

import numpy as np
import numpy.typing as npt
from tests.quality.pictures import TRUE_IOU, Instances, classes_of, image_ids_of, is_right, written

from segdex.evaluation.load import load_dataset
from segdex.wiring import build_settings, load_embedder, open_index, profile_of
from segdex_core.masks import rle_iou
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader
from segdex_core.records import SegmentFilter, SegmentRecord
from segdex_core.wire.limits import DEFAULT_NEGATIVE_WEIGHT, DEFAULT_VIEW_WEIGHTS, Combine
from segdex_search.answer import search
from segdex_search.arrange import diverse_order, joined_views
from segdex_search.queries import SearchQuery, SegmentTerm, Term, TextTerm
from segdex_search.rank import HitSegment

EXAMPLES, MIN_PICTURES, PRECISION_AT, MARKS = 3, 6, 10, 3
"""Examples of a query, least pictures of a class, hits that are judged, and wrong hits that are excluded."""

QUESTIONS_OF_SEVERAL = 15
"""Questions of two classes, and of three, for each draw."""

DIVERSITIES = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
UNSCALED = (0.1, 0.2)

_COMBINES: tuple[Combine, ...] = get_args(Combine)

Floats = npt.NDArray[np.float64]
Answers = dict[str, tuple[list[float], list[str]]]
"""Values by name, each with the class or question that it is of."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """An index of labelled pictures, and what asks it."""

    index: IndexReader
    embedder: Embedder
    image_ids: frozenset[UUID]

    def best(self, query: SearchQuery, *, without: frozenset[UUID] = frozenset()) -> list[HitSegment]:
        """Return the best segment of each picture of an answer, some pictures left out of the search."""
        where = SegmentFilter(image_ids=tuple(sorted(self.image_ids - without))) if without else query.where
        query = replace(query, where=where, per_image=1, exact=True)
        answer = search(query, index=self.index, embedder=self.embedder)
        return [hit.segments[0] for hit in answer.hits]

    def rows(self, segment_ids: Sequence[UUID]) -> Floats:
        """Return unit rows of segments; their dot product is the likeness."""
        stored = self.index.get_vectors(segment_ids)
        return joined_views([stored[key] for key in segment_ids], DEFAULT_VIEW_WEIGHTS)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A class with its true masks, and a right segment of each picture that has one.

    Attributes:
        text: Name of the class.
        instances: Its true masks.
        segments: The segment of each picture that fits an instance best.
    """

    text: str
    instances: Instances
    segments: Sequence[SegmentRecord]


def asked_of(classes: Mapping[str, Instances], index: IndexReader) -> list[Asked]:
    """Return the classes with a right segment in ``MIN_PICTURES`` pictures or more, by name."""
    by_image: dict[UUID, list[SegmentRecord]] = defaultdict(list)
    for record in index.scroll_segments():
        by_image[record.image_id].append(record)
    found: list[Asked] = []
    for text, instances in sorted(classes.items()):
        segments: list[SegmentRecord] = []
        for image_id, masks in sorted(instances.items()):
            records = by_image[image_id]
            fits = rle_iou([one.mask for one in records], masks).max(axis=1) if records else np.zeros(1)
            if fits.max() >= TRUE_IOU:
                segments.append(records[int(fits.argmax())])
        if len(segments) >= MIN_PICTURES:
            found.append(Asked(text, instances, segments))
    return found


def differing(rows: Floats, count: int, rng: np.random.Generator) -> list[int]:
    """Return rows that are as unlike each other as possible: a random one, then always the least like any.

    Args:
        rows: (n, d) unit rows, n at least ``count``.
        count: Number of rows.
        rng: Chooses the first one.
    """
    order = rng.permutation(len(rows))
    chosen = diverse_order(np.zeros(len(rows)), rows[order], 1.0)[:count]
    return [int(order[place]) for place in chosen]


def precision(hits: Sequence[HitSegment], wanted: Sequence[Asked]) -> float:
    """Return the share of the first hits that show an instance of any of some classes."""
    right = [any(is_right(hit, one.instances) for one in wanted) for hit in hits[:PRECISION_AT]]
    return sum(right) / PRECISION_AT


def like(segments: Sequence[SegmentRecord], combine: Combine) -> SearchQuery:
    """Return the query for what is like some segments."""
    return SearchQuery(tuple(SegmentTerm(one.segment_id) for one in segments), combine=combine)


def pictures_of(segments: Sequence[SegmentRecord]) -> frozenset[UUID]:
    """Return the pictures of segments."""
    return frozenset(one.image_id for one in segments)


def draws_of(
    place: Place, asked: Sequence[Asked], how: str, draws: int
) -> Iterator[tuple[Asked, list[SegmentRecord]]]:
    """Yield examples of each class: ``random`` ones, or ``differing`` ones."""
    rng = np.random.default_rng(0)
    for one in asked:
        rows = place.rows([segment.segment_id for segment in one.segments])
        for _ in range(draws):
            if how == "differing":
                chosen = differing(rows, EXAMPLES, rng)
            else:
                chosen = rng.choice(len(rows), EXAMPLES, replace=False).tolist()
            yield one, [one.segments[i] for i in chosen]


def measure_examples(place: Place, asked: Sequence[Asked], draws: int) -> None:
    """Print what several examples of a class, and of several classes, find."""
    for how in ("random", "differing"):
        found: Answers = {combine: ([], []) for combine in _COMBINES}
        for one, segments in draws_of(place, asked, how, draws):
            for combine in _COMBINES:
                hits = place.best(like(segments, combine), without=pictures_of(segments))
                _add(found, combine, precision(hits, [one]), one.text)
        report(f"{EXAMPLES} examples, {how}", found)
    rng = np.random.default_rng(1)
    for count in (2, 3):
        found = {combine: ([], []) for combine in _COMBINES}
        for number in range(draws * QUESTIONS_OF_SEVERAL):
            wanted = [asked[i] for i in rng.choice(len(asked), count, replace=False).tolist()]
            segments = [one.segments[int(rng.integers(len(one.segments)))] for one in wanted]
            for combine in _COMBINES:
                hits = place.best(like(segments, combine), without=pictures_of(segments))
                _add(found, combine, precision(hits, wanted), str(number))
        report(f"an example of each of {count} classes", found)


def measure_exclusions(place: Place, asked: Sequence[Asked], draws: int) -> None:
    """Print what excluding the first wrong hits changes in the other pictures."""
    for combine in _COMBINES:
        found: Answers = {"without exclusions": ([], []), "with exclusions": ([], [])}
        for one, segments in draws_of(place, asked, "differing", draws):
            query = like(segments, combine)
            first = place.best(query, without=pictures_of(segments))[:PRECISION_AT]
            wrong = [hit.record for hit in first if not is_right(hit, one.instances)][:MARKS]
            if not wrong:
                continue
            unlike = [SegmentTerm(segment.segment_id, -DEFAULT_NEGATIVE_WEIGHT) for segment in wrong]
            terms: tuple[Term, ...] = (*query.terms, *unlike)
            left_out = pictures_of([*segments, *wrong])
            for name, asking in (
                ("without exclusions", query),
                ("with exclusions", replace(query, terms=terms)),
            ):
                _add(found, name, precision(place.best(asking, without=left_out), [one]), one.text)
        report(f"up to {MARKS} wrong hits are excluded, {combine}", found)


def _add(found: Answers, name: str, value: float, owner: str) -> None:
    values, owners = found[name]
    values.append(value)
    owners.append(owner)


def report(title: str, found: Answers) -> None:
    """Print the P@10 of two ways to ask, and their difference."""
    (first, (before, owners)), (second, (after, _)) = found.items()
    gain = [b - a for a, b in zip(before, after, strict=True)]
    print(f"{title}: P@{PRECISION_AT} of {len(owners)} questions")
    for name, values in ((first, before), (second, after), ("difference", gain)):
        print(f"    {name:20} {written(values, owners)}", flush=True)


def measure_diversity(place: Place, asked: Sequence[Asked]) -> None:
    """Print what the first pictures of each class name show, by diversity."""
    print(f"diversity, first {PRECISION_AT} pictures: shows the class, object right, likeness")
    for diversity in DIVERSITIES:
        found = [
            shown(place, one, place.best(SearchQuery((TextTerm(one.text),), diversity=diversity)))
            for one in asked
        ]
        _report_shown(str(diversity), found, asked)
    every = [
        place.best(SearchQuery((TextTerm(one.text),), limit=max(len(place.image_ids), 1))) for one in asked
    ]
    for diversity in UNSCALED:
        found = []
        for one, hits in zip(asked, every, strict=True):
            rows = place.rows([hit.segment_id for hit in hits])
            order = diverse_order([hit.score for hit in hits], rows, diversity)
            found.append(shown(place, one, [hits[i] for i in order]))
        _report_shown(f"{diversity}, unscaled", found, asked)


def shown(place: Place, one: Asked, hits: Sequence[HitSegment]) -> tuple[float, float, float]:
    """Return the shares of the first pictures that show a class, and whose hit does, and their likeness.

    The likeness is the mean cosine of two different hits.
    """
    hits = hits[:PRECISION_AT]
    rows = place.rows([hit.segment_id for hit in hits])
    pairs = (rows @ rows.T)[np.triu_indices(len(hits), 1)]
    shows = sum(hit.image_id in one.instances for hit in hits) / PRECISION_AT
    return shows, precision(hits, [one]), float(pairs.mean())


def _report_shown(name: str, found: Sequence[tuple[float, float, float]], asked: Sequence[Asked]) -> None:
    texts = [one.text for one in asked]
    print(f"    {name:14}", *(written(values, texts) for values in zip(*found, strict=True)), flush=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("index")
    parser.add_argument("--draws", type=int, default=5, help="Examples that are drawn of each class.")
    parser.add_argument("--only", choices=("examples", "exclusions", "diversity"))
    given = parser.parse_args()
    settings = build_settings(index=given.index)
    index = open_index(settings, create=False)
    try:
        image_ids = image_ids_of(index)
        embedder = load_embedder(settings, profile_of(settings, index))
        place = Place(index, embedder, frozenset(image_ids.values()))
        asked = asked_of(classes_of(load_dataset(given.data), image_ids), index)
        print(f"{len(image_ids)} pictures, {len(asked)} classes: {', '.join(one.text for one in asked)}")
        if given.only in (None, "examples"):
            measure_examples(place, asked, given.draws)
        if given.only in (None, "exclusions"):
            measure_exclusions(place, asked, given.draws)
        if given.only in (None, "diversity"):
            measure_diversity(place, asked)
    finally:
        index.close()


if __name__ == "__main__":
    main()
