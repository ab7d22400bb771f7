"""SAM 2's prompt encoder and mask decoder, rewritten so that many prompts on one image are cheap.

It computes the function of Meta's ``MaskDecoder`` (sam2 2b90b9f, ``sam2/modeling/sam/mask_decoder.py``) up to
rounding (tests/backends/models/test_sam2_decoder.py), with rearranged algebra:

- Values that depend only on the image are computed once for all prompts: keys, values and queries of the
  first layer.
- Projections of the 4,096 image cells are moved to the few tokens: ``(X Wk) q = X (Wk q)``, and
  ``A (X Wv) = (A X) Wv``. No projected copy of the image is ever written.
- A transposed convolution of 2x2 with stride 2 is a linear map of each cell, channels last.

On two cores, a prompt takes a quarter of the CPU time of the stock decoder in torch and two fifths of its
time in onnxruntime (tests/benchmarks/results/decoder.md).
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segdex_backends.models.sam2.preprocess import (
    LOGIT_LIMIT,
    MASKS_PER_PROMPT,
    FramedPrompts,
    frame_prompts,
)
from segdex_core.geometry import MaskBoxXYXY
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_core.ports.segmenter import FRAME_PX

CELL_PX = 4
"""Side of a cell of the image embedding in pixels of the low-resolution masks."""

FRAME_CELL_PX = 16
"""Side of a cell of the image embedding in pixels of the frame."""

_FULL_CELLS = (FRAME_PX // FRAME_CELL_PX) ** 2
_MASK_TOKENS = 4
_NORM_EPS = 1e-5  # torch's default, which the transformer uses
_NORM_2D_EPS = 1e-6  # ``LayerNorm2d`` of sam2/modeling/sam2_utils.py

# Dynamic multimask via stability: values of the published models, sam2/build_sam.py.
_DYNAMIC_STABILITY_OFFSET = 0.05
_DYNAMIC_STABILITY_FLOOR = 0.98

State = Mapping[str, Tensor]


def cells_of(box: MaskBoxXYXY, side_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the edges (x1, y1, x2, y2) of a part of an image in cells.

    Args:
        box: Box of the part in mask pixels; edges are multiples of 4 (whole cells).
        side_hw: Height and width of the image in cells.

    Raises:
        ValueError: If the edges of ``box`` are not multiples of 4 or lie outside the image.

    Example:
        >>> cells_of(MaskBoxXYXY(8, 0, 16, 4), (64, 64))
        (2, 0, 4, 1)
    """
    x1, y1, x2, y2 = (int(edge) // CELL_PX for edge in box)
    if (x1 * CELL_PX, y1 * CELL_PX, x2 * CELL_PX, y2 * CELL_PX) != tuple(box):
        raise ValueError(f"a part of the picture is made of whole cells of {CELL_PX} px, but got {box}")
    height, width = side_hw
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise ValueError(f"{box} does not lie in {width * CELL_PX}x{height * CELL_PX}")
    return x1, y1, x2, y2


def hash_mask_tokens(tokens: Tensor) -> str:
    """Return the id of the training run of a decoder, of its learned mask tokens (4, 256).

    Returns:
        The first 16 hexadecimal digits of their SHA-256 in float32; independent of device and precision.
    """
    return hashlib.sha256(tokens.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class DecoderImage:
    """Decoder inputs of one image, shared by all its prompts: about 26 MiB in float32 at 1024 px.

    Attributes:
        whole_side: Side of the whole image in cells, 64 for a frame of 1024 px.
        side_hw: Height and width in cells: of the whole image, or smaller after ``narrow``. c is height times
            width.
        cells: (c,) int64 indices of the cells in the whole image, row by row.
        embed: (c, 256) image embedding of the cells, without the dense prompt.
        positions: (c, 256) position features of the cells.
        high_res_2: (c, 4, 64) features of the 2x2 pixels of each cell, bias of the upscaling layer included.
        high_res_4: (c, 4, 4, 32) features of the 4x4 pixels of each cell, bias of the upscaling layer
            included.
        unmasked: Image side of layer 0 for prompts without a mask.
    """

    whole_side: int
    side_hw: tuple[int, int]
    cells: Tensor
    embed: Tensor
    positions: Tensor
    high_res_2: Tensor
    high_res_4: Tensor
    unmasked: "_FirstLayer"

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes, without the positions, which all images of a frame size share."""
        first = (self.unmasked.cells, self.unmasked.keys, self.unmasked.values, self.unmasked.queries)
        return sum(tensor.nbytes for tensor in (self.embed, self.high_res_2, self.high_res_4, *first))

    def prompts_per_batch(self, whole: int) -> int:
        """Return the number of prompts that cost as much as ``whole`` prompts of an image at 1024 px."""
        return max(whole * _FULL_CELLS // len(self.cells), 1)

    def narrow(self, box: MaskBoxXYXY) -> "DecoderImage":
        """Return a part of the image, to decode masks of this part only.

        Args:
            box: Box of the part in mask pixels; edges are multiples of 4 (whole cells).

        Raises:
            ValueError: If the edges of ``box`` are not multiples of 4 or lie outside the image.
        """
        x1, y1, x2, y2 = cells_of(box, self.side_hw)
        rows = torch.arange(y1, y2, device=self.cells.device)[:, None] * self.side_hw[1]
        part = (rows + torch.arange(x1, x2, device=self.cells.device)).flatten()
        return DecoderImage(
            whole_side=self.whole_side,
            side_hw=(y2 - y1, x2 - x1),
            cells=self.cells[part],
            embed=self.embed[part],
            positions=self.positions[part],
            high_res_2=self.high_res_2[part],
            high_res_4=self.high_res_4[part],
            unmasked=_FirstLayer(
                cells=self.unmasked.cells[:, part],
                keys=self.unmasked.keys[..., part].contiguous(),
                values=self.unmasked.values[:, :, part].contiguous(),
                queries=self.unmasked.queries[..., part].contiguous(),
            ),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _FirstLayer:
    """The image side of layer 0. b is 1 if all prompts share it, or the number of prompts.

    Attributes:
        cells: (b, c, 256) image embedding with the dense prompt.
        keys: (b, heads, d, c) attention keys.
        values: (b, heads, c, d) attention values.
        queries: (b, heads, d, c) attention queries, scaled.
    """

    cells: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True, eq=False)
class _Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True, slots=True, eq=False)
class _Mlp:
    layers: tuple[_Linear, ...]

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        return self.layers[-1](x)


@dataclass(frozen=True, slots=True, eq=False)
class _Attention:
    q: _Linear
    k: _Linear
    v: _Linear
    o: _Linear
    heads: int

    @property
    def scale(self) -> float:
        return 1 / math.sqrt(self.q.weight.shape[0] / self.heads)

    def split(self, projected: Tensor) -> Tensor:
        """Return (n, t, heads * d) as (n, heads, t, d)."""
        return torch.unflatten(projected, -1, (self.heads, -1)).transpose(1, 2)

    def among_tokens(self, queries: Tensor, values: Tensor) -> Tensor:
        """Return the self-attention of (n, t, 256) tokens; the keys are projected from ``queries``."""
        mixed = functional.scaled_dot_product_attention(
            self.split(self.q(queries)), self.split(self.k(queries)), self.split(self.v(values))
        )
        return self.o(mixed.transpose(1, 2).flatten(2))

    def tokens_to_image(self, tokens: Tensor, cells: Tensor, placed_cells: Tensor) -> Tensor:
        """Return the attention of (n, t, 256) tokens to (n, c, 256) cells.

        The bias of the keys adds a constant to all scores of a token, which the softmax cancels. The bias of
        the values is added at the end, because attention sums to one.
        """
        queries = self.split(self.q(tokens) * self.scale)
        absorbed = queries @ torch.unflatten(self.k.weight, 0, (self.heads, -1))
        attention = torch.bmm(absorbed.flatten(1, 2), placed_cells.mT).softmax(-1)
        read = torch.unflatten(torch.bmm(attention, cells), 1, (self.heads, -1))
        values = read @ torch.unflatten(self.v.weight, 0, (self.heads, -1)).mT
        return self.o(values.transpose(1, 2).flatten(2) + self.v.bias)

    def image_to_tokens_scores(self, tokens: Tensor, placed_cells: Tensor) -> Tensor:
        """Return the (n, heads, t, c) scores of cells as queries against (n, t, 256) tokens as keys."""
        keys = self.split(self.k(tokens) * self.scale)
        absorbed = keys @ torch.unflatten(self.q.weight, 0, (self.heads, -1))
        constant = keys @ torch.unflatten(self.q.bias, 0, (self.heads, -1, 1))
        scores = torch.baddbmm(constant.flatten(1, 2), absorbed.flatten(1, 2), placed_cells.mT)
        return torch.unflatten(scores, 1, (self.heads, -1))

    def image_to_tokens(self, scores: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attention of the cells as two factors, (n, c, heads * t) and (n, heads * t, 256)."""
        attention = scores.softmax(2).flatten(1, 2).mT
        values = self.split(self.v(tokens))
        absorbed = values @ torch.unflatten(self.o.weight, 1, (self.heads, -1)).permute(1, 2, 0)
        absorbed[:, 0] += self.o.bias  # added to one head, whose attention sums to one over the tokens
        return attention, absorbed.flatten(1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    self_attention: _Attention
    to_image: _Attention
    from_image: _Attention
    mlp: _Mlp
    norms: tuple[_Norm, _Norm, _Norm, _Norm]


class Sam2Decoder:
    """Decodes masks from prompts, for one model on one device.

    Args:
        state: The weights ``prompt_encoder.*`` and ``mask_decoder.*`` under transformers' names
            (``checkpoint.rename_meta_state``); other weights are ignored.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        heads: Number of attention heads; 8 in all published models.
        dtype: Data type of the transformer and the upscaling. Points are always embedded in float32, because
            half precision would move them by several pixels.

    Attributes:
        decoder_id: Id of the training run; see ``hash_mask_tokens``.

    Raises:
        KeyError: If a weight is missing.
    """

    decoder_id: str

    def __init__(
        self, state: State, *, device: str, heads: int = 8, dtype: torch.dtype = torch.float32
    ) -> None:
        self._device, self._dtype = torch.device(device), dtype

        def load(name: str, kind: torch.dtype = dtype) -> Tensor:
            return state[name].detach().to(device=self._device, dtype=kind)

        def linear(name: str) -> _Linear:
            return _Linear(load(f"{name}.weight"), load(f"{name}.bias"))

        def norm(name: str, eps: float = _NORM_EPS) -> _Norm:
            return _Norm(load(f"{name}.weight"), load(f"{name}.bias"), eps)

        def attention(name: str) -> _Attention:
            q, k, v, o = (linear(f"{name}.{part}_proj") for part in "qkvo")
            return _Attention(q, k, v, o, heads)

        def mlp(name: str) -> _Mlp:
            return _Mlp(tuple(linear(f"{name}.{part}") for part in ("proj_in", "layers.0", "proj_out")))

        self.decoder_id = hash_mask_tokens(state["mask_decoder.mask_tokens.weight"])
        prompts, decoder, layers = "prompt_encoder", "mask_decoder", "mask_decoder.transformer.layers"
        self._fourier = load("shared_image_embedding.positional_embedding", torch.float32)
        self._labels = load(f"{prompts}.point_embed.weight", torch.float32)
        self._padding = load(f"{prompts}.not_a_point_embed.weight", torch.float32)
        self._no_mask = load(f"{prompts}.no_mask_embed.weight")
        self._mask_convs = [linear(f"{prompts}.mask_embed.conv{i}") for i in (1, 2, 3)]
        self._mask_norms = [norm(f"{prompts}.mask_embed.layer_norm{i}", _NORM_2D_EPS) for i in (1, 2)]
        self._tokens = torch.cat(
            [load(f"{decoder}.{name}.weight") for name in ("obj_score_token", "iou_token", "mask_tokens")]
        )
        self._layers = [
            _Layer(
                self_attention=attention(f"{layers}.{i}.self_attn"),
                to_image=attention(f"{layers}.{i}.cross_attn_token_to_image"),
                from_image=attention(f"{layers}.{i}.cross_attn_image_to_token"),
                mlp=_Mlp((linear(f"{layers}.{i}.mlp.proj_in"), linear(f"{layers}.{i}.mlp.proj_out"))),
                norms=(
                    norm(f"{layers}.{i}.layer_norm1"),
                    norm(f"{layers}.{i}.layer_norm2"),
                    norm(f"{layers}.{i}.layer_norm3"),
                    norm(f"{layers}.{i}.layer_norm4"),
                ),
            )
            for i in (0, 1)
        ]
        self._final = attention("mask_decoder.transformer.final_attn_token_to_image")
        self._final_norm = norm("mask_decoder.transformer.layer_norm_final_attn")
        self._hypernetworks = [mlp(f"{decoder}.output_hypernetworks_mlps.{i}") for i in range(_MASK_TOKENS)]
        self._iou_head = mlp(f"{decoder}.iou_prediction_head")
        # (in, out, 2, 2) to (in, 4 out): the pixels of a cell row by row, channels last
        conv1, conv2 = linear(f"{decoder}.upscale_conv1"), linear(f"{decoder}.upscale_conv2")
        self._up1, self._up2 = (
            _Linear(conv.weight.permute(0, 2, 3, 1).flatten(1).contiguous(), conv.bias)
            for conv in (conv1, conv2)
        )
        self._up_norm = norm(f"{decoder}.upscale_layer_norm", _NORM_2D_EPS)
        self._positions: dict[tuple[int, int], Tensor] = {}

    @torch.inference_mode()
    def prepare(self, embed: Tensor, high_res_4: Tensor, high_res_2: Tensor) -> DecoderImage:
        """Return the decoder inputs that all prompts on an image share.

        Args:
            embed: (256, s, s) image embedding; s is 64 for a frame of 1024 px.
            high_res_4: (32, 4s, 4s) projected features of the finest level (``conv_s0``).
            high_res_2: (64, 2s, 2s) projected features of the second level (``conv_s1``).
        """
        embed, high_res_4, high_res_2 = (
            tensor.to(device=self._device, dtype=self._dtype) for tensor in (embed, high_res_4, high_res_2)
        )
        height, width = embed.shape[1:]
        count = height * width
        cells = embed.flatten(1).T.contiguous()
        two = torch.unflatten(torch.unflatten(high_res_2, 2, (width, 2)), 1, (height, 2))
        four = torch.unflatten(torch.unflatten(high_res_4, 2, (width, 2, 2)), 1, (height, 2, 2))
        everywhere = torch.arange(count, device=self._device)
        positions = self._cell_positions((height, width))
        return DecoderImage(
            whole_side=width,
            side_hw=(height, width),
            cells=everywhere,
            embed=cells,
            positions=positions,
            # channel, y, y2, x, x2 to y, x, y2, x2, channel
            high_res_2=two.permute(1, 3, 2, 4, 0).reshape(count, 4, -1) + self._up1.bias,
            # channel, y, y2, y4, x, x2, x4 to y, x, y2, x2, y4, x4, channel
            high_res_4=four.permute(1, 4, 2, 5, 3, 6, 0).reshape(count, 4, 4, -1) + self._up2.bias,
            unmasked=self._first_layer((cells + self._no_mask)[None], positions),
        )

    def dump(self, image: DecoderImage) -> dict[str, Tensor]:
        """Return the decoder inputs of a whole image that ``restore`` cannot recompute."""
        if image.side_hw != (image.whole_side, image.whole_side):
            raise ValueError("only a whole picture can be kept, not a part of it")
        return {
            "embed": image.embed.cpu(),
            "high_res_2": image.high_res_2.cpu(),
            "high_res_4": image.high_res_4.cpu(),
        }

    @torch.inference_mode()
    def restore(self, kept: State) -> DecoderImage:
        """Return the decoder inputs from the output of ``dump``.

        Raises:
            KeyError: If a tensor is missing.
        """
        embed, high_res_2, high_res_4 = (
            kept[name].to(device=self._device, dtype=self._dtype)
            for name in ("embed", "high_res_2", "high_res_4")
        )
        side = math.isqrt(len(embed))
        positions = self._cell_positions((side, side))
        return DecoderImage(
            whole_side=side,
            side_hw=(side, side),
            cells=torch.arange(len(embed), device=self._device),
            embed=embed,
            positions=positions,
            high_res_2=high_res_2,
            high_res_4=high_res_4,
            unmasked=self._first_layer((embed + self._no_mask)[None], positions),
        )

    def _cell_positions(self, side_hw: tuple[int, int]) -> Tensor:
        """Return the (c, 256) position features of the centres of all cells."""
        if side_hw not in self._positions:
            y, x = ((torch.arange(n, device=self._device, dtype=torch.float32) + 0.5) / n for n in side_hw)
            grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).flatten(0, 1)
            self._positions[side_hw] = self._fourier_features(grid).to(self._dtype)
        return self._positions[side_hw]

    def decode(
        self, image: DecoderImage, prompts: Prompts, size_hw: tuple[int, int], *, multimask: bool
    ) -> DecodedMasks:
        """Return the masks of a batch of prompts.

        Args:
            image: Decoder inputs of the image.
            prompts: Prompts in pixels of the image.
            size_hw: Height and width of the image in pixels.
            multimask: Whether to return three masks per prompt. If False, return one: the single mask, or the
                best of the three if the single mask is not stable.

        Raises:
            ValueError: If a prompt has no point, or a mask prompt differs in size from the masks of the
                image.
        """
        n, m = len(prompts), MASKS_PER_PROMPT if multimask else 1
        height, width = (side * CELL_PX for side in image.side_hw)
        decoded = DecodedMasks(
            logits=np.empty((n, m, height, width), np.float32),
            predicted_iou=np.empty((n, m), np.float32),
            tokens=np.empty((n, m, 2 * self._tokens.shape[1]), np.float32),
        )
        for group in frame_prompts(prompts, size_hw):
            logits, predicted_iou, tokens = self._decode(image, group, multimask=multimask)
            decoded.logits[group.rows] = logits.cpu().numpy()
            decoded.predicted_iou[group.rows] = predicted_iou.cpu().numpy()
            decoded.tokens[group.rows] = tokens.cpu().numpy()
        return decoded

    def decode_tokens(self, image: DecoderImage, prompts: Tensor, *, multimask: bool) -> DecodedMasks:
        """Return the masks for (n, p, 256) raw sparse prompt tokens.

        SAM's padding point is not added, because a model that makes its own tokens was trained without it.
        """
        made = self._masks(image, image.unmasked, prompts.to(self._device, self._dtype), multimask=multimask)
        logits, predicted_iou, tokens = (values.cpu().numpy() for values in made)
        return DecodedMasks(logits=logits, predicted_iou=predicted_iou, tokens=tokens)

    @torch.inference_mode()
    def _decode(
        self, image: DecoderImage, group: FramedPrompts, *, multimask: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the result of ``_masks`` for points and mask prompts."""
        points_xy, labels = (
            torch.from_numpy(values).to(self._device) for values in (group.points_xy, group.labels)
        )
        mask_logits = None if group.mask_logits is None else torch.from_numpy(group.mask_logits)
        pixel = 1 / (image.whole_side * FRAME_CELL_PX)
        points = self._embed_points(points_xy + pixel / 2, labels).to(self._dtype)
        first = image.unmasked
        if mask_logits is not None:
            side = image.whole_side * CELL_PX
            if mask_logits.shape[-1] != side:
                raise ValueError(f"a mask prompt here is {side}x{side}, but got {tuple(mask_logits.shape)}")
            dense = self._embed_masks(mask_logits.to(self._device))[:, image.cells]
            first = self._first_layer(image.embed + dense, image.positions)
        return self._masks(image, first, points, multimask=multimask)

    @torch.inference_mode()
    def _masks(
        self, image: DecoderImage, first: _FirstLayer, prompts: Tensor, *, multimask: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (n, m, h, w) clamped logits, (n, m) predicted IoU and (n, m, t) tokens, all float32.

        Args:
            image: Decoder inputs of the image.
            first: Image side of layer 0, with the dense prompt.
            prompts: (n, p, 256) sparse prompt tokens.
            multimask: See ``decode``.
        """
        tokens, cells = self._transform(first, prompts, image.positions)
        iou_token, mask_tokens = tokens[:, 1:2], tokens[:, 2 : 2 + _MASK_TOKENS]
        predicted_iou = torch.sigmoid(self._iou_head(iou_token[:, 0]).float())
        filters = torch.stack([mlp(mask_tokens[:, i]) for i, mlp in enumerate(self._hypernetworks)], dim=1)
        first_mask = 1 if multimask else 0
        logits = self._upscale(image, cells, filters[:, first_mask:].contiguous()).float()
        predicted_iou, mask_tokens = predicted_iou[:, first_mask:], mask_tokens[:, first_mask:]
        if not multimask:
            rows, chosen = torch.arange(len(logits), device=self._device), _single_mask(logits, predicted_iou)
            logits, predicted_iou, mask_tokens = (
                values[rows, chosen][:, None] for values in (logits, predicted_iou, mask_tokens)
            )
        both = torch.cat([mask_tokens, iou_token.expand(-1, mask_tokens.shape[1], -1)], dim=2)
        return logits.clamp_(-LOGIT_LIMIT, LOGIT_LIMIT), predicted_iou, both.float()

    def _embed_points(self, unit_xy: Tensor, labels: Tensor) -> Tensor:
        """Return (n, p + 1, 256) tokens; the last is SAM's padding point."""
        features = self._fourier_features(unit_xy)
        padding = self._padding.expand(len(labels), 1, -1)
        return torch.cat([features + self._labels[labels], padding], dim=1)

    def _fourier_features(self, unit_xy: Tensor) -> Tensor:
        """Return (..., 256) random Fourier features of (..., 2) positions in 0..1 (Tancik et al. 2020)."""
        angles = 2 * math.pi * ((2 * unit_xy - 1) @ self._fourier)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def _embed_masks(self, mask_logits: Tensor) -> Tensor:
        """Return the (n, s^2, 256) dense prompts of (n, 4s, 4s) mask logits."""
        x = mask_logits[:, None].to(self._dtype)
        for conv, norm in zip(self._mask_convs[:2], self._mask_norms, strict=True):
            x = functional.conv2d(x, conv.weight, conv.bias, stride=2)
            x = functional.gelu(norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        last = self._mask_convs[2]
        return functional.conv2d(x, last.weight, last.bias).flatten(2).mT

    def _first_layer(self, cells: Tensor, positions: Tensor) -> _FirstLayer:
        """Return the image side of layer 0 for (b, c, 256) cells."""
        to_image, from_image = self._layers[0].to_image, self._layers[0].from_image
        placed = cells + positions
        return _FirstLayer(
            cells=cells,
            keys=to_image.split(to_image.k(placed)).mT.contiguous(),
            values=to_image.split(to_image.v(cells)).contiguous(),
            queries=from_image.split(from_image.q(placed) * from_image.scale).mT.contiguous(),
        )

    def _transform(self, first: _FirstLayer, prompts: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return (n, 6 + p, 256) tokens and (n, c, 256) cells after the two-way transformer."""
        n = len(prompts)
        start = torch.cat([self._tokens.expand(n, -1, -1), prompts], dim=1)

        layer = self._layers[0]
        tokens = layer.norms[0](layer.self_attention.among_tokens(start, start))
        queries = layer.to_image.split(layer.to_image.q(tokens + start) * layer.to_image.scale)
        attention = _per_head(queries, first.keys).softmax(-1)
        read = _per_head(attention, first.values).transpose(1, 2).flatten(2)
        tokens = layer.norms[1](tokens + layer.to_image.o(read))
        tokens = layer.norms[2](tokens + layer.mlp(tokens))
        scores = _per_head(layer.from_image.split(layer.from_image.k(tokens + start)), first.queries)
        cells = torch.baddbmm(
            first.cells.expand(n, -1, -1), *layer.from_image.image_to_tokens(scores, tokens)
        )
        cells = layer.norms[3](cells)

        layer = self._layers[1]
        placed = cells + positions
        tokens = layer.norms[0](tokens + layer.self_attention.among_tokens(tokens + start, tokens))
        tokens = layer.norms[1](tokens + layer.to_image.tokens_to_image(tokens + start, cells, placed))
        tokens = layer.norms[2](tokens + layer.mlp(tokens))
        scores = layer.from_image.image_to_tokens_scores(tokens + start, placed)
        cells.baddbmm_(*layer.from_image.image_to_tokens(scores, tokens))
        cells = layer.norms[3](cells)

        torch.add(cells, positions, out=placed)
        tokens = self._final_norm(tokens + self._final.tokens_to_image(tokens + start, cells, placed))
        return tokens, cells

    def _upscale(self, image: DecoderImage, cells: Tensor, filters: Tensor) -> Tensor:
        """Return the (n, m, h, w) logits for (n, c, 256) cells and (n, m, 32) filters."""
        x = torch.unflatten(cells @ self._up1.weight, -1, (4, -1)).add_(image.high_res_2)
        x = functional.gelu(self._up_norm(x))
        x = torch.unflatten(x @ self._up2.weight, -1, (4, -1)).add_(image.high_res_4)
        logits = torch.bmm(filters, functional.gelu(x).flatten(1, 3).mT)
        height, width = image.side_hw
        pixels = torch.unflatten(logits, 2, (height, width, 2, 2, 2, 2))  # n, m, y, x, y2, x2, y4, x4
        pixels = pixels.permute(0, 1, 2, 4, 6, 3, 5, 7)
        return pixels.reshape(*filters.shape[:2], height * CELL_PX, width * CELL_PX)


def _per_head(tokens: Tensor, image: Tensor) -> Tensor:
    """Return the products (n, heads, t, e) of (n, heads, t, d) and (b, heads, d, e), where b is 1 or n."""
    if len(image) > 1:
        return tokens @ image
    # one product for all prompts, instead of one copy of the image for each
    merged = torch.bmm(tokens.transpose(0, 1).flatten(1, 2), image[0])
    return torch.unflatten(merged, 1, (len(tokens), -1)).transpose(0, 1)


def _single_mask(logits: Tensor, predicted_iou: Tensor) -> Tensor:
    """Return the (n,) mask indices to use: the first, or the best of the others if the first is not stable.

    This is ``_dynamic_multimask_via_stability`` of Meta's ``MaskDecoder``.
    """
    inner = (logits[:, 0] > _DYNAMIC_STABILITY_OFFSET).sum((1, 2))
    outer = (logits[:, 0] > -_DYNAMIC_STABILITY_OFFSET).sum((1, 2))
    stability = torch.where(outer > 0, inner / outer.clamp(min=1), 1.0)
    best = 1 + predicted_iou[:, 1:].argmax(1)
    return torch.where(stability >= _DYNAMIC_STABILITY_FLOOR, torch.zeros_like(best), best)
