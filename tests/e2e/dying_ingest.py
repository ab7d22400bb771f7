"""Ingest a folder in a process that some pictures end: python -m ... FOLDER INDEX JOURNAL THREADS.

One line for each file is printed: its name and outcome.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.sources.files import FileSource
from segdex_core.media.uris import uri_to_path
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures
from segdex_core.records import RGBImage
from segdex_ingest.analyse import Recipe
from segdex_ingest.journal import Journal
from segdex_ingest.run import IngestOptions, ingest_into

KILLS, CRASHES, WAITS = (255, 0, 255), (0, 255, 255), (255, 255, 0)
"""Colours that end the process as the kernel does where memory runs out, and as a fault in a library does,
and one that stays open for ever."""


class DyingSegmenter(FloodSegmenter):
    """Does to its process what the colour of a picture says."""

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        for colour, number in ((KILLS, signal.SIGKILL), (CRASHES, signal.SIGSEGV)):
            if any(np.all(image == colour, axis=2).any() for image in images):
                os.kill(os.getpid(), number)
        if any(np.all(image == WAITS, axis=2).any() for image in images):
            sys.stdout.write("waits\n")
            sys.stdout.flush()
            threading.Event().wait()
        return super().encode(images, frame_px=frame_px)


def ingest_folder(folder: Path, index_folder: Path, journal: Path, *, threads: int) -> None:
    """Ingest everything in a folder, and print the outcome of each file."""
    source, index = FileSource(), QdrantIndex(EdgeStore(index_folder, create=True))
    try:
        report = ingest_into(
            index,
            Recipe(
                DyingSegmenter(), ColourEmbedder(), replace(SMALL_FRAME, points_per_side=2, crop_layers=0)
            ),
            source.list([str(folder)]).uris,
            source=source,
            profile="offline",
            options=IngestOptions(max_pixels=10**8, max_bytes=10**8, analysis_threads=threads),
            journal=Journal(lambda: journal),
        )
    finally:
        index.close()
    for file in report.files:
        sys.stdout.write(f"{uri_to_path(file.uri).name} {file.outcome.value}\n")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist ignores it
    ingest_folder(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), threads=int(sys.argv[4]))
