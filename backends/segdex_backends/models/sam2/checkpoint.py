"""Weights of SAM 2 for transformers' ``Sam2Model``, from hub folders or Meta's ``.pt`` files."""

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

from segdex_backends.models.finite import check_finite
from segdex_core.errors import ModelInvalidError, ModelMissingError

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"

State = Mapping[str, torch.Tensor]

# The folder of a video model has the image model's weights under unchanged names, and other weights.
_MODEL_TYPES = ("sam2", "sam2_video")
_SUB_CONFIGS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")

_META_VIDEO_ONLY = re.compile(
    r"^(memory_|maskmem|mask_downsample|obj_ptr|no_mem_pos_enc|no_obj_ptr|no_obj_embed_spatial)"
)

# Points and image share one Fourier matrix: Meta stores it once, transformers twice.
_POSITION = "shared_image_embedding.positional_embedding"
_POSITION_COPY = "prompt_encoder.shared_embedding.positional_embedding"

# Renames from Meta (sam2/modeling, commit 2b90b9f5) to transformers 5, applied in this order.
_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^image_encoder\.trunk\.patch_embed\.proj\.", r"vision_encoder.backbone.patch_embed.projection."),
        (r"^image_encoder\.trunk\.", r"vision_encoder.backbone."),
        (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", _POSITION),
        (r"^sam_prompt_encoder\.mask_downscaling\.0\.", r"prompt_encoder.mask_embed.conv1."),
        (r"^sam_prompt_encoder\.mask_downscaling\.1\.", r"prompt_encoder.mask_embed.layer_norm1."),
        (r"^sam_prompt_encoder\.mask_downscaling\.3\.", r"prompt_encoder.mask_embed.conv2."),
        (r"^sam_prompt_encoder\.mask_downscaling\.4\.", r"prompt_encoder.mask_embed.layer_norm2."),
        (r"^sam_prompt_encoder\.mask_downscaling\.6\.", r"prompt_encoder.mask_embed.conv3."),
        (r"^sam_prompt_encoder\.", r"prompt_encoder."),
        (r"^sam_mask_decoder\.output_upscaling\.0\.", r"mask_decoder.upscale_conv1."),
        (r"^sam_mask_decoder\.output_upscaling\.1\.", r"mask_decoder.upscale_layer_norm."),
        (r"^sam_mask_decoder\.output_upscaling\.3\.", r"mask_decoder.upscale_conv2."),
        (r"^sam_mask_decoder\.", r"mask_decoder."),
        (r"(_mlps\.\d|iou_prediction_head|pred_obj_score_head)\.layers\.0\.", r"\1.proj_in."),
        (r"(_mlps\.\d|iou_prediction_head|pred_obj_score_head)\.layers\.1\.", r"\1.layers.0."),
        (r"(_mlps\.\d|iou_prediction_head|pred_obj_score_head)\.layers\.2\.", r"\1.proj_out."),
        (r"\.mlp\.layers\.0\.", r".mlp.proj_in."),
        (r"\.mlp\.layers\.1\.", r".mlp.proj_out."),
        (r"\.norm_final_attn\.", r".layer_norm_final_attn."),
        (r"\.norm(\d)\.", r".layer_norm\1."),
        (r"\.out_proj\.", r".o_proj."),
        (r"^no_mem_embed$", r"no_memory_embedding"),
    )
)
_POINT_EMBEDDING = re.compile(r"^sam_prompt_encoder\.point_embeddings\.(\d)\.weight$")


@dataclass(frozen=True, slots=True)
class _Hiera:
    """Values that weight shapes do not determine, from Meta's sam2/configs/sam2.1/*.yaml and hieradet.py."""

    size: str
    blocks_per_stage: tuple[int, int, int, int]
    heads: int
    global_blocks: tuple[int, int, int]
    window_sizes: tuple[int, int, int, int]


_PATCHES = "image_encoder.trunk.patch_embed.proj.weight"

_HIERA_BY_WIDTH_AND_DEPTH = {
    (96, 12): _Hiera("tiny", (1, 2, 7, 2), 1, (5, 7, 9), (8, 4, 14, 7)),
    (96, 16): _Hiera("small", (1, 2, 11, 2), 1, (7, 10, 13), (8, 4, 14, 7)),
    (112, 24): _Hiera("base-plus", (2, 3, 16, 3), 2, (12, 16, 20), (8, 4, 14, 7)),
    (144, 48): _Hiera("large", (2, 6, 36, 4), 2, (23, 33, 43), (8, 4, 16, 8)),
}


