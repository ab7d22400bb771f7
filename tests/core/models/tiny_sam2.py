"""A SAM 2 of a few thousand random weights, saved as the hub does."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig
from transformers.models.sam2.configuration_sam2 import Sam2MaskDecoderConfig, Sam2PromptEncoderConfig


def save_tiny_sam2(folder: Path) -> Path:
    """Write ``config.json`` and ``model.safetensors`` into ``folder`` and return it."""
    widths = [8, 16, 32, 64]
    config = Sam2Config(
        vision_config=Sam2VisionConfig(
            backbone_config=Sam2HieraDetConfig(
                hidden_size=8,
                blocks_per_stage=[1, 1, 1, 1],
                embed_dim_per_stage=widths,
                num_attention_heads_per_stage=[1, 1, 1, 1],
                global_attention_blocks=[],
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
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    weights = {key: torch.randn_like(value) * 0.1 for key, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    return folder
