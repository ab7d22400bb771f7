"""Patch and region embeddings of a CLIP vision transformer.

Patch embeddings follow NACLIP (Hajimiri et al. 2024, arXiv 2404.08181). ``region_features`` describes the
region embeddings.

CLIP is trained to embed a whole image, so its last block mixes all patches. Here each patch attends, in the
last block, to patches that are similar (keys against keys) and near (a Gaussian), without the residual and
the feed-forward network. The patch embeddings are then in the vector space of the texts.
"""

from typing import Any

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional

from segdex_core.errors import ModelInvalidError

_SIGMA_PATCHES = 5.0
"""Standard deviation of the neighbourhood in patches; ``gaussian_std`` of the published code."""


_SCALE = 2
"""Side of a picture whose patches are compared with texts, over the side that the model was trained on."""


def dense_size_hw(visual: torch.nn.Module, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width in pixels that a picture is squashed to: whole patches, about its shape.

    Raises:
        ModelInvalidError: If it is no plain vision transformer.
    """
    plain: Any = plain_transformer(visual)
    factor = _SCALE * max(plain.image_size) / max(size_hw)
    height, width = (
        max(round(side * factor / patch), 1) * patch
        for side, patch in zip(size_hw, plain.patch_size, strict=True)
    )
    return height, width


def grid_hw(visual: torch.nn.Module, pixels: Tensor) -> tuple[int, int]:
    """Return the patches of (1, 3, H, W) pixels, from top to bottom and from left to right."""
    patch_h, patch_w = plain_transformer(visual).patch_size
    return pixels.shape[2] // patch_h, pixels.shape[3] // patch_w


@torch.inference_mode()
def patch_features(visual: torch.nn.Module, pixels: Tensor) -> Tensor:
    """Return the (h, w, dim) unit vectors of the patches of an image.

    Args:
        visual: Vision tower of an OpenCLIP model.
        pixels: (1, 3, h * patch, w * patch), normalised, with any number of patches: positions are
            interpolated.

    Raises:
        ModelInvalidError: If ``visual`` is not a plain vision transformer.
    """
    visual = plain_transformer(visual)
    k, v, size_hw = keys_and_values(visual, pixels)
    heads = _last_block(visual).attn.num_heads
    k, v = (torch.unflatten(part, 2, (heads, -1)).transpose(1, 2) for part in (k, v))
    read = functional.scaled_dot_product_attention(k, k, v, attn_mask=neighbourhood(size_hw).to(k))
    projected = project(visual, read.transpose(1, 2).flatten(2)[:, 1:])
    return torch.unflatten(projected[0], 0, size_hw)


@torch.inference_mode()
def region_features(visual: torch.nn.Module, pixels: Tensor, shares: Tensor) -> Tensor:
    """Return the (n, dim) unit vectors of n regions of an image, from one forward pass.

    As in TextRegion (Xiao et al. 2025, arXiv 2505.23769), a region replaces [CLS] in the last block: it
    averages the values of the patches, weighted by the fraction of each patch that it covers, without the
    residual and the feed-forward network. A region of one patch has the embedding of that patch alone.

    Args:
        visual: Vision tower of an OpenCLIP model.
        pixels: (1, 3, h * patch, w * patch), normalised, with any number of patches: positions are
            interpolated.
        shares: (n, h * w) fraction of each patch that a region covers, 0 to 1, not all 0 in a row.

    Raises:
        ModelInvalidError: If ``visual`` is not a plain vision transformer.
    """
    visual = plain_transformer(visual)
    _, values, _ = keys_and_values(visual, pixels)
    weights = (shares / shares.sum(dim=1, keepdim=True)).to(values)
    return project(visual, weights @ values[0, 1:])


def plain_transformer(visual: torch.nn.Module) -> VisionTransformer:
    """Return ``visual`` if it is a plain vision transformer, whose patches can be read.

    Raises:
        ModelInvalidError: If ``visual`` is not a plain vision transformer.
    """
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None or visual.proj is None:
        raise ModelInvalidError(
            f"maps and regions need a plain vision transformer, but this is {type(visual).__name__}"
        )
    return visual


def keys_and_values(visual: VisionTransformer, pixels: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Return (1, 1 + h * w, width) keys and values of the last block, [CLS] first, and the grid (h, w)."""
    x = visual.conv1(pixels)
    size_hw = (x.shape[2], x.shape[3])
    x = torch.cat([visual.class_embedding.to(x.dtype).expand(1, 1, -1), x.flatten(2).mT], dim=1)
    x = visual.ln_pre(x + _positions(visual, size_hw).to(x.dtype))
    last = _last_block(visual)
    for block in visual.transformer.resblocks[:-1]:
        x = block(x) if visual.transformer.batch_first else block(x.transpose(0, 1)).transpose(0, 1)
    attention = last.attn
    _, keys, values = functional.linear(last.ln_1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(
        3, dim=2
    )
    return keys, values, size_hw


def project(visual: VisionTransformer, read: Tensor) -> Tensor:
    """Project (..., width) attention outputs of the last block to unit vectors in the space of the texts."""
    out = _last_block(visual).attn.out_proj(read)
    return functional.normalize((visual.ln_post(out) @ visual.proj).float(), dim=-1)


def _last_block(visual: VisionTransformer) -> Any:
    return visual.transformer.resblocks[-1]


def neighbourhood(size_hw: tuple[int, int]) -> Tensor:
    """Return the (1 + h * w, 1 + h * w) attention bias: a Gaussian of the patch distance, 0 for [CLS]."""
    height, width = size_hw
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=1).float()
    near = torch.exp(-torch.cdist(places, places).square() / (2 * _SIGMA_PATCHES**2))
    return functional.pad(near, (1, 0, 1, 0))


def _positions(visual: VisionTransformer, size_hw: tuple[int, int]) -> Tensor:
    """Return the (1 + h * w, width) position embeddings, interpolated to the grid (h, w)."""
    own: Tensor = visual.positional_embedding
    if tuple(visual.grid_size) == size_hw:
        return own
    grid = torch.unflatten(own[1:], 0, tuple(visual.grid_size)).permute(2, 0, 1)[None].float()
    resized = functional.interpolate(grid, size_hw, mode="bicubic", align_corners=False)
    return torch.cat([own[:1].float(), resized[0].flatten(1).T])
