"""What a CLIP vision transformer knows of each patch: NACLIP (Hajimiri et al. 2024, arXiv 2404.08181).

CLIP is trained to say one thing of a picture, and its last block mixes all patches for that. Here the last
block lets each patch look at those that are alike (keys against keys) and near (a Gaussian), without its
residual and its feed-forward network; the patches then lie in the space of the texts.
"""

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional

from segdex.core.errors import ModelInvalidError

_SIGMA_PATCHES = 5.0
"""Standard deviation of the neighbourhood; ``gaussian_std`` of the published code."""


@torch.inference_mode()
def patch_features(visual: torch.nn.Module, pixels: Tensor) -> Tensor:
    """Return the (h, w, dim) unit vectors of the patches of a picture.

    Args:
        visual: The vision side of an OpenCLIP model.
        pixels: (1, 3, h patch, w patch), normalised; any number of patches, positions are interpolated.

    Raises:
        ModelInvalidError: If it is no plain vision transformer.
    """
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None or visual.proj is None:
        raise ModelInvalidError(
            f"relevance maps need a plain vision transformer, but this is {type(visual).__name__}"
        )
    x = visual.conv1(pixels)
    size_hw = (x.shape[2], x.shape[3])
    x = torch.cat([visual.class_embedding.to(x.dtype).expand(1, 1, -1), x.flatten(2).mT], dim=1)
    x = visual.ln_pre(x + _positions(visual, size_hw).to(x.dtype))
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = block(x) if visual.transformer.batch_first else block(x.transpose(0, 1)).transpose(0, 1)
    attention = last.attn
    _, k, v = (
        torch.unflatten(part, 2, (attention.num_heads, -1)).transpose(1, 2)
        for part in functional.linear(last.ln_1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(
            3, dim=2
        )
    )
    read = functional.scaled_dot_product_attention(k, k, v, attn_mask=neighbourhood(size_hw).to(k))
    patches = attention.out_proj(read.transpose(1, 2).flatten(2))[:, 1:]
    projected = functional.normalize((visual.ln_post(patches) @ visual.proj).float(), dim=-1)
    return torch.unflatten(projected[0], 0, size_hw)


def neighbourhood(size_hw: tuple[int, int]) -> Tensor:
    """Return the (1 + h w, 1 + h w) addition to the attention: a Gaussian of the distance, 0 for [CLS]."""
    height, width = size_hw
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=1).float()
    near = torch.exp(-torch.cdist(places, places).square() / (2 * _SIGMA_PATCHES**2))
    return functional.pad(near, (1, 0, 1, 0))


def _positions(visual: VisionTransformer, size_hw: tuple[int, int]) -> Tensor:
    """Return the (1 + h w, width) position embeddings, interpolated to another number of patches."""
    own: Tensor = visual.positional_embedding
    if tuple(visual.grid_size) == size_hw:
        return own
    grid = torch.unflatten(own[1:], 0, tuple(visual.grid_size)).permute(2, 0, 1)[None].float()
    resized = functional.interpolate(grid, size_hw, mode="bicubic", align_corners=False)
    return torch.cat([own[:1].float(), resized[0].flatten(1).T])
