"""Attribute questions, such as "red bus", and how well a search answers them.

    python -m tests.quality.colour_queries DATA --index edge:FOLDER                     # the table of weights
    python -m tests.quality.colour_queries DATA --index edge:FOLDER --weights 0 .2 --every 7   # a quick look
    python -m tests.quality.colour_queries DATA --index edge:COPY --fill   # measures missing colours first
    python -m tests.quality.colour_queries DATA                 # only the colours that captions name

asks for every class of a data set together with every colour that its true masks show, with the bonus for
measured colours and without it. The right answers are the instances of the class whose true masks have the
colour by more than half. That is said by the measurement itself, on true masks: the figures show what search
makes of the measurement, and ``named_by_people`` compares the measurement with words of people.

The index is one that ``segdex ingest`` filled with the pictures of the set, and no others. ``--fill`` is for
an index of an earlier segdex, which stored no colours. It writes to the index, so give it a copy, and prints
the CPU seconds of ``measure_colours``.
"""

import argparse
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from segdex.evaluation.dataset import EvalDataset, EvalInstance
from segdex.evaluation.load import load_dataset
from segdex.evaluation.metrics import ImageTruth
from segdex.evaluation.search import class_truth, record_of
from segdex.evaluation.search_report import QueryRecord, SearchReport
from segdex_core.colours import COLOUR_NAMES, ColourName, ColourShares, colour_named
from segdex_core.masks import MaskRLE, decode_mask
from segdex_core.media.decode import read_image_file
from segdex_core.media.limits import MAX_PIXELS
from segdex_core.media.uris import canonical_uri
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader, SegmentIndex
from segdex_ingest.colours import colour_cells, colour_shares
from segdex_ingest.ledger import Ledger
from segdex_ingest.recolour import images_without_colours, measure_colours
from segdex_search.answer import search
from segdex_search.calibrate import Calibration, shipped_calibration
from segdex_search.queries import SearchQuery, TextTerm

RIGHT_SHARE, MAYBE_SHARE = 0.5, 0.25
"""An instance with ``RIGHT_SHARE`` of a colour or more is right; one with ``MAYBE_SHARE`` does not count."""

MIN_AREA_SHARE = 1 / 400
"""Instances below this share of their picture do not make a question: few masks of an index are so small."""

PER_IMAGE = 5

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
"""Colour weights that are compared."""

Colours = Mapping[MaskRLE, ColourShares]
"""Measured colours of the true masks of one picture."""


@dataclass(frozen=True, slots=True, eq=False)
class ColourQuestion:
    """A class in a colour.

    Attributes:
        category: The class.
        colour: The colour.
        truth: By name, the pictures that count: right instances, and among the crowds those in between.
    """

    category: str
    colour: ColourName
    truth: Mapping[str, ImageTruth]

    @property
    def text(self) -> str:
        """The question."""
        return f"{self.colour} {self.category}"


def true_colours(dataset: EvalDataset) -> dict[str, Colours]:
    """Return by name of the picture the colours of its true masks."""
    found: dict[str, Colours] = {}
    for image in dataset.images:
        cells = colour_cells(read_image_file(image.path).pixels)
        masks = {one.mask for one in (*image.instances, *image.crowds)}
        found[image.name] = {mask: colour_shares(cells, decode_mask(mask)) for mask in masks}
    return found


def colour_questions(dataset: EvalDataset, colours: Mapping[str, Colours]) -> Iterator[ColourQuestion]:
    """Yield the questions of a data set: a class in a colour that some of its instances have, but not all."""
    for category in dataset.class_names:
        truth = class_truth(dataset, category)
        for colour in COLOUR_NAMES:
            chosen = {name: _in_colour(one, colours[name], colour) for name, one in truth.items()}
            is_asked = any(_is_large(mask) for one in chosen.values() for mask in one.instances)
            others = sum(len(truth[name].instances) - len(one.instances) for name, one in chosen.items())
            if is_asked and others:
                yield ColourQuestion(category, colour, chosen)


