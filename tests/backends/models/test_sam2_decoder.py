"""Our decoder against the stock one of transformers, on random weights: the algebra, not the masks."""

from functools import cache

import numpy as np
import pytest
import torch
from transformers import Sam2Config, Sam2Model

from segdex_backends.models.sam2.decoder import DecoderImage, Sam2Decoder
from segdex_core.ports.prompts import Prompts

RELATIVE = 1e-4
"""Of the largest logit of a mask."""


@cache
def stock() -> Sam2Model:
    """A SAM 2 with random weights, and norms and biases that are not the neutral ones of a new model."""
    torch.manual_seed(0)
    model = Sam2Model(Sam2Config())
    with torch.no_grad():
        for part in (model.mask_decoder, model.prompt_encoder):
            for parameter in part.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(
        model.shared_image_embedding.positional_embedding
    )
    model.requires_grad_(requires_grad=False)
    model.train(mode=False)
    return model


@cache
def picture() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((256, 64, 64), (32, 256, 256), (64, 128, 128))
    embed, fine, coarse = (torch.randn(shape, generator=generator) for shape in shapes)
    return embed, fine, coarse


@cache
def ours() -> tuple[Sam2Decoder, DecoderImage]:
    decoder = Sam2Decoder(stock().state_dict(), device="cpu")
    return decoder, decoder.prepare(*picture())


@torch.inference_mode()
def decode_stock(asked: Prompts, *, multimask: bool) -> tuple[np.ndarray, np.ndarray]:
    model, (embed, fine, coarse) = stock(), picture()
    n = len(asked)
    sparse, dense = model.prompt_encoder(
        input_points=torch.from_numpy(asked.points_xy)[:, None],
        input_labels=torch.from_numpy(asked.labels)[:, None],
        input_boxes=None,
        input_masks=None if asked.mask_logits is None else torch.from_numpy(asked.mask_logits)[:, None],
    )
    logits, predicted_iou, _, _ = model.mask_decoder(
        image_embeddings=embed.expand(n, -1, -1, -1),
        image_positional_embeddings=model.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        high_resolution_features=[fine[None], coarse[None]],
    )
    return logits[:, 0].clamp(-32, 32).numpy(), predicted_iou[:, 0].numpy()


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize(("count", "labels"), [(3, [1]), (1, [1, 0]), (2, [2, 3, 0])])
def test_it_is_the_stock_decoder(count: int, labels: list[int], with_mask: bool, multimask: bool) -> None:
    random = np.random.default_rng(len(labels))
    asked = Prompts(
        points_xy=(random.random((count, len(labels), 2)) * 1024).astype(np.float32),
        labels=np.array([labels] * count),
        mask_logits=random.normal(0, 8, (count, 256, 256)).astype(np.float32) if with_mask else None,
    )
    expected, expected_iou = decode_stock(asked, multimask=multimask)
    decoder, image = ours()

    decoded = decoder.decode(image, asked, (1024, 1024), multimask=multimask)

    assert np.abs(expected).max() > 0.1
    assert np.abs(decoded.logits - expected).max() <= RELATIVE * np.abs(expected).max()
    np.testing.assert_allclose(decoded.predicted_iou, expected_iou, atol=1e-5)


def test_a_missing_weight_is_named() -> None:
    state = dict(stock().state_dict())
    del state["mask_decoder.iou_token.weight"]

    with pytest.raises(KeyError, match=r"mask_decoder\.iou_token"):
        Sam2Decoder(state, device="cpu")
