"""CVAT for images 1.1: an XML document with masks, and back."""

import json
import re
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from segdex_core.formats.annotations import AnnotatedImage, Annotation
from segdex_core.formats.export import Dataset, FormatOptions, LossMeter, OutFile
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import MAX_SIDE_PX, MaskRLE, check_runs
from segdex_core.runs import (
    column_edges,
    column_edges_mask,
    cropped,
    edges_runs,
    placed,
    runs_edges,
    turned,
)

DOCUMENT = "annotations.xml"

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ATTRIBUTES = ("segment_id", "labels", "score", "predicted_iou", "object_score")


def write_cvat(dataset: Dataset, options: FormatOptions, loss: LossMeter) -> Iterator[OutFile]:
    """Yield the XML document; see ``WriteFiles``."""
    del options, loss  # every mask is kept
    yield OutFile(DOCUMENT, _document(dataset))


def cvat_mask(mask: MaskRLE, box: BoxXYXY) -> list[int]:
    """Return CVAT's runs of a mask: along the rows of its tight box, whose area they add up to.

    The first run is outside the mask.

    Raises:
        ValueError: If the runs of the mask do not fit its size, or are too many.
    """
    width, height = box.size_wh
    inside = cropped(column_edges(mask), box, height=mask.size_hw[0])
    runs = edges_runs(turned(inside, lines=width, length=height), width * height)
    return list(map(int, runs.tolist()))


def read_cvat_mask(runs: Sequence[int], box: BoxXYXY, size_hw: tuple[int, int]) -> MaskRLE:
    """Return the mask of CVAT's runs.

    Args:
        runs: Run lengths along the rows of the box; the first is outside the mask.
        box: Box in the picture.
        size_hw: Height and width of the picture in pixels.

    Raises:
        ValueError: If the runs do not add up to the area of the box, or the box is not in the picture.
    """
    width, height = box.size_wh
    if min(box.size_wh) < 1 or max(size_hw) > MAX_SIDE_PX or box.clip(size_hw) != box:
        raise ValueError(f"the box {tuple(box)} is not in a picture of {size_hw[1]} x {size_hw[0]} pixels")
    counts = np.array(runs, np.int64)
    check_runs(counts, (height, width))
    rows = runs_edges(counts, width * height)
    return column_edges_mask(placed(turned(rows, lines=height, length=width), box, size_hw), size_hw)


def _document(dataset: Dataset) -> Iterator[bytes]:
    attributes = "".join(
        f"<attribute><name>{name}</name><mutable>False</mutable><input_type>text</input_type>"
        "<default_value></default_value><values></values></attribute>"
        for name in _ATTRIBUTES
    )
    labels = "".join(
        f"        <label><name>{escape(name)}</name><type>mask</type>"
        f"<attributes>{attributes}</attributes></label>\n"
        for name in dataset.categories
    )
    yield (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        "<annotations>\n  <version>1.1</version>\n"
        "  <meta>\n    <task>\n      <name>segdex</name>\n      <mode>annotation</mode>\n"
        f"      <labels>\n{labels}      </labels>\n    </task>\n  </meta>\n"
    ).encode()
    for number, image in enumerate(dataset.images):
        yield _image(number, image).encode()
    yield b"</annotations>\n"


def _image(number: int, image: AnnotatedImage) -> str:
    # XML has no way to write a control character or a byte that is no text
    name = quoteattr(_NOT_XML.sub("_", image.file_name))
    shapes = "".join(_shape(one) for one in image.annotations)
    return (
        f'  <image id="{number}" name={name} width="{image.width}" height="{image.height}">\n'
        f"{shapes}  </image>\n"
    )


def _shape(annotation: Annotation) -> str:
    box = annotation.box
    width, height = box.size_wh
    values = {
        "segment_id": str(annotation.segment_id),
        "labels": json.dumps(annotation.labels, ensure_ascii=False),
        "score": "" if annotation.score is None else f"{annotation.score:.4f}",
        "predicted_iou": f"{annotation.predicted_iou:.4f}",
        "object_score": f"{annotation.object_score:.4f}",
    }
    attributes = "".join(
        f'      <attribute name="{name}">{escape(value)}</attribute>\n' for name, value in values.items()
    )
    runs = ", ".join(map(str, cvat_mask(annotation.mask, box)))
    return (
        f'    <mask label={quoteattr(annotation.category)} source="auto" occluded="0" rle="{runs}" '
        f'left="{box.x1}" top="{box.y1}" width="{width}" height="{height}" z_order="0">\n'
        f"{attributes}    </mask>\n"
    )
