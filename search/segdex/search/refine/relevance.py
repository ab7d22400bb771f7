"""Relevance decode: draw a hit again, prompted by what the question says about the pixels around it.

The index's own embedder gives a dense map of how near each part of the picture is to the question; from it
come points, a box and a mask for SAM 2's decoder. It needs no weights beyond those of the index, and it is
no EVF-SAM2: a text such as "the man on the left" needs that.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from scipy.special import expit

from segdex.core.geometry import BoxXYXY
from segdex.core.masks import BoolMask, decode_mask, mask_box
from segdex.core.protocols import BACKGROUND, FOREGROUND, Embedder, ImageFeatures, PromptableSegmenter
from segdex.core.records import RGBImage, Vectors
from segdex.search.prompting import PromptedMask, ThingPrompt, mask_prompt, prompted_masks
from segdex.search.refine.presence import STD_FLOOR

Floats = npt.NDArray[np.float32]

MAP_SCALE = 2.0
"""Side of the part of the picture that is mapped, over the side of the hit's box."""

_MIN_WINDOW_PX = 64
_MAP_LOGIT = 4.0  # logits of a mask prompt for each standard deviation of the map
_OUTSIDE_LOGIT = -10.0  # of what was not mapped
_GAP_PX = 3  # a background point keeps this distance from the mask

Source = Literal["outline", "relevance", "evf"]


@dataclass(frozen=True, slots=True, eq=False)
class RelevanceMap:
    """How much a part of a picture has of what is asked for.

    Attributes:
        values: (h, w) float32, standard deviations above what other words score there.
        window: The part of the picture that it covers evenly, in pixels.
    """

    values: Floats
    window: BoxXYXY

    @property
    def threshold(self) -> float:
        """Half way between the middle of the map and its peak."""
        return float((self.values.max() + np.median(self.values)) / 2)

    def at_full_size(self) -> Floats:
        """Return the map in pixels of the window, bilinear."""
        width, height = self.window.size_wh
        picture = Image.fromarray(self.values.astype(np.float32))
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A mask that may replace a stored one.

    Attributes:
        mask: The mask.
        source: ``outline`` from box and mask of the hit, ``relevance`` from the map, ``evf`` from the text.
        agreement: Soft IoU of mask and map, 0 to 1; 1 where there is no map.
    """

    mask: PromptedMask
    source: Source
    agreement: float


def make_map(
    image: RGBImage, window: BoxXYXY, *, query: Floats, distractors: Vectors, embedder: Embedder
) -> RelevanceMap:
    """Return the map of a part of a picture.

    Args:
        image: (H, W, 3) uint8, the whole picture.
        window: The part.
        query: (dim,) what is asked for.
        distractors: (m, dim) unit rows of other words.
        embedder: What filled the index.
    """
    part = np.ascontiguousarray(image[window.y1 : window.y2, window.x1 : window.x2])
    unit = query / max(float(np.linalg.norm(query)), 1e-12)
    cosines = embedder.relevance(part, np.concatenate([unit[None], distractors]).astype(np.float32))
    others = cosines[1:]
    values = (cosines[0] - others.mean(axis=0)) / np.maximum(others.std(axis=0), STD_FLOOR)
    return RelevanceMap(values.astype(np.float32), window)


def window_of(box: BoxXYXY, size_hw: tuple[int, int]) -> BoxXYXY:
    """Return the part of the picture that is mapped for a hit."""
    return box.scale_about_centre(MAP_SCALE, size_hw, min_side_px=_MIN_WINDOW_PX)


def agreement(relevance: RelevanceMap, mask: BoolMask) -> float:
    """Return the soft IoU of a (H, W) mask of the picture and a map, inside the map's window."""
    part = _cut(mask, relevance.window)
    likely = expit(relevance.at_full_size() - relevance.threshold)
    return float((likely * part).sum() / max(float(np.maximum(likely, part).sum()), 1e-6))


def map_prompt(
    relevance: RelevanceMap, *, inside: BoolMask | None, size_hw: tuple[int, int], mask_px: int
) -> ThingPrompt:
    """Return the prompt that a map stands for.

    A point on its peak, one of the background at its lowest place, the box of what is above the threshold
    around the peak, and the map itself as a mask.

    Args:
        relevance: The map.
        inside: (H, W) mask of the hit: the peak is looked for in it, the lowest place outside, and the box
            holds it. None where there is no hit.
        size_hw: Height and width of the picture.
        mask_px: Side of a mask prompt.
    """
    values, window = relevance.at_full_size(), relevance.window
    mine = np.ones(values.shape, bool) if inside is None else _cut(inside, window)
    peak = _place_of(np.where(mine, values, -np.inf).argmax(), values.shape)
    regions, _ = ndimage.label(values >= min(relevance.threshold, float(values[peak])))
    region = mask_box(regions == regions[peak])
    if inside is not None:
        own = mask_box(mine)
        region = BoxXYXY(
            min(region.x1, own.x1), min(region.y1, own.y1), max(region.x2, own.x2), max(region.y2, own.y2)
        )
    thing = ndimage.binary_dilation(
        mine if inside is not None else regions == regions[peak], iterations=_GAP_PX
    )
    points, labels = [peak], [FOREGROUND]
    if not thing.all():
        points.append(_place_of(np.where(thing, np.inf, values).argmin(), values.shape))
        labels.append(BACKGROUND)
    logits = np.full(size_hw, _OUTSIDE_LOGIT, np.float32)
    part = (values - relevance.threshold) * _MAP_LOGIT
    logits[window.y1 : window.y2, window.x1 : window.x2] = part
    small = Image.fromarray(logits).resize((mask_px, mask_px), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return ThingPrompt(
        points_xy=tuple((float(x + window.x1), float(y + window.y1)) for y, x in points),
        labels=tuple(labels),
        box_xyxy=(
            float(region.x1 + window.x1),
            float(region.y1 + window.y1),
            float(region.x2 + window.x1),
            float(region.y2 + window.y1),
        ),
        mask_logits=np.clip(np.asarray(small, np.float32), -32, 32),
    )


def outline_prompt(mask: BoolMask, box: BoxXYXY, mask_px: int) -> ThingPrompt:
    """Return the prompt that draws a mask again: its box, and the mask itself."""
    x1, y1, x2, y2 = (float(edge) for edge in box)
    return ThingPrompt(box_xyxy=(x1, y1, x2, y2), mask_logits=mask_prompt(mask, mask_px))


def propose_by_map(
    relevance: RelevanceMap, prompt: ThingPrompt, *, features: ImageFeatures, segmenter: PromptableSegmenter
) -> Proposal:
    """Return the mask of a map's prompt: of SAM's three the one with the best predicted IoU and agreement."""
    proposals = [
        Proposal(mask, "relevance", agreement(relevance, decode_mask(mask.mask)))
        for mask in prompted_masks(features, prompt, segmenter=segmenter, multimask=True)
    ]
    return max(proposals, key=lambda each: each.mask.predicted_iou * each.agreement)


def _cut(mask: BoolMask, window: BoxXYXY) -> BoolMask:
    return mask[window.y1 : window.y2, window.x1 : window.x2]


def _place_of(position: np.intp, shape: tuple[int, ...]) -> tuple[int, int]:
    y, x = np.unravel_index(position, shape)
    return int(y), int(x)
