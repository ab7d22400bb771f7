"""Masks and their COCO run-length encoding (pycocotools): pure functions on numpy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from segdex_core.geometry import BoxXYXY

BoolMask = npt.NDArray[np.bool_]
"""(H, W) bool, rows first; True is the object."""


MAX_SIDE_PX = 1 << 20
"""Longest side of a mask in pixels: larger than any image, and small enough that pixel counts do not
overflow."""


@dataclass(frozen=True, slots=True)
class MaskRLE:
    """A mask in COCO's compressed run-length encoding, with column-major runs as in pycocotools.

    Attributes:
        size_hw: Height and width of the mask in pixels.
        counts: The compressed runs as ASCII text (``counts`` of a COCO annotation).
    """

    size_hw: tuple[int, int]
    counts: str

    def __post_init__(self) -> None:
        if min(self.size_hw) < 1 or max(self.size_hw) > MAX_SIDE_PX:
            raise ValueError(
                f"size_hw must be two whole numbers between 1 and {MAX_SIDE_PX:,}, but got {self.size_hw}"
            )
        if not self.counts.isascii():
            raise ValueError("counts must be COCO's compressed ASCII code")

    def to_coco(self) -> dict[str, object]:
        """Return the dictionary that pycocotools and COCO JSON use."""
        return {"size": list(self.size_hw), "counts": self.counts}


def encode_mask(mask: BoolMask) -> MaskRLE:
    """Return the run-length encoding of a mask."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    height, width = mask.shape
    return MaskRLE(size_hw=(height, width), counts=rle["counts"].decode("ascii"))


def decode_mask(rle: MaskRLE) -> BoolMask:
    """Return the (H, W) bool mask of a run-length encoding.

    Raises:
        ValueError: If the runs do not fit ``size_hw``.
    """
    height, width = rle.size_hw
    runs = rle_runs_px(rle)
    column_major = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(column_major.reshape(width, height).T)


def rle_runs_px(rle: MaskRLE) -> npt.NDArray[np.int64]:
    """Return the run lengths in pixels, down the columns; the first is outside the mask.

    Raises:
        ValueError: If the runs do not fit ``size_hw``.
    """
    runs = _runs_px(rle.counts)
    check_runs(runs, rle.size_hw)
    return runs


def check_runs(runs: npt.NDArray[np.int64], size_hw: tuple[int, int]) -> None:
    """Raise unless run lengths are 0 or more and add up to the size of a mask.

    Native code trusts the runs: if their sum wraps 2^64, the process crashes. Every running total is checked,
    not only the last, because a total exceeds the size before any total can wrap.

    Raises:
        ValueError: If the runs do not fit ``size_hw``.
    """
    height, width = size_hw
    size_px = height * width
    totals = np.cumsum(np.clip(runs, -1, size_px + 1))
    if runs.min(initial=0) < 0 or totals.max(initial=0) > size_px or int(runs.sum()) != size_px:
        raise ValueError(f"the runs of an RLE must add up to its size_hw, {height} x {width}")


def rle_area_px(rle: MaskRLE) -> int:
    """Return the number of pixels in the mask.

    Raises:
        ValueError: If the runs do not fit ``size_hw``.
    """
    return int(rle_runs_px(rle)[1::2].sum())


def rle_box(rle: MaskRLE) -> BoxXYXY:
    """Return the tight box of a mask from its runs, or ``BoxXYXY(0, 0, 0, 0)`` if the mask is empty.

    Raises:
        ValueError: If the runs do not fit ``size_hw``.
    """
    height = rle.size_hw[0]
    runs = rle_runs_px(rle)
    ends = np.cumsum(runs)
    inside = (np.arange(len(runs)) % 2 == 1) & (runs > 0)
    if not inside.any():
        return BoxXYXY(0, 0, 0, 0)
    (first_x, first_y), (last_x, last_y) = (
        np.divmod(places, height) for places in ((ends - runs)[inside], ends[inside] - 1)
    )
    x1, x2 = int(first_x.min()), int(last_x.max()) + 1
    if (first_x != last_x).any():  # a run that goes on in the next column has its last and first pixel
        return BoxXYXY(x1, 0, x2, height)
    return BoxXYXY(x1, int(first_y.min()), x2, int(last_y.max()) + 1)


