"""BEiT-3 (Wang et al. 2022, arXiv 2208.10442): one transformer for image and text tokens.

No maintained package has the whole model. This module has the parts of torchscale 0.2.0 that inference needs
(``torchscale/model/BEiT3.py``, ``architecture/encoder.py``, ``component/multiway_network.py``). Weights have
their original names, so published files load unchanged.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH_PX = 16
IMAGE_PX = 224
PATCHES = (IMAGE_PX // PATCH_PX) ** 2
MAX_TEXT_TOKENS = 1022
"""Maximum number of text tokens, start and end included; the first two of 1,024 positions are never used."""

_FIRST_POSITION = 2  # fairseq's offset, which torchscale keeps
_NORM_EPS = 1e-5


class Multiway(nn.Module):
    """Two copies of a module: ``A`` for image tokens, ``B`` for text tokens."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.A = make()
        self.B = make()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``A`` of the image tokens and ``B`` of the text tokens of (n, 1 + 196 + t, dim)."""
        picture, text = x[:, : 1 + PATCHES], x[:, 1 + PATCHES :]
        return torch.cat([self.A(picture), self.B(text)], dim=1)


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = Multiway(lambda: nn.Linear(dim, dim))
        self.k_proj = Multiway(lambda: nn.Linear(dim, dim))
        self.v_proj = Multiway(lambda: nn.Linear(dim, dim))
        self.out_proj = Multiway(lambda: nn.Linear(dim, dim))
        self.inner_attn_ln = Multiway(lambda: nn.LayerNorm(dim, eps=_NORM_EPS))

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        q, k, v = (
            torch.unflatten(project(x), 2, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        out: Tensor = self.out_proj(self.inner_attn_ln(read.transpose(1, 2).flatten(2)))
        return out


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.ffn_layernorm = nn.LayerNorm(hidden, eps=_NORM_EPS)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.ffn_layernorm(functional.gelu(self.fc1(x))))
        return out


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = _Attention(dim, heads)
        self.self_attn_layer_norm = Multiway(lambda: nn.LayerNorm(dim, eps=_NORM_EPS))
        self.ffn = Multiway(lambda: _FeedForward(dim, hidden))
        self.final_layer_norm = Multiway(lambda: nn.LayerNorm(dim, eps=_NORM_EPS))

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x), allowed)
        out: Tensor = x + self.ffn(self.final_layer_norm(x))
        return out


class _VisionEmbed(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))  # used only in training
        self.proj = nn.Conv2d(3, dim, kernel_size=PATCH_PX, stride=PATCH_PX)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.proj(pixels).flatten(2).mT
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)


class _Encoder(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embed_positions = nn.ModuleDict(
            {
                "A": nn.Embedding(1 + PATCHES + _FIRST_POSITION, dim),
                "B": nn.Embedding(MAX_TEXT_TOKENS + _FIRST_POSITION, dim),
            }
        )
        self.layers = nn.ModuleList(_Layer(dim, heads, hidden) for _ in range(layers))
        self.layer_norm = Multiway(lambda: nn.LayerNorm(dim, eps=_NORM_EPS))

    def forward(self, picture: Tensor, text: Tensor, real: Tensor) -> Tensor:
        """Return the (n, 1 + 196 + t, dim) tokens after all layers.

        Args:
            picture: (n, 1 + 196, dim) image tokens.
            text: (n, t, dim) text tokens.
            real: (n, t) bool, False for padding.
        """
        parts = []
        for branch, tokens in (("A", picture), ("B", text)):
            positions = torch.arange(tokens.shape[1], device=tokens.device) + _FIRST_POSITION
            parts.append(tokens + self.embed_positions[branch](positions))
        parts[1] = parts[1] * real[..., None].to(text.dtype)
        allowed = None
        if not bool(real.all()):
            everywhere = torch.ones((len(real), 1 + PATCHES), dtype=torch.bool, device=real.device)
            allowed = torch.cat([everywhere, real], dim=1)[:, None, None, :]
        x = torch.cat(parts, dim=1)
        for layer in self.layers:
            x = layer(x, allowed)
        out: Tensor = self.layer_norm(x)
        return out


class Beit3(nn.Module):
    """The encoder of BEiT-3 with sub-layer normalisation, as EVF-SAM uses it.

    Args:
        dim: Width of a token.
        heads: Number of attention heads.
        hidden: Width between the two layers of a feed-forward network.
        layers: Number of layers.
        vocabulary: Number of tokens in the text vocabulary.
    """

    def __init__(self, *, dim: int, heads: int, hidden: int, layers: int, vocabulary: int) -> None:
        super().__init__()
        self.text_embed = nn.Embedding(vocabulary, dim)
        self.vision_embed = _VisionEmbed(dim)
        self.encoder = _Encoder(dim, heads, hidden, layers)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], *, heads: int) -> "Beit3":
        """Return a model with the given weights, whose shapes determine its sizes.

        Args:
            state: The weights under their original names, without a prefix.
            heads: Number of attention heads, which the shapes do not determine.

        Raises:
            KeyError: If a weight that determines a size is missing.
            RuntimeError: If any other weight is missing, or a shape is wrong.
        """
        vocabulary, dim = state["text_embed.weight"].shape
        layers = {key.split(".")[2] for key in state if key.startswith("encoder.layers.")}
        hidden = state["encoder.layers.0.ffn.A.fc1.weight"].shape[0]
        with torch.device("meta"):
            model = cls(dim=dim, heads=heads, hidden=hidden, layers=len(layers), vocabulary=vocabulary)
        model.load_state_dict(dict(state), strict=True, assign=True)
        model.requires_grad_(requires_grad=False)
        model.train(mode=False)
        return model

    def forward(self, pixels: Tensor, token_ids: Tensor, real: Tensor) -> Tensor:
        """Return the (n, dim) [CLS] tokens, which encode image and text.

        Args:
            pixels: (n, 3, 224, 224), -1 to 1.
            token_ids: (n, t) int64, where t is at most ``MAX_TEXT_TOKENS``.
            real: (n, t) bool, False for padding.
        """
        tokens = self.encoder(self.vision_embed(pixels), self.text_embed(token_ids), real)
        cls_token: Tensor = tokens[:, 0]
        return cls_token
