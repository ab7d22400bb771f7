"""COCO data sets as annotations to import: masks, polygons and boxes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from segdex_core.errors import UsageError
from segdex_core.formats.documents import (
    as_counts,
    as_list,
    as_names,
    as_numbers,
    as_object,
    as_sha256,
    as_side,
    as_text,
    as_uuid,
    parse_json,
    shown,
)
from segdex_core.formats.imported import (
    Box,
    CompressedMask,
    ImportedAnnotation,
    ImportedDocument,
    ImportedImage,
    MaskRuns,
    Polygons,
    Shape,
    labels_now,
)
from segdex_core.masks import MaskRLE


def read_coco(data: bytes) -> ImportedDocument:
    """Return what a COCO document says; see ``shape_mask`` for what is checked later.

    Raises:
        UsageError: If it is no COCO document; the message names the place.
    """
    document = as_object(parse_json(data), "the document")
    for name in ("images", "annotations", "categories"):
        if name not in document:
            raise UsageError(f"it is no COCO data set: it has no {name!r}")
    categories: dict[object, str] = {}
    for position, one in enumerate(as_list(document["categories"], "categories")):
        category = as_object(one, f"categories[{position}]")
        categories[_key(category.get("id"))] = as_text(category.get("name"), f"categories[{position}].name")
    images: dict[object, Mapping[str, Any]] = {}
    for position, one in enumerate(as_list(document["images"], "images")):
        image = as_object(one, f"images[{position}]")
        as_text(image.get("file_name"), f"images[{position}].file_name")
        if images.setdefault(_key(image.get("id")), image) is not image:
            raise UsageError(f"images[{position}].id is that of another picture: {shown(image.get('id'))}")
    sizes = {key: _size_hw(image) for key, image in images.items()}
    of_image: dict[object, list[ImportedAnnotation]] = {key: [] for key in images}
    for position, one in enumerate(as_list(document["annotations"], "annotations")):
        where = f"annotations[{position}]"
        annotation = as_object(one, where)
        key = _key(annotation.get("image_id"))
        if key not in images:
            raise UsageError(f"{where}.image_id is that of no picture: {shown(annotation.get('image_id'))}")
        category_key = _key(annotation.get("category_id"))
        if category_key not in categories:
            raise UsageError(
                f"{where}.category_id is that of no category: {shown(annotation.get('category_id'))}"
            )
        of_image[key].append(_annotation(annotation, where, categories[category_key], sizes[key]))
    return ImportedDocument(
        tuple(_image(images[key], sizes[key], found) for key, found in of_image.items()), {}
    )


def _key(value: object) -> object:
    """Return an id as it is compared: tools write numbers and texts."""
    return value if isinstance(value, int | str) else None


def _size_hw(image: Mapping[str, Any]) -> tuple[int, int] | None:
    if image.get("height") is None or image.get("width") is None:
        return None
    name = f"the picture {shown(image['file_name'])}"
    return as_side(image["height"], f"height of {name}"), as_side(image["width"], f"width of {name}")


def _image(
    image: Mapping[str, Any], size_hw: tuple[int, int] | None, found: list[ImportedAnnotation]
) -> ImportedImage:
    uri = image.get("uri")
    return ImportedImage(
        name=image["file_name"],
        annotations=tuple(found),
        size_hw=size_hw,
        sha256=as_sha256(image.get("sha256")),
        uri=uri if isinstance(uri, str) else None,
    )


def _annotation(
    annotation: Mapping[str, Any], where: str, category: str, size_hw: tuple[int, int] | None
) -> ImportedAnnotation:
    attributes = annotation.get("attributes")
    said = attributes if isinstance(attributes, dict) else annotation  # FiftyOne writes them one level up
    exported = said.get("category")
    labels, before = labels_now(
        [category],
        category=exported if isinstance(exported, str) else None,
        labels=as_names(said.get("labels")),
        has_all=False,
    )
    shape = _shape(annotation, where, size_hw)
    return ImportedAnnotation(
        name=f"annotation {shown(annotation['id'])}" if "id" in annotation else where,
        shape=shape,
        labels=labels,
        exported=before,
        segment_id=as_uuid(said.get("segment_id")),
        problem="" if shape else "it has neither a segmentation nor a box",
    )


def _shape(annotation: Mapping[str, Any], where: str, size_hw: tuple[int, int] | None) -> Shape | None:
    segmentation = annotation.get("segmentation")
    where_it_is = f"{where}.segmentation"
    if isinstance(segmentation, dict):
        return _runs(segmentation, where_it_is)
    if segmentation:
        parts = []
        for number, part in enumerate(as_list(segmentation, where_it_is)):
            numbers = as_numbers(part, f"{where_it_is}[{number}]")
            if len(numbers) % 2:
                raise UsageError(
                    f"{where_it_is}[{number}] must have pairs x, y, but has {len(numbers)} numbers"
                )
            if len(numbers) >= 6:  # fewer than three corners cover nothing
                parts.append(np.array(numbers).reshape(-1, 2))
        return Polygons(size_hw, parts)
    if annotation.get("bbox"):
        x, y, width, height = _four(annotation["bbox"], f"{where}.bbox")
        return Box(size_hw, (x, y, x + width, y + height))
    return None


def _four(value: object, where: str) -> list[float]:
    numbers = as_numbers(value, where)
    if len(numbers) != 4:
        raise UsageError(f"{where} must have 4 numbers, but has {len(numbers)}")
    return numbers


def _runs(segmentation: Mapping[str, Any], where: str) -> Shape:
    size = as_list(segmentation.get("size"), f"{where}.size")
    if len(size) != 2:
        raise UsageError(f"{where}.size must be height and width, but has {len(size)} numbers")
    size_hw = as_side(size[0], f"{where}.size[0]"), as_side(size[1], f"{where}.size[1]")
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        try:
            return CompressedMask(MaskRLE(size_hw, counts))
        except ValueError as error:
            raise UsageError(f"{where}.{error}") from error
    return MaskRuns(size_hw, np.array(as_counts(counts, f"{where}.counts"), np.int64))