def load_folder(folder: Path) -> Sam2Model:
    """Load the model from a folder with ``config.json`` and ``model.safetensors``, as on the hub.

    Raises:
        ModelMissingError: If one of the two files is missing.
        ModelInvalidError: If the architecture is not SAM 2, or a weight is missing or has a wrong shape.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelMissingError(
                f"{folder} has no {name}: a SAM 2 folder holds {CONFIG_FILE} and {WEIGHTS_FILE}"
            )
    config = _read_config(folder / CONFIG_FILE)
    return _build(config, _read_safetensors(folder / WEIGHTS_FILE), where=folder, ignore_others=True)


def load_meta_file(path: Path) -> Sam2Model:
    """Load the model from one of Meta's checkpoint files: ``.pt``, or ``.safetensors`` with Meta's keys.

    Raises:
        ModelInvalidError: If the file is not a checkpoint of SAM 2 or 2.1 with a Hiera of a published size.
    """
    return load_meta_state(read_meta_state(path), where=path)


def read_meta_state(path: Path) -> State:
    """Return the weights of one of Meta's checkpoint files, under their own names.

    Raises:
        ModelInvalidError: If it is not a checkpoint of SAM 2 or 2.1.
    """
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if _PATCHES not in state:
        raise ModelInvalidError(
            f"{path} has none of the keys of Meta's SAM 2 checkpoints (image_encoder.trunk...); "
            "for a model in the hub's format, give its folder"
        )
    return state


def load_meta_state(state: State, *, where: Path) -> Sam2Model:
    """Return the model for weights under Meta's names.

    Args:
        state: All weights of the image model. Weights for video are ignored.
        where: Origin of the weights, for error messages.

    Raises:
        ModelInvalidError: If a weight is missing or unknown, or the Hiera has none of the published sizes.
    """
    config = infer_config(state, where=where)
    return _build(config, rename_meta_state(state), where=where, ignore_others=False)


def rename_meta_key(key: str) -> str:
    """Return transformers' name for one of Meta's weights.

    Example:
        >>> rename_meta_key("sam_mask_decoder.transformer.layers.0.mlp.layers.1.bias")
        'mask_decoder.transformer.layers.0.mlp.proj_out.bias'
    """
    for pattern, replacement in _RENAMES:
        key = pattern.sub(replacement, key)
    return key


def rename_meta_state(state: State) -> dict[str, torch.Tensor]:
    """Return the weights of the image model under transformers' names, without the weights for video."""
    renamed: dict[str, torch.Tensor] = {}
    points: dict[int, torch.Tensor] = {}
    for key, value in state.items():
        point = _POINT_EMBEDDING.match(key)
        if point is not None:
            points[int(point[1])] = value
        elif not _META_VIDEO_ONLY.match(key):
            renamed[rename_meta_key(key)] = value
    if points:
        renamed["prompt_encoder.point_embed.weight"] = torch.cat([points[i] for i in sorted(points)])
    return renamed


def meta_size(state: State, *, where: Path) -> str:
    """Return the size of weights under Meta's names: ``tiny``, ``small``, ``base-plus`` or ``large``.

    Raises:
        ModelInvalidError: If the Hiera has none of the four published sizes.
    """
    return _hiera_of(state, where=where).size


def infer_config(state: State, *, where: Path) -> Sam2Config:
    """Return the configuration that the shapes of Meta's weights imply.

    Raises:
        ModelInvalidError: If the Hiera has none of the four published sizes.
    """
    width, hiera = state[_PATCHES].shape[0], _hiera_of(state, where=where)
    widths = [width * 2**stage for stage in range(4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=hiera.heads,
        blocks_per_stage=list(hiera.blocks_per_stage),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[hiera.heads * 2**stage for stage in range(4)],
        window_size_per_stage=list(hiera.window_sizes),
        global_attention_blocks=list(hiera.global_blocks),
        window_positional_embedding_background_size=list(state["image_encoder.trunk.pos_embed"].shape[2:]),
    )
    return Sam2Config(
        vision_config=Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])
    )


def _hiera_of(state: State, *, where: Path) -> _Hiera:
    width = state[_PATCHES].shape[0]
    blocks = {key.split(".")[3] for key in state if key.startswith("image_encoder.trunk.blocks.")}
    hiera = _HIERA_BY_WIDTH_AND_DEPTH.get((width, len(blocks)))
    if hiera is None:
        raise ModelInvalidError(
            f"{where} has an image encoder of width {width} and {len(blocks)} blocks; SAM 2 has "
            "(width, blocks) of " + ", ".join(map(str, _HIERA_BY_WIDTH_AND_DEPTH))
        )
    return hiera


def _build(config: Sam2Config, state: State, *, where: Path, ignore_others: bool) -> Sam2Model:
    """Return the model with exactly the given weights, in float32.

    ``from_pretrained`` is not used, because it fills missing weights with random numbers and continues.
    """
    weights = {key: value.to(torch.float32) for key, value in state.items()}
    if _POSITION in weights:
        weights.setdefault(_POSITION_COPY, weights[_POSITION])
    with torch.device("meta"):  # skips random weights, which take 5 s for the large model
        model = Sam2Model(config)
    expected = model.state_dict().keys()
    missing = sorted(expected - weights.keys())
    others = sorted(weights.keys() - expected)
    if missing:
        raise ModelInvalidError(f"{where} lacks {len(missing)} weights of SAM 2, the first is {missing[0]}")
    if others and not ignore_others:
        raise ModelInvalidError(
            f"{where} has {len(others)} weights unknown to SAM 2, the first is {others[0]}"
        )
    try:
        model.load_state_dict({key: weights[key] for key in expected}, strict=True, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelInvalidError(f"{where} does not fit its configuration: {reason}") from error
    check_finite(model.state_dict(), where=where)
    model.requires_grad_(requires_grad=False)
    model.train(mode=False)
    return model


def _read_config(path: Path) -> Sam2Config:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelInvalidError(f"{path} is not JSON: {error}") from error
    found = content.get("model_type") if isinstance(content, dict) else None
    if found not in _MODEL_TYPES:
        raise ModelInvalidError(
            f"{path} is of a model of type {found}, but SAM 2 is one of {', '.join(_MODEL_TYPES)}"
        )
    try:
        return Sam2Config(**{name: content[name] for name in _SUB_CONFIGS if name in content})
    except (TypeError, ValueError) as error:
        raise ModelInvalidError(f"{path} is no configuration of SAM 2: {error}") from error


def _read_safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelInvalidError(f"{path} cannot be read as safetensors: {error}") from error


def _read_pickle(path: Path) -> State:
    """Read a ``.pt`` file without running any code in it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = (str(error).splitlines() or ["unknown reason"])[0]
        raise ModelInvalidError(f"{path} cannot be read as a checkpoint: {reason}") from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelInvalidError(f"{path} is no checkpoint of Meta's SAM 2: it has no weights under 'model'")
    return state
