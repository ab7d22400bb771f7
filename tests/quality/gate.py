"""Does a change lose quality? Compares the search figures of a fixed subset with committed ones.

    python -m tests.quality.gate DATA            # fails where a figure is lower beyond its interval
    python -m tests.quality.gate DATA --accept   # commits today's figures

It runs from ``subset.npz`` (see ``tests.quality.subset``) in a minute or two: everything from the
classifier's features on is today's code, so the label space, views, weights, ranking and presence are judged.
"""

import argparse
import sys
from pathlib import Path

from tests.quality.subset import HERE, SUBSET, fill, load, subset_of

from segdex.evaluation.load import load_dataset
from segdex.evaluation.search import evaluate_search
from segdex.evaluation.search_report import SearchReport
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.models.conse.embedder import ConseEmbedder
from segdex_core.ids import make_image_id
from segdex_search.presence import PresenceJudge

COMMITTED = HERE / "committed.json"
GUARDED = ("map", "p_at_1", "right_in_picture", "image_recall_1")


def measure(data: Path) -> SearchReport:
    """Return today's report of the subset."""
    dataset = subset_of(load_dataset(data))
    embedder = ConseEmbedder.load()
    index = MemoryIndex()
    digests = fill(index, load(SUBSET), embedder)
    return evaluate_search(
        dataset,
        index=index,
        embedder=embedder,
        image_id_by_name={name: make_image_id(digest) for name, digest in digests.items()},
        judge=PresenceJudge.of(embedder),
    )


def losses(now: SearchReport, before: SearchReport) -> list[str]:
    """Return a line for each guarded figure that is lower, with an interval of the difference below 0."""
    gains = now.compare(before)
    lines = []
    for name in GUARDED:
        gain, high = gains[f"gain_{name}"], gains[f"gain_{name}_high"]
        if gain is not None and high is not None and gain < 0 and high < 0:
            lines.append(
                f"{name} is {-gain:.4f} lower; 95 % of the resampled differences are below {high:.4f}"
            )
    return lines


def main() -> int:
    """Measure, and compare or commit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--accept", action="store_true")
    arguments = parser.parse_args()
    now = measure(arguments.data)
    figures = now.to_json()
    for name in (*GUARDED, "absent_true", "absent_false"):
        print(f"{name:<18} {figures[name]}  {figures[f'{name}_low']} to {figures[f'{name}_high']}")
    if arguments.accept:
        now.save(COMMITTED)
        print(f"committed to {COMMITTED}")
        return 0
    lost = losses(now, SearchReport.load(COMMITTED))
    for line in lost:
        print(f"quality: {line}", file=sys.stderr)
    print("quality: lower than what was committed" if lost else "quality: nothing is lost")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
