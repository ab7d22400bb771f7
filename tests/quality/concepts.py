"""What do five marks bring? A simulated user marks hits by the true masks, and searches again.

    python -m tests.quality.concepts DATA edge:INDEX         # text, Rocchio and concept; intervals by class
    python -m tests.quality.concepts DATA edge:INDEX --fit   # constants for ``segdex_search.concepts``

Each class name of the labelled pictures is a query. The user marks the first five hits: right where the mask
has an IoU of .5 or more with an instance of the class. The pictures of the marks are left out of both
answers, and classes without an instance in the other pictures are left out of the figures. ``--fit``
chooses the constants on four fifths of the classes and reports the others.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt
from tests.quality.pictures import Instances, classes_of, image_ids_of, is_right

from segdex.evaluation.load import load_dataset
from segdex.wiring import build_settings, load_embedder, open_index, profile_of
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader
from segdex_core.records import Vectors
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS
from segdex_search.answer import search
from segdex_search.concepts import SETTINGS, FitSettings, Learnt, Spread, fit, look_up, spreads_of
from segdex_search.grammar import parse_text
from segdex_search.queries import ConceptTerm, SearchQuery, Term, TextTerm
from segdex_search.rank import HitSegment

MARKS, PRECISION_AT, REACH, PER_IMAGE = 5, 10, 60, 3
"""Hits that are marked, hits that are judged, pictures that are asked for, and hits in one picture."""

_FOLDS = 5
_GRID = [
    FitSettings(shrinkage=shrinkage, right=right)
    for shrinkage, right in product((0.003, 0.01, 0.03), (1.0, 1.5))
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """An index of labelled pictures, and what asks it."""

    index: IndexReader
    embedder: Embedder

    def hits(self, terms: Sequence[Term]) -> list[HitSegment]:
        """Return the hits of a query, best first."""
        query = SearchQuery(tuple(terms), limit=REACH, per_image=PER_IMAGE, exact=True)
        answer = search(query, index=self.index, embedder=self.embedder)
        hits = [one for hit in answer.hits for one in hit.segments]
        return sorted(hits, key=lambda one: (-one.score, one.segment_id))


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """A class, and what a user marked of the answer to its name.

    Attributes:
        text: Name of the class.
        instances: Its true masks.
        first: Hits of the text, best first.
        right: Segments that were marked right.
        wrong: Segments that were marked wrong.
    """

    text: str
    instances: Instances
    first: list[HitSegment]
    right: list[UUID]
    wrong: list[UUID]

    def precision(self, hits: Sequence[HitSegment]) -> float:
        """Return the share of the first hits that are right, the pictures of the marks left out."""
        marked = {one.image_id for one in self.first[:MARKS]}
        judged = [one for one in hits if one.image_id not in marked][:PRECISION_AT]
        return sum(is_right(one, self.instances) for one in judged) / PRECISION_AT


def rounds_of(place: Place, classes: Mapping[str, Instances]) -> list[Round]:
    """Return the marks of a simulated user for each class with instances in pictures without a mark."""
    rounds: list[Round] = []
    for text, instances in sorted(classes.items()):
        first = place.hits(parse_text(text).terms)
        marked = first[:MARKS]
        right = [one.segment_id for one in marked if is_right(one, instances)]
        wrong = [one.segment_id for one in marked if one.segment_id not in right]
        if instances.keys() - {one.image_id for one in marked}:
            rounds.append(Round(text, instances, first, right, wrong))
    return rounds


def with_rocchio(place: Place, one: Round) -> tuple[Term, ...]:
    """Return the query that Rocchio's rule makes of a text and marks, with its usual weights."""
    stored = place.index.get_vectors([*one.right, *one.wrong])
    learnt: dict[str, Vectors] = {}
    for view in DEFAULT_VIEW_WEIGHTS:
        learnt[view] = np.zeros(place.embedder.dim, np.float32)
        for keys, weight in ((one.right, 0.75), (one.wrong, -0.25)):
            for key in keys:
                learnt[view] += np.float32(weight / len(keys)) * stored[key][view]
    return (TextTerm(one.text), ConceptTerm("rocchio", 1.0, learnt))


def with_concept(
    place: Place, one: Round, spreads: Mapping[str, Spread], settings: FitSettings
) -> tuple[Term, ...]:
    """Return the query of a concept with the marks."""
    stored = place.index.get_vectors([*one.right, *one.wrong])

    def rows(keys: Sequence[UUID]) -> dict[str, Vectors]:
        return {view: np.array([stored[key][view] for key in keys], np.float32) for view in spreads}

    direction = fit(rows(one.right), rows(one.wrong), spreads, settings=settings)
    learnt = Learnt("marked", parse_text(one.text), direction)
    return look_up(parse_text("concept:marked"), lambda _: learnt).terms


def precisions(place: Place, rounds: Sequence[Round], terms_of: Callable[[Round], Sequence[Term]]) -> Floats:
    """Return the P@10 of each class after one round of marks."""
    return np.array([one.precision(place.hits(terms_of(one))) for one in rounds])


def interval(values: Floats, *, seed: int = 0) -> str:
    """Return a mean with the bounds that 95 % of resampled sets of classes lie in."""
    drawn = np.random.default_rng(seed).integers(0, len(values), (2_000, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return f"{values.mean():.4f} ({low:+.4f} to {high:+.4f})"


def report(name: str, after: Floats, before: Floats, has_right: npt.NDArray[np.bool_]) -> None:
    """Print the figures of a way to use marks."""
    gain = after - before
    print(f"{name:28} P@10 {interval(after)}, gain {interval(gain)}")
    for kind, some in (("a right mark", has_right), ("no right mark", ~has_right)):
        print(f"  {some.sum()} classes with {kind}: {before[some].mean():.4f} to {after[some].mean():.4f}")


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
        place = Place(index, load_embedder(settings, profile_of(settings, index)))
        classes = classes_of(load_dataset(given.data), image_ids_of(index))
        rounds = rounds_of(place, classes)
        measure(place, rounds, _GRID if given.fit else [SETTINGS])
    finally:
        index.close()


def measure(place: Place, rounds: Sequence[Round], grid: Sequence[FitSettings]) -> None:
    """Print the figures; with several settings, of those that other classes choose."""
    has_right = np.array([bool(one.right) for one in rounds])
    before = np.array([one.precision(one.first) for one in rounds])
    print(f"{len(rounds)} classes, {np.mean([len(one.right) for one in rounds]):.2f} of {MARKS} marks right")
    report("text alone", before, before, has_right)
    report("Rocchio", precisions(place, rounds, lambda one: with_rocchio(place, one)), before, has_right)
    found: list[Floats] = []
    spreads = {
        one: spreads_of(place.index, settings=FitSettings(shrinkage=one))
        for one in {one.shrinkage for one in grid}
    }
    for settings in grid:
        of_this = spreads[settings.shrinkage]
        found.append(
            precisions(place, rounds, lambda one: with_concept(place, one, of_this, settings))  # noqa: B023
        )
    if len(grid) == 1:
        report("concept", found[0], before, has_right)
        return
    table = np.stack(found)
    for settings, row in sorted(zip(grid, table, strict=True), key=lambda pair: -pair[1].mean())[:5]:
        print(settings, f"{row.mean():.4f}")
    fold = np.arange(len(rounds)) % _FOLDS
    held_out = np.zeros(len(rounds))
    for number in range(_FOLDS):
        best = int(table[:, fold != number].mean(axis=1).argmax())
        held_out[fold == number] = table[best, fold == number]
    report("concept, by other classes", held_out, before, has_right)


if __name__ == "__main__":
    main()
