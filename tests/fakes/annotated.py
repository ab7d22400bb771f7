"""Annotated images for tests of export formats: names in several scripts, holes, parts, overlaps."""

from collections.abc import Mapping
from uuid import UUID

import numpy as np
from scipy import ndimage

from segdex_core.formats.annotations import NO_CATEGORY, AnnotatedImage, Annotation
from segdex_core.formats.export import Dataset
from segdex_core.ids import make_image_id, make_segment_id
from segdex_core.masks import BoolMask, encode_mask, mask_box


def annotated_image(
    file_name: str, size_hw: tuple[int, int], masks: Mapping[str, tuple[BoolMask, tuple[str, ...]]]
) -> AnnotatedImage:
    """Return an image with some masks: names of their categories, and their labels."""
    height, width = size_hw
    sha256 = f"{hash_of(file_name):064x}"
    image_id = make_image_id(sha256)
    return AnnotatedImage(
        image_id=image_id,
        sha256=sha256,
        uri=f"file:///photos/{file_name}",
        file_name=file_name,
        width=width,
        height=height,
        captured_s=1_700_000_000.0,
        annotations=tuple(
            annotation(image_id, category, mask, labels) for category, (mask, labels) in masks.items()
        ),
    )


def annotation(image_id: UUID, category: str, mask: BoolMask, labels: tuple[str, ...]) -> Annotation:
    """Return an annotation of a mask."""
    rle = encode_mask(mask)
    return Annotation(
        segment_id=make_segment_id(image_id, rle),
        category=category,
        labels=labels,
        mask=rle,
        box=mask_box(mask),
        area_px=int(mask.sum()),
        score=None,
        predicted_iou=0.9,
        object_score=0.75,
    )


def hash_of(text: str) -> int:
    """Return a number of a text that is the same in every process."""
    return int.from_bytes(text.encode(errors="surrogateescape")[:16].ljust(16, b"."), "big")


def shapes(size_hw: tuple[int, int]) -> dict[str, BoolMask]:
    """Return masks: a ring with a hole, two parts, one whole side, a slope, and single pixels."""
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    small = min(height, width)
    parts = np.zeros(size_hw, np.bool_)
    parts[1:4, 1:6] = parts[-6:-2, -9:-1] = True
    side = np.zeros(size_hw, np.bool_)
    side[:, : width // 3] = True
    pixels = np.zeros(size_hw, np.bool_)
    pixels[0, 0] = pixels[-1, -1] = pixels[height // 2, width // 2] = True
    return {
        "ring": (distance < small / 2.5) & (distance > small / 6),
        "parts": parts,
        "side": side,
        "slope": (x + 2 * y > width) & (x + 2 * y < 1.6 * width),
        "pixels": pixels,
    }


def blob(size_hw: tuple[int, int]) -> BoolMask:
    """Return a mask with the ragged outline, the holes and the crumbs of a segment of a photograph."""
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=size_hw), 9)
    mask: BoolMask = noise > 0.01
    return mask


def annotated_dataset() -> Dataset:
    """Return images with labels in several scripts, and with characters that XML and JSON escape."""
    large, small, photo = shapes((90, 140)), shapes((37, 21)), shapes((480, 640))
    images = (
        annotated_image(
            "a b/straße & <1>.png",
            (90, 140),
            {
                "red umbrella": (large["ring"], ("red umbrella", "Regenschirm")),
                "猫": (large["parts"], ("猫",)),
                'a "quoted" & <b>': (large["side"], ('a "quoted" & <b>',)),
                NO_CATEGORY: (large["slope"], ()),
                "emoji 🐈": (large["pixels"], ("emoji 🐈",)),
            },
        ),
        annotated_image(
            "قطة.png",
            (37, 21),
            {name: (mask, ("قطة",)) for name, mask in zip(["قطة"], [small["ring"]], strict=True)},
        ),
        annotated_image(
            "photo.png",
            (480, 640),
            {
                "ring": (photo["ring"], ("ring",)),
                "slope": (photo["slope"], ("slope",)),
                "blob": (blob((480, 640)), ("blob",)),
            },
        ),
        annotated_image("empty.png", (12, 12), {}),
    )
    names = {one.category for image in images for one in image.annotations}
    return Dataset(images, sorted(names))