def rle_iou(a: Sequence[MaskRLE], b: Sequence[MaskRLE]) -> npt.NDArray[np.float64]:
    """Return the (len(a), len(b)) mask IoU; all masks must have the same size.

    Raises:
        ValueError: If the runs of a mask do not fit ``size_hw``.
    """
    return _rle_overlap(a, b, over_area_of_a=False)


def rle_containment(a: Sequence[MaskRLE], b: Sequence[MaskRLE]) -> npt.NDArray[np.float64]:
    """Return the (len(a), len(b)) fraction of each mask of ``a`` that lies inside each mask of ``b``.

    Raises:
        ValueError: If the runs of a mask do not fit ``size_hw``.
    """
    return _rle_overlap(a, b, over_area_of_a=True)


def cell_shares(mask: BoolMask, cells_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return the (h, w) fraction, 0 to 1, of each cell that a mask covers; the cells form an even grid.

    Args:
        mask: (H, W) bool, larger or smaller than the grid of cells.
        cells_hw: Number of rows and columns of cells.
    """
    height, width = cells_hw
    pixels = Image.fromarray(mask.astype(np.uint8) * 255)
    shares: npt.NDArray[np.float32] = np.asarray(
        pixels.resize((width, height), Image.Resampling.BOX), np.float32
    ) / np.float32(255)
    if shares.any() or not mask.any():
        return shares
    # If the mask has a few pixels in large cells, uint8 rounds all fractions to 0.
    exact = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(exact, np.float32)


def mask_box(mask: BoolMask) -> BoxXYXY:
    """Return the tight box of a mask, or ``BoxXYXY(0, 0, 0, 0)`` if the mask is empty.

    Example:
        >>> mask_box(np.array([[0, 0, 0], [0, 1, 1]], dtype=bool))
        BoxXYXY(x1=1, y1=1, x2=3, y2=2)
    """
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return BoxXYXY(0, 0, 0, 0)
    return BoxXYXY(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _rle_overlap(
    a: Sequence[MaskRLE], b: Sequence[MaskRLE], *, over_area_of_a: bool
) -> npt.NDArray[np.float64]:
    if not a or not b:
        return np.zeros((len(a), len(b)))
    for mask in {*a, *b}:
        _check_runs(mask)
    # With iscrowd, pycocotools divides by the area of the first mask only.
    iscrowd = [int(over_area_of_a)] * len(b)
    return np.asarray(coco_mask.iou([m.to_coco() for m in a], [m.to_coco() for m in b], iscrowd))


@lru_cache(maxsize=4096)  # the masks of an image are compared with each other many times
def _check_runs(rle: MaskRLE) -> None:
    rle_runs_px(rle)


def _runs_px(counts: str) -> npt.NDArray[np.int64]:
    """Return the run lengths, like a vectorised ``rleFrString`` of COCO (cocoapi, ``common/maskApi.c``).

    A number is in base 32, lowest digit first. Each digit has a continuation bit, and the last digit has the
    sign. From the fourth number on, a number is the difference from the run two places before.
    """
    digits = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    is_last = digits & 32 == 0
    starts = np.flatnonzero(np.concatenate([[True], is_last[:-1]])[: len(digits)])
    place = np.arange(len(digits)) - np.repeat(starts, np.diff(starts, append=len(digits)))
    if not len(digits) or not is_last[-1] or place.max() > 7:  # 8 digits: 40 bits, more than any image
        return np.array([-1])
    value = (digits & 31) << (5 * place)
    is_negative = is_last & (digits & 16 != 0)
    value[is_negative] -= 1 << (5 * (place[is_negative] + 1))
    runs: npt.NDArray[np.int64] = np.add.reduceat(value, starts)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
