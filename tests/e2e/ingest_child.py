"""Ingest a folder in a process of its own, so that a test can kill it: python -m ... KIND FOLDER INDEX."""

import sys
from pathlib import Path

from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex.api.services import build_settings, load_embedder, load_segmenter
from segdex.core.index.edge import EdgeIndex
from segdex.core.records import SEGMENT_VIEWS
from segdex.ingest.generate import GeneratorSettings
from segdex.ingest.ledger import Ledger
from segdex.ingest.pipeline import Recipe
from segdex.ingest.run import IngestOptions, WritingPlan, ingest_files, prepare_index
from segdex.ingest.scan import scan_paths


def child_recipe(kind: str) -> Recipe:
    """Return the fakes, or the models of the offline profile; both with a small grid."""
    generator = GeneratorSettings(points_per_side=3)
    if kind == "fake":
        return Recipe(FloodSegmenter(), ColourEmbedder(), generator)
    settings = build_settings()
    return Recipe(load_segmenter(settings, "offline"), load_embedder(settings, "offline"), generator)


def ingest_folder(kind: str, folder: Path, index_folder: Path) -> int:
    """Ingest everything in a folder and return how many files were looked at."""
    recipe = child_recipe(kind)
    index = EdgeIndex(index_folder, create=True)
    try:
        prepare_index(index, recipe, profile="offline", views=SEGMENT_VIEWS)
        report = ingest_files(
            scan_paths([folder]).files,
            plan=WritingPlan(index, recipe),
            ledger=Ledger(index.scroll_images()),
            recipe_fingerprint=recipe.fingerprint(),
            options=IngestOptions(max_pixels=10**8, max_bytes=10**9),
        )
    finally:
        index.close()
    return len(report.files)


if __name__ == "__main__":
    ingest_folder(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
