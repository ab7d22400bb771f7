"""Embedders for tests: one that knows colours, and a very small OpenCLIP with random weights."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdex_core.errors import QueryError
from segdex_core.masks import BoolMask
from segdex_core.records import RGBImage, Vectors

COLOURS_RGB = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (30, 60, 220),
    "yellow": (240, 220, 40),
    "orange": (250, 140, 20),
    "purple": (130, 40, 160),
    "pink": (250, 160, 190),
    "brown": (120, 75, 40),
    "cyan": (40, 210, 220),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "white": (255, 255, 255),
}
"""What each word looks like; a pixel counts for the nearest."""

UNKNOWN_DIRECTIONS = 4
"""Texts without a colour word point along one of these, which no picture does."""

MAX_WORDS = 64

CELLS = 32
"""Cells of a relevance map along the longer side."""

TINY_OPEN_CLIP = "segdex-tiny"
"""Name under which ``write_tiny_open_clip`` registers its model with open_clip."""


class ColourEmbedder:
    """An ``Embedder`` that knows colours and nothing else.

    A picture is the histogram of its nearest colour words; a text is the sum of the colour words in it.
    """

    def __init__(self, *, samples_per_side: int = 32) -> None:
        self._samples_per_side = samples_per_side

    @property
    def name(self) -> str:
        return "colours"

    @property
    def fingerprint(self) -> str:
        return f"colours/1 samples={self._samples_per_side}"

    @property
    def dim(self) -> int:
        return len(COLOURS_RGB) + UNKNOWN_DIRECTIONS

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        return self._stack([self._embed_image(image) for image in images])

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return self._stack([self._embed_text(text) for text in texts])

    def reading_hint(self, text: str) -> str | None:
        unread = " ".join(word for word in text.split() if not word.isascii())
        return f"colours cannot read {unread!r}" if unread else None

    def relevance(self, image: RGBImage, texts: Vectors) -> npt.NDArray[np.float32]:
        side = max(max(image.shape[:2]) // CELLS, 1)
        # a picture thinner than a cell is one row or column of cells
        height, width = (min(side, size) for size in image.shape[:2])
        rows, columns = image.shape[0] // height, image.shape[1] // width
        pixels = image[: rows * height, : columns * width].reshape(rows, height, columns, width, 3)
        few = pixels[:, :: max(height // 32, 1), :, :: max(width // 32, 1)].swapaxes(1, 2)
        nearest = _nearest(few.reshape(rows * columns, -1, 3))
        counts = (nearest[..., None] == np.arange(self.dim)).sum(1)
        return (texts @ _unit(counts).T).reshape(len(texts), rows, columns)

    def _stack(self, rows: list[npt.NDArray[np.float32]]) -> Vectors:
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)

    def _embed_image(self, image: RGBImage) -> npt.NDArray[np.float32]:
        # Rows and columns at even distances, so that a large picture costs no more than a small one.
        ys, xs = (
            np.linspace(0, size - 1, min(size, self._samples_per_side)).round().astype(int)
            for size in image.shape[:2]
        )
        return _unit(np.bincount(_nearest(image[np.ix_(ys, xs)].reshape(-1, 3)), minlength=self.dim))

    def _embed_text(self, text: str) -> npt.NDArray[np.float32]:
        words = text.lower().replace(",", " ").replace(".", " ").split()
        if not words:
            raise QueryError("the query text is empty: say what to look for")
        if len(words) > MAX_WORDS:
            raise QueryError(f"the query text has {len(words)} words, but at most {MAX_WORDS} are read")
        counts = np.array([words.count(colour) for colour in COLOURS_RGB] + [0] * UNKNOWN_DIRECTIONS)
        if not counts.any():
            digest = hashlib.sha256(" ".join(words).encode("utf-8", "replace")).digest()
            counts[len(COLOURS_RGB) + digest[0] % UNKNOWN_DIRECTIONS] = 1
        return _unit(counts)


class PlainEmbedder:
    """``ColourEmbedder`` without anything that an embedder need not have."""

    name = "plain colours"
    fingerprint = "plain-colours/1"

    def __init__(self) -> None:
        self._colours = ColourEmbedder()
        self.dim = self._colours.dim

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        return self._colours.embed_images(images)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return self._colours.embed_texts(texts)


class PoolingEmbedder(ColourEmbedder):
    """Also sees the pixels inside masks alone."""

    region_share = 0.3

    def embed_regions(self, image: RGBImage, masks: Iterable[BoolMask]) -> Vectors:
        return self._stack([self._embed_image(image[mask][None]) for mask in masks])


def _nearest(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Return the (...) numbers of the colours nearest to (..., 3) pixels."""
    colours = np.array(list(COLOURS_RGB.values()), np.float32)
    # |p - c|^2 without |p|^2, which is the same for every colour
    distances = np.square(colours).sum(1) - 2 * (pixels.astype(np.float32) @ colours.T)
    numbers: npt.NDArray[np.intp] = distances.argmin(-1)
    return numbers


def _unit(counts: npt.NDArray[np.int_]) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = (counts / np.linalg.norm(counts, axis=-1, keepdims=True)).astype(
        np.float32
    )
    return unit


def write_tiny_open_clip(folder: Path, *, seed: int = 0, hf_tokenizer: Path | None = None) -> Path:
    """Register a very small model with open_clip as ``TINY_OPEN_CLIP`` and return its random checkpoint.

    Args:
        folder: Where the configuration and the checkpoint are written.
        seed: Of the weights; vectors of different seeds differ.
        hf_tokenizer: A folder with a Hugging Face tokenizer to use in place of CLIP's own.
    """
    import open_clip
    import torch

    text = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    if hf_tokenizer is not None:
        text["hf_tokenizer_name"] = str(hf_tokenizer)  # type: ignore[assignment]
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    config = folder / f"{TINY_OPEN_CLIP}.json"
    config.write_text(json.dumps({"embed_dim": 48, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.create_model(TINY_OPEN_CLIP)
    checkpoint = folder / f"tiny-{seed}.pt"
    torch.save(model.state_dict(), checkpoint)
    return checkpoint
