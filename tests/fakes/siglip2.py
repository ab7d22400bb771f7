"""Very small models as SigLIP 2 and PE are, with random weights, and a tokenizer of Gemma's kind."""

import json
from pathlib import Path
from typing import Any

import open_clip
import timm.models
import torch
from timm.models.eva import Eva
from tokenizers import Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import GemmaTokenizer

TINY_SIGLIP2, TINY_PE = "segdex-tiny-siglip2", "segdex-tiny-pe"
"""Names under which ``write_tiny_siglip2`` and ``write_tiny_pe`` register their models with open_clip."""

SIDE_PX, DIM, CONTEXT = 32, 48, 64
"""Side of the picture, length of a vector, and tokens of a text, of which SigLIP 2 has as many."""

TEXTS = {
    "Latin": "A Red Umbrella, and two Dogs on the Beach!",
    "Cyrillic": "Красный Зонт и две СОБАКИ на пляже",
    "Greek": "Μια Κόκκινη ΟΜΠΡΕΛΑ στην παραλία",
    "Arabic": "مظلة حمراء على الشاطئ",
    "Hebrew": "מטרייה אדומה על החוף",
    "Devanagari": "समुद्र तट पर लाल छाता",
    "Bengali": "সৈকতে একটি লাল ছাতা",
    "Thai": "ร่มสีแดงบนชายหาด",
    "Chinese": "海滩上的红色雨伞",
    "Japanese": "ビーチにある赤いかさ",
    "Korean": "해변에 있는 빨간 우산",
}
"""The same question in eleven scripts, with capitals and punctuation where a script has them."""

_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")  # Gemma's, in the order of their ids
_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))


def write_tokenizer(folder: Path, *, padding_side: str = "right") -> Path:
    """Write a tokenizer as the repositories of SigLIP 2 have it, trained on ``TEXTS``, and return its folder.

    BPE with bytes for what it does not know, spaces as ``▁``, no start mark, an end mark, padding at the end.
    """
    unknown = _SPECIAL[3]
    trained = Tokenizer(BPE(unk_token=unknown, byte_fallback=True, fuse_unk=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(pattern=" ", behavior="merged_with_previous", invert=False)
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=[*_SPECIAL, *_BYTES], show_progress=False, min_frequency=1
    )
    trained.train_from_iterator([*TEXTS.values(), *(text.lower() for text in TEXTS.values())], trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer = GemmaTokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],  # type: ignore[misc] # as it is read from files
        add_bos_token=False,
        add_eos_token=True,
        padding_side=padding_side,
    )
    tokenizer.save_pretrained(folder)
    return folder


def write_tiny_siglip2(folder: Path, *, tokenizer: Path, seed: int = 0) -> Path:
    """Register a small SigLIP 2 with open_clip as ``TINY_SIGLIP2`` and return its random checkpoint.

    All but sizes and names is as in open_clip's ``ViT-B-32-SigLIP2-256``.
    """
    config = open_clip.get_model_config("ViT-B-32-SigLIP2-256")
    config["embed_dim"] = DIM
    config["vision_cfg"] |= {"timm_model_name": _siglip_trunk.__name__, "image_size": SIDE_PX}
    config["text_cfg"] |= {"width": DIM, "heads": 2, "layers": 2, "vocab_size": 800}
    config["text_cfg"]["hf_tokenizer_name"] = str(tokenizer)
    assert config["text_cfg"]["context_length"] == CONTEXT
    return _write(folder, TINY_SIGLIP2, config, seed=seed)


def write_tiny_pe(folder: Path, *, seed: int = 0) -> Path:
    """Register a small PE-Core with open_clip as ``TINY_PE`` and return its random checkpoint."""
    config = open_clip.get_model_config("PE-Core-B-16")
    config["embed_dim"] = DIM
    config["vision_cfg"] |= {"timm_model_name": _pe_trunk.__name__, "image_size": SIDE_PX}
    config["text_cfg"] |= {"width": DIM, "heads": 2, "layers": 2}
    return _write(folder, TINY_PE, config, seed=seed)


def _write(folder: Path, name: str, config: dict[str, Any], *, seed: int) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.create_model(name)
        # open_clip begins with numbers so small that all texts have about one vector, whatever their tokens
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.data += noise / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.05 * noise
        for table in ("token_embedding.weight", "positional_embedding"):
            model.text.get_parameter(table).data.normal_()
        model.text.token_embedding.weight.data *= 2
        for block in model.text.transformer.resblocks:  # else the mean of all tokens, most of them padding
            block.attn.in_proj_weight.data *= 2
    checkpoint = folder / f"{name}-{seed}.pt"
    torch.save(model.state_dict(), checkpoint)
    return checkpoint


@timm.models.register_model
def _siglip_trunk(pretrained: bool = False, **options: Any) -> torch.nn.Module:
    """As timm's ``vit_base_patch32_siglip_256``, smaller."""
    return timm.models.VisionTransformer(
        img_size=SIDE_PX,
        patch_size=8,
        embed_dim=DIM,
        depth=2,
        num_heads=2,
        class_token=False,
        act_layer="gelu_tanh",
        **_known(options),
    )


@timm.models.register_model
def _pe_trunk(pretrained: bool = False, **options: Any) -> torch.nn.Module:
    """As timm's ``vit_pe_core_base_patch16_224``, smaller."""
    return Eva(
        img_size=SIDE_PX,
        patch_size=8,
        embed_dim=DIM,
        depth=2,
        num_heads=2,
        mlp_ratio=4.0,
        attn_type="rope",
        use_pre_transformer_norm=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(4, 4),
        rope_grid_offset=1.0,
        rope_grid_indexing="xy",
        attn_pool_num_heads=4,
        attn_pool_mlp_ratio=4.0,
        **_known(options),
    )


def _known(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in ("num_classes", "global_pool")}
