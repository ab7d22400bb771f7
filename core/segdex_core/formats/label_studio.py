"""Label Studio: tasks with brush masks as predictions, and the labelling configuration that shows them."""

import colorsys
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from segdex_core.formats.annotations import AnnotatedImage, Annotation
from segdex_core.formats.brush import encode_brush
from segdex_core.formats.export import Dataset, FormatOptions, LossMeter, OutFile

TASKS, CONFIG = "tasks.json", "labels.xml"
"""Files of an export: the tasks to import, and the labelling configuration of the project."""

LOCAL_FILES = "/data/local-files/?d="
"""Address at which Label Studio serves the files below ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``."""

FROM_NAME, TO_NAME = "label", "image"
"""Names in the configuration. Label Studio does not show a prediction with other names, nor say why."""

MODEL_VERSION = "segdex"


def write_label_studio(dataset: Dataset, options: FormatOptions, loss: LossMeter) -> Iterator[OutFile]:
    """Yield the tasks and the labelling configuration; see ``WriteFiles``."""
    del loss  # every mask is kept
    prefix = options.url_prefix
    if prefix is None:
        prefix = LOCAL_FILES + ("images/" if options.has_pictures else "")
    names: set[str] = set()
    most = 1

    def tasks() -> Iterator[bytes]:
        nonlocal most
        before = "[\n"
        for image in dataset.images:
            yield f"{before}{json.dumps(task_of(image, url_prefix=prefix))}".encode()
            before = ",\n"
            for annotation in image.annotations:
                labels = label_names(annotation)
                names.update(labels)
                most = max(most, len(labels))
        yield b"[]\n" if before == "[\n" else b"\n]\n"

    yield OutFile(TASKS, tasks())
    # what the tasks hold is known now: their file has been read to its end
    yield OutFile(CONFIG, [labelling_config(names | set(dataset.categories), several=most > 1).encode()])


def task_of(image: AnnotatedImage, *, url_prefix: str) -> dict[str, object]:
    """Return the task of an image, with its segments as one prediction.

    Args:
        image: The image.
        url_prefix: Text before its percent-encoded file name. Nothing keeps the name as a relative path.
    """
    scores = [_score(one) for one in image.annotations]
    address = f"{url_prefix}{quote(image.file_name, errors='surrogateescape')}"
    return {
        "data": {
            TO_NAME: address if url_prefix else image.file_name,
            "file_name": image.file_name,
            "image_id": str(image.image_id),
            "sha256": image.sha256,
        },
        "predictions": [
            {
                "model_version": MODEL_VERSION,
                "score": round(sum(scores) / len(scores), 4) if scores else 0.0,
                "result": [_region(one, image) for one in image.annotations],
            }
        ],
    }


def label_names(annotation: Annotation) -> list[str]:
    """Return all names of a segment: its labels, after its category if that is none of them."""
    labels = list(annotation.labels)
    return labels if annotation.category in labels else [annotation.category, *labels]


def labelling_config(names: Iterable[str], *, several: bool) -> str:
    """Return the XML of a labelling configuration for brush masks.

    Args:
        names: Labels, each once.
        several: Whether a region may have several labels at a time.
    """
    ordered = sorted(names)
    labels = "".join(
        f"    <Label value={quoteattr(name)} background={quoteattr(_colour(position))}/>\n"
        for position, name in enumerate(ordered)
    )
    choice = ' choice="multiple"' if several else ""
    return (
        "<View>\n"
        f'  <Image name="{TO_NAME}" value="${TO_NAME}" zoom="true" zoomControl="true"/>\n'
        f'  <BrushLabels name="{FROM_NAME}" toName="{TO_NAME}"{choice}>\n'
        f"{labels}"
        "  </BrushLabels>\n"
        "</View>\n"
    )


def _region(annotation: Annotation, image: AnnotatedImage) -> dict[str, object]:
    return {
        "id": str(annotation.segment_id),
        "meta": {  # Label Studio may give a copy another id
            "segment_id": str(annotation.segment_id),
            "category": annotation.category,
            "labels": list(annotation.labels),
        },
        "type": "brushlabels",
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
        "score": round(_score(annotation), 4),
        "value": {
            "format": "rle",
            "rle": encode_brush(annotation.mask),
            "brushlabels": label_names(annotation),
        },
    }


def _score(annotation: Annotation) -> float:
    return annotation.object_score if annotation.score is None else annotation.score


def _colour(position: int) -> str:
    """Return a colour that differs from those of the positions near it."""
    red, green, blue = colorsys.hsv_to_rgb(position * 0.618034 % 1, 0.65, 0.9)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
