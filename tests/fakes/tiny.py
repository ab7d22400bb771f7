"""Folders of tiny pictures, and how they are ingested with fakes: some milliseconds a picture."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex_backends.sources.files import FileSource
from segdex_core.media.uris import canonical_uri
from segdex_core.ports.index import SegmentIndex
from segdex_ingest.analyse import Recipe
from segdex_ingest.report import IngestReport
from segdex_ingest.run import IngestOptions, ingest_into

SOURCE = FileSource()
OPTIONS = IngestOptions(max_pixels=10_000, max_bytes=1_000_000)
RECIPE = Recipe(FloodSegmenter(), ColourEmbedder(), replace(SMALL_FRAME, points_per_side=2, crop_layers=0))

COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "cyan", "black")
"""Pictures of different colours are different bytes; one colour is always the same bytes."""


def draw(path: Path, colour: str, *, mtime_s: int = 1000) -> Path:
    """Write a picture of a grey box in a coloured one on white, which has some segments in each other."""
    image = np.full((40, 48, 3), 255, np.uint8)
    image[4:36, 4:36] = COLOURS_RGB[colour]
    image[8:20, 8:20] = COLOURS_RGB["grey"]
    part = path.with_name(f".{path.name}.part")  # others may read it meanwhile
    Image.fromarray(image).save(part, "PNG")
    os.utime(part, ns=(mtime_s * 10**9, mtime_s * 10**9))
    part.replace(path)
    return path


def ingest_tiny(
    index: SegmentIndex,
    folder: Path,
    *,
    recipe: Recipe = RECIPE,
    tags: Sequence[str] = (),
    names: Callable[[Path], bool] = lambda path: not path.name.startswith("."),
) -> IngestReport:
    """Ingest the pictures of a folder as a new process would."""
    return ingest_into(
        index,
        recipe,
        [canonical_uri(path) for path in sorted(folder.iterdir()) if names(path)],
        source=SOURCE,
        profile="offline",
        options=replace(OPTIONS, tags=tuple(tags)),
    )
