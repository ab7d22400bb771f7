"""A segmenter without a model: floods the regions of nearly one colour around the prompted points."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from segdex_core.geometry import MaskBoxXYXY
from segdex_core.masks import BoolMask, mask_box
from segdex_core.ports.prompts import (
    BACKGROUND,
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    FOREGROUND,
    DecodedMasks,
    Prompts,
)
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures
from segdex_core.records import RGBImage
from segdex_ingest.masks.generate import GeneratorSettings

TIGHT, LOOSE = 8, 40
"""Tolerances in levels of 0..255: how far a channel may be from the colour at the point."""

INSIDE_LOGIT = 8.0

SMALL_FRAME = GeneratorSettings(frame_px=256, part_px=64, explained_above=1.0, redraws=False)
"""Enough for a few boxes in a hundred pixels, in a third of the time of a frame of 1024."""


_Regions = tuple[tuple[bytes, int, int], ...]
_Prompt = tuple[_Regions, _Regions, tuple[int, int, int, int] | None]
_Answer = tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class FloodFeatures:
    """The picture squashed to a quarter of its frame, and what was found in it so far.

    Attributes:
        size_hw: Of the picture.
        pixels: (side, side, 3).
        regions: By colour and tolerance, (side, side) numbers of connected regions.
        answers: The masks and scores of prompts, by what they depend on.
        part: Where masks are cut out of the frame; None for all of it.
    """

    size_hw: tuple[int, int]
    pixels: npt.NDArray[np.int16]
    regions: dict[tuple[bytes, int], npt.NDArray[np.int32]] = field(default_factory=dict)
    answers: dict[_Prompt, _Answer] = field(default_factory=dict)
    part: MaskBoxXYXY | None = None

    @property
    def mask_px(self) -> int:
        return len(self.pixels)

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes


class FloodSegmenter:
    """Three nested masks for each prompt: the region, a looser one, and the box around that.

    Points of the background take their own region away; a box cuts everything outside it and, without a
    point in it, is seeded at its centre; an earlier mask is added. The predicted IoU is the share of a mask
    that has nearly the colour of the first seed.
    """

    name = "flood fill"
    fingerprint = "flood:v1"
    decoder_id = "flood"

    def prompts_per_batch(self, features: ImageFeatures) -> int:
        return 64

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        if frame_px % 32:
            raise ValueError(f"the frame must be a multiple of 32 px, but is {frame_px}")
        return [
            FloodFeatures((image.shape[0], image.shape[1]), _squash(image, frame_px // 4)) for image in images
        ]

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        if not isinstance(features, FloodFeatures):
            raise ValueError("the features come from another segmenter: encode the picture with this one")
        (height, width), side = features.size_hw, features.mask_px
        if prompts.mask_logits is not None and prompts.mask_logits.shape[-1] != side:
            raise ValueError(f"a mask prompt here is {side}x{side}, but got {prompts.mask_logits.shape}")
        points = np.floor(prompts.points_xy / np.array([width, height]) * side)
        points = points.clip(0, side - 1).astype(int)
        masks = np.zeros((len(prompts), 3, side, side), dtype=bool)
        scores = np.zeros((len(prompts), 3), np.float32)
        for i in range(len(prompts)):
            earlier = None if prompts.mask_logits is None else prompts.mask_logits[i] > 0
            masks[i], scores[i] = _decode_one(features, points[i], prompts.labels[i], earlier)
        chosen = slice(0, 3) if multimask else slice(1, 2)
        logits = np.where(masks[:, chosen], INSIDE_LOGIT, -INSIDE_LOGIT).astype(np.float32)
        x1, y1, x2, y2 = features.part or (0, 0, side, side)
        estimates = scores[:, chosen]
        return DecodedMasks(logits[:, :, y1:y2, x1:x2], estimates, tokens=estimates[..., None])

    def dump(self, features: ImageFeatures) -> bytes:
        if not isinstance(features, FloodFeatures) or features.part is not None:
            raise ValueError("only features of a whole picture that this segmenter encoded can be kept")
        buffer = BytesIO()
        np.savez(buffer, size_hw=features.size_hw, pixels=features.pixels)
        return buffer.getvalue()

    def restore(self, data: bytes) -> ImageFeatures:
        try:
            kept = np.load(BytesIO(data))
            height, width = kept["size_hw"].tolist()
            return FloodFeatures((height, width), kept["pixels"])
        except (OSError, KeyError, EOFError, ValueError, BadZipFile) as error:
            raise ValueError(f"these are no features: {error}") from error

    def narrow(self, features: ImageFeatures, box: MaskBoxXYXY) -> ImageFeatures:
        if not isinstance(features, FloodFeatures):
            raise ValueError("the features come from another segmenter: encode the picture with this one")
        if any(edge % 4 or not 0 <= edge <= features.mask_px for edge in box):
            raise ValueError(f"a part is made of whole cells of 4 px inside the frame, but got {box}")
        return replace(features, part=box)


def _squash(image: RGBImage, side: int) -> npt.NDArray[np.int16]:
    height, width = image.shape[:2]
    rows = (np.arange(side) + 0.5) * height / side
    columns = (np.arange(side) + 0.5) * width / side
    squashed: npt.NDArray[np.int16] = image.astype(np.int16)[rows.astype(int)][:, columns.astype(int)]
    return squashed


def _decode_one(
    features: FloodFeatures,
    points: npt.NDArray[np.int_],
    labels: npt.NDArray[np.int64],
    earlier: BoolMask | None,
) -> _Answer:
    seeds, away = points[labels == FOREGROUND], points[labels == BACKGROUND]
    corners = points[(labels == BOX_TOP_LEFT) | (labels == BOX_BOTTOM_RIGHT)]
    box = None
    if len(corners):
        (x1, y1), (x2, y2) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        box = (x1, y1, x2, y2)
        if not len(seeds):
            seeds = np.array([[(x1 + x2) // 2, (y1 + y2) // 2]])
    if not len(seeds) and not len(away):
        raise ValueError("each prompt needs at least one point or box that is not padding")
    prompt = (_regions_at(features, seeds), _regions_at(features, away), box)
    if earlier is not None:
        return _masks_of(features, *prompt, earlier)
    if prompt not in features.answers:  # most points of a grid are in the same few regions
        features.answers[prompt] = _masks_of(features, *prompt, None)
    return features.answers[prompt]


def _masks_of(
    features: FloodFeatures,
    seeds: _Regions,
    away: _Regions,
    box: tuple[int, int, int, int] | None,
    earlier: BoolMask | None,
) -> _Answer:
    tight, loose = (_flood(features, seeds, tolerance) for tolerance in (TIGHT, LOOSE))
    wanted = ~_flood(features, away, TIGHT)
    if box is not None:
        x1, y1, x2, y2 = box
        inside = np.zeros_like(wanted)
        inside[y1 : y2 + 1, x1 : x2 + 1] = True
        wanted &= inside
    tight, loose = tight & wanted, loose & wanted
    if earlier is not None:
        tight, loose = tight | earlier, loose | earlier
    bounds = mask_box(loose)
    around = np.zeros_like(loose)
    around[bounds.y1 : bounds.y2, bounds.x1 : bounds.x2] = True
    masks = np.stack([tight, loose, around])
    if not seeds:
        return masks, np.zeros(3, np.float32)
    colour = np.frombuffer(seeds[0][0], features.pixels.dtype)
    alike = (np.abs(features.pixels - colour) <= TIGHT).all(axis=2)
    share = (masks & alike).sum(axis=(1, 2)) / np.maximum(masks.sum(axis=(1, 2)), 1)
    return masks, share.astype(np.float32)


def _regions_at(features: FloodFeatures, points: npt.NDArray[np.int_]) -> _Regions:
    """Return the colour at each point, and the number of the region around it by tolerance."""
    found = []
    for x, y in points:
        colour = features.pixels[y, x]
        for tolerance in (TIGHT, LOOSE):
            key = (colour.tobytes(), tolerance)
            if key not in features.regions:
                alike = (np.abs(features.pixels - colour) <= tolerance).all(axis=2)
                features.regions[key], _ = ndimage.label(alike)
        tight, loose = (int(features.regions[colour.tobytes(), t][y, x]) for t in (TIGHT, LOOSE))
        found.append((colour.tobytes(), tight, loose))
    return tuple(found)


def _flood(features: FloodFeatures, seeds: _Regions, tolerance: int) -> BoolMask:
    """Return the union of some regions."""
    flooded = np.zeros(features.pixels.shape[:2], dtype=bool)
    for colour, tight, loose in seeds:
        flooded |= features.regions[colour, tolerance] == (tight if tolerance == TIGHT else loose)
    return flooded


class PlainSegmenter:
    """``FloodSegmenter`` without anything that a segmenter need not have; remembers its calls."""

    name = "plain flood fill"
    fingerprint = "plain-flood:v1"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self._flood = FloodSegmenter()

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        return self._flood.encode(images, frame_px=frame_px)

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        self.batches.append(len(prompts))
        return self._flood.decode(features, prompts, multimask=multimask)


class GivenMasks:
    """A segmenter that answers every point with the same logits and estimates."""

    name = "given"
    fingerprint = "given"
    decoder_id = "given"

    def __init__(
        self, logits: npt.NDArray[np.float32], predicted_iou: Sequence[float], *, batch: int = 64
    ) -> None:
        self._logits = logits
        self._predicted_iou = np.asarray(predicted_iou, np.float32)
        self._batch = batch
        self.batches: list[int] = []

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        return FloodSegmenter().encode(images, frame_px=frame_px)

    def prompts_per_batch(self, features: ImageFeatures) -> int:
        return self._batch

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        self.batches.append(len(prompts))
        estimates = np.repeat(self._predicted_iou[None], len(prompts), axis=0)
        return DecodedMasks(
            np.repeat(self._logits[None], len(prompts), axis=0), estimates, tokens=estimates[..., None]
        )
