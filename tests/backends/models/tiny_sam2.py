"""A SAM 2 of a few thousand random weights, in memory or saved as the hub does."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig
from transformers.models.sam2.configuration_sam2 import Sam2MaskDecoderConfig, Sam2PromptEncoderConfig


def tiny_sam2(
    *,
    blocks: Sequence[int] = (1, 1, 1, 1),
    heads: Sequence[int] = (1, 1, 1, 1),
    windows: Sequence[int] = (8, 4, 14, 7),
    global_blocks: Sequence[int] = (),
) -> Sam2Model:
    """Return a model of 8 channels in its first stage, with weights that no part of it leaves at 0 or 1."""
    widths = [8, 16, 32, 64]
    config = Sam2Config(
        vision_config=Sam2VisionConfig(
            backbone_config=Sam2HieraDetConfig(
                hidden_size=8,
                blocks_per_stage=list(blocks),
                embed_dim_per_stage=widths,
                num_attention_heads=heads[0],
                num_attention_heads_per_stage=list(heads),
                window_size_per_stage=list(windows),
                global_attention_blocks=list(global_blocks),
            ),
            backbone_channel_list=widths[::-1],
            fpn_hidden_size=32,
        ),
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32
        ),
    )
    torch.manual_seed(0)
    model = Sam2Model(config)
    model.load_state_dict({key: torch.randn_like(value) * 0.1 for key, value in model.state_dict().items()})
    model.requires_grad_(requires_grad=False)
    model.train(mode=False)
    return model


def save_tiny_sam2(folder: Path) -> Path:
    """Write ``config.json`` and ``model.safetensors`` into ``folder`` and return it."""
    model = tiny_sam2()
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    save_file({key: value.clone() for key, value in model.state_dict().items()}, folder / "model.safetensors")
    return folder