def _in_colour(truth: ImageTruth, colours: Colours, colour: ColourName) -> ImageTruth:
    shares = {mask: colours[mask].share(colour) for mask in truth.instances}
    maybe = tuple(mask for mask, share in shares.items() if MAYBE_SHARE <= share < RIGHT_SHARE)
    return replace(
        truth,
        instances=tuple(mask for mask, share in shares.items() if share >= RIGHT_SHARE),
        crowds=(*truth.crowds, *maybe),
    )


def _is_large(mask: MaskRLE) -> bool:
    return bool(decode_mask(mask).mean() >= MIN_AREA_SHARE)


def ask(
    questions: Sequence[ColourQuestion],
    *,
    index: IndexReader,
    embedder: Embedder,
    calibration: Calibration,
    names: Mapping[UUID, str],
) -> SearchReport:
    """Return how the questions fare.

    Args:
        questions: What to ask.
        index: Holds the pictures of the data set, and no others.
        embedder: What filled it.
        calibration: With the weight of the colour bonus.
        names: Of the pictures by id.
    """
    records: list[QueryRecord] = []
    for one in questions:
        query = SearchQuery((TextTerm(one.text),), limit=len(names), per_image=PER_IMAGE)
        answer = search(query, index=index, embedder=embedder, calibration=calibration)
        records.append(record_of(one.text, answer.hits, one.truth, names=names))
    return SearchReport(images=tuple(sorted(set(names.values()))), queries=tuple(records))


@dataclass(frozen=True, slots=True)
class NamedColour:
    """A colour that a caption gives a class, and the measured one of its largest instance.

    Attributes:
        image: The picture.
        caption: The words.
        named: The colour in the caption.
        share: Largest share of that colour in an instance of the class.
        measured: The largest colour of that instance.
    """

    image: str
    caption: str
    named: ColourName
    share: float
    measured: ColourName


def named_by_people(dataset: EvalDataset, colours: Mapping[str, Colours]) -> list[NamedColour]:
    """Return each colour that stands before the name of a class in a caption of its picture."""
    images = {image.name: image for image in dataset.images}
    found: dict[tuple[str, str, str], NamedColour] = {}
    for caption in dataset.captions:
        image = images.get(caption.image)
        categories = {} if image is None else _by_category(image.instances)
        for category, instances in categories.items():
            for word in re.findall(rf"\b(\w+) {re.escape(category)}", caption.text.lower()):
                named = colour_named(word)
                if named is not None:
                    shares = [colours[caption.image][one.mask] for one in instances]
                    best = max(shares, key=lambda one: one.share(named))
                    measured = next(iter(best.by_name()))
                    found[caption.image, category, named] = NamedColour(
                        caption.image, caption.text, named, best.share(named), measured
                    )
    return list(found.values())


def _by_category(instances: Sequence[EvalInstance]) -> dict[str, list[EvalInstance]]:
    groups: dict[str, list[EvalInstance]] = {}
    for one in instances:
        if one.category is not None:
            groups.setdefault(one.category, []).append(one)
    return groups


def restricted(report: SearchReport, images: frozenset[str]) -> SearchReport:
    """Return a report on some of its pictures, without the questions that these do not answer."""
    queries = [
        replace(
            one,
            instances={name: count for name, count in one.instances.items() if name in images},
            hits=tuple(hit for hit in one.hits if hit[0] in images),
            pictures=tuple(found for found in one.pictures if found[0] in images),
            first_right={name: right for name, right in one.first_right.items() if name in images},
            largest_px={name: size for name, size in one.largest_px.items() if name in images},
        )
        for one in report.queries
    ]
    return SearchReport(tuple(sorted(images)), tuple(one for one in queries if one.instances))


