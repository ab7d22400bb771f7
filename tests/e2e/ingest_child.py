"""Ingest a folder in a process of its own, so that a test can kill it: python -m ... KIND FOLDER INDEX."""

import sys
from pathlib import Path

from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex.wiring import build_settings, load_embedder, load_segmenter
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.sources.files import FileSource
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings
from segdex_ingest.run import IngestOptions, ingest_into


def child_recipe(kind: str) -> Recipe:
    """Return the fakes, or the models of the offline profile; both with a small grid."""
    generator = GeneratorSettings(points_per_side=3)
    if kind == "fake":
        return Recipe(FloodSegmenter(), ColourEmbedder(), generator)
    settings = build_settings()
    return Recipe(load_segmenter(settings, "offline"), load_embedder(settings, "offline"), generator)


def ingest_folder(kind: str, folder: Path, index_folder: Path) -> int:
    """Ingest everything in a folder and return how many files were looked at."""
    recipe, source = child_recipe(kind), FileSource()
    index = QdrantIndex(EdgeStore(index_folder, create=True))
    try:
        report = ingest_into(
            index,
            recipe,
            source.list([str(folder)]).uris,
            source=source,
            profile="offline",
            options=IngestOptions(max_pixels=10**8, max_bytes=10**9),
        )
    finally:
        index.close()
    return len(report.files)


if __name__ == "__main__":
    ingest_folder(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
