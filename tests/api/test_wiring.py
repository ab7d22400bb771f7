"""What settings become: precisions, threads that share the cores, and judges that are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.parts import parts
from tests.fakes.segmenter import FloodSegmenter, PlainSegmenter

from segdex.recipes import RememberedRecipe
from segdex.wiring import (
    build_settings,
    calibration_folder,
    load_embedder,
    load_judge,
    load_options,
    make_refiner,
    open_library,
    profile_of,
    settings_for,
)
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.models import threads as threads_of
from segdex_backends.models.catalog import resolve_model
from segdex_backends.models.loaders import embedder_precision, segmenter_precision
from segdex_backends.models.threads import ThreadPlan
from segdex_core.choices import ProfileName
from segdex_core.errors import UsageError
from segdex_core.ports.embedder import Embedder
from segdex_core.records import IndexFingerprint, Vectors
from segdex_core.settings import Settings
from segdex_ingest.masks.generate import preset
from segdex_search.calibrate import (
    UNKNOWN,
    Calibration,
    calibration_file,
    save_calibration,
)
from segdex_search.distractors import DISTRACTORS


@pytest.fixture
def _threads_restored() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.models
@pytest.mark.parametrize(("cpu", "fastest"), [({"amx_bf16": True}, "bf16"), ({}, "fp32")])
def test_auto_is_the_fastest_for_the_segmenter_and_fp32_for_vectors_on_a_cpu(
    cpu: dict[str, object], fastest: str
) -> None:
    options = load_options(build_settings(precision="auto", device="cpu"))

    assert segmenter_precision(options, cpu=cpu) == fastest
    assert embedder_precision(options) == "fp32"


@pytest.mark.models
@pytest.mark.parametrize("profile", ["offline", "default"])
def test_cuda_that_is_absent_is_refused_whatever_runs_on_it(profile: ProfileName) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch finds a CUDA device")
    with pytest.raises(UsageError, match="--device cuda: torch finds no CUDA device"):
        load_embedder(build_settings(device="cuda"), profile)
    assert load_options(build_settings(device="auto")).device == "cpu"


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_a_precision_that_is_asked_for_holds_for_both_models(asked: str) -> None:
    options = load_options(build_settings(precision=asked, device="cpu"))

    assert segmenter_precision(options) == asked
    assert embedder_precision(options) == asked


def test_a_precision_that_is_gone_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'fp32'.*'bf16'.*'fp16'"):
        build_settings(precision="int8")


@pytest.mark.parametrize(
    ("asked", "cores", "workers", "threads"), [(None, 2, 2, 1), (None, 16, 4, 4), (3, 8, 3, 2), (4, 2, 4, 1)]
)
def test_workers_share_the_cores(asked: int | None, cores: int, workers: int, threads: int) -> None:
    assert threads_of.plan_threads(asked, device="cpu", cores=cores) == ThreadPlan(workers, threads)


@pytest.mark.models
@pytest.mark.usefixtures("_threads_restored")
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_torch_takes_the_threads_of_a_plan_when_it_is_applied(threads: int) -> None:
    import torch

    before = torch.get_num_threads()
    plan = threads_of.plan_threads(1, device="cpu", cores=threads)

    assert torch.get_num_threads() == before
    assert plan.apply() is plan
    assert torch.get_num_threads() == threads


@pytest.mark.service
@pytest.mark.models
@pytest.mark.usefixtures("_threads_restored")
def test_the_models_of_a_service_keep_all_cores(tmp_path: Path) -> None:
    import torch
    from tests.fakes.service import load

    torch.set_num_threads(3)
    load(tmp_path / "set", settings=build_settings(analysis_threads=2, cache_dir=tmp_path)).close()

    assert torch.get_num_threads() == 3


class ReadingEmbedder(ColourEmbedder):
    """Remembers how many texts it read."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        self.read += len(texts)
        return super().embed_texts(texts)


@pytest.fixture(name="cache")
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGDEX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "calibration"


