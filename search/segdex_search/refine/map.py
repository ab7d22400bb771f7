"""Relevance decode: re-decode a hit with a prompt made from a relevance map around it.

The embedder of the index computes a dense map of how near each part of the image is to the query. Points, a
box and a mask for SAM 2's decoder are made from the map. Relevance decode needs no weights beyond the models
of the index, but does not replace EVF-SAM2, which a text such as "the man on the left" needs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from segdex_core.geometry import BoxXYXY, MaskBoxXYXY
from segdex_core.masks import BoolMask, mask_box
from segdex_core.ports.embedder import DenseEmbedder
from segdex_core.ports.prompts import BACKGROUND, FOREGROUND
from segdex_core.ports.segmenter import ImageFeatures, Segmenter
from segdex_core.records import RGBImage, Vectors
from segdex_core.wire.search import MaskSource
from segdex_search.click import PromptedMask, ThingPrompt, full_mask, mask_prompt, to_prompts
from segdex_search.presence import STD_FLOOR

Floats = npt.NDArray[np.float32]

MAP_SCALE = 2.0
"""Ratio of the side of the mapped part of the image to the side of the hit's box."""

_MIN_WINDOW_PX = 64
_MAP_LOGIT = 4.0  # logits of a mask prompt per standard deviation of the map
_OUTSIDE_LOGIT = -10.0  # logit outside the mapped part
_GRID = 256  # longer side of the grid on which points and boxes are found
_GAP_CELLS = 3  # minimum distance of a background point from the mask


