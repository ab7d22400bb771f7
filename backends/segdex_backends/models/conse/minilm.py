"""all-MiniLM-L6-v2 in numpy, so that a text search does not load torch, which takes seconds.

The model is BERT (Devlin et al. 2018, arXiv 1810.04805) with 6 layers. As in sentence-transformers, the
vector of a text is the mean of the last hidden states of its word pieces. The tests compare both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from segdex_backends.models.reading import UNREADABLE, one_line
from segdex_core.errors import ModelInvalidError
from segdex_core.records import Vectors
from segdex_core.texts import has_word, is_latin

Floats = npt.NDArray[np.float32]

WEIGHTS_FILE, TOKENIZER_FILE = "model.safetensors", "tokenizer.json"
"""Files that are read from the model's folder."""

DIM = 384
"""Length of a vector."""

_LAYERS, _HEADS, _INNER, _POSITIONS, _KINDS = 6, 12, 1536, 512, 2
_EPSILON = 1e-12
"""From ``config.json`` of the model."""


class MiniLM:
    """Embeds texts. Threads may share an instance. ``load`` creates instances."""

    def __init__(self, tokenizer: Tokenizer, network: "_Bert") -> None:
        self._tokenizer, self._network = tokenizer, network

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the model from a folder.

        Raises:
            ModelInvalidError: If a file is damaged or belongs to another model.
        """
        try:
            tokenizer = _load_tokenizer(folder / TOKENIZER_FILE)
            network = _Bert.load(folder / WEIGHTS_FILE, words=tokenizer.get_vocab_size())
        except UNREADABLE as error:
            raise ModelInvalidError(
                f"{folder} holds no usable all-MiniLM-L6-v2: {one_line(error)}"
            ) from error
        return cls(tokenizer, network)

    def count_word_pieces(self, text: str) -> int:
        """Return the number of word pieces, start and end included, without truncation."""
        return len(self._tokenizer.encode(text).ids)

    def words(self, text: str) -> list["ReadWord"]:
        """Return the words of a text, without punctuation, as the model reads them."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        by_word: dict[int, list[int]] = {}
        for position, word in enumerate(encoded.word_ids):
            if word is not None:
                by_word.setdefault(word, []).append(position)
        words = []
        for positions in by_word.values():
            start, end = encoded.offsets[positions[0]][0], encoded.offsets[positions[-1]][1]
            if has_word(text[start:end]):
                pieces = tuple(encoded.tokens[position] for position in positions)
                words.append(ReadWord(text[start:end], pieces, self._tokenizer.model.unk_token))
        return words

    def embed(self, texts: Sequence[str], *, batch_size: int) -> Vectors:
        """Return (n, 384) unit vectors: normalised means of the last hidden states of the word pieces."""
        rows = [np.zeros((0, DIM), np.float32)]
        for start in range(0, len(texts), batch_size):
            batch = [self._tokenizer.encode(text).ids for text in texts[start : start + batch_size]]
            width = max(map(len, batch))
            pieces = np.array([ids + [0] * (width - len(ids)) for ids in batch])
            is_real = np.array([[place < len(ids) for place in range(width)] for ids in batch])
            sums = (self._network(pieces, is_real) * is_real[..., None]).sum(axis=1)
            # the sum has the direction of the mean
            rows.append(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12))
        return np.concatenate(rows)


@dataclass(frozen=True, slots=True)
class ReadWord:
    """A word as the model reads it.

    Attributes:
        text: The word as it was written.
        pieces: Its word pieces.
        unknown: The piece that stands for what has none.
    """

    text: str
    pieces: tuple[str, ...]
    unknown: str

    @property
    def is_read(self) -> bool:
        """Whether the model was trained to read the word.

        The vocabulary has the letters of other scripts as well, but the model saw English alone. It gives
        all words in them about the same vector.
        """
        return self.unknown not in self.pieces and is_latin(self.text)

    @property
    def is_guessed(self) -> bool:
        """Whether the word is in pieces of less than two letters, as random letters are, and few rare words.

        docs/research/search.md has the figures.
        """
        count = len(self.pieces)
        return (
            self.text.isalpha()
            and len(self.text) >= _GUESSED_FROM_LETTERS
            and count >= _GUESSED_FROM_PIECES
            and len(self.text) < 2 * count
        )


_GUESSED_FROM_LETTERS, _GUESSED_FROM_PIECES = 4, 3


def _load_tokenizer(path: Path) -> Tokenizer:
    content = path.read_text(encoding="utf-8")
    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # tokenizers raises no narrower type
        raise ValueError(f"{path.name}: {one_line(error)}") from error
    # the file pads and truncates all texts to 128 pieces
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class _Dense:
    weight: Floats
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        rows = x.reshape(
            -1, x.shape[-1]
        )  # a single matrix product; with three axes, numpy computes one per text
        return (rows @ self.weight.T + self.bias).reshape(*x.shape[:-1], -1)