def test_the_words_of_a_judge_are_embedded_once_and_kept(cache: Path) -> None:
    settings, embedder = build_settings(), ReadingEmbedder()

    first = load_judge(settings, embedder)
    second = load_judge(settings, embedder)

    assert calibration_folder(settings) == cache
    assert embedder.read == len(DISTRACTORS)
    np.testing.assert_array_equal(first.distractors, second.distractors)
    np.testing.assert_array_equal(first.distractors, ColourEmbedder().embed_texts(DISTRACTORS))
    assert first.calibration == second.calibration == UNKNOWN
    assert [path.suffix for path in cache.iterdir()] == [".npy"]


@pytest.mark.parametrize("damage", [b"", b"text", "cut", "other shape"])
def test_words_that_cannot_be_read_are_embedded_again(cache: Path, damage: bytes | str) -> None:
    settings, embedder = build_settings(), ReadingEmbedder()
    load_judge(settings, embedder)
    [kept] = cache.iterdir()
    if damage == "other shape":
        np.save(kept, np.zeros((3, embedder.dim), np.float32))
    else:
        kept.write_bytes(kept.read_bytes()[:300] if isinstance(damage, str) else damage)

    again = load_judge(settings, embedder)
    load_judge(settings, embedder)

    assert embedder.read == 2 * len(DISTRACTORS)
    assert again.distractors.shape == (len(DISTRACTORS), embedder.dim)


def test_a_judge_takes_the_calibration_that_was_made_for_its_embedder(cache: Path) -> None:
    known = Calibration(object_weight=0.3, threshold=2.5, growth=0.2)
    embedder = ColourEmbedder()
    save_calibration(cache, embedder.fingerprint, known)

    assert load_judge(build_settings(), embedder).calibration == known
    assert load_judge(build_settings(), ColourEmbedder(samples_per_side=8)).calibration == UNKNOWN
    calibration_file(cache, embedder.fingerprint).write_text("{")
    with pytest.raises(UsageError, match="segdex calibrate"):
        load_judge(build_settings(), embedder)


