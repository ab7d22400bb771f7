"""Meta's model behind the port: its encoder, prompt encoder and mask decoder, called as its predictor does.

``SAM2ImagePredictor`` itself holds one picture at a time and frames of 1024 px alone. What it does around the
model is a few lines: here they are, for any frame and for features that several threads may use. Pictures are
preprocessed by our ``preprocess``, which is bit-equal with Meta's ``SAM2Transforms``.
"""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from segdex_backends.models.devices import torch_type
from segdex_backends.models.sam2.decoder import CELL_PX, FRAME_CELL_PX, cells_of, hash_mask_tokens
from segdex_backends.models.sam2.preprocess import (
    LOGIT_LIMIT,
    MASKS_PER_PROMPT,
    FramedPrompts,
    frame_prompts,
    preprocess,
)
from segdex_backends.models.torch_batches import run_in_batches
from segdex_core.geometry import MaskBoxXYXY
from segdex_core.ports.prompts import DecodedMasks, Prompts
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures
from segdex_core.records import RGBImage
from segdex_core.settings import ModelPrecision

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_ADAPTER_VERSION = 1

_SIDE_STEP_PX = 32
"""Hiera pools to a cell for 32x32 pixels, and tiles its position embedding by as many."""

_PROMPTS = {"cpu": 16, "cuda": 64}
"""Prompts in one call: 64 is ``points_per_batch`` of Meta's generator; on a CPU more are no faster."""


@dataclass(frozen=True, slots=True, eq=False)
class _Features:
    """A picture, or a part of it.

    Attributes:
        size_hw: Of the picture in pixels.
        made_by: Fingerprint of the segmenter.
        frame_px: Side of the frame.
        embed: (1, 256, h, w) with the embedding of an absent memory.
        high_res: (1, 32, 4h, 4w) and (1, 64, 2h, 2w).
        part: The cells of the frame that these are; (y1, y2, x1, x2).
    """

    size_hw: tuple[int, int]
    made_by: str
    frame_px: int
    embed: Tensor
    high_res: tuple[Tensor, Tensor]
    part: tuple[int, int, int, int]

    @property
    def mask_px(self) -> int:
        return self.frame_px // 4

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.embed, *self.high_res))

    @property
    def is_whole(self) -> bool:
        cells = self.frame_px // FRAME_CELL_PX
        return self.part == (0, cells, 0, cells)


