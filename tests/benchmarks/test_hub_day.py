"""The dry run of ``make hub-day``: each kind of step on small random weights, and without a hub."""

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
from tests.benchmarks.hub_day import CLASSES, TEXTS, Step, hub_day, steps_of, write_translated
from tests.fakes.dataset import write_colour_set
from tests.fakes.segmenter import FloodSegmenter
from tests.fakes.siglip2 import TINY_SIGLIP2, write_tiny_siglip2, write_tokenizer

from segdex.catalog import known_models
from segdex.parts import Parts
from segdex.wiring import REAL
from segdex_backends.models.open_clip.embedder import OpenClipEmbedder
from segdex_core.errors import UsageError
from segdex_core.geometry import BoxXYXY
from segdex_core.ports.embedder import Embedder

pytestmark = [pytest.mark.models, pytest.mark.slow]


def no_embedder(*_: object) -> Embedder:
    raise UsageError("no embedder here")


NO_MODELS = replace(REAL, load_embedder=no_embedder)
PICTURES = {"a.png": [("red", BoxXYXY(8, 30, 58, 90)), ("blue", BoxXYXY(96, 30, 152, 90))]}


@pytest.fixture(name="data")
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A labelled set of one picture, in a world without a hub."""
    monkeypatch.setenv("SEGDEX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    colours = write_colour_set(tmp_path / "colours", PICTURES)
    return write_translated(colours, tmp_path / "set", {"red": "dog", "blue": "cat"})


def small_parts(folder: Path) -> Parts:
    """Return random weights of the default embedder's kind, and masks without a model."""
    checkpoint = write_tiny_siglip2(folder, tokenizer=write_tokenizer(folder / "tokenizer"))
    embedder = OpenClipEmbedder.load(TINY_SIGLIP2, pretrained=str(checkpoint), prompt_template="{}")
    return replace(REAL, load_segmenter=lambda *_: FloodSegmenter(), load_embedder=lambda *_: embedder)


def test_every_kind_of_step_has_figures_and_is_kept(data: Path, tmp_path: Path) -> None:
    steps = list(steps_of(data, tmp_path / "work", limit=1, quality="fast"))
    chosen = ("search", "masks", "refine", "search in en", "search in bn")
    names = {"evf-sam2, refine", *(f"default models, {what}" for what in chosen)}
    few = [step for step in steps if step.name in names]
    said: list[str] = []

    results = hub_day(few, tmp_path / "out", parts=small_parts(tmp_path), say=said.append)

    assert {step.name for step in few} == names
    assert len(said) == len(results) == len(names) + 1
    for name in results.keys() - {"evf-sam2, refine"}:
        assert "figures" in results[name], (name, results[name])
    assert results["default embedder, texts"]["figures"]["casing"] == pytest.approx(1, abs=1e-4)
    assert "YxZhang/evf-sam2" in results["evf-sam2, refine"]["unreachable"]
    assert json.loads((tmp_path / "out.json").read_text())["results"] == list(results.values())
    assert "| evf-sam2, refine | not reachable: " in (tmp_path / "out.md").read_text()

    again: list[str] = []
    hub_day(few, tmp_path / "out", parts=small_parts(tmp_path), say=again.append)
    assert sum(line.endswith(": kept") for line in again) == len(names)


MACHINE = {"cpu": "a", "cores": 2, "gpu": None}
NOTHING = Step("no such command", ("eval", "nothing"))


def test_figures_of_other_arguments_or_another_machine_are_not_taken(tmp_path: Path) -> None:
    out = tmp_path / "out"
    kept = [
        {"name": step.name, "arguments": list(step.arguments), "machine": MACHINE, "figures": {"map": 0.5}}
        for step in (TEXTS, NOTHING)
    ]
    out.with_suffix(".json").write_text(json.dumps({"results": kept}))

    def said(step: Step, machine: dict[str, object]) -> list[str]:
        lines: list[str] = []
        hub_day([step], out, parts=NO_MODELS, machine=machine, say=lines.append)
        return lines

    assert said(NOTHING, MACHINE) == ["default embedder, texts: kept", "no such command: kept"]
    _, other_arguments = said(replace(NOTHING, arguments=("eval", "neither")), MACHINE)
    elsewhere = said(NOTHING, MACHINE | {"gpu": "b"})
    assert all(": failed: " in line for line in (other_arguments, *elsewhere))

    results = json.loads(out.with_suffix(".json").read_text())["results"]
    assert results[:2] == kept
    assert len(results) == 5
    assert "| no such command | map 0.5 | a, 2 |" in out.with_suffix(".md").read_text()


def test_every_model_of_the_hub_in_the_catalog_has_a_step(data: Path, tmp_path: Path) -> None:
    named = {step.arguments[-1] for step in steps_of(data, tmp_path / "work", limit=1, quality="fast")}

    for entry in known_models():
        assert (entry.name in named) == (entry.sources[0].kind == "hub")


def test_what_is_not_reachable_is_one_line_each(data: Path, tmp_path: Path) -> None:
    steps = [step for step in steps_of(data, tmp_path / "work", limit=1, quality="fast") if "bn" in step.name]
    steps.append(Step("no such command", ("eval", "nothing", str(data))))
    said: list[str] = []

    hub_day(steps, tmp_path / "out", say=said.append)

    assert [line.partition(": ")[0] for line in said] == [
        "default embedder, texts",
        "default models, search in bn",
        "no such command",
    ]
    assert all("not reachable: " in line and "\n" not in line for line in said[:2])
    assert "failed: " in said[2]


def test_a_set_in_another_language_asks_for_the_same_objects(data: Path, tmp_path: Path) -> None:
    folder = write_translated(data, tmp_path / "xx", {"dog": "собака"})

    queries = [json.loads(line) for line in (folder / "class_queries.jsonl").read_text().splitlines()]
    segments = [json.loads(line) for line in (folder / "segments.jsonl").read_text().splitlines()]
    assert [query["text"] for query in queries] == ["собака"]
    assert {segment["category"] for segment in segments} == {"собака", "cat"}
    assert (folder / "images" / "a.png").is_file()
    assert {tuple(names) for names in CLASSES.values()} == {tuple(CLASSES["de"])}
