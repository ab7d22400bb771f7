"""Dense CLIP: the same transformer up to its last block, which looks at patches that are alike and near."""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from tests.fakes.embedder import TINY_OPEN_CLIP, write_tiny_open_clip
from torch.nn import functional

from segdex_backends.models.open_clip.embedder import OpenClipEmbedder
from segdex_backends.models.open_clip.naclip import neighbourhood, patch_features, region_features
from segdex_core.errors import ModelInvalidError


@pytest.fixture(name="checkpoint", scope="module")
def _checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_open_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(name="embedder", scope="module")
def _embedder(checkpoint: Path) -> OpenClipEmbedder:
    return OpenClipEmbedder.load(TINY_OPEN_CLIP, pretrained=str(checkpoint))


@pytest.fixture(name="visual", scope="module")
def _visual(checkpoint: Path) -> Any:
    return open_clip.create_model(TINY_OPEN_CLIP, pretrained=str(checkpoint)).eval().visual


def by_hand(visual: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the patch features with loops over heads and patches, from open_clip's own tokens."""
    before = visual.forward_intermediates(
        pixels, indices=[len(visual.transformer.resblocks) - 2], output_fmt="NLC", output_extra_tokens=True
    )
    tokens = torch.cat([before["image_intermediates_prefix"][0], before["image_intermediates"][0]], dim=1)[0]
    last = visual.transformer.resblocks[-1]
    heads, width = last.attn.num_heads, tokens.shape[1]
    projected = functional.linear(last.ln_1(tokens), last.attn.in_proj_weight, last.attn.in_proj_bias)
    _, keys, values = projected.chunk(3, dim=1)
    side = int((len(tokens) - 1) ** 0.5)
    read = torch.zeros_like(tokens)
    size = width // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(tokens)):
            scores = torch.empty(len(tokens))
            for j in range(len(tokens)):
                near = 0.0
                if i and j:
                    (yi, xi), (yj, xj) = divmod(i - 1, side), divmod(j - 1, side)
                    near = float(np.exp(-((yi - yj) ** 2 + (xi - xj) ** 2) / (2 * 5.0**2)))
                scores[j] = keys[i, part] @ keys[j, part] / size**0.5 + near
            read[i, part] = scores.softmax(0) @ values[:, part]
    patches = visual.ln_post(last.attn.out_proj(read)[1:]) @ visual.proj
    return functional.normalize(patches, dim=1).reshape(side, side, -1)


@torch.inference_mode()
def test_patches_equal_what_loops_make_of_open_clips_own_tokens(visual: Any) -> None:
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(patch_features(visual, pixels), by_hand(visual, pixels), atol=1e-5, rtol=1e-4)


def test_a_larger_picture_has_more_patches(visual: Any) -> None:
    features = patch_features(visual, torch.randn(1, 3, 64, 96))

    assert features.shape == (8, 12, 48)
    torch.testing.assert_close(features.norm(dim=2), torch.ones(8, 12))


def test_the_neighbourhood_is_symmetric_and_falls_with_the_distance() -> None:
    near = neighbourhood((3, 4))

    assert near.shape == (13, 13)
    torch.testing.assert_close(near, near.T)
    assert not near[0].any()  # of [CLS]
    assert torch.equal(near.diagonal()[1:], torch.ones(12))
    assert near[1, 1] > near[1, 2] > near[1, 3] > near[1, 4]


def test_the_map_of_the_picture_is_the_cosine_of_its_patches_and_the_texts(
    embedder: OpenClipEmbedder, visual: Any
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    texts = embedder.embed_texts(["a dog", "a cat"])

    maps = embedder.relevance(image, texts)

    mean, std = (np.array(visual.preprocess_cfg[name]) for name in ("mean", "std"))
    pixels = torch.from_numpy((image / 255 - mean) / std).permute(2, 0, 1)[None].float()
    wanted = torch.einsum("nd,hwd->nhw", torch.from_numpy(texts), patch_features(visual, pixels))
    np.testing.assert_allclose(maps, wanted.numpy(), atol=1e-5)


def values_by_hand(visual: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the (patches, width) values of the last block, from open_clip's own tokens."""
    before = visual.forward_intermediates(
        pixels, indices=[len(visual.transformer.resblocks) - 2], output_fmt="NLC", output_extra_tokens=True
    )
    tokens = before["image_intermediates"][0][0]
    last = visual.transformer.resblocks[-1]
    width = tokens.shape[1]
    weight, bias = last.attn.in_proj_weight[2 * width :], last.attn.in_proj_bias[2 * width :]
    return functional.linear(last.ln_1(tokens), weight, bias)


@torch.inference_mode()
def test_a_region_reads_its_patches_in_place_of_cls(visual: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(1, 3, 32, 32, generator=generator)
    shares = torch.rand(5, 16, generator=generator) * (torch.rand(5, 16, generator=generator) > 0.6)
    shares[:, 3] = 0.5  # none is empty

    regions = region_features(visual, pixels, shares)

    values, last = values_by_hand(visual, pixels), visual.transformer.resblocks[-1]
    for row, share in zip(regions, shares, strict=True):
        read = sum(share[i] * values[i] for i in range(16)) / share.sum()
        wanted = functional.normalize(visual.ln_post(last.attn.out_proj(read)) @ visual.proj, dim=0)
        torch.testing.assert_close(row, wanted, atol=1e-5, rtol=1e-4)


def test_many_masks_of_a_picture_equal_each_alone_however_they_scale(embedder: OpenClipEmbedder) -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(0, 255, (90, 60, 3)).astype(np.uint8)
    masks = [rng.random((90, 60)) < density for density in (0.1, 0.5, 1.0)]
    dot = np.zeros((90, 60), np.bool_)
    dot[40, 30] = True  # far smaller than a cell

    together = embedder.embed_regions(image, [*masks, dot])

    assert together.shape == (4, embedder.dim)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for row, mask in zip(together, [*masks, dot], strict=True):
        np.testing.assert_allclose(row, embedder.embed_regions(image, [mask])[0], atol=1e-5)
    assert embedder.embed_regions(image, []).shape == (0, embedder.dim)


def test_another_architecture_is_refused() -> None:
    linear = torch.nn.Linear(1, 1)
    with pytest.raises(ModelInvalidError, match="plain vision transformer, but this is Linear"):
        patch_features(linear, torch.zeros(1, 3, 32, 32))
    with pytest.raises(ModelInvalidError, match="plain vision transformer, but this is Linear"):
        region_features(linear, torch.zeros(1, 3, 32, 32), torch.ones(1, 16))
