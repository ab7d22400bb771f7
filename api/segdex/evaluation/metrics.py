"""Metrics: pure functions of masks, areas and verdicts."""

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
"""The IoU thresholds of AR@[.5:.95], as in the COCO API."""

RIGHT_IOU = 0.5
"""Minimum IoU with an instance of the class for a found mask to be right."""


@dataclass(frozen=True, slots=True)
class RecallFigures:
    """How well masks cover the instances of one range of sizes; None without an instance.

    Attributes:
        instances: Number of instances to find.
        mean_iou: Mean over the instances of the best IoU of any mask, 0 to 1.
        recall_50: Share of the instances whose best IoU is at least 0.5.
        recall_75: Share of the instances whose best IoU is at least 0.75.
        ar: Mean recall over ``RECALL_IOUS``. One mask may count for several instances, whereas the COCO API
            matches one to one.
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
    """Return the largest IoU of each true mask with any generated mask; 0 without generated masks.

    Args:
        instances: n true masks of one image.
        masks: Generated masks of the image, in any order.
        name: Name of the image in messages.

    Raises:
        UsageError: If a generated mask has another size than the true masks.
    """
    if not instances or not masks:
        return np.zeros(len(instances))
    for mask in masks:
        check_size(mask.size_hw, instances[0].size_hw, name=name)
    best: Floats = rle_iou(instances, masks).max(axis=1)
    return best


def mask_iou(a: MaskRLE, b: MaskRLE) -> float:
    """Return the IoU of two masks of equal size."""
    return float(rle_iou([a], [b])[0, 0])


def check_size(size_hw: tuple[int, int], true_size_hw: tuple[int, int], *, name: str) -> None:
    """Raise unless an image, or its masks, have the size of the true masks.

    Raises:
        UsageError: If the sizes differ. Decoding turns images upright by their EXIF orientation; annotations
            of the unturned file do not fit.
    """
    if size_hw != true_size_hw:
        (height, width), (true_height, true_width) = size_hw, true_size_hw
        turned = " (turned upright by its EXIF orientation?)" if size_hw == true_size_hw[::-1] else ""
        raise UsageError(
            f"{name}: the picture is {width} x {height}{turned}, but its true masks {true_width} x "
            f"{true_height} pixels; give the files that were annotated"
        )


def score_masks(per_image: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]) -> MaskFigures:
    """Return the metrics of the true masks, given a pair (areas in pixels, best IoUs) for each image."""
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
    """A hit: a mask in an image."""

    image_id: UUID
    mask: MaskRLE


@dataclass(frozen=True, slots=True)
class ImageTruth:
    """The instances of a class in an image that is annotated exhaustively for it.

    Attributes:
        name: Name of the image in messages.
        size_hw: Height and width of the masks in pixels.
        instances: True masks; empty if the class is absent.
        crowds: Masks of many objects of the class together.
    """

    name: str
    size_hw: tuple[int, int]
    instances: tuple[MaskRLE, ...]
    crowds: tuple[MaskRLE, ...]

    @property
    def has_class(self) -> bool:
        """Whether the image shows the class."""
        return bool(self.instances or self.crowds)


def judge_hits(hits: Iterable[FoundMask], truth: Mapping[UUID, ImageTruth]) -> list[tuple[UUID, bool]]:
    """Return for each hit that counts its picture and whether it is right; see ``judge_each``."""
    hits = list(hits)
    judged = zip(hits, judge_each(hits, truth), strict=True)
    return [(hit.image_id, verdict) for hit, verdict in judged if verdict is not None]


def judge_each(hits: Iterable[FoundMask], truth: Mapping[UUID, ImageTruth]) -> list[bool | None]:
    """Return for each hit whether it is right; None where it does not count.

    As in the COCO API, a hit takes the instance with the largest IoU among the instances of its image that no
    earlier hit took, if the IoU is at least ``RIGHT_IOU``; a second hit on one instance is wrong. A hit that
    takes no instance but lies mostly inside a crowd does not count. A hit in an image outside ``truth`` does
    not count.

    Args:
        hits: Hits, best first.
        truth: Every image that is annotated exhaustively for the class.

    Raises:
        UsageError: If the mask of a hit has another size than the true masks of its image.
    """
    verdicts: list[bool | None] = []
    taken: dict[UUID, set[int]] = {}
    for hit in hits:
        image = truth.get(hit.image_id)
        if image is None:
            verdicts.append(None)
            continue
        check_size(hit.mask.size_hw, image.size_hw, name=image.name)
        iou = rle_iou([hit.mask], image.instances)[0]
        iou[list(taken.setdefault(hit.image_id, set()))] = 0
        if iou.max(initial=0) >= RIGHT_IOU:
            taken[hit.image_id].add(int(iou.argmax()))
            verdicts.append(True)
        else:
            in_crowd = rle_containment([hit.mask], image.crowds).max(initial=0) >= RIGHT_IOU
            verdicts.append(None if in_crowd else False)
    return verdicts
