"""Boxes in whole pixels, with separate types for image and mask pixels, and functions on box arrays."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

BoxesXYXY = npt.NDArray[np.float32]
"""(n, 4) float32, x1 y1 x2 y2 in pixels, x2 and y2 exclusive."""

LONG_ASPECT = 2.0
"""Ratio of the sides above which a picture is long: it is segmented, and prompted, in parts."""


class _Box(NamedTuple):
    """Base class of boxes in image and mask pixels; ``x2`` and ``y2`` are exclusive."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.x2 - self.x1, self.y2 - self.y1

    @property
    def area_px(self) -> int:
        """Area in square pixels; 0 for an empty box."""
        width, height = self.size_wh
        return max(width, 0) * max(height, 0)

    def shift(self, x: int, y: int) -> Self:
        """Return the box moved ``x`` pixels to the right and ``y`` pixels down."""
        return type(self)(self.x1 + x, self.y1 + y, self.x2 + x, self.y2 + y)

    def clip(self, size_hw: tuple[int, int]) -> Self:
        """Return the part of the box inside an array of ``size_hw``."""
        height, width = size_hw
        return type(self)(
            min(max(self.x1, 0), width),
            min(max(self.y1, 0), height),
            min(max(self.x2, 0), width),
            min(max(self.y2, 0), height),
        )


class BoxXYXY(_Box):
    """A box in whole pixels of the image, or of a window of it; ``x2`` and ``y2`` are exclusive."""

    __slots__ = ()

    def scale_about_centre(
        self, factor: float, size_hw: tuple[int, int], *, min_side_px: int = 1
    ) -> "BoxXYXY":
        """Return the box scaled by ``factor`` about its centre and clipped to the image.

        Args:
            factor: Ratio of new to old side; the ``crop`` view uses 1.1.
            size_hw: Height and width of the image in pixels.
            min_side_px: Minimum side in pixels before clipping, so that a box inside the image is never
                empty.

        Example:
            >>> BoxXYXY(10, 10, 20, 30).scale_about_centre(1.5, (100, 100))
            BoxXYXY(x1=7, y1=5, x2=23, y2=35)
        """
        width, height = self.size_wh
        centre_x, centre_y = (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2
        half_w = max(width * factor, min_side_px) / 2
        half_h = max(height * factor, min_side_px) / 2
        grown = BoxXYXY(
            int(np.floor(centre_x - half_w)),
            int(np.floor(centre_y - half_h)),
            int(np.ceil(centre_x + half_w)),
            int(np.ceil(centre_y + half_h)),
        )
        return grown.clip(size_hw)

    def to_mask_px(self, size_hw: tuple[int, int], mask_hw: tuple[int, int]) -> "MaskBoxXYXY":
        """Return the box in pixels of a mask of the whole image, at least one pixel wide and high.

        Args:
            size_hw: Height and width of the image in pixels; the box is inside the image.
            mask_hw: Height and width of the mask.

        Example:
            >>> BoxXYXY(20, 40, 60, 80).to_mask_px((80, 80), (16, 16))
            MaskBoxXYXY(x1=4, y1=8, x2=12, y2=16)
        """
        down, across = mask_hw[0] / size_hw[0], mask_hw[1] / size_hw[1]
        x1, y1 = min(int(self.x1 * across), mask_hw[1] - 1), min(int(self.y1 * down), mask_hw[0] - 1)
        return MaskBoxXYXY(x1, y1, max(round(self.x2 * across), x1 + 1), max(round(self.y2 * down), y1 + 1))


class MaskBoxXYXY(_Box):
    """A box in whole pixels of a mask that covers a window at another resolution.

    An example is a square mask of a segmenter, 0 to ``ImageFeatures.mask_px``. ``x2`` and ``y2`` are
    exclusive. Type checkers treat this class and ``BoxXYXY`` as different types.
    """

    __slots__ = ()

    @classmethod
    def whole(cls, mask_px: int) -> Self:
        """Return the box of a whole square mask with sides of ``mask_px`` pixels."""
        return cls(0, 0, mask_px, mask_px)

    def to_picture_px(self, window: BoxXYXY, mask_hw: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return x1, y1, x2, y2 in image pixels, not rounded.

        Args:
            window: The part of the image that the mask covers evenly.
            mask_hw: Height and width of the mask.

        Example:
            >>> MaskBoxXYXY(4, 8, 12, 16).to_picture_px(BoxXYXY(100, 0, 180, 80), (16, 16))
            (120.0, 40.0, 160.0, 80.0)
        """
        step_x, step_y = window.size_wh[0] / mask_hw[1], window.size_wh[1] / mask_hw[0]
        return (
            window.x1 + self.x1 * step_x,
            window.y1 + self.y1 * step_y,
            window.x1 + self.x2 * step_x,
            window.y1 + self.y2 * step_y,
        )


def box_iou(a_xyxy: BoxesXYXY, b_xyxy: BoxesXYXY) -> npt.NDArray[np.float32]:
    """Return the (n, m) intersection over union of two sets of boxes; 0 where both are empty.

    Example:
        >>> box_iou(np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 0, 3, 2]], np.float32)).round(3)
        array([[0.333]], dtype=float32)
    """
    top_left = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    bottom_right = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    intersection = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    area_a = np.clip(a_xyxy[:, 2:] - a_xyxy[:, :2], 0, None).prod(axis=1)
    area_b = np.clip(b_xyxy[:, 2:] - b_xyxy[:, :2], 0, None).prod(axis=1)
    union = area_a[:, None] + area_b[None, :] - intersection
    iou: npt.NDArray[np.float32] = np.divide(
        intersection, union, out=np.zeros_like(intersection), where=union > 0
    )
    return iou


def box_nms(
    boxes_xyxy: BoxesXYXY, scores: npt.NDArray[np.float32], *, iou_threshold: float
) -> npt.NDArray[np.intp]:
    """Return the indices that greedy non-maximum suppression keeps, best score first.

    A box is dropped when its IoU with a kept box of higher score is above ``iou_threshold``; ties go to the
    lower index, as in torchvision.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        overlap = box_iou(boxes_xyxy[best : best + 1], boxes_xyxy[rest])[0]
        order = rest[overlap <= iou_threshold]
    return np.asarray(kept, dtype=np.intp)
