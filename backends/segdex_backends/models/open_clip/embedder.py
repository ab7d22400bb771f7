"""``Embedder`` for any built-in open_clip model, with weights from the hub or a local file."""

import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import get_pretrained_cfg
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer
from open_clip.transform import CenterCropOrPad, MaybeConvertMode, MaybeToTensor
from PIL import Image
from torchvision.transforms import CenterCrop, Normalize, Resize

from segdex_backends.models.checksums import known_sha256
from segdex_backends.models.devices import check_device
from segdex_backends.models.finite import check_finite
from segdex_backends.models.hub import HUB, Hub, fetch_hub_file, fetch_hub_folder, hub_way_out
from segdex_backends.models.open_clip import naclip, pooling_head
from segdex_backends.models.open_clip.weights import load_weights
from segdex_backends.models.reading import UNREADABLE, one_line, put_into, quoted
from segdex_backends.models.torch_batches import run_in_batches, upload
from segdex_core.errors import (
    ModelInvalidError,
    ModelMissingError,
    QueryError,
    UsageError,
)
from segdex_core.masks import BoolMask, cell_shares
from segdex_core.records import RGBImage, Vectors
from segdex_core.settings import ModelPrecision
from segdex_core.texts import has_word, is_latin

_ADAPTER_VERSION = 1
"""Incremented whenever a change to this file changes vectors made with unchanged weights."""

_MAX_ASPECT = 16
"""Longer crops are cut to their middle: open_clip would enlarge a 1x5000 line to 224x1120000 pixels."""

