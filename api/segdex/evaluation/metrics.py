"""The figures: pure functions of masks, areas and verdicts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.errors import UsageError
from segdex_core.masks import MaskRLE, rle_containment, rle_iou

Floats = npt.NDArray[np.float64]

SMALL_BELOW_PX = 32**2
LARGE_FROM_PX = 96**2
"""Sizes of the COCO API (``cocoeval.py``, ``areaRng``): small, medium and large by the area of the mask."""

RECALL_IOUS: Floats = np.linspace(0.5, 0.95, 10)
"""The cut-offs of AR@[.5:.95], as in the COCO API."""

RIGHT_IOU = 0.5
"""A found mask is right when its IoU with an instance of the class is at least this."""


@dataclass(frozen=True, slots=True)
class RecallFigures:
    """How well masks cover the instances of one range of sizes; None where there is no instance.

    Attributes:
        instances: How many instances were to be found.
        mean_iou: Mean over the instances of the best IoU of any mask, 0 to 1.
        recall_50: Share of the instances whose best IoU is at least 0.5.
        recall_75: The same for 0.75.
        ar: Mean of that share over ``RECALL_IOUS``. One mask may count for several instances, where the
            COCO API matches one to one.
    """

    instances: int
    mean_iou: float | None
    recall_50: float | None
    recall_75: float | None
    ar: float | None


@dataclass(frozen=True, slots=True)
class MaskFigures:
    """``RecallFigures`` of all instances, and by the area of the true mask."""

    overall: RecallFigures
    small: RecallFigures
    medium: RecallFigures
    large: RecallFigures


def best_ious(instances: Sequence[MaskRLE], masks: Sequence[MaskRLE], *, name: str) -> Floats:
    """Return for each true mask its largest IoU with any generated mask; 0 where there are no masks.

    Args:
        instances: n true masks of one picture.
        masks: What any generator made of the picture, in any order.
        name: What messages call the picture.

    Raises:
        UsageError: If a generated mask has another size than the true ones.
    """
    if not instances or not masks:
        return np.zeros(len(instances))
    for mask in masks:
        check_size(mask.size_hw, instances[0].size_hw, name=name)
    best: Floats = rle_iou(instances, masks).max(axis=1)
    return best


def mask_iou(a: MaskRLE, b: MaskRLE) -> float:
    """Return the IoU of two masks of one size."""
    return float(rle_iou([a], [b])[0, 0])


def check_size(size_hw: tuple[int, int], true_size_hw: tuple[int, int], *, name: str) -> None:
    """Raise unless a picture, or its masks, have the size of the true masks.

    Raises:
        UsageError: If not. Cameras' pictures are turned upright by their EXIF orientation when they are
            decoded; annotations that were drawn before that do not fit.
    """
    if size_hw != true_size_hw:
        (height, width), (true_height, true_width) = size_hw, true_size_hw
        turned = " (turned upright by its EXIF orientation?)" if size_hw == true_size_hw[::-1] else ""
        raise UsageError(
            f"{name}: the picture is {width} x {height}{turned}, but its true masks {true_width} x "
            f"{true_height} pixels; give the files that were annotated"
        )


def score_masks(per_image: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]) -> MaskFigures:
    """Return the figures of (areas in pixels, best IoUs) of the true masks, a pair for each picture."""
    pairs = [(np.asarray(areas, np.float64), np.asarray(best, np.float64)) for areas, best in per_image]
    areas = np.concatenate([areas for areas, _ in pairs]) if pairs else np.zeros(0)
    best = np.concatenate([best for _, best in pairs]) if pairs else np.zeros(0)
    small, large = areas < SMALL_BELOW_PX, areas >= LARGE_FROM_PX
    return MaskFigures(
        overall=_recall_figures(best),
        small=_recall_figures(best[small]),
        medium=_recall_figures(best[~small & ~large]),
        large=_recall_figures(best[large]),
    )


def _recall_figures(best: Floats) -> RecallFigures:
    if not len(best):
        return RecallFigures(instances=0, mean_iou=None, recall_50=None, recall_75=None, ar=None)
    return RecallFigures(
        instances=len(best),
        mean_iou=float(best.mean()),
        recall_50=float((best >= 0.5).mean()),
        recall_75=float((best >= 0.75).mean()),
        ar=float((best[:, None] >= RECALL_IOUS).mean()),
    )


@dataclass(frozen=True, slots=True)
class FoundMask:
    """A hit: a mask of a picture."""

    image_id: UUID
    mask: MaskRLE


@dataclass(frozen=True, slots=True)
class ImageTruth:
    """Where a class is in a picture that is annotated exhaustively for it.

    Attributes:
        name: What messages call the picture.
        size_hw: Height and width of the masks in pixels.
        instances: The true masks; none where the class is absent.
        crowds: Masks of many of them together.
    """

    name: str
    size_hw: tuple[int, int]
    instances: tuple[MaskRLE, ...]
    crowds: tuple[MaskRLE, ...]

    @property
    def has_class(self) -> bool:
        """Whether the class is in the picture."""
        return bool(self.instances or self.crowds)


def judge_hits(hits: Iterable[FoundMask], truth: Mapping[UUID, ImageTruth]) -> list[tuple[UUID, bool]]:
    """Return for each hit that counts its picture and whether it is right, in the order of the hits.

    As in the COCO API, a hit takes the instance of its picture with the largest IoU among those that no
    earlier hit took, if that is at least ``RIGHT_IOU``; so a second hit on one instance is wrong. A hit that
    takes none but lies mostly inside a crowd does not count, nor does any in a picture outside ``truth``.

    Args:
        hits: Best first.
        truth: Every picture that is annotated exhaustively for the class.

    Raises:
        UsageError: If a hit's mask has another size than the true ones of its picture.
    """
    verdicts: list[tuple[UUID, bool]] = []
    taken: dict[UUID, set[int]] = {}
    for hit in hits:
        image = truth.get(hit.image_id)
        if image is None:
            continue
        check_size(hit.mask.size_hw, image.size_hw, name=image.name)
        iou = rle_iou([hit.mask], image.instances)[0]
        iou[list(taken.setdefault(hit.image_id, set()))] = 0
        if iou.max(initial=0) >= RIGHT_IOU:
            taken[hit.image_id].add(int(iou.argmax()))
            verdicts.append((hit.image_id, True))
        elif rle_containment([hit.mask], image.crowds).max(initial=0) < RIGHT_IOU:
            verdicts.append((hit.image_id, False))
    return verdicts
