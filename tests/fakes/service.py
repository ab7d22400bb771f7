"""What the service loads, over coloured boxes and fakes: no weights, no files but two small pictures."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from threading import RLock

from fastapi.testclient import TestClient
from PIL import Image
from tests.fakes.dataset import write_colour_set
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex.evaluation.load import load_dataset
from segdex.evaluation.search import ingest_dataset
from segdex.http.model_worker import ModelWorker, QueuedEmbedder
from segdex.http.state import Loaded
from segdex.jobs.queue import Jobs, sqlite_storage
from segdex.jobs.runner import job_runner
from segdex.jobs.worker import JobWorker
from segdex.wiring import build_settings
from segdex_backends.index.memory import MemoryIndex
from segdex_core.geometry import BoxXYXY
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


def load(folder: Path, *, max_waiting: int = 64, settings: Settings | None = None) -> Loaded:
    """Return what a service answers from: two pictures of coloured boxes, ingested into memory."""
    recipe = Recipe(
        FloodSegmenter(),
        EMBEDDER,
        GeneratorSettings(points_per_side=4, explained_above=1.0, redraws=False),
    )
    index = MemoryIndex()
    dataset = load_dataset(write_colour_set(folder, PICTURES))
    ingest_dataset(dataset, index=index, recipe=recipe, profile="offline")
    worker = ModelWorker(EMBEDDER, max_waiting=max_waiting)
    chosen = settings or build_settings()
    jobs = Jobs(sqlite_storage(folder.parent / "jobs.sqlite", index_key="test"))
    writing = RLock()
    job_worker = JobWorker(jobs, job_runner(chosen, index, recipe, "offline", lock=writing))
    job_worker.start()
    return Loaded(
        index=index,
        profile="offline",
        recipe=recipe,
        embedder=QueuedEmbedder(EMBEDDER, worker),
        worker=worker,
        judge=PresenceJudge(OTHERS, CALIBRATION),
        refiner=Refiner(
            segmenter=FloodSegmenter(),
            embedder=EMBEDDER,
            distractors=OTHERS,
            encodings=EncodingCache(64),
            gate=GateSettings(gain_floor=-1),
        ),
        jobs=jobs,
        job_worker=job_worker,
        writing=writing,
    )


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
