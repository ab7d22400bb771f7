"""What a library is put together from, over coloured boxes and fakes: no weights, two small pictures."""

from dataclasses import replace
from pathlib import Path

from tests.fakes.dataset import write_colour_set
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex.evaluation.load import load_dataset
from segdex.evaluation.search import ingest_dataset
from segdex.parts import Parts
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.geometry import BoxXYXY
from segdex_core.ports.decoder import LocalDecoder
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.segmenter import Segmenter
from segdex_core.records import Vectors
from segdex_core.settings import Settings
from segdex_ingest.analyse import Recipe
from segdex_search.calibrate import Calibration
from segdex_search.presence import PresenceJudge
from segdex_search.refine.encodings import EncodingCache
from segdex_search.refine.gate import GateSettings
from segdex_search.refine.refiner import Refiner

LEFT, RIGHT = BoxXYXY(8, 30, 58, 90), BoxXYXY(96, 30, 152, 90)
PICTURES = {"a.png": [("red", LEFT), ("blue", RIGHT)], "b.png": [("green", LEFT)]}
EMBEDDER = ColourEmbedder()
OTHERS = EMBEDDER.embed_texts(list(COLOURS_RGB))
CALIBRATION = Calibration(object_weight=0.05, threshold=0.3, growth=0)


def parts(folder: Path) -> Parts:
    """Return what opens an index of two pictures of coloured boxes, and loads the fakes that filled it."""
    recipe = Recipe(
        FloodSegmenter(),
        EMBEDDER,
        replace(SMALL_FRAME, frame_px=320, points_per_side=4),  # whole cells for the boxes
    )

    def open_index(settings: Settings, *, create: bool) -> SegmentIndex:
        index = MemoryIndex()
        dataset = load_dataset(write_colour_set(folder, PICTURES))
        ingest_dataset(dataset, index=index, recipe=recipe, source=FileSource(), profile="offline")
        return index

    def make_refiner(
        settings: Settings, *, segmenter: Segmenter, embedder: Embedder, distractors: Vectors
    ) -> Refiner:
        return Refiner(
            segmenter=segmenter,
            embedder=embedder,
            distractors=distractors,
            encodings=EncodingCache(64),
            gate=GateSettings(gain_threshold=-1),
        )

    return Parts(
        open_index=open_index,
        load_segmenter=lambda *_: recipe.segmenter,
        load_embedder=lambda *_: EMBEDDER,
        make_recipe=lambda *_: recipe,
        load_judge=lambda *_: PresenceJudge(OTHERS, CALIBRATION),
        make_refiner=make_refiner,
        open_decoder=lambda _: LocalDecoder(),
    )
