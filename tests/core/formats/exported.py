"""Annotated images for the tests of formats."""

from collections.abc import Iterable, Sequence
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segdex_core.formats.annotations import AnnotatedImage, Annotation
from segdex_core.formats.export import Dataset, FormatOptions, Loss, LossMeter, WriteFiles
from segdex_core.masks import BoolMask, encode_mask, mask_box

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: arrays(bool, shape).filter(lambda mask: bool(mask.any()))
)
"""Masks of any shape: many parts, holes, and pixels that touch at corners."""


def annotation(mask: BoolMask, name: str = "one", category: str = "thing", **values: object) -> Annotation:
    given: dict[str, object] = {
        "segment_id": uuid5(NAMESPACE_URL, name),
        "category": category,
        "labels": (category,),
        "mask": encode_mask(mask),
        "box": mask_box(mask),
        "area_px": int(mask.sum()),
        "score": 0.25,
        "predicted_iou": 0.875,
        "object_score": 0.5,
        **values,
    }
    return Annotation(**given)  # type: ignore[arg-type]


def image(
    name: str, annotations: Iterable[Annotation], size_hw: tuple[int, int] = (12, 12)
) -> AnnotatedImage:
    return AnnotatedImage(
        image_id=uuid5(NAMESPACE_URL, name),
        sha256="0" * 64,
        uri=f"file:///pictures/{name}",
        file_name=name,
        width=size_hw[1],
        height=size_hw[0],
        captured_s=0.0,
        annotations=tuple(annotations),
    )


def dataset(*images: AnnotatedImage) -> Dataset:
    return Dataset(images, sorted({one.category for each in images for one in each.annotations}))


def of_masks(masks: Sequence[BoolMask]) -> Dataset:
    """Return a dataset with an image for each mask."""
    return dataset(
        *(
            image(f"{number}.png", [annotation(mask, str(number))], (mask.shape[0], mask.shape[1]))
            for number, mask in enumerate(masks)
        )
    )


def written(
    write: WriteFiles, data: Dataset, *, tolerance_px: float = 0.5
) -> tuple[dict[str, bytes], Loss | None]:
    """Return the content of each file, and the loss."""
    meter = LossMeter()
    files = {
        one.name: b"".join(one.chunks) for one in write(data, FormatOptions(tolerance_px=tolerance_px), meter)
    }
    return files, meter.loss


def ring() -> BoolMask:
    """Return a ring with a hole that touches the border of the image."""
    mask = np.zeros((40, 50), bool)
    mask[0:30, 10:50] = True
    mask[8:22, 20:40] = False
    return mask


def two_parts() -> BoolMask:
    mask = np.zeros((40, 50), bool)
    mask[5:10, 5:10] = True
    mask[30:38, 30:45] = True
    return mask
