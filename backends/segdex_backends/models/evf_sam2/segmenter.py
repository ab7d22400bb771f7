"""EVF-SAM2 (Zhang et al. 2024, arXiv 2406.20076): segmentation of objects that a text names.

BEiT-3 encodes image and text together. A two-layer projection turns its [CLS] token into the only prompt
token of SAM 2's mask decoder. All steps and constants follow the published code, commit 9935dc52:
``model/evf_sam2.py``, ``inference.py``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from segdex_backends.models.checksums import known_sha256
from segdex_backends.models.devices import check_device, torch_type
from segdex_backends.models.evf_sam2.beit3 import IMAGE_PX, Beit3
from segdex_backends.models.evf_sam2.text import ADDED_TOKENS_FILE, SENTENCE_PIECE_FILE, EvfTokenizer, pad_ids
from segdex_backends.models.finite import check_finite
from segdex_backends.models.hub import HUB, Hub, fetch_hub_folder
from segdex_backends.models.sam2.checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_folder, load_meta_state
from segdex_backends.models.sam2.segmenter import TorchSam2
from segdex_core.errors import ModelInvalidError, ModelMissingError
from segdex_core.ports.prompts import DecodedMasks
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures
from segdex_core.ports.text_segmenter import TextFeatures
from segdex_core.records import RGBImage
from segdex_core.settings import ModelPrecision

DecodeRule = Literal["single", "best"]
"""``single``: SAM 2's single mask, or the best of three masks if it is not stable. ``best``: the mask with
the highest predicted IoU of three masks. Each checkpoint was trained and evaluated with one of these
rules."""

_ADAPTER_VERSION = 1
_BEIT3, _PROJECTION, _SAM2 = "mm_extractor.beit3.", "text_hidden_fcs.0.", "visual_model."
_HEADS = {"base": 12, "large": 16}  # torchscale's BEiT3 of EVF, model/unilm/beit3/modeling_utils.py
_PIXELS_MEAN, _PIXELS_STD = 0.5, 0.5
# ImageNet's, on the scale 0 to 255, inference.py:44-72
_SAM_MEAN, _SAM_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True, eq=False)
class EvfFeatures:
    """Features of an image for EVF-SAM2.

    Attributes:
        sam2: Features for the mask decoder.
        pixels: (1, 3, 224, 224) float32 input of BEiT-3, -1 to 1, which encodes the image again with each
            text.
    """

    sam2: ImageFeatures
    pixels: Tensor

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return self.sam2.size_hw

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes."""
        return self.sam2.nbytes + self.pixels.nbytes


