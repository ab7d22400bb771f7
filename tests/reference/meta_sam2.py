"""Meta's own SAM 2 (package ``sam2``) with the weights of a transformers folder: the reference."""

from pathlib import Path

import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file
from sam2.modeling.sam2_base import SAM2Base

# Written apart from the adapter's table, from the modules' order in both packages, in this order.
_TO_META = (
    (
        "shared_image_embedding.positional_embedding",
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    ("vision_encoder.backbone.patch_embed.projection", "image_encoder.trunk.patch_embed.proj"),
    ("vision_encoder.backbone", "image_encoder.trunk"),
    ("vision_encoder.neck", "image_encoder.neck"),
    ("prompt_encoder.mask_embed.conv1", "sam_prompt_encoder.mask_downscaling.0"),
    ("prompt_encoder.mask_embed.layer_norm1", "sam_prompt_encoder.mask_downscaling.1"),
    ("prompt_encoder.mask_embed.conv2", "sam_prompt_encoder.mask_downscaling.3"),
    ("prompt_encoder.mask_embed.layer_norm2", "sam_prompt_encoder.mask_downscaling.4"),
    ("prompt_encoder.mask_embed.conv3", "sam_prompt_encoder.mask_downscaling.6"),
    ("mask_decoder.upscale_conv1", "mask_decoder.output_upscaling.0"),
    ("mask_decoder.upscale_layer_norm", "mask_decoder.output_upscaling.1"),
    ("mask_decoder.upscale_conv2", "mask_decoder.output_upscaling.3"),
    ("layer_norm_final_attn", "norm_final_attn"),
    ("layer_norm", "norm"),
    ("mlp.proj_in", "mlp.layers.0"),
    ("mlp.proj_out", "mlp.layers.1"),
    ("o_proj", "out_proj"),
    ("no_memory_embedding", "no_mem_embed"),
)
_HEADS = ("output_hypernetworks_mlps", "iou_prediction_head", "pred_obj_score_head")
_HEAD_LAYERS = (("layers.0", "layers.1"), ("proj_in", "layers.0"), ("proj_out", "layers.2"))


def build_meta_sam2(folder: Path, *, config: str = "configs/sam2/sam2_hiera_t.yaml") -> SAM2Base:
    """Return Meta's model on the CPU, as ``build_sam2`` makes it, with the weights of ``folder``.

    The parts for video, which the folder lacks, keep their random weights.
    """
    model = build_from_config(config)
    state = dict(model.state_dict())
    for key, value in load_file(folder / "model.safetensors").items():
        if key == "prompt_encoder.point_embed.weight":
            for i, row in enumerate(value):
                _replace(state, f"sam_prompt_encoder.point_embeddings.{i}.weight", row[None])
        elif key != "prompt_encoder.shared_embedding.positional_embedding":  # the same matrix again
            _replace(state, meta_key(key), value)
    model.load_state_dict(state, strict=True)
    return model.eval()


def build_from_config(config: str) -> SAM2Base:
    """Return Meta's model with random weights, as ``build_sam2`` makes it of one of the package's files."""
    GlobalHydra.instance().clear()
    with initialize_config_module("sam2", version_base="1.2"):
        settings = compose(
            config_name=config,
            overrides=[  # those of build_sam2(apply_postprocessing=True)
                "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true",
                "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_delta=0.05",
                "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=0.98",
            ],
        )
    OmegaConf.resolve(settings)
    model: SAM2Base = instantiate(settings.model, _recursive_=True)
    return model


def meta_key(key: str) -> str:
    """Return Meta's name of one of transformers' weights."""
    if any(head in key for head in _HEADS):
        for ours, meta in _HEAD_LAYERS:
            if ours in key:
                key = key.replace(ours, meta)
                break
    for ours, meta in _TO_META:
        key = key.replace(ours, meta)
    if key.startswith("image_encoder.neck.convs."):
        stem, kind = key.rsplit(".", 1)
        key = f"{stem}.conv.{kind}"
    for part in ("prompt_encoder.", "mask_decoder."):
        if key.startswith(part):
            key = f"sam_{key}"
    return key


def _replace(state: dict[str, torch.Tensor], key: str, value: torch.Tensor) -> None:
    if state[key].shape != value.shape:
        raise ValueError(f"{key} has shape {tuple(state[key].shape)}, but got {tuple(value.shape)}")
    state[key] = value