_TOKENIZER_FILES = (
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
"""What the tokenizers that open_clip names are made of, beside ``tokenizer_config.json``; none has all."""

_PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")


class OpenClipEmbedder:
    """Embeds images and texts with one OpenCLIP model. ``load`` creates instances.

    The vectors are those of open_clip's ``preprocess_val``, ``encode_image`` and ``encode_text``, in float32
    and of unit length. With ``on_device``, the default on CUDA, ``preprocess_val`` runs on the device, which
    rounds some pixels differently.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        preprocess: Callable[[Image.Image], torch.Tensor],
        *,
        tokenizer: SimpleTokenizer | HFTokenizer,
        name: str,
        fingerprint: str,
        dim: int,
        batch_size: int,
        precision: ModelPrecision,
        prompt_template: str,
        on_device: bool | None = None,
    ) -> None:
        self._model = model
        self._visual: Any = model.visual
        self._preprocess = preprocess
        self._tokenizer = tokenizer
        self._name = name
        self._fingerprint = fingerprint
        self._dim = dim
        self._batch_size = batch_size
        self._input_dtype: torch.dtype | None = open_clip.get_input_dtype(precision)
        self._prompt_template = prompt_template
        self._device = next(model.parameters()).device
        on_device = self._device.type != "cpu" if on_device is None else on_device
        self._device_steps = DeviceSteps.of(preprocess) if on_device else None

    @classmethod
    def load(
        cls,
        model_name: str,
        *,
        pretrained: str,
        device: str = "cpu",
        batch_size: int = 16,
        precision: ModelPrecision = "fp32",
        prompt_template: str = "a photo of a {}.",
        hub: Hub = HUB,
    ) -> Self:
        """Load a model. Weights that are not in the hub's cache are downloaded.

        Args:
            model_name: Name from ``open_clip.list_models()``, such as ``ViT-B-32``.
            pretrained: Tag of the model (``open_clip.list_pretrained_tags_by_model``), or path of a
                checkpoint file. Only tags are downloaded from the hub.
            device: ``cpu``, ``cuda``, ``cuda:1`` and so on.
            batch_size: Number of images or texts in one forward pass.
            precision: ``fp32``, ``bf16``, or ``fp16`` on CUDA.
            prompt_template: A text is put in place of ``{}``; ``"{}"`` embeds it as it is. The default is the
                first of the prompts of Radford et al. 2021, section 3.1.4. ``catalog.template_of`` knows what
                suits a model.
            hub: Where a tag is looked for, and where checksums are kept.

        Raises:
            UsageError: If the device, precision or template is invalid.
            ModelUnavailableError: If the hub does not answer and the files are not in its cache.
            ModelMissingError: If ``pretrained`` is the path of a file that is missing or unreadable.
            ModelInvalidError: If the model or tag is unknown, or the file is no checkpoint of that model or
                not the one of the first download.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but got {batch_size}")
        check_device(device, precision)
        if prompt_template.count("{}") != 1:
            raise UsageError(f"the prompt template must contain {{}} once, but is {prompt_template!r}")
        model_name = model_name.replace("/", "-")  # as open_clip does: ViT-B/32
        if model_name not in open_clip.list_models():
            near = difflib.get_close_matches(model_name, open_clip.list_models(), n=3, cutoff=0.3)
            raise ModelInvalidError(f"open_clip has no model {model_name!r}; near names: {', '.join(near)}")

        checkpoint, weights_id = _find_checkpoint(model_name, pretrained, hub)
        tokenizer = _load_tokenizer(model_name, pretrained, hub)
        tag_config = get_pretrained_cfg(model_name, pretrained)
        try:
            model, preprocess = load_weights(
                model_name,
                checkpoint,
                precision=precision,
                device=device,
                # ViT-B-32 with the tag `openai` gives wrong vectors without QuickGELU; open_clip only warns.
                force_quick_gelu=bool(tag_config.get("quick_gelu", False)),
                **_preprocess_options(model_name, tag_config),
            )
        except UNREADABLE as error:
            reason = one_line(error)
            raise ModelInvalidError(
                f"{checkpoint} is no usable checkpoint of {model_name}: {reason}"
            ) from error
        check_finite(dict(model.named_parameters()), where=checkpoint)
        model.eval()
        preprocess_config = json.dumps(model.visual.preprocess_cfg, sort_keys=True)  # type: ignore[union-attr]
        return cls(
            model,
            preprocess,
            tokenizer=tokenizer,
            name=f"open_clip {model_name} {Path(pretrained).name}",
            fingerprint=(
                f"open_clip/{_ADAPTER_VERSION} {model_name} {weights_id} {precision} {prompt_template!r} "
                f"preprocess:{hashlib.sha256(preprocess_config.encode()).hexdigest()[:16]}"
            ),
            dim=int(open_clip.get_model_config(model_name)["embed_dim"]),
            batch_size=batch_size,
            precision=precision,
            prompt_template=prompt_template,
        )

    @property
    def name(self) -> str:
        """Model and weights, for display."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """Model, tag or SHA-256 of the file, precision, template and preprocessing, on one line."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        """Return (n, dim) unit vectors. A crop longer than 16:1 is cut to its middle."""
        rows = run_in_batches(
            self._encode_images, [_cut_middle(image) for image in images], batch_size=self._batch_size
        )
        return self._unit_rows(rows)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return (n, dim) unit vectors of the texts, each put into the prompt template.

        Raises:
            QueryError: If a text is empty, not valid Unicode, or has more tokens than the model allows.
        """
        prompts = [self._make_prompt(text) for text in texts]
        return self._unit_rows(run_in_batches(self._encode_texts, prompts, batch_size=self._batch_size))

    def reading_hint(self, text: str) -> str | None:
        """See ``ReadsTexts``; of CLIP's own tokenizer it is known that it comes with English captions."""
        unread = self._unread(text)
        if not unread:
            return None
        advice = "write it in English, or use a model of many languages, such as SigLIP 2"
        if isinstance(self._tokenizer, SimpleTokenizer):
            return f"{self._name} learnt from English captions and hardly reads {quoted(unread)}; {advice}"
        return f"{self._name} cannot read {quoted(unread)} and looks for the rest of the text; {advice}"

    def _unread(self, text: str) -> str:
        """Return the words of a text that the model cannot read."""
        words = [word for word in text.split() if has_word(word)]
        if isinstance(self._tokenizer, SimpleTokenizer):
            return " ".join(word for word in words if not is_latin(word))
        unknown = self._tokenizer.tokenizer.unk_token_id
        return " ".join(word for word in words if unknown in _token_ids(self._tokenizer, word))

    @torch.inference_mode()
    def relevance(self, image: RGBImage, texts: Vectors) -> npt.NDArray[np.float32]:
        """Return the (n, h, w) cosines of texts and patches, see ``naclip`` and ``pooling_head``.

        The picture is squashed to twice the model's own side: for a plain vision transformer on its longer
        side, in whole patches; for a model that pools by attention on both.

        Raises:
            ModelInvalidError: If the model is neither a plain vision transformer nor pools by attention.
        """
        dense = self._dense()
        patches = dense.patch_features(self._visual, self._dense_pixels(image))
        maps: npt.NDArray[np.float32] = np.einsum("nd,hwd->nhw", texts, patches.cpu().numpy())
        return maps

    @property
    def region_share(self) -> float | None:
        """See ``RegionEmbedder``: not measured with CLIP, so 0. None for models without a map."""
        try:
            self._dense()
        except ModelInvalidError:
            return None
        return 0.0

    @torch.inference_mode()
    def embed_regions(self, image: RGBImage, masks: Iterable[BoolMask]) -> Vectors:
        """Return (n, dim) unit rows of regions of a picture, see ``region_features`` of both modules.

        The image is resized as for ``relevance``.

        Raises:
            ModelInvalidError: If the model is neither a plain vision transformer nor pools by attention.
        """
        dense, pixels = self._dense(), self._dense_pixels(image)
        cells_hw = dense.grid_hw(self._visual, pixels)
        shares = [cell_shares(mask, cells_hw).ravel() for mask in masks]
        if not shares:
            return np.zeros((0, self._dim), np.float32)
        on_device = torch.from_numpy(np.stack(shares)).to(self._device)
        rows: Vectors = dense.region_features(self._visual, pixels, on_device).cpu().numpy()
        return rows

    def _dense(self) -> ModuleType:
        """Return the module that reads the patches of this architecture."""
        if pooling_head.has_pooling_head(self._visual):
            return pooling_head
        naclip.plain_transformer(self._visual)
        return naclip

    def _dense_pixels(self, image: RGBImage) -> torch.Tensor:
        height, width = self._dense().dense_size_hw(self._visual, image.shape[:2])
        resized = _to_pil(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() / 255
        config = self._visual.preprocess_cfg
        normalized: torch.Tensor = Normalize(config["mean"], config["std"])(pixels)
        return normalized.to(self._device, self._input_dtype)

    @torch.inference_mode()
    def _encode_images(self, images: Sequence[RGBImage]) -> torch.Tensor:
        if self._device_steps is None:
            pixels = torch.stack([self._preprocess(_to_pil(image)) for image in images])
        else:
            pixels = self._device_steps.run(upload(images, self._device))
        rows: torch.Tensor = self._model.encode_image(pixels.to(self._device, self._input_dtype))  # type: ignore[operator]
        return rows

    @torch.inference_mode()
    def _encode_texts(self, prompts: Sequence[str]) -> torch.Tensor:
        rows: torch.Tensor = self._model.encode_text(self._tokenizer(list(prompts)).to(self._device))  # type: ignore[operator]
        return rows

    def _unit_rows(self, rows: list[torch.Tensor]) -> Vectors:
        if not rows:
            return np.zeros((0, self._dim), np.float32)
        vectors: Vectors = torch.nn.functional.normalize(torch.cat(rows).float(), dim=-1).cpu().numpy()
        return vectors

    def _make_prompt(self, text: str) -> str:
        prompt = put_into(self._prompt_template, text)
        if isinstance(self._tokenizer, HFTokenizer) and self._unread(text) == " ".join(text.split()):
            raise QueryError(
                f"{self._name} cannot read {quoted(text)}: its tokenizer knows none of the words; write it "
                "in English"
            )
        count = _count_tokens(self._tokenizer, prompt)
        allowed = self._tokenizer.context_length
        if count > allowed:
            raise QueryError(
                f"the query text has {count} tokens within the template {self._prompt_template!r}, but "
                f"{self._name} reads at most {allowed}: shorten it"
            )
        return prompt


def _cut_middle(image: RGBImage) -> RGBImage:
    """Return the middle of a very long crop, and other crops unchanged. A centre crop uses no more of it."""
    height, width = image.shape[:2]
    longest = _MAX_ASPECT * min(height, width)
    top, left = max(height - longest, 0) // 2, max(width - longest, 0) // 2
    return image[top : height - top, left : width - left]


def _to_pil(image: RGBImage) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image))


