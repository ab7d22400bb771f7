"""Meta's package behind the port: masks as ours, which checkpoint a name means, and what is refused."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.backends.models.cat_prompts import CASES, MAX_IOU_DIFFERENCE, MAX_LOGIT_DIFFERENCE, cat, prompts
from tests.needs import package
from tests.real_models import package_sam2, sam2_folder, torch_sam2

from segdex_backends.models.catalog import resolve_model
from segdex_backends.models.hub import Hub
from segdex_backends.models.sam2_package.loader import load_sam2_package
from segdex_core.errors import ModelInvalidError, ModelMissingError, ModelUnavailableError, UsageError
from segdex_core.geometry import MaskBoxXYXY
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_ingest.masks.generate import generate_masks, preset


@pytest.fixture(name="checkpoint", scope="module")
def _checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint with Meta's names; its parts for video have random weights."""
    path = tmp_path_factory.mktemp("meta") / "sam2_hiera_tiny.pt"
    torch.save({"model": state_of_meta()}, path)
    return path


@cache
def state_of_meta() -> dict[str, torch.Tensor]:
    package("sam2", "sam2")
    from tests.reference.meta_sam2 import build_meta_sam2

    return dict(build_meta_sam2(sam2_folder()).state_dict())


def assert_same(found: DecodedMasks, expected: DecodedMasks) -> None:
    np.testing.assert_allclose(found.logits, expected.logits, atol=MAX_LOGIT_DIFFERENCE)
    np.testing.assert_allclose(found.predicted_iou, expected.predicted_iou, atol=MAX_IOU_DIFFERENCE)
    np.testing.assert_allclose(found.tokens, expected.tokens, atol=MAX_LOGIT_DIFFERENCE)


@pytest.mark.parametrize("frame_px", [pytest.param(1024, marks=pytest.mark.slow), 672])
def test_masks_scores_and_tokens_are_those_of_our_own_code(frame_px: int) -> None:
    ours, meta = torch_sam2(), package_sam2()
    [own], [other] = (one.encode([cat()], frame_px=frame_px) for one in (ours, meta))
    earlier = ours.decode(own, prompts("one point", None)).logits[:, 1]

    for case in CASES:
        for mask in (None, earlier):
            for multimask in (True, False):
                asked = prompts(case, mask)
                assert_same(
                    meta.decode(other, asked, multimask=multimask),
                    ours.decode(own, asked, multimask=multimask),
                )
    assert meta.decoder_id == ours.decoder_id
    assert meta.fingerprint != ours.fingerprint


def test_masks_of_a_part_are_those_of_our_own_code() -> None:
    ours, meta = torch_sam2(), package_sam2()
    [own], [other] = (one.encode([cat()], frame_px=672) for one in (ours, meta))
    part = MaskBoxXYXY(40, 40, 136, 136)

    found, expected = (
        one.decode(one.narrow(features, part), prompts("one point", None))
        for one, features in ((meta, other), (ours, own))
    )

    assert_same(found, expected)


@pytest.mark.slow
def test_our_generator_finds_the_same_segments_with_either() -> None:
    settings = preset("fast")

    ours, meta = (
        generate_masks(cat(), segmenter=segmenter, settings=settings)
        for segmenter in (torch_sam2(), package_sam2())
    )

    assert len(ours) == len(meta) > 10
    same = sum(one.box == other.box for one, other in zip(ours, meta, strict=True))
    assert same >= 0.95 * len(ours)


def test_threads_do_not_take_each_others_tokens() -> None:
    segmenter = package_sam2()
    [features] = segmenter.encode([cat()], frame_px=224)
    points = np.array([[[x, 150]] for x in range(20, 440, 60)], np.float32)
    asked = [Prompts(point[None], np.ones((1, 1), np.int64)) for point in points]
    alone = [segmenter.decode(features, one) for one in asked]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: segmenter.decode(features, one), asked))

    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(found.tokens, expected.tokens, atol=1e-4)


@pytest.mark.slow  # bf16 takes minutes on a CPU without AMX
def test_half_precision_finds_about_the_same_mask(checkpoint: Path) -> None:
    half, exact = load_sam2_package(str(checkpoint), precision="bf16"), package_sam2()
    asked = prompts("box", None)

    found, expected = (
        one.decode(one.encode([cat()])[0], asked, multimask=False).logits[0, 0] > 0 for one in (half, exact)
    )

    assert (found & expected).sum() / (found | expected).sum() > 0.95
    assert half.fingerprint != exact.fingerprint