class EvfSam2:
    """Text-prompted segmenter on a CPU or a CUDA device. ``load`` creates instances."""

    def __init__(
        self,
        beit3: Beit3,
        projection: nn.Module,
        sam2: TorchSam2,
        tokenizer: EvfTokenizer | None,
        *,
        name: str,
        fingerprint: str,
        decode_rule: DecodeRule,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        self.beit3 = beit3.to(device=device, dtype=dtype)
        self._projection = projection.to(device=device, dtype=dtype)
        self.sam2 = sam2
        self._tokenizer = tokenizer
        self._name = name
        self._fingerprint = fingerprint
        self._device, self._dtype = device, dtype
        self.decode_rule: DecodeRule = decode_rule

    @classmethod
    def load(
        cls,
        source: str,
        *,
        device: str = "cpu",
        precision: ModelPrecision = "fp32",
        revision: str | None = None,
        decode_rule: DecodeRule | None = None,
        sam2_folder: Path | None = None,
        hub: Hub = HUB,
    ) -> Self:
        """Load the model from a hub repository or a folder.

        Args:
            source: ``YxZhang/evf-sam2-multitask``, ``YxZhang/evf-sam2`` or a folder with the files of either.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            precision: ``fp32``, ``bf16``, or ``fp16`` on CUDA.
            revision: Commit, tag or branch of the hub repository; None for that of the first download.
            decode_rule: Rule that chooses the mask. None for the checkpoint's own rule: ``best`` if
                ``[semantic]`` is one of its tokens (multitask checkpoints), ``single`` if not.
            sam2_folder: Folder of a SAM 2 in the hub's layout, for a checkpoint without ``visual_model``
                weights.
            hub: Where a repository is looked for, and where checksums are kept.

        Raises:
            UsageError: If the device does not exist or does not support the precision.
            ModelMissingError: If the folder, or a file in it, does not exist.
            ModelUnavailableError: If the hub does not answer and nothing is cached.
            ModelInvalidError: If the files are not an EVF-SAM2 checkpoint.
        """
        check_device(device, precision)
        folder = Path(source) if Path(source).is_dir() else _fetch(source, revision=revision, hub=hub)
        config = _read_config(folder / CONFIG_FILE)
        state = _read_state(folder / WEIGHTS_FILE)
        checksum = known_sha256(folder / WEIGHTS_FILE, cache_dir=hub.records_dir)[:16]
        has_text = (folder / SENTENCE_PIECE_FILE).is_file()
        tokenizer = EvfTokenizer.load(folder) if has_text else None
        own_rule: DecodeRule = (
            "best" if tokenizer is not None and tokenizer.semantic_id is not None else "single"
        )
        rule = decode_rule or own_rule
        fingerprint = f"evf-sam2:{checksum}:{precision}:{rule}:v{_ADAPTER_VERSION}"
        return cls(
            _beit3(state, config, where=folder),
            _projection(state, where=folder),
            _sam2(
                state,
                sam2_folder,
                where=folder,
                weights_id=fingerprint,
                device=device,
                precision=precision,
            ),
            tokenizer,
            name=f"EVF-SAM2 {Path(source).name} ({precision}, {device})",
            fingerprint=fingerprint,
            decode_rule=rule,
            device=device,
            dtype=torch_type(precision),
        )

    @property
    def name(self) -> str:
        """Short name of model and source, for display."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever the masks can change."""
        return self._fingerprint

    def encode(self, images: Sequence[RGBImage]) -> list[EvfFeatures]:
        """Return the features of each image, usable with any number of texts."""
        encoded = self.sam2.encode(images)
        return [
            EvfFeatures(features, beit3_pixels(image))
            for features, image in zip(encoded, images, strict=True)
        ]

    def decode(
        self, features: Sequence[TextFeatures], texts: Sequence[str], *, semantic: bool = False
    ) -> DecodedMasks:
        """Return one mask for each pair of an image and a text.

        Args:
            features: Features of n images; an image may occur several times.
            texts: n texts.
            semantic: Whether to segment all objects of a kind instead of one object.

        Raises:
            QueryError: If a text is empty or too long.
            ModelMissingError: If the checkpoint has no tokenizer.
            ValueError: If ``features`` come from another segmenter.
        """
        if self._tokenizer is None:
            raise ModelMissingError(
                f"{self._name} has no {SENTENCE_PIECE_FILE}: put the checkpoint's own beside {WEIGHTS_FILE}"
            )
        own = [one for one in features if isinstance(one, EvfFeatures)]
        if len(own) != len(features):
            raise ValueError("the features come from another segmenter: encode the picture with this one")
        ids, real = pad_ids([self._tokenizer.encode(text, semantic=semantic) for text in texts])
        return self.decode_ids(own, torch.from_numpy(ids), torch.from_numpy(real))

    def decode_ids(self, features: Sequence[EvfFeatures], token_ids: Tensor, real: Tensor) -> DecodedMasks:
        """Return n masks for n images and (n, t) token ids; ``real`` is (n, t) bool, False for padding."""
        tokens = self.prompt_tokens(features, token_ids, real)
        parts = [
            self.sam2.decode_tokens(one.sam2, token[None, None], multimask=self.decode_rule == "best")
            for one, token in zip(features, tokens, strict=True)
        ]
        return DecodedMasks.join([_best_of(part) for part in parts])

    @torch.inference_mode()
    def prompt_tokens(self, features: Sequence[EvfFeatures], token_ids: Tensor, real: Tensor) -> Tensor:
        """Return the (n, 256) prompt tokens for n images and their padded token ids."""
        pixels = torch.cat([one.pixels for one in features]).to(self._device, self._dtype)
        cls_tokens = self.beit3(pixels, token_ids.to(self._device), real.to(self._device))
        tokens: Tensor = self._projection(cls_tokens)
        return tokens


def beit3_pixels(image: RGBImage) -> Tensor:
    """Return the (1, 3, 224, 224) float32 input of BEiT-3, -1 to 1: resized bicubically, not antialiased."""
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(torch.float32) / 255
    squashed = functional.interpolate(
        pixels, size=(IMAGE_PX, IMAGE_PX), mode="bicubic", align_corners=False, antialias=False
    )
    return (squashed - _PIXELS_MEAN) / _PIXELS_STD


def evf_preprocess(image: RGBImage, *, frame_px: int = FRAME_PX, device: str = "cpu") -> Tensor:
    """Return the (1, 3, s, s) float32 input of EVF-SAM2's SAM 2: bytes resized without antialiasing.

    SAM 2 was trained with other preprocessing, but EVF-SAM2's text token was trained with this one.
    """
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    squashed = functional.interpolate(
        pixels, size=(frame_px, frame_px), mode="bilinear", align_corners=False
    ).to(torch.float32)
    mean, std = (torch.tensor(values)[:, None, None] for values in (_SAM_MEAN, _SAM_STD))
    return ((squashed - mean) / std).to(device)


def _best_of(masks: DecodedMasks) -> DecodedMasks:
    """Return the mask of one prompt with the highest predicted IoU."""
    best = slice(int(masks.predicted_iou[0].argmax()), int(masks.predicted_iou[0].argmax()) + 1)
    return DecodedMasks(masks.logits[:, best], masks.predicted_iou[:, best], masks.tokens[:, best])


def _fetch(repository: str, *, revision: str | None, hub: Hub) -> Path:
    return fetch_hub_folder(
        repository,
        (CONFIG_FILE, WEIGHTS_FILE, SENTENCE_PIECE_FILE),
        optional=(ADDED_TOKENS_FILE,),
        kind="EVF-SAM2 checkpoint",
        revision=revision,
        way_out="give the path of a folder with its files, or leave SEGDEX_REFINER unset",
        hub=hub,
    )


def _read_config(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ModelMissingError(
            f"{path.parent} has no {CONFIG_FILE}: an EVF-SAM2 folder holds {CONFIG_FILE}, {WEIGHTS_FILE} and "
            f"{SENTENCE_PIECE_FILE}"
        )
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelInvalidError(f"{path} is not JSON: {error}") from error
    config: dict[str, Any] = content if isinstance(content, dict) else {}
    found = config.get("model_type")
    if found != "evf":
        raise ModelInvalidError(f"{path} is of a model of type {found}, but EVF-SAM2's is evf")
    if "EvfSam2Model" not in (config.get("architectures") or ["EvfSam2Model"]):
        raise ModelInvalidError(
            f"{path} is of {', '.join(config['architectures'])}, which is on another SAM; "
            "EVF-SAM2 is YxZhang/evf-sam2-multitask or YxZhang/evf-sam2"
        )
    return config


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelMissingError(f"{path.parent} has no {WEIGHTS_FILE}")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ModelInvalidError(f"{path} cannot be read as safetensors: {error}") from error
    if not any(key.startswith(_BEIT3) for key in state):
        raise ModelInvalidError(f"{path} is no EVF-SAM2 checkpoint: it has no weights {_BEIT3}*")
    check_finite(state, where=path)
    return state


def _beit3(state: Mapping[str, Tensor], config: Mapping[str, Any], *, where: Path) -> Beit3:
    heads = config.get("encoder_attention_heads") or _HEADS.get(config.get("mm_extractor_scale", ""))
    if not isinstance(heads, int):
        raise ModelInvalidError(
            f"{where / CONFIG_FILE} must give mm_extractor_scale as one of {', '.join(_HEADS)}, "
            f"but has {config.get('mm_extractor_scale')!r}"
        )
    try:
        return Beit3.from_state(_part(state, _BEIT3), heads=heads)
    except (KeyError, RuntimeError) as error:
        raise ModelInvalidError(f"{where} lacks weights of BEiT-3: {_last_line(error)}") from error


def _projection(state: Mapping[str, Tensor], *, where: Path) -> nn.Module:
    weights = _part(state, _PROJECTION)
    try:
        hidden, dim = weights["0.weight"].shape
        out = weights["2.weight"].shape[0]
        projection = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, out))
        projection.load_state_dict(weights)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelInvalidError(f"{where} lacks weights {_PROJECTION}*: {_last_line(error)}") from error
    return projection.requires_grad_(requires_grad=False)


def _sam2(
    state: Mapping[str, Tensor],
    folder: Path | None,
    *,
    where: Path,
    weights_id: str,
    device: str,
    precision: ModelPrecision,
) -> TorchSam2:
    own = _part(state, _SAM2)
    if not own and folder is None:
        raise ModelInvalidError(f"{where} has no weights {_SAM2}*, the SAM 2 that its text prompts are for")
    model = load_meta_state(own, where=where) if own or folder is None else load_folder(folder)
    return TorchSam2(
        model,
        name=f"SAM 2 of {where.name}",
        weights_id=weights_id,
        device=device,
        precision=precision,
        preprocess=evf_preprocess,
    )


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights under a prefix, without the prefix, in float32; published files mix precisions."""
    return {
        key.removeprefix(prefix): value.to(torch.float32)
        for key, value in state.items()
        if key.startswith(prefix)
    }


def _last_line(error: Exception) -> str:
    return str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
