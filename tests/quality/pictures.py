"""The pictures of a labelled set in an index that holds them, and intervals of figures about them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import numpy as np

from segdex.evaluation.dataset import EvalDataset
from segdex_core.masks import MaskRLE, rle_iou
from segdex_core.ports.index import IndexReader
from segdex_search.rank import HitSegment

TRUE_IOU = 0.5
"""Least IoU of a mask with an instance that it shows."""

Instances = Mapping[UUID, Sequence[MaskRLE]]
"""True masks of a class by picture."""


def image_ids_of(index: IndexReader) -> dict[str, UUID]:
    """Return the id of each picture of an index by the name of its file, without folders."""
    return {
        file.uri.rsplit("/", 1)[1]: record.image_id
        for record in index.scroll_images()
        for file in record.files
    }


def classes_of(dataset: EvalDataset, image_ids: Mapping[str, UUID]) -> dict[str, Instances]:
    """Return the true masks of each class, stuff left out.

    Args:
        dataset: Labelled pictures, all of which are in the index.
        image_ids: Result of ``image_ids_of``.
    """
    classes: dict[str, dict[UUID, list[MaskRLE]]] = {}
    for image in dataset.images:
        for one in image.instances:
            if one.category is not None and not one.is_stuff:
                by_image = classes.setdefault(one.category, {})
                by_image.setdefault(image_ids[Path(image.name).name], []).append(one.mask)
    return dict(classes)


def is_right(hit: HitSegment, instances: Instances) -> bool:
    """Return whether a hit shows an instance."""
    masks = instances.get(hit.image_id, ())
    return bool(masks) and bool(rle_iou([hit.record.mask], masks).max() >= TRUE_IOU)


def interval(values: Sequence[float], owners: Sequence[str], *, seed: int = 0) -> tuple[float, float, float]:
    """Return the mean of values, and the bounds that 95 % of resampled sets of their owners lie in.

    Args:
        values: One or more values of each owner.
        owners: Picture or class that each value is of.
        seed: Seed of the resampling.
    """
    order = sorted(set(owners))
    sums, sizes = (np.zeros(len(order)) for _ in range(2))
    for value, owner in zip(values, owners, strict=True):
        sums[order.index(owner)] += value
        sizes[order.index(owner)] += 1
    drawn = np.random.default_rng(seed).integers(0, len(order), (2_000, len(order)))
    means = sums[drawn].sum(1) / np.maximum(sizes[drawn].sum(1), 1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.mean(values)), float(low), float(high)


def written(values: Sequence[float], owners: Sequence[str], *, digits: int = 3) -> str:
    """Return the mean of values with its ``interval``, as the tables print it."""
    mean, low, high = interval(values, owners)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