def test_the_configuration_is_inferred_from_the_weights(checkpoint: Path) -> None:
    loaded = load_sam2_package(str(checkpoint))

    assert loaded.decoder_id == package_sam2().decoder_id
    assert checkpoint.stem in loaded.name


@pytest.mark.parametrize("config", ["sam2.1/sam2.1_hiera_t", "sam2.1/sam2.1_hiera_b+"])
def test_the_checkpoint_of_each_version_and_size_loads(tmp_path: Path, config: str) -> None:
    package("sam2", "sam2")
    from tests.reference.meta_sam2 import build_from_config

    path = tmp_path / "random.pt"
    torch.save({"model": build_from_config(f"configs/{config}.yaml").state_dict()}, path)

    segmenter = load_sam2_package(str(path))

    [features] = segmenter.encode([cat()], frame_px=224)
    assert segmenter.decode(features, prompts("one point", None)).logits.shape == (1, 3, 56, 56)


def test_another_library_keeps_its_hydra(checkpoint: Path) -> None:
    package("sam2", "sam2")
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_module("sam2", version_base="1.2"):
        load_sam2_package(str(checkpoint))
        assert compose("configs/sam2/sam2_hiera_t.yaml")


def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    state = state_of_meta()
    cases = []
    removed = next(name for name in state if name.startswith("memory_encoder."))
    for name in (removed, "another.weight", "no_mem_embed"):
        changed = {**state, name: torch.zeros(1, 1, 7)}  # unknown, or of another shape
        if name == removed:
            del changed[name]
        torch.save({"model": changed}, tmp_path / f"{name}.pt")
        cases.append((str(tmp_path / f"{name}.pt"), name))

    for source, message in cases:
        with pytest.raises(ModelInvalidError, match=message) as caught:
            load_sam2_package(source)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("sam2.1_hiera_huge", r"neither a file nor a checkpoint.*sam2\.1_hiera_tiny"),
        ("nowhere.pt", "no checkpoint file nowhere.pt"),
    ],
)
def test_a_name_that_means_nothing_is_answered(source: str, message: str) -> None:
    package("sam2", "sam2")
    with pytest.raises(ModelMissingError, match=message):
        load_sam2_package(source)


@pytest.mark.parametrize("name", ["sam2.1_hiera_tiny", "facebook/sam2.1-hiera-tiny"])
def test_a_named_checkpoint_comes_from_the_repository_of_the_package(tmp_path: Path, name: str) -> None:
    package("sam2", "sam2")
    hub = Hub(endpoint="http://127.0.0.1:9", cache_dir=tmp_path, records_dir=tmp_path)

    with pytest.raises(ModelUnavailableError, match=r"sam2:sam2\.1_hiera_tiny needs facebook/sam2\.1-hiera"):
        load_sam2_package(name, hub=hub)


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sam2", None)  # how Python itself is told that there is none

    with pytest.raises(ModelMissingError, match=r"pip install 'segdex\[sam2\]'") as caught:
        load_sam2_package("sam2.1_hiera_tiny")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "by_name"),
    [("sam2.build_sam", True), ("sam2.build_sam", False), ("sam2.modeling.sam2_base", False)],
)
def test_a_broken_installation_is_one_line(
    module: str, by_name: bool, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second module is one that Hydra imports, by the name in the configuration."""
    parent, _, name = module.rpartition(".")
    import_module(module)
    monkeypatch.delattr(import_module(parent), name)
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ModelMissingError, match=r"does not work \(.*pip install 'segdex\[sam2\]'") as caught:
        load_sam2_package("sam2.1_hiera_tiny" if by_name else str(checkpoint))
    assert "\n" not in str(caught.value)


def test_a_device_and_a_precision_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="fp16 needs --device cuda"):
        load_sam2_package("sam2.1_hiera_tiny", precision="fp16")
    with pytest.raises(UsageError, match="--device"):
        load_sam2_package("sam2.1_hiera_tiny", device="tpu")


def test_the_prefix_names_the_package() -> None:
    for name in ("sam2:sam2.1_hiera_tiny", "sam2:folder/my.pt"):
        assert resolve_model(name, role="segmenter").adapter == "sam2-package"
