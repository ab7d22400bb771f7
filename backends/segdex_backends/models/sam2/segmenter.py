"""``Segmenter`` for SAM 2 and 2.1: our encoder and decoder with any of their weights, on CPU or CUDA."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from transformers import Sam2HieraDetConfig, Sam2Model
from transformers.models.sam2.configuration_sam2 import Sam2MaskDecoderConfig, Sam2VisionConfig

from segdex_backends.models.devices import torch_type
from segdex_backends.models.sam2.decoder import CELL_PX, DecoderImage, Sam2Decoder
from segdex_backends.models.sam2.encoder import HieraShape, Sam2Encoder
from segdex_backends.models.sam2.preprocess import preprocess
from segdex_backends.models.torch_batches import run_in_batches
from segdex_core.errors import ModelInvalidError
from segdex_core.geometry import MaskBoxXYXY
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures
from segdex_core.records import RGBImage
from segdex_core.settings import ModelPrecision

_ADAPTER_VERSION = 3


class Preprocess(Protocol):
    """Function that converts an image to a (1, 3, s, s) float32 tensor."""

    def __call__(self, image: RGBImage, *, frame_px: int, device: str) -> torch.Tensor:
        """Return the tensor of ``image``."""
        ...


# Prompts per call for a whole image at 1024 px. On a CPU, the cells of more prompts do not fit into its
# caches (docs/research/performance.md). On a GPU, each prompt takes about 30 MiB.
_CPU_PROMPTS, _GPU_PROMPTS = 2, 128


@dataclass(frozen=True, slots=True, eq=False)
class _TorchFeatures:
    size_hw: tuple[int, int]
    made_by: str
    image: DecoderImage

    @property
    def mask_px(self) -> int:
        return self.image.whole_side * CELL_PX

    @property
    def nbytes(self) -> int:
        return self.image.nbytes


class TorchSam2:
    """SAM 2 on a CPU or a CUDA device.

    Args:
        model: Model with the weights and their configuration; its ``forward`` is not used.
        name: Name of the model, for display.
        weights_id: Id of the weights: kind of file and checksum.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Precision of encoder and decoder.
        compiled: Whether to compile the encoder with ``torch.compile``. It is faster after a cold start of a
            minute or more for each frame size and number of images.
        preprocess: Function that converts an image to a tensor, as in the training of the weights.
        in_one_pass: Whether to encode images together. None does so only on CUDA: on a CPU, encoding one by
            one is as fast and needs less memory.
    """

    def __init__(
        self,
        model: Sam2Model,
        *,
        name: str,
        weights_id: str,
        device: str,
        precision: ModelPrecision,
        compiled: bool = False,
        preprocess: Preprocess = preprocess,
        in_one_pass: bool | None = None,
    ) -> None:
        dtype, state = torch_type(precision), model.state_dict()
        self._device = device
        self._preprocess = preprocess
        self._in_one_pass = torch.device(device).type != "cpu" if in_one_pass is None else in_one_pass
        self._whole_prompts = _CPU_PROMPTS if torch.device(device).type == "cpu" else _GPU_PROMPTS
        self._name = name
        self._fingerprint = f"{weights_id}:{precision}:v{_ADAPTER_VERSION}"
        self._encoder = Sam2Encoder(state, _hiera_shape(model), device=device, dtype=dtype)
        self._encode = self._encoder.encode
        if compiled:  # constant sizes: with symbolic sizes, a second frame took seven times as long
            self._encode = torch.compile(self._encoder.encode, dynamic=False)
        self._decoder = Sam2Decoder(state, device=device, heads=_decoder_heads(model), dtype=dtype)

    @property
    def name(self) -> str:
        """Short name of model and source, for display."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights (16 digits), precision and adapter version; independent of the device."""
        return self._fingerprint

    @property
    def decoder_id(self) -> str:
        """SHA-256 of the learned mask tokens (16 digits)."""
        return self._decoder.decoder_id

    def prompts_per_batch(self, features: ImageFeatures) -> int:
        """Return the number of prompts to decode in one call; on a CPU, more would not fit into its caches.

        The number is lower after a call that ran out of memory.
        """
        return self._own(features).image.prompts_per_batch(self._whole_prompts)

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        """Return the features of each image, about 26 MiB each in fp32 at 1024 px.

        On CUDA, all images are encoded in one pass, or in smaller batches if they do not fit in memory.

        Raises:
            ValueError: If ``frame_px`` is not a multiple of 32.
        """
        if not images:
            return []
        parts = run_in_batches(
            lambda part: self.encode_part(part, frame_px),
            images,
            batch_size=len(images) if self._in_one_pass else 1,
        )
        return [features for part in parts for features in part]

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        """Return the masks for a batch of prompts, which is halved if it does not fit in device memory.

        Without ``multimask``, the result is the single mask, or the best of the three masks if the single
        mask is not stable (Meta's ``dynamic_multimask_via_stability``).

        Raises:
            ValueError: If ``features`` come from another segmenter, or a prompt has no point.
        """

        def decode_part(part: Prompts) -> DecodedMasks:
            return self.decode_part(features, part, multimask=multimask)

        if len(prompts) == 0:
            return decode_part(prompts)
        parts = run_in_batches(decode_part, prompts, batch_size=len(prompts))
        if len(parts) == 1:
            return parts[0]
        fits = max(len(part.predicted_iou) for part in parts)
        # limits the next calls, each of which would fail first
        self._whole_prompts = max(self._whole_prompts * fits // len(prompts), 1)
        return DecodedMasks.join(parts)

    def decode_part(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool) -> DecodedMasks:
        """Return the masks for prompts that are decoded in one call. ``decode`` splits large batches.

        Raises:
            torch.OutOfMemoryError: If the inputs do not fit in device memory.
        """
        own = self._own(features)
        return self._decoder.decode(own.image, prompts, own.size_hw, multimask=multimask)

    def decode_tokens(
        self, features: ImageFeatures, prompts: torch.Tensor, *, multimask: bool = True
    ) -> DecodedMasks:
        """Return the masks for (n, p, 256) raw sparse prompt tokens of a model that was trained to make them.

        Raises:
            ValueError: If ``features`` come from another segmenter.
        """
        return self._decoder.decode_tokens(self._own(features).image, prompts, multimask=multimask)

    def dump(self, features: ImageFeatures) -> bytes:
        """Return the features as safetensors: 8 MiB in half precision at 1024 px."""
        own = self._own(features)
        tensors = self._decoder.dump(own.image)
        return save({**tensors, "size_hw": torch.tensor(own.size_hw)})

    def restore(self, data: bytes) -> ImageFeatures:
        """See ``StoresFeatures``.

        Raises:
            ValueError: If ``data`` is not the output of ``dump``.
        """
        try:
            kept = load(data)
            height, width = kept["size_hw"].tolist()
            image = self._decoder.restore(kept)
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise ValueError(f"these are no features of {self._name}: {error}") from error
        return _TorchFeatures(size_hw=(height, width), made_by=self._fingerprint, image=image)

    def narrow(self, features: ImageFeatures, box: MaskBoxXYXY) -> ImageFeatures:
        """Return the features of a part of the image, in whole cells of 4x4 low-resolution pixels."""
        own = self._own(features)
        return replace(own, image=own.image.narrow(box))

    def encode_part(self, images: Sequence[RGBImage], frame_px: int) -> list[ImageFeatures]:
        """Return the features of images that are encoded in one pass. ``encode`` splits large batches.

        Raises:
            torch.OutOfMemoryError: If the inputs do not fit in device memory.
        """
        with torch.inference_mode():
            pixels = [self._preprocess(image, frame_px=frame_px, device=self._device) for image in images]
            levels = self._encode(torch.cat(pixels))
        return [
            _TorchFeatures(
                size_hw=(image.shape[0], image.shape[1]),
                made_by=self._fingerprint,
                image=self._decoder.prepare(levels.embed[i], levels.high_res_4[i], levels.high_res_2[i]),
            )
            for i, image in enumerate(images)
        ]

    def _own(self, features: ImageFeatures) -> _TorchFeatures:
        if not isinstance(features, _TorchFeatures) or features.made_by != self._fingerprint:
            raise ValueError("the features come from another segmenter: encode the picture with this one")
        return features


def _hiera_shape(model: Sam2Model) -> HieraShape:
    vision = model.config.vision_config
    if not isinstance(vision, Sam2VisionConfig) or not isinstance(vision.backbone_config, Sam2HieraDetConfig):
        raise TypeError("the configuration of a SAM 2 model has one of its Hiera trunk")
    trunk = vision.backbone_config
    try:
        return HieraShape(
            blocks=_by_stage(trunk.blocks_per_stage),
            heads=_by_stage(trunk.num_attention_heads_per_stage),
            windows=_by_stage(trunk.window_size_per_stage),
            global_blocks=frozenset(trunk.global_attention_blocks or ()),
        )
    except ValueError as error:
        raise ModelInvalidError(f"the image encoder is no Hiera of SAM 2: {error}") from error


def _by_stage(values: Sequence[int] | None) -> tuple[int, int, int, int]:
    if values is None or len(values) != 4:
        raise ValueError(f"a Hiera trunk has four stages, but got {values}")
    first, second, third, fourth = values
    return first, second, third, fourth


def _decoder_heads(model: Sam2Model) -> int:
    config = model.config.mask_decoder_config
    if not isinstance(config, Sam2MaskDecoderConfig):
        raise TypeError("the configuration of a SAM 2 model has one of its mask decoder")
    return config.num_attention_heads
