"""What the loaders of the catalog's adapters hand over: names, precisions, templates and folders."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.backends.models.tiny_sam2 import save_tiny_sam2
from tests.fakes.embedder import TINY_OPEN_CLIP, write_tiny_open_clip
from tests.needs import package

from segdex_backends.models.catalog import CatalogEntry, resolve_model
from segdex_backends.models.loaders import EMBEDDERS, SEGMENTERS, LoadOptions, hub_of
from segdex_backends.models.sam2.loader import load_sam2_weights
from segdex_core.errors import ModelMissingError, UsageError
from segdex_core.settings import ModelPrecision, Precision


@pytest.fixture(name="clip", scope="module")
def _clip(tmp_path_factory: pytest.TempPathFactory) -> CatalogEntry:
    checkpoint = write_tiny_open_clip(tmp_path_factory.mktemp("clip"))
    return resolve_model(f"{TINY_OPEN_CLIP}:{checkpoint}", role="embedder")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sam2_is_loaded_from_its_place_in_the_precision_that_is_asked_for(
    tmp_path: Path, precision: ModelPrecision
) -> None:
    folder = str(save_tiny_sam2(tmp_path))
    entry = resolve_model(folder, role="segmenter")

    loaded = SEGMENTERS[entry.adapter](entry, LoadOptions("cpu", precision))

    assert loaded.fingerprint == load_sam2_weights(folder, precision=precision).fingerprint


def test_the_name_of_metas_package_is_given_to_it_without_the_prefix() -> None:
    package("sam2", "sam2")
    entry = resolve_model("sam2:nowhere.pt", role="segmenter")

    with pytest.raises(ModelMissingError, match=r"there is no checkpoint file nowhere\.pt"):
        SEGMENTERS[entry.adapter](entry, LoadOptions("cpu", "fp32"))
    with pytest.raises(UsageError, match="fp16 needs --device cuda"):
        SEGMENTERS[entry.adapter](entry, LoadOptions("cpu", "fp16"))


@pytest.mark.parametrize("template", ["{}", "a photo of a {}."])
def test_an_embedder_has_the_template_of_its_entry(clip: CatalogEntry, template: str) -> None:
    entry = replace(clip, prompt_template=template)

    loaded = EMBEDDERS[entry.adapter](entry, LoadOptions("cpu"))

    assert f" fp32 {template!r} " in loaded.fingerprint


@pytest.mark.parametrize(
    ("asked", "of_index", "precision"),
    [("auto", None, "fp32"), ("auto", "bf16", "bf16"), ("fp32", "bf16", "fp32"), ("bf16", None, "bf16")],
)
def test_the_precision_of_an_index_counts_where_none_is_asked_for(
    clip: CatalogEntry, asked: Precision, of_index: ModelPrecision | None, precision: str
) -> None:
    entry = replace(clip, precision=of_index)

    loaded = EMBEDDERS[entry.adapter](entry, LoadOptions("cpu", asked))

    assert f" {precision} " in loaded.fingerprint


def test_downloads_are_recorded_in_the_cache_folder_of_the_settings(tmp_path: Path) -> None:
    assert hub_of(LoadOptions("cpu", cache_dir=tmp_path)).records_dir == tmp_path
