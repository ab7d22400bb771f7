"""Our image encoder against the stock one of transformers, on random weights and on the real ones."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from tests.backends.models.tiny_sam2 import tiny_sam2
from tests.needs import photo
from tests.real_models import sam2_folder
from transformers import Sam2Model

from segdex_backends.models.sam2.checkpoint import load_folder
from segdex_backends.models.sam2.encoder import EncodedLevels, HieraShape, Sam2Encoder
from segdex_backends.models.sam2.preprocess import preprocess

RELATIVE = 1e-4
"""Of the largest value of a level."""

# Global blocks in the middle and at the end of the third stage, after each other, and in the last.
SHAPES = {
    "tiny": HieraShape((1, 2, 5, 2), (1, 2, 4, 8), (8, 4, 14, 7), frozenset({4, 6, 7})),
    "large": HieraShape((2, 1, 3, 2), (2, 4, 8, 16), (8, 4, 16, 8), frozenset({4, 5, 7})),
    "windows alone": HieraShape((1, 1, 1, 1), (1, 1, 1, 1), (8, 4, 14, 7), frozenset()),
}

# With windows of 8, 4, 14 and 7 cells only 224 and 448 fill all of them.
SIZES_HW = ((224, 224), (256, 256), (320, 320), (448, 448), (288, 288), (32, 32), (224, 320))


@cache
def model_of(name: str) -> tuple[Sam2Model, Sam2Encoder]:
    shape = SHAPES[name]
    stock = tiny_sam2(
        blocks=shape.blocks,
        heads=shape.heads,
        windows=shape.windows,
        global_blocks=sorted(shape.global_blocks),
    )
    return stock, Sam2Encoder(stock.state_dict(), shape, device="cpu")


def noise(size_hw: tuple[int, int], *, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, *size_hw, generator=torch.Generator().manual_seed(size_hw[1]))


@torch.inference_mode()
def stock_levels(model: Sam2Model, pixels: torch.Tensor) -> EncodedLevels:
    """As ``Sam2Model.get_image_embeddings``, which knows no other size than 1024."""
    fine, middle, embed = model.vision_encoder(pixels).fpn_hidden_states
    return EncodedLevels(
        embed=embed + model.no_memory_embedding.view(1, -1, 1, 1),
        high_res_4=model.mask_decoder.conv_s0(fine),
        high_res_2=model.mask_decoder.conv_s1(middle),
    )


def assert_close(ours: EncodedLevels, expected: EncodedLevels, *, relative: float = RELATIVE) -> None:
    for level in ("embed", "high_res_4", "high_res_2"):
        found, wanted = getattr(ours, level), getattr(expected, level)
        assert found.shape == wanted.shape, level
        assert wanted.abs().max() > 0.1, level
        assert (found.float() - wanted).abs().max() <= relative * wanted.abs().max(), level


@pytest.mark.parametrize("size_hw", SIZES_HW, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("name", SHAPES)
def test_it_is_the_stock_encoder(name: str, size_hw: tuple[int, int]) -> None:
    stock, ours = model_of(name)
    pixels = noise(size_hw)

    assert_close(ours.encode(pixels), stock_levels(stock, pixels))


@pytest.mark.parametrize("size_hw", [(224, 224), (256, 256)])
def test_pictures_together_are_as_one_by_one(size_hw: tuple[int, int]) -> None:
    _, ours = model_of("tiny")
    pixels = noise(size_hw, count=2)

    together = ours.encode(pixels)

    for i in range(2):
        alone = ours.encode(pixels[i : i + 1])
        assert_close(_nth(together, i), alone, relative=1e-5)


def test_a_size_does_not_disturb_the_next() -> None:
    stock, _ = model_of("tiny")
    ours = Sam2Encoder(stock.state_dict(), SHAPES["tiny"], device="cpu")
    before, after = noise((256, 256)), noise((256, 256), count=2)[1:]

    for pixels in (before, noise((320, 320)), noise((320, 224)), after):
        assert_close(ours.encode(pixels), stock_levels(stock, pixels))


def test_bf16_is_about_fp32() -> None:
    stock, _ = model_of("tiny")
    half = Sam2Encoder(stock.state_dict(), SHAPES["tiny"], device="cpu", dtype=torch.bfloat16)
    pixels = noise((256, 256))

    levels = half.encode(pixels)

    assert {levels.embed.dtype, levels.high_res_4.dtype, levels.high_res_2.dtype} == {torch.bfloat16}
    assert_close(levels, stock_levels(stock, pixels), relative=0.05)


@pytest.mark.parametrize("size_hw", [(100, 100), (224, 240), (1000, 1024)])
def test_a_side_that_is_no_multiple_of_32_is_refused(size_hw: tuple[int, int]) -> None:
    _, ours = model_of("tiny")

    with pytest.raises(ValueError, match=rf"multiples of 32 px, but are {size_hw[1]}x{size_hw[0]}"):
        ours.encode(noise(size_hw))


@pytest.mark.parametrize(("windows", "global_block"), [((8, 4, 14, 7), 3), ((8, 4, 7, 7), 5)])
def test_a_trunk_that_pools_over_more_than_even_windows_is_refused(
    windows: tuple[int, int, int, int], global_block: int
) -> None:
    with pytest.raises(ValueError, match="even side"):
        HieraShape((1, 2, 7, 2), (1, 2, 4, 8), windows, frozenset({global_block}))


def test_a_missing_weight_is_named() -> None:
    stock, _ = model_of("tiny")
    state = dict(stock.state_dict())
    del state["vision_encoder.neck.convs.2.bias"]

    with pytest.raises(KeyError, match=r"neck\.convs\.2\.bias"):
        Sam2Encoder(state, SHAPES["tiny"], device="cpu")


@pytest.mark.models
@pytest.mark.parametrize("frame_px", [pytest.param(1024, marks=pytest.mark.slow), 672])
def test_the_published_weights_give_the_stock_features(frame_px: int) -> None:
    stock, ours = _published()
    with Image.open(photo("chelsea.png")) as opened:
        pixels = preprocess(np.array(opened.convert("RGB")), frame_px=frame_px)

    assert_close(ours.encode(pixels), stock_levels(stock, pixels))


@cache
def _published() -> tuple[Sam2Model, Sam2Encoder]:
    stock = load_folder(sam2_folder())
    return stock, Sam2Encoder(
        stock.state_dict(),
        HieraShape((1, 2, 7, 2), (1, 2, 4, 8), (8, 4, 14, 7), frozenset({5, 7, 9})),
        device="cpu",
    )


def _nth(levels: EncodedLevels, i: int) -> EncodedLevels:
    parts: Sequence[torch.Tensor] = (levels.embed, levels.high_res_4, levels.high_res_2)
    embed, high_res_4, high_res_2 = (part[i : i + 1] for part in parts)
    return EncodedLevels(embed, high_res_4, high_res_2)