def test_a_cache_that_cannot_be_written_only_costs_time(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file in place of the folder")

    judge = load_judge(build_settings(), ColourEmbedder())

    assert len(judge.distractors) == len(DISTRACTORS)


def test_encodings_on_the_disk_are_refused_for_a_segmenter_that_cannot_store_them(tmp_path: Path) -> None:
    settings = build_settings(encodings_dir=tmp_path)
    embedder = ColourEmbedder()
    words = embedder.embed_texts(["red"])

    with pytest.raises(UsageError, match="SEGDEX_ENCODINGS_DIR: plain flood fill"):
        make_refiner(settings, segmenter=PlainSegmenter(), embedder=embedder, distractors=words)
    make_refiner(settings, segmenter=FloodSegmenter(), embedder=embedder, distractors=words)


@pytest.mark.parametrize(
    ("filled", "profile"), [("offline", "offline"), ("default", "default"), ("old", "default")]
)
def test_the_profile_is_that_of_the_index_where_it_is_known(filled: str, profile: str) -> None:
    index = MemoryIndex()

    assert profile_of(build_settings(), index) == "default"
    index.ensure(IndexFingerprint(filled, "embedder", 4, ("crop", "mask"), "segmenter"))

    assert profile_of(build_settings(), index) == profile
    assert profile_of(build_settings(profile="offline"), index) == "offline"


OLD_DEFAULT = "open_clip/1 ViT-B-32 datacomp_xl_s13b_b90k fp32 'a photo of a {}.' preprocess:0123456789abcdef"
"""What the default profile of segdex 0.1 wrote into an index on a CPU."""


def filled_by(embedder: str, *, profile: str = "default") -> MemoryIndex:
    index = MemoryIndex()
    index.ensure(IndexFingerprint(profile, embedder, 512, ("crop", "mask"), "segmenter"))
    return index


@pytest.mark.parametrize("profile", [None, "default"])
def test_an_index_goes_on_with_the_embedder_that_filled_it(profile: ProfileName | None) -> None:
    """Where ``default`` means another one by now, or on this device."""
    chosen = settings_for(build_settings(profile=profile), filled_by(OLD_DEFAULT))

    assert chosen.embedder is not None
    entry = resolve_model(chosen.embedder, role="embedder")
    assert entry.name == "openclip-vit-b-32-datacomp"
    assert (entry.precision, entry.prompt_template) == ("fp32", "a photo of a {}.")


@pytest.mark.parametrize(
    ("asked", "loaded"),
    [
        ({}, [OLD_DEFAULT]),
        ({"profile": "default"}, [None, OLD_DEFAULT]),
        ({"profile": "offline"}, [None]),
        ({"embedder": "coarse"}, ["coarse"]),
        ({"embedder": "coarse", "profile": "default"}, ["coarse"]),
    ],
)
def test_a_re_embedding_takes_the_embedder_that_a_named_profile_has_today(
    asked: dict[str, str], loaded: list[str | None]
) -> None:
    names: list[str | None] = []

    def load(settings: Settings, profile: ProfileName) -> Embedder:
        names.append(settings.embedder)
        return ColourEmbedder(samples_per_side=len(names))

    given = replace(
        parts(Path("unused")), open_index=lambda *_, **__: filled_by(OLD_DEFAULT), load_embedder=load
    )
    models = open_library(build_settings(**asked), given).models

    new, searching = models.new_embedder, models.embedder

    assert names == loaded
    assert (new is searching) == (len(loaded) == 1)


def test_what_is_asked_for_counts_more_than_what_filled_an_index() -> None:
    index = filled_by(OLD_DEFAULT)

    for asked in ({"embedder": "openclip-vit-b-32-siglip2-256"}, {"profile": "offline"}):
        settings = build_settings(**asked)
        assert settings_for(settings, index) == settings


@pytest.mark.parametrize(
    "embedder", ["conse/2 efficientnet-lite2+MiniLM sha256:0123", "another/1", "open_clip/1"]
)
def test_an_embedder_that_its_fingerprint_does_not_name_is_that_of_the_profile(embedder: str) -> None:
    settings = build_settings()

    assert settings_for(settings, filled_by(embedder)) == settings
    assert settings_for(settings, MemoryIndex()) == settings


def test_an_index_filled_from_a_file_asks_for_that_file() -> None:
    old = OLD_DEFAULT.replace("datacomp_xl_s13b_b90k", "sha256:0123456789abcdef")
    settings = settings_for(build_settings(device="cpu"), filled_by(old))

    with pytest.raises(UsageError, match=r"ViT-B-32 with a file of yours.*--embedder ViT-B-32:FILE"):
        load_embedder(settings, "default")


def test_a_library_loads_the_embedder_of_its_index_and_remembers_recipes_by_it(tmp_path: Path) -> None:
    asked: list[str | None] = []

    def load(settings: Settings, _: ProfileName) -> Embedder:
        asked.append(settings.embedder)
        return ColourEmbedder()

    def fingerprint(index: MemoryIndex) -> str:
        fakes = replace(parts(tmp_path), open_index=lambda *_, create: index, load_embedder=load)
        settings = build_settings(cache_dir=tmp_path, jobs_file=tmp_path / "jobs.sqlite")
        with open_library(settings, fakes) as library:
            recipes = library.models.recipes(preset("fast"))
            assert isinstance(recipes, RememberedRecipe)
            known = recipes.remembered()
            recipes.load()
            return str(known)

    other = OLD_DEFAULT.replace("ViT-B-32 ", "ViT-L-14 ")
    for name in (OLD_DEFAULT, other):
        assert fingerprint(filled_by(name)) == "None"
        assert fingerprint(filled_by(name)) != "None"
    assert asked == [OLD_DEFAULT, OLD_DEFAULT, other, other]
