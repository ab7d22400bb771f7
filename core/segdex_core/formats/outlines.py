"""Masks as simplified polygons for formats without masks, and the masks that readers make of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from segdex_core.formats.polygons import Ring, mask_polygon
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, MaskRLE, encode_mask

Points = npt.NDArray[np.float64]
"""(n, 2) corners x, y of a closed outline in pixels, the first not repeated; at least 3."""

DEFAULT_TOLERANCE_PX = 0.5
"""Moves no outline over the centre of a pixel, so that COCO readers make the same mask of it."""

_COMPARED = 500
"""Corners of an outline that are compared with those of another one."""

_NEAREST = 64
"""Outlines that are joined by a short way."""


@dataclass(frozen=True, slots=True)
class Outlines:
    """A mask as polygons.

    Attributes:
        parts: One closed outline for each part of the mask. Holes are cut in by a bridge: the outline runs to
            the hole, around it and back the same way.
        lost_holes: Number of holes that are too small for the tolerance, and are filled.
    """

    parts: Sequence[Points]
    lost_holes: int


def outlines_of(mask: BoolMask, box: BoxXYXY, *, tolerance_px: float) -> Outlines:
    """Return the outlines of a mask along pixel edges, with fewer corners.

    Args:
        mask: (H, W) bool, not empty.
        box: Box that holds the mask.
        tolerance_px: Largest distance of the outline from the edges of the pixels; 0 keeps it exact.
    """
    parts: list[Points] = []
    lost = 0
    polygons = mask_polygon(mask[box.y1 : box.y2, box.x1 : box.x2])["coordinates"]
    for outer, *holes in polygons:
        outline = _simplified(outer, tolerance_px)
        if outline is None:
            outline = _corners(outer)  # a part of few pixels stays exact: it would vanish
        cut = [ring for hole in holes if (ring := _simplified(hole, tolerance_px)) is not None]
        lost += len(holes) - len(cut)
        parts.append(joined([outline, *cut]) + np.asarray((box.x1, box.y1)))
    return Outlines(parts, lost)


def centre_outlines_of(mask: BoolMask, box: BoxXYXY, *, tolerance_px: float) -> Outlines:
    """Return the outlines of a mask through the centres of its outermost pixels, with fewer corners.

    They are for readers that draw an outline as well as what it encloses, as OpenCV's ``fillPoly`` does: an
    outline along pixel edges would make the mask a pixel wider there.

    Args:
        mask: (H, W) bool, not empty.
        box: Box that holds the mask.
        tolerance_px: Largest distance of the outline from the centres; 0 keeps it exact.
    """
    parts: list[Points] = []
    lost = 0
    for outer, *holes in mask_polygon(mask[box.y1 : box.y2, box.x1 : box.x2])["coordinates"]:
        cut = [_fewer(_inset(ring), tolerance_px) for ring in holes]
        kept = [ring for ring in cut if len(ring) >= 3]
        lost += len(cut) - len(kept)
        outline = _fewer(_inset(outer), tolerance_px)
        outline = np.concatenate([outline, np.repeat(outline[-1:], max(3 - len(outline), 0), axis=0)])
        parts.append(joined([outline, *kept]) + np.asarray((box.x1, box.y1)))
    return Outlines(parts, lost)


def joined(rings: Sequence[Points]) -> Points:
    """Return one outline of several: along the first, over a short way to the next, around it and back.

    What lies between both ways has no area, so an even-odd reader fills exactly what the outlines fill.

    Args:
        rings: At least one outline. After the 64th, all ways start at one corner: they are longer, but a
            noisy mask of many thousand parts does not take minutes.
    """
    outline = rings[0]
    for ring in rings[1:_NEAREST]:
        outline = _joined(outline, ring)
    anchor = outline[:1]
    rest = [piece for ring in rings[_NEAREST:] for piece in (anchor, ring, ring[:1])]
    return np.concatenate([outline, *rest, anchor]) if rest else outline


def _joined(one: Points, other: Points) -> Points:
    every, each = 1 + len(one) // _COMPARED, 1 + len(other) // _COMPARED  # else long outlines take gigabytes
    distances = ((one[::every, None, :] - other[None, ::each, :]) ** 2).sum(axis=2)
    at, to = divmod(int(distances.argmin()), distances.shape[1])
    at, to = at * every, to * each
    return np.concatenate([one[: at + 1], other[to:], other[: to + 1], one[at:]])


def filled(parts: Sequence[Points], size_hw: tuple[int, int]) -> MaskRLE:
    """Return the mask that pycocotools, the reader of COCO, makes of outlines: their union.

    Args:
        parts: At least one outline.
        size_hw: Height and width of the image in pixels.
    """
    height, width = size_hw
    drawn = coco_mask.merge(coco_mask.frPyObjects([part.ravel().tolist() for part in parts], height, width))
    return MaskRLE(size_hw, drawn["counts"].decode("ascii"))


def drawn(outline: Points, size_hw: tuple[int, int]) -> MaskRLE:
    """Return the mask that readers make of an outline which draw it too, at whole pixels.

    Args:
        outline: The outline.
        size_hw: Height and width of the image in pixels.
    """
    height, width = size_hw
    canvas = Image.new("L", (width, height))
    corners = [(int(x), int(y)) for x, y in outline.tolist()]
    ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
    return encode_mask(np.asarray(canvas) > 0)


def _inset(ring: Ring) -> Points:
    """Return a ring that was moved by half a pixel into the mask, which is on its right."""
    corners = _corners(ring)
    ways = np.sign(np.diff(corners, axis=0, append=corners[:1]))
    inwards = np.stack([-ways[:, 1], ways[:, 0]], axis=1) / 2
    return corners + inwards + np.roll(inwards, 1, axis=0)


def _corners(ring: Ring) -> Points:
    return np.asarray(ring[:-1], np.float64)


def _simplified(ring: Ring, tolerance_px: float) -> Points | None:
    """Return a ring with fewer corners (Douglas and Peucker); None if it has no area left."""
    simple = _fewer(_corners(ring), tolerance_px)
    return simple if len(simple) >= 3 and abs(_area(simple)) >= 0.5 else None


def _fewer(points: Points, tolerance_px: float) -> Points:
    """Return a closed outline with fewer corners, at least one."""
    if tolerance_px == 0:
        return points
    far = int(((points - points[0]) ** 2).sum(axis=1).argmax())
    closed = np.concatenate([points, points[:1]])
    kept = np.zeros(len(closed), bool)
    kept[[0, far, len(points)]] = True
    for first, last in _split(closed, [(0, far), (far, len(points))], tolerance_px):
        kept[[first, last]] = True
    return closed[:-1][kept[:-1]]


def _split(points: Points, pieces: list[tuple[int, int]], tolerance_px: float) -> Iterator[tuple[int, int]]:
    """Yield the pieces of a line that no point in between is farther from than the tolerance."""
    waiting = list(pieces)
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            yield first, last
            continue
        start, way = points[first], points[last] - points[first]
        offsets = points[first + 1 : last] - start
        length = float(np.hypot(*way))
        if length:
            along = np.clip(offsets @ way / length**2, 0, 1)
            distances = np.hypot(*(offsets - along[:, None] * way).T)
        else:
            distances = np.hypot(*offsets.T)
        farthest = int(distances.argmax())
        if distances[farthest] <= tolerance_px:
            yield first, last
        else:
            middle = first + 1 + farthest
            waiting += [(first, middle), (middle, last)]


def _area(points: Points) -> float:
    closed = np.concatenate([points, points[:1]]).tolist()
    return float(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(closed)) / 2)