@dataclass(frozen=True, slots=True)
class DeviceSteps:
    """open_clip's preprocessing of tensors, on their device."""

    shape: Sequence[Callable[[torch.Tensor], torch.Tensor]]
    normalize: Normalize

    @classmethod
    def of(cls, preprocess: object) -> "DeviceSteps | None":
        """Return the steps of ``preprocess_val``, or None if a step requires Pillow."""
        *shape, convert, to_tensor, normalize = getattr(preprocess, "transforms", (None,) * 3)
        if (
            all(isinstance(step, Resize | CenterCrop | CenterCropOrPad) for step in shape)
            and isinstance(convert, MaybeConvertMode)
            and isinstance(to_tensor, MaybeToTensor)
            and isinstance(normalize, Normalize)
        ):
            return cls(shape, normalize)
        return None

    def run(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return (n, 3, side, side) float32 of n (3, H, W) uint8; steps round to bytes, as in Pillow."""
        shaped = torch.stack(
            [reduce(lambda pixels, step: step(pixels), self.shape, image) for image in images]
        )
        normalized: torch.Tensor = self.normalize(shaped.float() / 255)
        return normalized


def _count_tokens(tokenizer: SimpleTokenizer | HFTokenizer, prompt: str) -> int:
    """Return the number of tokens with start and end marks; open_clip itself truncates without a word."""
    if isinstance(tokenizer, SimpleTokenizer):
        return len(tokenizer.encode(prompt)) + 2  # start and end
    clean = tokenizer.clean_fn(prompt)
    if tokenizer.tokenizer_mode == "clips":
        return len(tokenizer.tokenizer(clean, add_special_tokens=False, verbose=False).input_ids) + 3
    return len(tokenizer.tokenizer(clean, verbose=False).input_ids)


def _token_ids(tokenizer: HFTokenizer, text: str) -> list[int]:
    """Return the tokens of a text without start and end marks."""
    ids: list[int] = tokenizer.tokenizer(
        tokenizer.clean_fn(text), add_special_tokens=False, verbose=False
    ).input_ids
    return ids


def _preprocess_options(model_name: str, tag_config: dict[str, Any]) -> dict[str, Any]:
    """Return the preprocessing of the tag; for a local file that of the model's tags where they agree.

    open_clip would use CLIP's mean and standard deviation for any local file, which is wrong for SigLIP.
    """
    configs = [tag_config] if tag_config else _tag_configs(model_name)
    options: dict[str, Any] = {}
    for key in _PREPROCESS_KEYS:
        values = [config.get(key) for config in configs]
        if values and all(value == values[0] for value in values):
            options[f"image_{key}"] = values[0]
    return options


def _tag_configs(model_name: str) -> list[dict[str, Any]]:
    return [
        get_pretrained_cfg(model_name, tag) for tag in open_clip.list_pretrained_tags_by_model(model_name)
    ]


def _find_checkpoint(model_name: str, pretrained: str, hub: Hub) -> tuple[Path, str]:
    """Return the checkpoint file and its id in the fingerprint: the tag, or the SHA-256 of the file."""
    config = get_pretrained_cfg(model_name, pretrained)
    if config:
        repo, _, filename = str(config["hf_hub"]).rpartition("/")
        filename = filename or HF_WEIGHTS_NAME
        safe = HF_SAFE_WEIGHTS_NAME if filename == HF_WEIGHTS_NAME else f"{Path(filename).stem}.safetensors"
        names = tuple(dict.fromkeys((safe, filename)))
        return fetch_hub_file(repo, names, wanted=_wanted(model_name, pretrained), hub=hub), pretrained
    path = Path(pretrained)
    if path.is_file():
        try:
            return path, f"sha256:{known_sha256(path, cache_dir=hub.records_dir)[:16]}"
        except OSError as error:
            raise ModelMissingError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix or path.name != pretrained:
        raise ModelMissingError(f"there is no checkpoint file {path} for {model_name}")
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(model_name)) or "none, give a checkpoint file"
    raise ModelInvalidError(f"{model_name} has no weights {pretrained!r}; it has: {tags}")


def _load_tokenizer(model_name: str, pretrained: str, hub: Hub) -> SimpleTokenizer | HFTokenizer:
    """Return the tokenizer; what it or the text side needs from the hub is looked for first, to fail fast.

    A tokenizer of the hub is read from the files of its snapshot, because other files would make other
    vectors: transformers, given a name, would fetch and accept whatever the main branch has.
    """
    text_config = open_clip.get_model_config(model_name)["text_cfg"]
    wanted = _wanted(model_name, pretrained)
    text_model = text_config.get("hf_model_name")
    if text_model and not Path(text_model).is_dir():
        fetch_hub_file(text_model, ("config.json",), wanted=wanted, hub=hub)
    source = text_config.get("hf_tokenizer_name")
    if not source:
        return open_clip.get_tokenizer(model_name)
    folder, advice = Path(source), ""
    if not folder.is_dir():
        advice = "; delete that folder to download it again"
        folder = fetch_hub_folder(
            source,
            ("tokenizer_config.json",),
            optional=_TOKENIZER_FILES,
            kind="tokenizer",
            revision=None,
            way_out=f"{wanted} needs it: {hub_way_out(hub)}",
            hub=hub,
        )
    try:
        # what open_clip.get_tokenizer does with the name of the repository
        tokenizer = HFTokenizer(
            str(folder),
            context_length=text_config.get("context_length", DEFAULT_CONTEXT_LENGTH),
            tokenizer_mode=text_config.get("tokenizer_mode"),
            **text_config.get("tokenizer_kwargs", {}),
        )
    except UNREADABLE as error:
        raise ModelInvalidError(
            f"{folder} has no usable tokenizer of {model_name}: {one_line(error)}{advice}"
        ) from error
    if text_config.get("pool_type") == "last" and text_config.get("no_causal_mask"):
        # SigLIP was trained with padding at the end, and its vector is that of the last place. The class of
        # Gemma's tokenizer pads at the start where the files do not say otherwise.
        tokenizer.tokenizer.padding_side = "right"
    return tokenizer


def _wanted(model_name: str, pretrained: str) -> str:
    return f"{model_name} with weights {pretrained!r}"
