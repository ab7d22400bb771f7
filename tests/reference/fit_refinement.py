"""Choose the threshold of the gate. That of presence is fitted by ``segdex calibrate``.

    python -m tests.reference.fit_refinement ../shared/data/coco

It takes the pictures that ``segdex --profile offline eval refine`` ingested, or ingests them.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segdex.cli.labelled import with_kept_index
from segdex.evaluation.load import load_dataset
from segdex.evaluation.refine import RefinedHit, evaluate_refine
from segdex.evaluation.search import ingest_dataset
from segdex.sources import open_source
from segdex.wiring import (
    REAL,
    build_settings,
    make_refiner,
    open_index,
    open_library,
    plan_threads,
)
from segdex_ingest.masks.generate import preset
from segdex_search.presence import PresenceJudge

GAINS = (-1.0, -0.02, 0.0, 0.01, 0.02, 0.03, 0.05, 0.1)
RESULTS = Path("tests/benchmarks/results")


def gate_rows(hits: Sequence[RefinedHit]) -> list[dict[str, float]]:
    """Return for each threshold of the gain what the answers would be."""
    stored = np.array([hit.stored_iou for hit in hits])
    proposed = np.array([hit.proposed_iou for hit in hits])
    gain = np.array([hit.gain for hit in hits])
    same = np.array([hit.same_iou for hit in hits])
    rows = []
    for threshold in GAINS:
        answer = np.where((gain >= threshold) & (same >= 0.5), proposed, stored)
        rows.append(
            {
                "gain_threshold": threshold,
                "iou": float(answer.mean()),
                "stored_iou": float(stored.mean()),
                "accepted": float(((gain >= threshold) & (same >= 0.5)).mean()),
                "worse": float((answer < stored - 0.05).mean()),
                "worse_by_0.01": float((answer < stored - 0.01).mean()),
            }
        )
    return rows


def main() -> None:
    """Measure, print the table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    settings = build_settings(profile="offline")
    recipe = open_library(settings, REAL, has_index=False).models.recipes(preset("balanced")).load()
    settings = with_kept_index(settings, arguments.data, recipe)
    dataset = load_dataset(arguments.data)
    index = open_index(settings, create=True)
    try:
        image_ids = ingest_dataset(
            dataset,
            index=index,
            recipe=recipe,
            source=open_source(),
            profile="offline",
            analysis_threads=plan_threads(settings).apply().analysis_threads,
        )
        judge = PresenceJudge.of(recipe.embedder)
        report = evaluate_refine(
            dataset,
            index=index,
            refiner=make_refiner(
                settings,
                segmenter=recipe.segmenter,
                embedder=recipe.embedder,
                distractors=judge.distractors,
            ),
            judge=judge,
            image_id_by_name=image_ids,
        )
    finally:
        index.close()
    gate = gate_rows(report.hits)
    for row in gate:
        print({key: round(value, 4) for key, value in row.items()})
    content = {"figures": report.to_json(), "gate": gate}
    (RESULTS / "refinement.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
