"""Precision and recall of ``segdex label`` with the class names of a labelled set.

    python -m tests.quality.labels DATA --index edge:FOLDER [--json FILE]

The index is one that ``segdex eval search DATA`` or ``segdex ingest`` filled with the pictures of the set.
Each picture is judged by a threshold that was chosen on the pictures of the other folds. Intervals are
bootstraps by picture. A segment is right where its mask has an IoU of .5 or more with an instance of the
class; a second segment on one instance is wrong, and what lies in a crowd does not count.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tests.quality.subset import HELD_OUT

from segdex.evaluation.dataset import choose_source, sample_dataset, sample_images
from segdex.evaluation.labels import LabelFigures, judge_labels
from segdex.evaluation.load import load_dataset
from segdex.wiring import REAL, build_settings, open_library
from segdex_core.ids import make_image_id, sha256_hex


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--index", required=True)
    parser.add_argument(
        "--held-out", action="store_true", help="Only the pictures that no ranker of masks was fitted on."
    )
    parser.add_argument("--json", type=Path, help="Write the figures to this file as well.")
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data)
    if arguments.held_out:
        names = {one.name for one in sample_images(choose_source(dataset, None).images, HELD_OUT)}
        images = tuple(one for one in dataset.images if one.name in names)
        dataset = sample_dataset(replace(dataset, images=images), len(images))
    with open_library(build_settings(index=arguments.index), REAL) as library:
        run = judge_labels(
            dataset,
            index=library.index,
            embedder=library.models.embedder,
            image_id_by_name={
                image.name: make_image_id(sha256_hex(image.path.read_bytes())) for image in dataset.images
            },
            others=library.models.judge.distractors,
        )
    kept, thresholds = run.cross_validated()
    whole = run.best_threshold(run.pictures)
    figures = run.figures(kept)
    print(f"{len(run.pictures)} pictures, {len(run.names)} labels")
    print(f"thresholds of the folds {', '.join(f'{one:.2f}' for one in thresholds)}; of all {whole:.2f}\n")
    print("| label | instances | labelled | right | precision | recall |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in figures:
        print(_line(row))
    print(_means([row for row in figures[1:] if row.instances]))
    if arguments.json is not None:
        document = {"thresholds": thresholds, "threshold": whole, "figures": [asdict(row) for row in figures]}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def _line(row: LabelFigures) -> str:
    precision = _interval(row.precision, row.precision_low, row.precision_high)
    recall = _interval(row.recall, row.recall_low, row.recall_high)
    return f"| {row.name} | {row.instances} | {row.labelled} | {row.right} | {precision} | {recall} |"


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    return "" if value is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _means(rows: Sequence[LabelFigures]) -> str:
    precision = [row.precision for row in rows if row.precision is not None]
    recall = [row.recall or 0.0 for row in rows]
    return (
        f"\nmean of the labels: precision {sum(precision) / len(precision):.3f} over the {len(precision)} "
        f"that were given, recall {sum(recall) / len(recall):.3f} over {len(recall)}"
    )


if __name__ == "__main__":
    main()
