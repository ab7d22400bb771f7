"""YOLO segmentation as Ultralytics reads it: a text file for each picture, one outline for each object."""

import json
from collections.abc import Iterator

import numpy as np

from segdex_core.formats.annotations import AnnotatedImage, Annotation
from segdex_core.formats.export import Dataset, FormatOptions, LossMeter, OutFile
from segdex_core.formats.outlines import centre_outlines_of, drawn, joined
from segdex_core.masks import decode_mask, rle_iou

_DECIMALS = 6


def write_yolo(dataset: Dataset, options: FormatOptions, loss: LossMeter) -> Iterator[OutFile]:
    """Yield ``data.yaml``, and a text file for each image, empty for one without objects.

    A line is a class, counted from 0, and one outline with shares of width and height. The parts of an object
    are joined by lines without area, as Ultralytics' converter of COCO joins them.
    """
    classes = {name: number for number, name in enumerate(dataset.categories)}
    yield OutFile("data.yaml", [_description(dataset)])
    for image in dataset.images:
        yield OutFile(label_path(f"images/{image.file_name}"), [_lines(image, classes, options, loss)])


def label_path(image_path: str) -> str:
    """Return where Ultralytics looks for the labels of an image: its last folder ``images`` is ``labels``.

    Example:
        >>> label_path("images/train/a.b.jpg")
        'labels/train/a.b.txt'
    """
    folders, _, name = image_path.rpartition("/")
    before, _, after = f"/{folders}/".rpartition("/images/")
    stem = name.rpartition(".")[0] or name
    return f"{before}/labels/{after}{stem}.txt".lstrip("/")


def _description(dataset: Dataset) -> bytes:
    """Return ``data.yaml`` in ASCII: readers open it in the encoding of the system."""
    lines = ["train: images", "val: images", "names:"]
    lines += [f"  {number}: {_quoted(name)}" for number, name in enumerate(dataset.categories)]
    return ("\n".join(lines) + "\n").encode("ascii")


def _quoted(name: str) -> str:
    """Return a text as YAML quotes it. JSON writes an emoji as two characters, which YAML refuses."""
    return "".join(
        character if character.isascii() else f"\\U{ord(character):08x}"
        for character in json.dumps(name, ensure_ascii=False)
    )


def _lines(image: AnnotatedImage, classes: dict[str, int], options: FormatOptions, loss: LossMeter) -> bytes:
    lines = [f"{classes[one.category]} {_outline(one, options, loss)}\n" for one in image.annotations]
    return "".join(lines).encode("ascii")


def _outline(one: Annotation, options: FormatOptions, loss: LossMeter) -> str:
    height, width = one.mask.size_hw
    found = centre_outlines_of(decode_mask(one.mask), one.box, tolerance_px=options.tolerance_px)
    shares = np.round(joined(found.parts) / (width, height), _DECIMALS)
    read = drawn(shares * (width, height), one.mask.size_hw)
    loss.add(
        one.segment_id,
        float(rle_iou([one.mask], [read])[0, 0]),
        lost_holes=found.lost_holes,
        joined=len(found.parts) > 1,
    )
    return " ".join(f"{share:.{_DECIMALS}f}" for share in shares.ravel())