class PackageSam2:
    """Meta's SAM 2 or 2.1 on a CPU or a CUDA device. Made by ``load_sam2_package``.

    Args:
        model: As ``build_sam2`` makes it, on its device.
        name: For people.
        weights_id: Tells the weights: kind of file and checksum.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Half precisions cast Meta's code while it runs (``torch.autocast``), as its notebooks do.
    """

    def __init__(
        self, model: "SAM2Base", *, name: str, weights_id: str, device: str, precision: ModelPrecision
    ) -> None:
        self._model: Any = model
        self._name = name
        self._device = torch.device(device)
        self._dtype = torch_type(precision)
        self._fingerprint = f"{weights_id}:{precision}:v{_ADAPTER_VERSION}"
        self._decoder_id = hash_mask_tokens(model.sam_mask_decoder.mask_tokens.weight)
        self._prompt_encoders: dict[int, Any] = {}
        self._lock = Lock()
        self._seen = local()  # each thread decodes its own picture
        model.sam_mask_decoder.transformer.register_forward_hook(self._note_tokens)

    @property
    def name(self) -> str:
        """Short name of package and checkpoint, for people."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """The sha256 of the checkpoint (16 digits), precision and adapter version; not the device."""
        return self._fingerprint

    @property
    def decoder_id(self) -> str:
        """The sha256 of the learned mask tokens (16 digits): that of our decoder with the same weights."""
        return self._decoder_id

    def prompts_per_batch(self, features: ImageFeatures) -> int:
        """Return how many prompts to decode in one call; more of a part, as many as are the same work."""
        own = self._own(features)
        y1, y2, x1, x2 = own.part
        whole = (FRAME_PX // FRAME_CELL_PX) ** 2
        return max(_PROMPTS[self._device.type] * whole // ((y2 - y1) * (x2 - x1)), 1)

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        """Return the features of each picture; 24 MiB each at 1024 px.

        Raises:
            ValueError: If the frame is no multiple of 32 pixels.
        """
        if frame_px % _SIDE_STEP_PX or frame_px <= 0:
            raise ValueError(f"frame_px must be a multiple of {_SIDE_STEP_PX}, but got {frame_px}")
        return [self._encode_one(image, frame_px) for image in images]

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        """Return the masks for a batch of prompts; in halves where the memory of the device does not suffice.

        Without ``multimask`` the package's own rule takes the single mask, or the best of the three where it
        is not stable.

        Raises:
            ValueError: If ``features`` come from another segmenter, a prompt has no point, or a mask prompt
                has another size.
        """
        own = self._own(features)
        if prompts.mask_logits is not None and prompts.mask_logits.shape[-1] != own.mask_px:
            side, shape = own.mask_px, prompts.mask_logits.shape
            raise ValueError(f"a mask prompt here is {side}x{side}, but got {tuple(shape)}")

        def decode_part(part: Prompts) -> DecodedMasks:
            return self._decode_part(own, part, multimask=multimask)

        if len(prompts) == 0:
            return decode_part(prompts)
        return DecodedMasks.join(run_in_batches(decode_part, prompts, batch_size=len(prompts)))

    def narrow(self, features: ImageFeatures, box: MaskBoxXYXY) -> ImageFeatures:
        """Return the features of a part of the picture, in whole cells of 4x4 low-resolution pixels.

        Meta's decoder does not ask how many cells there are.

        Raises:
            ValueError: If the edges of ``box`` are not multiples of 4 or lie outside the picture.
        """
        own = self._own(features)
        height, width = own.embed.shape[2:]
        x1, y1, x2, y2 = cells_of(box, (height, width))
        fine, middle = own.high_res
        top, _, left, _ = own.part
        return replace(
            own,
            embed=own.embed[..., y1:y2, x1:x2],
            high_res=(
                fine[..., 4 * y1 : 4 * y2, 4 * x1 : 4 * x2],
                middle[..., 2 * y1 : 2 * y2, 2 * x1 : 2 * x2],
            ),
            part=(top + y1, top + y2, left + x1, left + x2),
        )

    def dump(self, features: ImageFeatures) -> bytes:
        """Return the features as safetensors: 24 MiB at 1024 px."""
        own = self._own(features)
        if not own.is_whole:
            raise ValueError("only a whole picture can be kept, not a part of it")
        fine, middle = own.high_res
        sizes = torch.tensor([*own.size_hw, own.frame_px])
        tensors = {"embed": own.embed, "fine": fine, "middle": middle}
        return save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()} | {"sizes": sizes})

    def restore(self, data: bytes) -> ImageFeatures:
        """See ``Segmenter``.

        Raises:
            ValueError: If they are something else.
        """
        try:
            kept = load(data)
            height, width, frame_px = kept["sizes"].tolist()
            embed, fine, middle = (kept[name].to(self._device) for name in ("embed", "fine", "middle"))
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise ValueError(f"these are no features of {self._name}: {error}") from error
        return self._features((height, width), frame_px, embed, (fine, middle))

    @torch.inference_mode()
    def _encode_one(self, image: RGBImage, frame_px: int) -> _Features:
        pixels = preprocess(image, frame_px=frame_px, device=str(self._device))
        with self._cast():
            fine, middle, coarse = self._model.forward_image(pixels)["backbone_fpn"]
        if self._model.directly_add_no_mem_embed:  # as ``SAM2ImagePredictor.set_image``
            coarse = coarse + self._model.no_mem_embed.reshape(1, -1, 1, 1)
        size_hw = (image.shape[0], image.shape[1])
        return self._features(size_hw, frame_px, coarse.float(), (fine.float(), middle.float()))

    def _features(
        self, size_hw: tuple[int, int], frame_px: int, embed: Tensor, high_res: tuple[Tensor, Tensor]
    ) -> _Features:
        cells = frame_px // FRAME_CELL_PX
        return _Features(size_hw, self._fingerprint, frame_px, embed, high_res, (0, cells, 0, cells))

    def _decode_part(self, own: _Features, prompts: Prompts, *, multimask: bool) -> DecodedMasks:
        n, m = len(prompts), MASKS_PER_PROMPT if multimask else 1
        height, width = (side * CELL_PX for side in own.embed.shape[2:])
        token_px = 2 * self._model.sam_mask_decoder.transformer_dim
        decoded = DecodedMasks(
            logits=np.empty((n, m, height, width), np.float32),
            predicted_iou=np.empty((n, m), np.float32),
            tokens=np.empty((n, m, token_px), np.float32),
        )
        for group in frame_prompts(prompts, own.size_hw):
            made = self._decode_group(own, group, multimask=multimask)
            for target, values in zip(
                (decoded.logits, decoded.predicted_iou, decoded.tokens), made, strict=True
            ):
                target[group.rows] = values.float().cpu().numpy()
        return decoded

    @torch.inference_mode()
    def _decode_group(
        self, own: _Features, group: FramedPrompts, *, multimask: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, predicted IoU and tokens of prompts of one length."""
        encoder, decoder = self._prompt_encoder(own.frame_px), self._model.sam_mask_decoder
        points = torch.from_numpy(group.points_xy * own.frame_px).to(self._device)
        labels = torch.from_numpy(group.labels).to(self._device, torch.int32)
        masks = None
        if group.mask_logits is not None:
            masks = torch.from_numpy(group.mask_logits)[:, None].to(self._device)
        y1, y2, x1, x2 = own.part
        with self._cast():
            sparse, dense = encoder(points=(points, labels), boxes=None, masks=masks)
            logits, predicted_iou, _, _ = decoder(
                image_embeddings=own.embed,
                image_pe=encoder.get_dense_pe()[..., y1:y2, x1:x2],
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense[..., y1:y2, x1:x2],
                multimask_output=multimask,
                repeat_image=True,
                high_res_features=list(own.high_res),
            )
            tokens = self._tokens(decoder, predicted_iou)
        return logits.float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT), predicted_iou, tokens

    def _note_tokens(self, _: object, _inputs: object, outputs: tuple[Tensor, Tensor]) -> None:
        self._seen.tokens = outputs[0]

    def _tokens(self, decoder: Any, predicted_iou: Tensor) -> Tensor:
        """Return (n, m, 512): the mask token of each mask that was chosen, and the IoU token.

        The decoder returns neither the IoU token nor which mask its rule for a single one took.
        """
        first = 1 if decoder.pred_obj_scores else 0
        seen = self._seen.tokens
        iou_token = seen[:, first : first + 1]
        mask_tokens = seen[:, first + 1 : first + 1 + decoder.num_mask_tokens]
        all_iou = decoder.iou_prediction_head(iou_token[:, 0])
        # (n, m): of each mask the token whose IoU it has
        chosen = (all_iou[:, None] - predicted_iou[:, :, None]).abs().argmin(dim=2)
        if predicted_iou.shape[1] == MASKS_PER_PROMPT:
            chosen = torch.arange(1, 1 + MASKS_PER_PROMPT, device=seen.device).expand_as(chosen)
        mask_tokens = torch.take_along_dim(mask_tokens, chosen[..., None], dim=1)
        return torch.cat([mask_tokens, iou_token.expand_as(mask_tokens)], dim=2)

    def _prompt_encoder(self, frame_px: int) -> Any:
        """Return Meta's prompt encoder for a frame: it holds the size of its own, and shares the weights."""
        with self._lock:
            if frame_px not in self._prompt_encoders:
                encoder = copy.copy(self._model.sam_prompt_encoder)
                cells = frame_px // FRAME_CELL_PX
                encoder.input_image_size = (frame_px, frame_px)
                encoder.image_embedding_size = (cells, cells)
                encoder.mask_input_size = (4 * cells, 4 * cells)
                self._prompt_encoders[frame_px] = encoder
            return self._prompt_encoders[frame_px]

    def _cast(self) -> AbstractContextManager[object]:
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, self._dtype)

    def _own(self, features: ImageFeatures) -> _Features:
        if not isinstance(features, _Features) or features.made_by != self._fingerprint:
            raise ValueError("the features come from another segmenter: encode the picture with this one")
        return features
