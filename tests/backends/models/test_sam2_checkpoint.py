"""Loading weights: nothing is missing in silence, and Meta's names map to the same model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.backends.models.tiny_sam2 import save_tiny_sam2
from tests.needs import package
from tests.real_models import sam2_folder
from transformers import Sam2Model

from segdex_backends.models.sam2.checkpoint import (
    infer_config,
    load_folder,
    load_meta_file,
    rename_meta_state,
)
from segdex_core.errors import ModelInvalidError, ModelMissingError

PLACE = Path("checkpoint.pt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_sam2(tmp_path)


def test_a_folder_gives_back_the_weights_that_were_saved(folder: Path) -> None:
    model = load_folder(folder)

    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(saved[key], value) for key, value in model.state_dict().items())
    assert not model.training


def test_a_folder_of_the_video_model_loads_as_the_image_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "sam2_video", "num_maskmem": 7}))
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "memory_attention.layers.0.bias": torch.ones(3)}, folder / "model.safetensors")

    model = load_folder(folder)

    assert torch.equal(model.no_memory_embedding, weights["no_memory_embedding"])


def test_half_precision_weights_are_loaded_as_float32(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({key: value.half() for key, value in weights.items()}, folder / "model.safetensors")

    model = load_folder(folder)

    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


def test_a_missing_weight_is_an_error_and_never_random(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["mask_decoder.iou_token.weight"]
    save_file(weights, folder / "model.safetensors")

    with pytest.raises(ModelInvalidError, match=r"lacks 1 weights.*mask_decoder\.iou_token\.weight"):
        load_folder(folder)


def test_a_weight_of_another_shape_is_an_error(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["no_memory_embedding"] = torch.zeros(1, 1, 7)
    save_file(weights, folder / "model.safetensors")

    with pytest.raises(ModelInvalidError, match="no_memory_embedding"):
        load_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_one_of_its_files_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()

    with pytest.raises(ModelMissingError, match=f"has no {name}"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "not JSON"),
        ("config.json", b'{"model_type": "clip"}', "type clip"),
        ("config.json", b"[1]", "type None"),
        ("model.safetensors", b"damaged", "safetensors"),
    ],
)
def test_damaged_and_foreign_files_are_refused(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)

    with pytest.raises(ModelInvalidError, match=message):
        load_folder(folder)


def test_a_file_that_is_no_checkpoint_of_meta_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"damaged")
    with pytest.raises(ModelInvalidError, match="cannot be read as a checkpoint"):
        load_meta_file(path)

    torch.save({"weights": {}}, path)
    with pytest.raises(ModelInvalidError, match="no weights under 'model'"):
        load_meta_file(path)

    torch.save({"model": {"backbone.weight": torch.zeros(1)}}, path)
    with pytest.raises(ModelInvalidError, match="none of the keys"):
        load_meta_file(path)


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(marker).mkdir, ())  # type: ignore[return-value]

    torch.save({"model": Payload()}, tmp_path / "evil.pt")

    with pytest.raises(ModelInvalidError):
        load_meta_file(tmp_path / "evil.pt")
    assert not marker.exists()


def test_a_hiera_of_unknown_size_is_refused() -> None:
    state = {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(100, 3, 7, 7)}

    with pytest.raises(ModelInvalidError, match="width 100 and 0 blocks"):
        infer_config(state, where=PLACE)


@pytest.mark.models
@pytest.mark.parametrize(
    ("config", "is_21"),
    [
        ("sam2/sam2_hiera_t", False),
        ("sam2.1/sam2.1_hiera_t", True),
        ("sam2.1/sam2.1_hiera_s", True),
        ("sam2.1/sam2.1_hiera_b+", True),
        ("sam2.1/sam2.1_hiera_l", True),
    ],
)
def test_metas_configurations_are_inferred_from_the_weights(config: str, is_21: bool) -> None:
    package("sam2", "reference")
    from tests.reference.meta_sam2 import build_from_config

    meta = build_from_config(f"configs/{config}.yaml")
    state = meta.state_dict()
    assert ("no_obj_embed_spatial" in state) == is_21

    with torch.device("meta"):
        ours = Sam2Model(infer_config(state, where=PLACE))

    shapes = {key: value.shape for key, value in rename_meta_state(state).items()}
    expected = {key: value.shape for key, value in ours.state_dict().items()}
    del expected["prompt_encoder.shared_embedding.positional_embedding"]  # the same matrix a second time
    assert shapes == expected
    trunk = meta.image_encoder.trunk
    blocks = ours.vision_encoder.backbone.blocks
    assert [block.window_size for block in blocks] == [block.window_size for block in trunk.blocks]
    assert [block.attn.num_attention_heads for block in blocks] == [b.attn.num_heads for b in trunk.blocks]
    pooled = [number for number, block in enumerate(blocks) if block.query_stride is not None]
    assert pooled == [number for number, block in enumerate(trunk.blocks) if block.q_stride is not None]


@pytest.mark.models
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_with_metas_names_is_the_same_model(tmp_path: Path, suffix: str) -> None:
    package("sam2", "reference")
    from tests.reference.meta_sam2 import build_meta_sam2

    folder = sam2_folder()
    state = build_meta_sam2(folder).state_dict()
    path = tmp_path / f"sam2_hiera_tiny{suffix}"
    if suffix == ".pt":
        torch.save({"model": state}, path)
    else:
        save_file({key: value.contiguous() for key, value in state.items()}, path)

    ours, theirs = load_meta_file(path), load_folder(folder)

    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    for part in ("mask_decoder_config", "prompt_encoder_config"):
        assert getattr(ours.config, part).to_dict() == getattr(theirs.config, part).to_dict()