def cross_validated(reports: Mapping[float, SearchReport]) -> list[tuple[float, float, float]]:
    """Return for each half of the pictures the weight that is best on the other half, with mAP and P@1.

    Args:
        reports: By colour weight.
    """
    images = next(iter(reports.values())).images
    halves = (frozenset(images[::2]), frozenset(images[1::2]))
    rows = []
    for here, other in (halves, halves[::-1]):
        best = max(reports, key=lambda weight: _figure(restricted(reports[weight], other), "map"))
        chosen = restricted(reports[best], here)
        rows.append((best, _figure(chosen, "map"), _figure(chosen, "p_at_1")))
    return rows


def _figure(report: SearchReport, name: str) -> float:
    return float(report.to_json()[name] or 0)


def table_row(weight: float, report: SearchReport) -> str:
    """Return the line of one weight in the table, in Markdown; intervals are 95 % by picture."""
    values = report.to_json()
    cells = [
        f"{values[name]:.3f} [{values[f'{name}_low']:.3f}, {values[f'{name}_high']:.3f}]"
        for name in ("map", "p_at_1")
    ]
    return f"| {weight:g} | {' | '.join(cells)} |"


def main() -> None:
    """Print the colours that captions name, and the figures of each weight."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--index", help="An index of the pictures, with measured colours.")
    parser.add_argument(
        "--weights", type=float, nargs="+", default=WEIGHTS, help="Colour weights to compare."
    )
    parser.add_argument("--fill", action="store_true", help="First measure the colours that are missing.")
    parser.add_argument("--every", type=int, default=1, help="Ask only each question of this distance.")
    arguments = parser.parse_args()
    if arguments.every < 1:
        parser.error(f"--every must be 1 or more, but is {arguments.every}")
    dataset = load_dataset(arguments.data)
    colours = true_colours(dataset)
    for one in named_by_people(dataset, colours):
        print(f"{one.named:<7} {one.share:.2f}  measured {one.measured:<7} {one.caption}")
    if arguments.index is not None:
        questions = list(colour_questions(dataset, colours))[:: arguments.every]
        _compare(dataset, questions, location=arguments.index, weights=arguments.weights, fill=arguments.fill)


def _compare(
    dataset: EvalDataset,
    questions: Sequence[ColourQuestion],
    *,
    location: str,
    weights: Sequence[float],
    fill: bool,
) -> None:
    """Ask the questions with each weight, and print the table."""
    from segdex.wiring import REAL, build_settings, open_library

    with open_library(build_settings(index=location), REAL) as library:
        index, embedder = library.index, library.models.embedder
        if fill:
            _fill(index)
        lacking = sum(images_without_colours(index).values())
        if lacking:
            raise SystemExit(
                f"{location}: {lacking:,} segments have no colours; measure them with --fill, on a copy"
            )
        ledger = Ledger(index.scroll_images())
        found = {image.name: ledger.at(canonical_uri(image.path)) for image in dataset.images}
        names = {records[0].image_id: name for name, records in found.items() if records}
        shipped = shipped_calibration(embedder.fingerprint)
        print(f"\n{len(questions)} questions, {len(names)} pictures, {PER_IMAGE} segments of each")
        print("| color weight | mAP | P@1 |\n| --- | --- | --- |")
        reports = {}
        for weight in weights:
            calibration = replace(shipped, colour_weight=weight)
            reports[weight] = ask(
                questions, index=index, embedder=embedder, calibration=calibration, names=names
            )
            print(table_row(weight, reports[weight]), flush=True)
    for weight, mean_precision, right in cross_validated(reports):
        print(
            f"the weight that is best on the other half of the pictures, {weight:g}: "
            f"mAP {mean_precision:.3f}, P@1 {right:.3f}"
        )


def _fill(index: SegmentIndex) -> None:
    """Measure the colours that an index lacks, and print what that costs."""
    from segdex.sources import open_source

    images = images_without_colours(index)
    started_s = time.process_time()
    segments = measure_colours(index, images, source=open_source(), max_pixels=MAX_PIXELS)
    spent_s = time.process_time() - started_s
    print(f"\nmeasured {segments:,} segments of {len(images):,} pictures in {spent_s:.1f} CPU s")


if __name__ == "__main__":
    main()