@dataclass(frozen=True, slots=True, eq=False)
class RelevanceMap:
    """How relevant each place in a part of an image is to a query.

    Attributes:
        values: (h, w) float32, standard deviations above the scores of other words.
        window: Part of the image that the map covers evenly, in pixels.
    """

    values: Floats
    window: BoxXYXY

    @property
    def threshold(self) -> float:
        """Midpoint between the median and the maximum of the map."""
        return float((self.values.max() + np.median(self.values)) / 2)

    def at_size(self, size_wh: tuple[int, int]) -> Floats:
        """Return the values of the map, resized bilinearly to a width and height."""
        picture = Image.fromarray(self.values.astype(np.float32))
        return np.asarray(picture.resize(size_wh, Image.Resampling.BILINEAR), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A mask that may replace a stored mask.

    Attributes:
        mask: Re-decoded mask.
        source: ``outline`` if decoded from the box and mask of the hit, ``relevance`` from the map, ``evf``
            from the text.
        agreement: Soft IoU of the mask and the map, 0 to 1; 1 without a map.
    """

    mask: PromptedMask
    source: MaskSource
    agreement: float


def make_map(
    image: RGBImage, window: BoxXYXY, *, query: Floats, distractors: Vectors, embedder: DenseEmbedder
) -> RelevanceMap:
    """Return the relevance map of a part of an image.

    Args:
        image: (H, W, 3) uint8, the whole image.
        window: Part of the image to map, in pixels.
        query: (dim,) query vector.
        distractors: (m, dim) unit rows of other words.
        embedder: Embedder that filled the index.
    """
    part = np.ascontiguousarray(image[window.y1 : window.y2, window.x1 : window.x2])
    unit = query / max(float(np.linalg.norm(query)), 1e-12)
    cosines = embedder.relevance(part, np.concatenate([unit[None], distractors]).astype(np.float32))
    others = cosines[1:]
    values = (cosines[0] - others.mean(axis=0)) / np.maximum(others.std(axis=0), STD_FLOOR)
    return RelevanceMap(values.astype(np.float32), window)


def window_of(box: BoxXYXY, size_hw: tuple[int, int]) -> BoxXYXY:
    """Return the part of the image that is mapped for a hit."""
    return box.scale_about_centre(MAP_SCALE, size_hw, min_side_px=_MIN_WINDOW_PX)


def agreement(relevance: RelevanceMap, mask: BoolMask, size_hw: tuple[int, int]) -> float:
    """Return the soft IoU of a mask and a map, inside the map's window.

    Args:
        relevance: Relevance map.
        mask: Mask of the whole image, at any resolution; the decoder's resolution is enough.
        size_hw: Height and width of the image in pixels.
    """
    from scipy.special import expit

    part = _cut(mask, relevance.window.to_mask_px(size_hw, (mask.shape[0], mask.shape[1])))
    likely = expit(relevance.at_size((part.shape[1], part.shape[0])) - relevance.threshold)
    return float((likely * part).sum() / max(float(np.maximum(likely, part).sum()), 1e-6))


def map_prompt(
    relevance: RelevanceMap, *, inside: BoolMask | None, size_hw: tuple[int, int], mask_px: int
) -> ThingPrompt:
    """Return the prompt made from a map.

    The prompt has a point at the maximum of the map, a background point at the minimum, the box of the region
    above the threshold around the maximum, and the map as a mask.

    Args:
        relevance: Relevance map.
        inside: (H, W) mask of the hit: the maximum is inside it, the minimum is outside, and the box contains
            it. None without a hit.
        size_hw: Height and width of the image in pixels.
        mask_px: Side of a mask prompt.
    """
    from scipy import ndimage  # the import takes a third of a second, and only --refine needs it

    window = relevance.window
    grid_wh = _grid_of(window)
    values = relevance.at_size(grid_wh)
    mine = np.ones(values.shape, bool) if inside is None else _shrunk(_cut(inside, window), grid_wh)
    peak = _place_of(np.where(mine, values, -np.inf).argmax(), values.shape)
    regions, _ = ndimage.label(values >= min(relevance.threshold, float(values[peak])))
    region = regions == regions[peak]
    grown = ndimage.binary_dilation(region if inside is None else mine, iterations=_GAP_CELLS)
    box = MaskBoxXYXY(*mask_box(region if inside is None else region | mine))
    points, labels = [peak], [FOREGROUND]
    if not grown.all():
        points.append(_place_of(np.where(grown, np.inf, values).argmin(), values.shape))
        labels.append(BACKGROUND)
    step_x, step_y = window.size_wh[0] / grid_wh[0], window.size_wh[1] / grid_wh[1]
    return ThingPrompt(
        points_xy=tuple((window.x1 + (x + 0.5) * step_x, window.y1 + (y + 0.5) * step_y) for y, x in points),
        labels=tuple(labels),
        box_xyxy=box.to_picture_px(window, (grid_wh[1], grid_wh[0])),
        mask_logits=_map_logits(relevance, size_hw, mask_px),
    )


def _map_logits(relevance: RelevanceMap, size_hw: tuple[int, int], mask_px: int) -> Floats:
    """Return a map as the (s, s) logits of a mask prompt for the whole image."""
    logits = np.full((mask_px, mask_px), _OUTSIDE_LOGIT, np.float32)
    part = relevance.window.to_mask_px(size_hw, (mask_px, mask_px))
    values = relevance.at_size(part.size_wh) - relevance.threshold
    logits[part.y1 : part.y2, part.x1 : part.x2] = np.clip(values * _MAP_LOGIT, -32, 32)
    return logits


def outline_prompt(mask: BoolMask, box: BoxXYXY, mask_px: int) -> ThingPrompt:
    """Return the prompt that re-decodes a mask: the box and the mask itself."""
    x1, y1, x2, y2 = (float(edge) for edge in box)
    return ThingPrompt(box_xyxy=(x1, y1, x2, y2), mask_logits=mask_prompt(mask, mask_px))


def propose_by_map(
    relevance: RelevanceMap, prompt: ThingPrompt, *, features: ImageFeatures, segmenter: Segmenter
) -> Proposal:
    """Return the best of SAM's three masks for a map's prompt, by predicted IoU times agreement."""
    size_hw = features.size_hw
    decoded = segmenter.decode(features, to_prompts(prompt, size_hw), multimask=True)
    agreements = [agreement(relevance, logits > 0, size_hw) for logits in decoded.logits[0]]
    best = int(np.argmax(decoded.predicted_iou[0] * np.asarray(agreements)))
    mask = full_mask(decoded.logits[0, best], float(decoded.predicted_iou[0, best]), size_hw)
    return Proposal(mask, "relevance", agreements[best])


def _cut(mask: BoolMask, window: BoxXYXY | MaskBoxXYXY) -> BoolMask:
    return mask[window.y1 : window.y2, window.x1 : window.x2]


def _grid_of(window: BoxXYXY) -> tuple[int, int]:
    """Return the width and height of a window's search grid: its own size, or less for a large window."""
    width, height = window.size_wh
    scale = min(1.0, _GRID / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _shrunk(mask: BoolMask, size_wh: tuple[int, int]) -> BoolMask:
    """Return a mask at another size; a mask thinner than a cell keeps its fullest cells."""
    share = np.asarray(
        Image.fromarray(mask.astype(np.uint8) * 255).resize(size_wh, Image.Resampling.BOX), np.uint8
    )
    shrunk: BoolMask = share >= min(128, max(int(share.max()), 1))
    return shrunk


def _place_of(position: np.intp, shape: tuple[int, ...]) -> tuple[int, int]:
    y, x = np.unravel_index(position, shape)
    return int(y), int(x)
