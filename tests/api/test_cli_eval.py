"""``segdex eval`` from the command line: the models that it takes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.dataset import write_colour_set
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.parts import PICTURES, parts
from tests.fakes.segmenter import FloodSegmenter

from segdex.cli.main import run
from segdex.evaluation.load import load_dataset
from segdex.evaluation.search import ingest_dataset
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.segmenter import Segmenter
from segdex_core.settings import Settings
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings

FILLED_BY = "open_clip/1 ViT-B-32 datacomp_xl_s13b_b90k fp32 'a photo of a {}.' preprocess:0123456789abcdef"
SMALL = GeneratorSettings(points_per_side=3, explained_above=1.0, redraws=False)


class EarlierColours(ColourEmbedder):
    """What filled the index; no profile means it."""

    @property
    def name(self) -> str:
        return "earlier colours"

    @property
    def fingerprint(self) -> str:
        return FILLED_BY


def load_embedder(settings: Settings, _: str) -> Embedder:
    return EarlierColours() if settings.embedder == FILLED_BY else ColourEmbedder()


def make_recipe(
    settings: Settings, segmenter: Segmenter, embedder: Embedder, generator: GeneratorSettings
) -> Recipe:
    return Recipe(segmenter, embedder, SMALL)


def test_a_named_index_is_measured_with_the_models_that_filled_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGDEX_CACHE_DIR", str(tmp_path / "cache"))
    data, index = write_colour_set(tmp_path / "set", PICTURES), MemoryIndex()
    filled = Recipe(FloodSegmenter(), EarlierColours(), SMALL)
    ingest_dataset(load_dataset(data), index=index, recipe=filled, source=FileSource(), profile="offline")
    fakes = replace(
        parts(tmp_path / "fakes"),
        open_index=lambda *_, create: index,
        load_embedder=load_embedder,
        make_recipe=make_recipe,
    )

    assert (
        run(["eval", "search", str(data), "--index", "edge:named", "--device", "cpu", "--json"], parts=fakes)
        == 0
    )

    assert json.loads(capsys.readouterr().out)["embedder"] == "earlier colours"
    found = index.fingerprint()
    assert found is not None
    assert (found.profile, found.embedder) == ("offline", FILLED_BY)
