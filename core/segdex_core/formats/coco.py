"""COCO data sets: with masks as run-length encodings, which lose nothing, or as polygons."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from segdex_core.formats.annotations import AnnotatedImage, Annotation, category_ids
from segdex_core.formats.export import Dataset, FormatOptions, LossMeter, OutFile
from segdex_core.formats.outlines import filled, outlines_of
from segdex_core.masks import decode_mask, rle_iou

_DECIMALS = 6


class _Shape(Protocol):
    """Returns the value of ``segmentation``."""

    def __call__(self, annotation: Annotation, options: FormatOptions, loss: LossMeter) -> object: ...


def write_coco(dataset: Dataset, options: FormatOptions, loss: LossMeter) -> Iterator[OutFile]:
    """Yield ``annotations.json`` with masks as compressed run-length encodings."""
    yield OutFile("annotations.json", _document(dataset, options, loss, _as_rle))


def write_coco_polygons(dataset: Dataset, options: FormatOptions, loss: LossMeter) -> Iterator[OutFile]:
    """Yield ``annotations.json`` with masks as polygons, for tools that read no run-length encoding.

    Boxes and areas are those of the masks.
    """
    yield OutFile("annotations.json", _document(dataset, options, loss, _as_polygons))


def write_fiftyone(dataset: Dataset, options: FormatOptions, loss: LossMeter) -> Iterator[OutFile]:
    """Yield ``labels.json``, as FiftyOne's ``COCODetectionDataset`` names it.

    Its importer takes each of ``attributes`` as an attribute of the detection, and ``score`` as the
    confidence. It crops a mask to the box, which is why boxes have to cover masks exactly.
    """
    yield OutFile("labels.json", _document(dataset, options, loss, _as_rle))


def _document(dataset: Dataset, options: FormatOptions, loss: LossMeter, shape: _Shape) -> Iterator[bytes]:
    """Yield the document in pieces, in ASCII: pycocotools opens it in the encoding of the system."""
    numbers = category_ids(dataset.categories)
    yield b'{\n"info": {"description": "Exported by segdex", "version": "1.0"},\n"licenses": [],\n'
    categories = [{"id": number, "name": name, "supercategory": "object"} for name, number in numbers.items()]
    yield b'"categories": ' + _json(categories) + b',\n"images": ['
    comma = b"\n"
    for image_id, image in enumerate(dataset.images, start=1):
        yield comma + _json(_image(image_id, image))
        comma = b",\n"
    yield b'\n],\n"annotations": ['
    comma, annotation_id = b"\n", 0
    for image_id, image in enumerate(dataset.images, start=1):
        for one in image.annotations:
            annotation_id += 1
            values = {"id": annotation_id, "image_id": image_id, "category_id": numbers[one.category]}
            yield comma + _json({**values, **_annotation(one), "segmentation": shape(one, options, loss)})
            comma = b",\n"
    yield b"\n]\n}\n"


def _image(number: int, image: AnnotatedImage) -> Mapping[str, Any]:
    return {
        "id": number,
        "file_name": image.file_name,
        "width": image.width,
        "height": image.height,
        "uri": image.uri,
        "sha256": image.sha256,
    }


def _annotation(one: Annotation) -> Mapping[str, Any]:
    x1, y1, x2, y2 = one.box
    attributes: dict[str, Any] = {
        "segment_id": str(one.segment_id),
        "category": one.category,
        "labels": list(one.labels),
    }
    if one.score is not None:
        attributes["score"] = round(one.score, _DECIMALS)
    attributes["predicted_iou"] = round(one.predicted_iou, _DECIMALS)
    attributes["object_score"] = round(one.object_score, _DECIMALS)
    return {
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": one.area_px,
        "iscrowd": 0,
        "attributes": attributes,
    }


def _as_rle(annotation: Annotation, options: FormatOptions, loss: LossMeter) -> object:
    del options, loss
    return annotation.mask.to_coco()


def _as_polygons(annotation: Annotation, options: FormatOptions, loss: LossMeter) -> object:
    mask = annotation.mask
    found = outlines_of(decode_mask(mask), annotation.box, tolerance_px=options.tolerance_px)
    iou = float(rle_iou([mask], [filled(found.parts, mask.size_hw)])[0, 0])
    loss.add(annotation.segment_id, iou, lost_holes=found.lost_holes)
    return [part.ravel().tolist() for part in found.parts]


def _json(value: object) -> bytes:
    return json.dumps(value).encode("ascii")
