"""Choose the thresholds of the gate and of presence, and draw what they trade: docs/images/refinement.png.

    python -m tests.reference.fit_refinement ../shared/data/coco

It takes the pictures that ``segdex --profile offline eval refine`` ingested, or ingests them.
"""

import argparse
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segdex.api.evaluation.load import load_dataset
from segdex.api.evaluation.refine import RefinedHit, evaluate_refine
from segdex.api.evaluation.search import ingest_dataset
from segdex.api.services import (
    build_settings,
    cache_folder,
    load_recipe,
    make_refiner,
    open_index,
    plan_workers,
)
from segdex.ingest.generate import preset
from segdex.search.refine.presence import PresenceJudge

FALSE_SHARE = 0.05
GAINS = (-1.0, -0.02, 0.0, 0.01, 0.02, 0.03, 0.05, 0.1)
ABSENT = 1000  # more than the 200 of the evaluation: a steadier curve
RESULTS = Path("tests/benchmarks/results")
PICTURE = Path("docs/images/refinement.png")

Line = tuple[str, Sequence[float], Sequence[float], str]


def gate_rows(hits: Sequence[RefinedHit]) -> list[dict[str, float]]:
    """Return for each floor of the gain what the answers would be."""
    stored = np.array([hit.stored_iou for hit in hits])
    proposed = np.array([hit.proposed_iou for hit in hits])
    gain = np.array([hit.gain for hit in hits])
    same = np.array([hit.same_iou for hit in hits])
    rows = []
    for floor in GAINS:
        answer = np.where((gain >= floor) & (same >= 0.5), proposed, stored)
        rows.append(
            {
                "gain_floor": floor,
                "iou": float(answer.mean()),
                "stored_iou": float(stored.mean()),
                "accepted": float(((gain >= floor) & (same >= 0.5)).mean()),
                "worse": float((answer < stored - 0.05).mean()),
                "worse_by_0.01": float((answer < stored - 0.01).mean()),
            }
        )
    return rows


def presence_rows(present: np.ndarray, absent: np.ndarray) -> list[dict[str, float]]:
    """Return for each share of false "not there" the floor and the share of true ones."""
    return [
        {
            "absent_false": share,
            "floor": float(np.quantile(present, share)),
            "absent_true": float((absent < np.quantile(present, share)).mean()),
        }
        for share in (0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3)
    ]


def held_out(present: np.ndarray, absent: np.ndarray) -> tuple[float, float]:
    """Return the shares of false and true "not there" with the floor of the other half, over both halves."""
    false, true = [], []
    for half in (0, 1):
        floor = np.quantile(present[half::2], FALSE_SHARE)
        false.append(float((present[1 - half :: 2] < floor).mean()))
        true.append(float((absent < floor).mean()))
    return float(np.mean(false)), float(np.mean(true))


def draw(lines: Sequence[Line], *, across: str, up: str, size: tuple[int, int] = (560, 420)) -> Image.Image:
    """Return a plot of lines of values between 0 and 1."""
    margin = 56
    canvas = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=14)

    def place(x: float, y: float) -> tuple[float, float]:
        return margin + x * (size[0] - 2 * margin), size[1] - margin - y * (size[1] - 2 * margin)

    for tick in np.arange(0, 1.01, 0.2):
        pen.line([place(0, tick), place(1, tick)], fill="#dddddd")
        pen.line([place(tick, 0), place(tick, 1)], fill="#dddddd")
        pen.text((margin - 32, place(0, tick)[1] - 8), f"{tick:.1f}", fill="black", font=font)
        pen.text((place(tick, 0)[0] - 10, size[1] - margin + 6), f"{tick:.1f}", fill="black", font=font)
    pen.text((size[0] // 2 - 3 * len(across), size[1] - 26), across, fill="black", font=font)
    pen.text((margin - 40, 16), up, fill="black", font=font)
    for number, (name, x, y, colour) in enumerate(lines):
        pen.line([place(a, b) for a, b in zip(x, y, strict=True)], fill=colour, width=3)
        pen.text((size[0] - 250, size[1] - margin - 40 - 20 * number), name, fill=colour, font=font)
    return canvas


def main() -> None:
    """Measure, print the tables, and write the figures and the curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    settings = build_settings(profile="offline")
    recipe = load_recipe(settings, "offline", preset("balanced"))
    name = sha256(f"{arguments.data.absolute()}|{recipe.fingerprint()}".encode()).hexdigest()[:16]
    settings = build_settings(profile="offline", index=f"edge:{cache_folder(settings) / 'eval' / name}")
    dataset = load_dataset(arguments.data)
    index = open_index(settings, create=True)
    try:
        image_ids = ingest_dataset(
            dataset, index=index, recipe=recipe, profile="offline", workers=plan_workers(settings)
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
            absent_count=ABSENT,
        )
    finally:
        index.close()
    present, absent = np.array(report.present), np.array(report.absent)
    gate, presence = gate_rows(report.hits), presence_rows(present, absent)
    false, true = held_out(present, absent)
    for row in (*gate, *presence):
        print({key: round(value, 4) for key, value in row.items()})
    print(
        f"floor of the other half: false {false:.3f}, true {true:.3f} ({len(present)}, {len(absent)} texts)"
    )
    floors = np.sort(np.concatenate([present, absent]))
    curve: Line = (
        "presence score",
        [float((present < floor).mean()) for floor in floors],
        [float((absent < floor).mean()) for floor in floors],
        "#1f5fa8",
    )
    chance: Line = ("chance", (0, 1), (0, 1), "#999999")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    draw([curve, chance], across='false "not there"', up='true "not there"').save(PICTURE, optimize=True)
    content = {
        "figures": report.to_json(),
        "gate": gate,
        "presence": presence,
        "held_out": {"absent_false": false, "absent_true": true},
    }
    (RESULTS / "refinement.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
