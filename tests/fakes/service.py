"""What the service loads, over coloured boxes and fakes: no weights, no files but two small pictures."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from fastapi.testclient import TestClient
from PIL import Image
from tests.fakes.dataset import write_colour_set
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex.evaluation.load import load_dataset
from segdex.evaluation.search import ingest_dataset
from segdex.http.state import Loaded
from segdex.wiring import Parts, load_service
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.geometry import BoxXYXY
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.segmenter import Segmenter
from segdex_core.records import Vectors
from segdex_core.settings import Settings
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings
from segdex_search.calibrate import Calibration
from segdex_search.presence import PresenceJudge
from segdex_search.refine.encodings import EncodingCache
from segdex_search.refine.gate import GateSettings
from segdex_search.refine.refiner import Refiner

HERE = "http://127.0.0.1:8600"

Make = Callable[..., TestClient]
"""Makes a service of given keys and settings, and returns who asks it."""

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
        GeneratorSettings(points_per_side=4, explained_above=1.0, redraws=False),
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
            gate=GateSettings(gain_floor=-1),
        )

    return Parts(
        open_index=open_index,
        load_segmenter=lambda *_: recipe.segmenter,
        load_embedder=lambda *_: EMBEDDER,
        load_recipe=lambda *_: recipe,
        load_judge=lambda *_: PresenceJudge(OTHERS, CALIBRATION),
        make_refiner=make_refiner,
    )


def load(folder: Path, *, settings: Settings) -> Loaded:
    """Return what a service of these settings answers from, over the parts above; its jobs are beside it."""
    jobs = {"jobs_file": folder.parent / "jobs.sqlite"}
    return load_service(settings.model_copy(update=jobs), parts(folder))


def png(colour: str = "orange", size: tuple[int, int] = (120, 90)) -> bytes:
    """Return a picture of a coloured box on grey."""
    buffer = BytesIO()
    picture = Image.new("RGB", size, COLOURS_RGB["grey"])
    picture.paste(COLOURS_RGB[colour], (20, 20, 80, 70))
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def refused(response: object, status: int, *words: str) -> None:
    """Check that an answer is a problem of one line."""
    assert response.status_code == status, response.text  # type: ignore[attr-defined]
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    problem = response.json()  # type: ignore[attr-defined]
    assert problem["status"] == status
    assert "\n" not in problem["detail"]
    for word in words:
        assert word in problem["detail"], problem["detail"]
