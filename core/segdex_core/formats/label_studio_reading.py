"""Label Studio's JSON export as annotations to import: brush masks, polygons and rectangles.

Of a task, the annotation that was changed last counts; one that was cancelled does not. A task that nobody
annotated has its last prediction.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import numpy.typing as npt

from segdex_core.errors import UsageError
from segdex_core.formats.documents import (
    as_list,
    as_names,
    as_numbers,
    as_object,
    as_sha256,
    as_side,
    as_uuid,
    parse_json,
    shown,
)
from segdex_core.formats.imported import (
    Box,
    BrushMask,
    ImportedAnnotation,
    ImportedDocument,
    ImportedImage,
    Polygons,
    Shape,
    labels_now,
)

CANCELLED = "skipped in Label Studio"

_NO_REGION = {"relation", "choices", "taxonomy", "textarea", "rating", "number", "datetime", "pairwise"}
"""Types of results that say something of a whole picture or of other results."""


def read_label_studio(data: bytes) -> ImportedDocument:
    """Return what an export in Label Studio's JSON says; see ``shape_mask`` for what is checked later.

    Raises:
        UsageError: If it is none; the message names the place.
    """
    images: list[ImportedImage] = []
    skipped: dict[str, int] = {}
    for position, one in enumerate(as_list(parse_json(data), "the document")):
        where = f"task {position + 1}"
        task = as_object(one, where)
        if "data" not in task:
            raise UsageError(f"{where} has no 'data': export it from Label Studio as JSON, not as JSON-MIN")
        values = as_object(task["data"], f"{where}.data")
        results = _results(task, where)
        if results is None:
            skipped[CANCELLED] = skipped.get(CANCELLED, 0) + 1
            continue
        images.append(
            ImportedImage(
                name=_name(values, where),
                annotations=tuple(_annotations(results, where)),
                image_id=as_uuid(values.get("image_id")),
                sha256=as_sha256(values.get("sha256")),
            )
        )
    return ImportedDocument(tuple(images), skipped)


def _results(task: Mapping[str, Any], where: str) -> Sequence[Any] | None:
    """Return the results that count; None if every annotation was cancelled."""
    given = task.get("annotations") or task.get("completions") or []
    annotations = [as_object(one, f"{where}.annotations") for one in as_list(given, f"{where}.annotations")]
    kept = [one for one in annotations if not one.get("was_cancelled")]
    if kept:
        # ISO 8601 in UTC: later texts are greater
        last = max(enumerate(kept), key=lambda one: (str(one[1].get("updated_at") or ""), one[0]))[1]
        return as_list(last.get("result"), f"{where}.annotations.result")
    if annotations:
        return None
    predictions = as_list(task.get("predictions") or [], f"{where}.predictions")
    if not predictions:
        return []
    if isinstance(predictions[-1], int):
        raise UsageError(
            f"{where} has ids instead of its predictions: export with the full predictions, or submit it"
        )
    return as_list(
        as_object(predictions[-1], f"{where}.predictions").get("result"), f"{where}.predictions.result"
    )


def _name(values: Mapping[str, Any], where: str) -> str:
    """Return the relative path of a picture: that of the export, or the end of its address."""
    kept = values.get("file_name")
    if isinstance(kept, str) and kept:
        return kept
    address = next(
        (one for key in ("image", *values) if isinstance(one := values.get(key), str) and one), None
    )
    if address is None:
        raise UsageError(f"{where}.data has no address of a picture")
    try:
        parts = urlsplit(address)
        local = parse_qs(parts.query).get("d")
    except ValueError:
        return address
    path = local[0] if local else unquote(parts.path)
    # files that were uploaded to Label Studio have eight digits before their name
    return re.sub(r"(?:^|.*/)upload/\d+/[0-9a-f]{8}-", "", path).lstrip("/") or address


def _annotations(results: Sequence[Any], where: str) -> list[ImportedAnnotation]:
    """Return the regions; results of one id are one region."""
    regions: dict[str, list[Mapping[str, Any]]] = {}
    for position, one in enumerate(results):
        result = as_object(one, f"{where}.result[{position}]")
        kind = str(result.get("type", "")).lower()
        if kind in _NO_REGION and not _has_shape(result):
            continue
        regions.setdefault(str(result.get("id") or f"#{position}"), []).append(result)
    return [_annotation(found, f"{where}, region {shown(name)}") for name, found in regions.items()]


def _annotation(results: Sequence[Mapping[str, Any]], where: str) -> ImportedAnnotation:
    names: dict[str, None] = {}
    meta: Mapping[str, Any] = {}
    shape: Shape | None = None
    problem = ""
    for result in results:
        value = as_object(result.get("value"), f"{where}.value")
        for key, given in value.items():
            if key.lower().endswith("labels"):
                names.update(dict.fromkeys(as_names(given) or []))
        if isinstance(result.get("meta"), dict):
            meta = {**meta, **result["meta"]}
        if shape is None and _has_shape(result):
            shape, problem = _shape(result, value, where)
    category = meta.get("category")
    labels, exported = labels_now(
        list(names),
        category=category if isinstance(category, str) else None,
        labels=as_names(meta.get("labels")),
        has_all=True,
    )
    first = shown(results[0].get("type"))
    return ImportedAnnotation(
        name=where,
        shape=shape,
        labels=labels,
        exported=exported,
        segment_id=as_uuid(meta.get("segment_id")) or as_uuid(results[0].get("id")),
        problem="" if shape else (problem or f"{first} is no brush mask, polygon or rectangle"),
    )


def _has_shape(result: Mapping[str, Any]) -> bool:
    value = result.get("value")
    return isinstance(value, dict) and bool({"rle", "points", "x"} & value.keys())


def _shape(result: Mapping[str, Any], value: Mapping[str, Any], where: str) -> tuple[Shape | None, str]:
    """Return the shape of a result, or None and why it has none."""
    if result.get("image_rotation"):
        return None, f"the picture was turned by {shown(result['image_rotation'])} degrees in Label Studio"
    height = as_side(result.get("original_height"), f"{where}.original_height")
    width = as_side(result.get("original_width"), f"{where}.original_width")
    size_hw = (height, width)
    if "rle" in value:
        code = as_list(value["rle"], f"{where}.value.rle")
        try:
            return BrushMask(size_hw, bytes(code)), ""
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where}.value.rle must have bytes alone, from 0 to 255") from error
    if "points" in value:
        if value.get("closed") is False:
            return None, "its polygon is not closed"
        return Polygons(size_hw, _corners(value["points"], size_hw, where)), ""
    if "width" in value and "height" in value:
        return _rectangle(value, size_hw, where), ""
    return None, f"{shown(result.get('type'))} is no brush mask, polygon or rectangle"


def _corners(points: object, size_hw: tuple[int, int], where: str) -> list[npt.NDArray[np.float64]]:
    """Return the polygon of points in percent; none of fewer than three, which cover nothing."""
    corners = [as_numbers(one, f"{where}.value.points") for one in as_list(points, f"{where}.value.points")]
    if any(len(one) != 2 for one in corners):
        raise UsageError(f"{where}.value.points must have pairs x, y")
    height, width = size_hw
    return [np.array(corners) * (width / 100, height / 100)] if len(corners) >= 3 else []


def _rectangle(value: Mapping[str, Any], size_hw: tuple[int, int], where: str) -> Shape:
    keys = ("x", "y", "width", "height", "rotation")
    x, y, w, h, degrees = as_numbers([value.get(key) or 0 for key in keys], f"{where}.value")
    height, width = size_hw
    x, y, w, h = x * width / 100, y * height / 100, w * width / 100, h * height / 100
    if not degrees:
        return Box(size_hw, (x, y, x + w, y + h))
    first, angle = np.array([x, y]), np.deg2rad(degrees)  # clockwise about the first corner
    across = np.array([np.cos(angle), np.sin(angle)]) * w
    down = np.array([-np.sin(angle), np.cos(angle)]) * h
    return Polygons(size_hw, [np.array([first, first + across, first + across + down, first + down])])
