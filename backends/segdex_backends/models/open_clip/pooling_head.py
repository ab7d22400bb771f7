"""Patches and regions of a vision tower that pools by attention, such as SigLIP 2 and PE.

Such a tower has no [CLS] in its last block. A learned query reads the values of all patches, and a projection
and a feed-forward network put what it read into the space of the texts. As in TextRegion (Xiao et al. 2025,
arXiv 2505.23769), a region takes the place of that query: it reads the values of the patches by how much of
each it covers. A patch is a region of its own.

The towers take squares of one size alone. A picture is read once whole, and in four quarters at twice the
resolution; a cell is the mean of both, as TextRegion weights its crops.
"""

from typing import Any

import torch
from timm.layers.attention_pool import AttentionPoolLatent
from torch import Tensor
from torch.nn import functional

_SCALE = 2
"""Side of the picture that is read, over the side that the tower takes."""


def has_pooling_head(visual: torch.nn.Module) -> bool:
    """Return whether this is a vision tower of timm that pools by attention with one query."""
    pool = getattr(getattr(visual, "trunk", None), "attn_pool", None)
    return isinstance(pool, AttentionPoolLatent) and pool.latent_len == 1 and pool.pos_embed is None


def dense_size_hw(visual: Any, _size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width in pixels that a picture is squashed to, whatever its own."""
    height, width = visual.trunk.patch_embed.img_size
    return _SCALE * int(height), _SCALE * int(width)


def grid_hw(visual: Any, _pixels: Tensor) -> tuple[int, int]:
    """Return the cells of a picture, the patches of its four quarters: from top to bottom, left to right."""
    height, width = visual.trunk.patch_embed.grid_size
    return _SCALE * int(height), _SCALE * int(width)


@torch.inference_mode()
def patch_features(visual: Any, pixels: Tensor) -> Tensor:
    """Return the (h, w, dim) unit vectors of the cells of a picture.

    Args:
        visual: A tower with a pooling head.
        pixels: (1, 3, 2 s, 2 s), normalised; s is the side that the tower takes.
    """
    return _project(visual, _values(visual, pixels))


@torch.inference_mode()
def region_features(visual: Any, pixels: Tensor, shares: Tensor) -> Tensor:
    """Return the (n, dim) unit vectors of regions of a picture.

    Args:
        visual: A tower with a pooling head.
        pixels: (1, 3, 2 s, 2 s), normalised.
        shares: (n, h w) share of each cell that a region covers, 0 to 1, not all 0.
    """
    values = _values(visual, pixels).flatten(0, 1)
    weights = (shares / shares.sum(dim=1, keepdim=True)).to(values)
    return _project(visual, weights @ values)


def _values(visual: Any, pixels: Tensor) -> Tensor:
    """Return the (h, w, width) values that the head's query would read of the cells."""
    side = pixels.shape[-1] // _SCALE
    whole = functional.interpolate(pixels.float(), (side, side), mode="area").to(pixels.dtype)
    quarters = [pixels[..., y : y + side, x : x + side] for y in (0, side) for x in (0, side)]  # row by row
    trunk, (height, width) = visual.trunk, visual.trunk.patch_embed.grid_size
    tokens = trunk.forward_features(torch.cat([whole, *quarters]))[:, trunk.num_prefix_tokens :]
    values = trunk.attn_pool.kv(tokens).chunk(2, dim=2)[1]
    of_whole, *of_quarters = torch.unflatten(values, 1, (height, width))
    rows = [torch.cat(of_quarters[row : row + _SCALE], dim=1) for row in (0, _SCALE)]
    coarse = of_whole.repeat_interleave(_SCALE, 0).repeat_interleave(_SCALE, 1)
    mean: Tensor = (torch.cat(rows) + coarse) / 2
    return mean


def _project(visual: Any, read: Tensor) -> Tensor:
    """Return unit vectors in the space of the texts of what a query read, (..., width)."""
    trunk, pool = visual.trunk, visual.trunk.attn_pool
    out = pool.proj(read)
    if pool.mlp is not None:
        out = out + pool.mlp(pool.norm(out))
    return functional.normalize(visual.head(trunk.head(trunk.fc_norm(out))).float(), dim=-1)