@dataclass(frozen=True, slots=True, eq=False)
class _Norm:
    weight: Floats
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        normed: Floats = centred / np.sqrt(variance + np.float32(_EPSILON)) * self.weight + self.bias
        return normed


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """Attention and two dense layers, each added to its input and normalized."""

    query: _Dense
    key: _Dense
    value: _Dense
    attended: _Dense
    attended_norm: _Norm
    inner: _Dense
    outer: _Dense
    outer_norm: _Norm

    def __call__(self, x: Floats, hidden: Floats) -> Floats:
        """Return (n, t, 384) for (n, t, 384); ``hidden`` is (n, 1, 1, t), minus infinity for padding."""
        n, t, _ = x.shape
        query, key, value = (
            dense(x).reshape(n, t, _HEADS, DIM // _HEADS).transpose(0, 2, 1, 3)
            for dense in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(DIM // _HEADS)) + hidden
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed = (shares @ value).transpose(0, 2, 1, 3).reshape(n, t, DIM)
        x = self.attended_norm(self.attended(mixed) + x)
        return self.outer_norm(self.outer(_gelu(self.inner(x))) + x)


@dataclass(frozen=True, slots=True, eq=False)
class _Bert:
    words: Floats
    positions: Floats
    kind: Floats
    norm: _Norm
    layers: Sequence[_Layer]

    @classmethod
    def load(cls, path: Path, *, words: int) -> Self:
        """Load the network from a file with BERT's weight names.

        Raises:
            KeyError, ValueError, OSError, SafetensorError: If the file has another network.
        """
        arrays = load_file(path)

        def take(name: str, *shape: int) -> Floats:
            array = arrays[name]
            if array.shape != shape or array.dtype != np.float32:
                raise ValueError(f"{name} is {array.dtype}{array.shape}, but should be float32{shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"the weights {name} are not all finite numbers")
            return array

        def dense(name: str, inputs: int = DIM, outputs: int = DIM) -> _Dense:
            return _Dense(take(f"{name}.weight", outputs, inputs), take(f"{name}.bias", outputs))

        def norm(name: str) -> _Norm:
            return _Norm(take(f"{name}.weight", DIM), take(f"{name}.bias", DIM))

        return cls(
            words=take("embeddings.word_embeddings.weight", words, DIM),
            positions=take("embeddings.position_embeddings.weight", _POSITIONS, DIM),
            kind=take("embeddings.token_type_embeddings.weight", _KINDS, DIM)[0],
            norm=norm("embeddings.LayerNorm"),
            layers=[_layer(f"encoder.layer.{number}", dense, norm) for number in range(_LAYERS)],
        )

    def __call__(self, pieces: npt.NDArray[np.int64], is_real: npt.NDArray[np.bool_]) -> Floats:
        """Return the (n, t, 384) last hidden states of (n, t) word pieces, which may include padding."""
        x = self.norm(self.words[pieces] + self.positions[: pieces.shape[1]] + self.kind)
        hidden = np.where(is_real, np.float32(0), np.float32(-np.inf))[:, None, None, :]
        for layer in self.layers:
            x = layer(x, hidden)
        return x


def _layer(name: str, dense: Callable[..., _Dense], norm: Callable[[str], _Norm]) -> _Layer:
    return _Layer(
        query=dense(f"{name}.attention.self.query"),
        key=dense(f"{name}.attention.self.key"),
        value=dense(f"{name}.attention.self.value"),
        attended=dense(f"{name}.attention.output.dense"),
        attended_norm=norm(f"{name}.attention.output.LayerNorm"),
        inner=dense(f"{name}.intermediate.dense", DIM, _INNER),
        outer=dense(f"{name}.output.dense", _INNER, DIM),
        outer_norm=norm(f"{name}.output.LayerNorm"),
    )


_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERF_SCALE = 0.3275911
"""Abramowitz and Stegun 1964, 7.1.26: erf within 2e-7. Importing scipy's erf takes a quarter second."""


def _gelu(x: Floats) -> Floats:
    """Return x times the normal cumulative distribution at x (Hendrycks and Gimpel 2016)."""
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(_ERF_SCALE) * z)
    polynomial = np.zeros_like(t)
    for factor in _ERF:
        polynomial = polynomial * t + np.float32(factor)
    beyond = polynomial * t * np.exp(-z * z) / 2  # the probability of one tail
    gelu: Floats = x * np.where(x < 0, beyond, 1 - beyond)
    return gelu
