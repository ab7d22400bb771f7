"""SAM 2's image encoder (Hiera and its feature pyramid), reduced to little more than matrix products.

It computes the function of Meta's ``ImageEncoder`` (sam2 2b90b9f, ``sam2/modeling/backbones``) up to rounding
(tests/backends/models/test_sam2_encoder.py), with rearranged algebra:

- Cells are stored window by window in memory from the first layer on. The windows of stage 2 are the pooled
  windows of stage 1, and the windows of stage 4 are the pooled windows of stage 3. Attention over the whole
  image does not depend on the order of cells. The layout therefore changes three times, instead of twice per
  block.
- The lateral 1x1 convolutions of the two fine levels and the decoder's projections behind them (``conv_s0``,
  ``conv_s1``) are merged into one linear map, so 256 channels at a quarter of the resolution are never
  written.

The sides of the input can be any multiples of 32 pixels. The position embedding is interpolated from 7x7, as
in the original. Multiples of 224 need no padding of windows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SIDE_STEP_PX = 32
"""Height and width of the input are multiples of this: a cell of the coarsest level covers 32x32 pixels."""

_CELL_PX = 4  # stride of the patch embedding
_NORM_EPS = 1e-6  # ``Hiera`` of sam2/modeling/backbones/hieradet.py

State = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class HieraShape:
    """Values of a Hiera trunk that the weights do not determine.

    Attributes:
        blocks: Number of blocks in each of the four stages.
        heads: Number of attention heads in each stage.
        windows: Side of the attention windows in each stage, in cells.
        global_blocks: Indices of the blocks, counted from 0 over all stages, that attend to the whole image.

    Raises:
        ValueError: If a block that pools attends to the whole image, or to windows of an odd side. No
            published model has such a block, and the cell layout does not support it.
    """

    blocks: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    windows: tuple[int, int, int, int]
    global_blocks: frozenset[int]

    def __post_init__(self) -> None:
        pooling = {sum(self.blocks[:stage]) for stage in (1, 2, 3)}
        if pooling & self.global_blocks or any(side % 2 for side in self.windows[:3]):
            raise ValueError(
                f"blocks that pool ({sorted(pooling)}) need windows of an even side, but those are "
                f"{self.windows[:3]} and {sorted(self.global_blocks)} have none"
            )


@dataclass(frozen=True, slots=True, eq=False)
class EncodedLevels:
    """Decoder inputs of n images; h and w are the sides of the input divided by 16.

    Attributes:
        embed: (n, 256, h, w) image embedding, including the no-memory embedding.
        high_res_4: (n, 32, 4h, 4w) projected features of the finest level.
        high_res_2: (n, 64, 2h, 2w) projected features of the second level.
    """

    embed: Tensor
    high_res_4: Tensor
    high_res_2: Tensor


@dataclass(frozen=True, slots=True)
class _Layout:
    """Layout of an h x w grid of cells in square windows; the last windows are padded."""

    height: int
    width: int
    window: int

    @property
    def rows(self) -> int:
        return -(-self.height // self.window)

    @property
    def columns(self) -> int:
        return -(-self.width // self.window)

    @property
    def is_padded(self) -> bool:
        return bool(self.height % self.window or self.width % self.window)

    def pooled(self) -> "_Layout":
        return _Layout(self.height // 2, self.width // 2, self.window // 2)

    def partition(self, x: Tensor) -> Tensor:
        """Return (n, h, w, c) as (n, windows, side^2, c)."""
        n, _, _, channels = x.shape
        side = self.window
        pad_h, pad_w = self.rows * side - self.height, self.columns * side - self.width
        if pad_h or pad_w:
            x = functional.pad(x, (0, 0, 0, pad_w, 0, pad_h))
        x = x.view(n, self.rows, side, self.columns, side, channels).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(n, self.rows * self.columns, side * side, channels)

    def join(self, x: Tensor) -> Tensor:
        """Return (n, windows, side^2, c) as (n, h, w, c)."""
        n, channels, side = x.shape[0], x.shape[-1], self.window
        x = x.view(n, self.rows, self.columns, side, side, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(n, self.rows * side, self.columns * side, channels)
        return x[:, : self.height, : self.width]

    def real_cells(self, device: torch.device) -> Tensor:
        """Return a (windows, side^2) bool tensor that is False for padding."""
        ones = torch.ones(1, self.height, self.width, 1, device=device, dtype=torch.bool)
        return self.partition(ones)[0, :, :, 0]


@dataclass(frozen=True, slots=True, eq=False)
class _Affine:
    weight: Tensor
    bias: Tensor

    def linear(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def norm(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, _NORM_EPS)


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    norm1: _Affine
    qkv: _Affine
    out: _Affine
    norm2: _Affine
    mlp_in: _Affine
    mlp_out: _Affine
    skip: _Affine | None
    heads: int
    window: int
    is_global: bool
    pools: bool


class Sam2Encoder:
    """Encodes images to features, for one model on one device.

    Args:
        state: The weights ``vision_encoder.*``, ``no_memory_embedding`` and ``mask_decoder.conv_s*`` under
            transformers' names; other weights are ignored.
        shape: Shape of the Hiera trunk.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: Data type of everything but the position embedding, which is interpolated in float32.

    Raises:
        KeyError: If a weight is missing.
    """

    def __init__(
        self, state: State, shape: HieraShape, *, device: str, dtype: torch.dtype = torch.float32
    ) -> None:
        self._device, self._dtype = torch.device(device), dtype

        def exact(name: str) -> Tensor:
            return state[name].detach().to(device=self._device, dtype=torch.float32)

        def affine(name: str) -> _Affine:
            weight, bias = exact(f"{name}.weight"), exact(f"{name}.bias")
            return _Affine(weight.to(dtype).contiguous(), bias.to(dtype))

        backbone, neck = "vision_encoder.backbone", "vision_encoder.neck.convs"
        self._patch = affine(f"{backbone}.patch_embed.projection")
        self._positions = exact(f"{backbone}.pos_embed")
        self._window_positions = exact(f"{backbone}.pos_embed_window")
        self._placed: dict[tuple[int, int], Tensor] = {}
        self._stages: list[list[_Block]] = []
        number = 0
        for stage, count in enumerate(shape.blocks):
            blocks = []
            for i in range(count):
                name, pools = f"{backbone}.blocks.{number}", stage > 0 and i == 0
                blocks.append(
                    _Block(
                        norm1=affine(f"{name}.layer_norm1"),
                        qkv=affine(f"{name}.attn.qkv"),
                        out=affine(f"{name}.attn.proj"),
                        norm2=affine(f"{name}.layer_norm2"),
                        mlp_in=affine(f"{name}.mlp.proj_in"),
                        mlp_out=affine(f"{name}.mlp.proj_out"),
                        skip=affine(f"{name}.proj") if pools else None,
                        heads=shape.heads[stage],
                        # the first block of a stage still has the windows of the previous stage
                        window=shape.windows[stage - 1 if pools else stage],
                        is_global=number in shape.global_blocks,
                        pools=pools,
                    )
                )
                number += 1
            self._stages.append(blocks)

        def lateral(i: int) -> tuple[Tensor, Tensor]:
            return exact(f"{neck}.{i}.weight").flatten(1), exact(f"{neck}.{i}.bias")

        def composed(i: int, projection: str) -> _Affine:
            (weight, bias) = lateral(i)
            outer = exact(f"mask_decoder.{projection}.weight").flatten(1)
            bias = outer @ bias + exact(f"mask_decoder.{projection}.bias")
            return _Affine((outer @ weight).to(dtype).contiguous(), bias.to(dtype))

        # the pyramid counts its levels from the coarsest
        (coarse, coarse_bias), (middle, middle_bias) = lateral(0), lateral(1)
        self._coarse = _Affine(coarse.to(dtype), coarse_bias.to(dtype))
        no_memory = exact("no_memory_embedding").flatten()
        self._middle = _Affine(middle.to(dtype), (middle_bias + no_memory).to(dtype))
        self._fine_2, self._fine_4 = composed(2, "conv_s1"), composed(3, "conv_s0")

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> EncodedLevels:
        """Return the features of (n, 3, H, W) normalised images.

        Raises:
            ValueError: If a side is not a multiple of ``SIDE_STEP_PX``.
        """
        height, width = pixels.shape[2:]
        if height % SIDE_STEP_PX or width % SIDE_STEP_PX:
            raise ValueError(f"the sides must be multiples of {SIDE_STEP_PX} px, but are {width}x{height}")
        pixels = pixels.to(device=self._device, dtype=self._dtype)
        x = functional.conv2d(pixels, self._patch.weight, self._patch.bias, stride=_CELL_PX, padding=3)
        x = x.permute(0, 2, 3, 1) + self._position_embedding((height // _CELL_PX, width // _CELL_PX))
        layout = _Layout(height // _CELL_PX, width // _CELL_PX, self._stages[0][0].window)
        x = layout.partition(x)
        levels = []
        for blocks in self._stages:
            for block in blocks:
                if block.window != layout.window:
                    wanted = _Layout(layout.height, layout.width, block.window)
                    x, layout = wanted.partition(layout.join(x)), wanted
                x = _run_block(block, x, layout)
                layout = layout.pooled() if block.pools else layout
            levels.append((x, layout))
        return self._pyramid(levels)

    def _pyramid(self, levels: list[tuple[Tensor, _Layout]]) -> EncodedLevels:
        (fine_4, layout_4), (fine_2, layout_2), (middle, layout_1), (coarse, layout_half) = levels
        above = layout_half.join(self._coarse.linear(coarse)).permute(0, 3, 1, 2)
        embed = layout_1.join(self._middle.linear(middle)).permute(0, 3, 1, 2)
        return EncodedLevels(
            embed=embed + functional.interpolate(above, scale_factor=2.0, mode="nearest"),
            high_res_4=layout_4.join(self._fine_4.linear(fine_4)).permute(0, 3, 1, 2),
            high_res_2=layout_2.join(self._fine_2.linear(fine_2)).permute(0, 3, 1, 2),
        )

    def _position_embedding(self, size_hw: tuple[int, int]) -> Tensor:
        """Return the (1, h, w, c) position embedding: interpolated global part plus tiled window part."""
        if size_hw not in self._placed:
            whole = functional.interpolate(self._positions, size=size_hw, mode="bicubic")
            side = self._window_positions.shape[-1]
            whole = whole + self._window_positions.tile(1, 1, size_hw[0] // side, size_hw[1] // side)
            self._placed[size_hw] = whole.permute(0, 2, 3, 1).to(self._dtype).contiguous()
        return self._placed[size_hw]


def _run_block(block: _Block, x: Tensor, layout: _Layout) -> Tensor:
    """Return (n, windows, side'^2, c') for (n, windows, side^2, c); side' is side / 2 if the block pools."""
    real = layout.real_cells(x.device) if layout.is_padded else None
    normed = block.norm1.norm(x)
    if real is not None:  # Meta pads after the norm: padding is zero before each projection
        normed = normed * real[..., None].to(normed.dtype)
    if block.skip is not None:
        x = _pool(block.skip.linear(normed), layout.window)
    if not block.is_global:
        attended = _attend(block, normed, layout.window)
    elif real is None:
        attended = _attend(block, normed.flatten(1, 2)[:, None], layout.window).view_as(x)
    else:
        # not with a boolean mask: its output length depends on data, so CUDA waits and torch.compile stops
        cells = layout.join(normed)
        attended = _attend(block, cells.flatten(1, 2)[:, None], layout.window).view_as(cells)
        attended = layout.partition(attended)
    x = x + block.out.linear(attended)
    return x + block.mlp_out.linear(functional.gelu(block.mlp_in.linear(block.norm2.norm(x))))


def _attend(block: _Block, cells: Tensor, window: int) -> Tensor:
    """Return the attention of (n, groups, cells, c) within each group, before the output projection."""
    n, groups = cells.shape[:2]
    queries, keys, values = block.qkv.linear(cells).chunk(3, dim=-1)
    if block.pools:
        queries = _pool(queries, window)

    def split(part: Tensor) -> Tensor:
        return torch.unflatten(part.flatten(0, 1), -1, (block.heads, -1)).transpose(1, 2)

    mixed = functional.scaled_dot_product_attention(split(queries), split(keys), split(values))
    return torch.unflatten(mixed.transpose(1, 2).flatten(2), 0, (n, groups))


def _pool(cells: Tensor, window: int) -> Tensor:
    """Return the maxima over 2x2 cells of (n, windows, window^2, c)."""
    half = window // 2
    blocks = torch.unflatten(cells, 2, (half, 2, half, 2))
    # pair by pair: ``amax`` over two axes is several times slower on a CPU
    columns = torch.maximum(blocks[:, :, :, :, :, 0], blocks[:, :, :, :, :, 1])
    return torch.maximum(columns[:, :, :, 0], columns[:, :, :, 1]).flatten(2, 3)
