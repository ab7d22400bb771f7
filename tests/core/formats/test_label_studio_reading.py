"""What a person drew and chose in Label Studio."""

import json
from typing import Any

import numpy as np
import pytest

from segdex_core.errors import UsageError
from segdex_core.formats.imported import ImportedAnnotation, ImportedImage, shape_mask
from segdex_core.formats.label_studio_reading import CANCELLED, read_label_studio
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, MaskRLE, decode_mask

SIZE_HW = (100, 200)


def read(*results: dict[str, Any], **task: Any) -> ImportedImage:
    values = {"data": {"image": "a.png"}, "annotations": [{"result": list(results)}], **task}
    [image] = read_label_studio(json.dumps([values]).encode()).images
    return image


def region(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    height, width = SIZE_HW
    sizes = {"original_height": height, "original_width": width}
    return {"id": "x1", "type": kind, "from_name": "l", "to_name": "i", **sizes, "value": value, **more}


def only(*results: dict[str, Any]) -> ImportedAnnotation:
    [one] = read(*results).annotations
    return one


def mask_of(one: ImportedAnnotation) -> BoolMask:
    assert one.shape is not None, one.problem
    mask = shape_mask(one.shape, SIZE_HW)
    assert isinstance(mask, MaskRLE)
    return decode_mask(mask)


def test_polygons_and_rectangles_are_in_percent() -> None:
    square = [[10, 20], [60, 20], [60, 70], [10, 70]]
    polygon = only(region("polygonlabels", {"points": square, "polygonlabels": ["a"], "closed": True}))
    box = {"x": 10, "y": 20, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["a", "b"]}
    rectangle = only(region("rectanglelabels", box))

    expected = np.zeros(SIZE_HW, np.bool_)
    expected[20:70, 20:120] = True
    assert (mask_of(polygon) == expected).all()
    assert rectangle.labels == ("a", "b")
    assert rectangle.shape is not None
    assert shape_mask(rectangle.shape, SIZE_HW) == BoxXYXY(20, 20, 120, 70)


def test_a_turned_rectangle_is_turned_about_its_first_corner() -> None:
    value = {"x": 50, "y": 10, "width": 20, "height": 10, "rotation": 90, "rectanglelabels": ["a"]}

    mask = mask_of(only(region("rectanglelabels", value)))
    expected = np.zeros(SIZE_HW, np.bool_)
    expected[10:50, 90:100] = True  # 40 x 10 pixels at (100, 10), a quarter turn clockwise
    assert (mask ^ expected).sum() <= 2 * (40 + 10)
    assert (mask & expected).sum() > 0.9 * expected.sum()


def test_results_of_one_region_are_one_annotation() -> None:
    shape = region("polygon", {"points": [[0, 0], [50, 0], [50, 50]]})
    names = region("labels", {"points": [[0, 0], [50, 0], [50, 50]], "labels": ["tree"]})
    note = {"type": "relation", "from_id": "x1", "to_id": "x2"}
    quality = {"id": "q", "type": "choices", "value": {"choices": ["good"]}}

    one = only(shape, names, note, quality)
    assert one.labels == ("tree",)
    assert mask_of(one).any()


def test_what_is_no_area_is_named() -> None:
    ellipse = {"x": 1, "y": 2, "radiusX": 3, "radiusY": 4, "ellipselabels": ["a"]}
    open_line = {"points": [[0, 0], [50, 0], [50, 50]], "closed": False, "polygonlabels": ["a"]}
    tag = {"text": ["x"], "brushlabels": ["a"]}

    assert only(region("ellipselabels", ellipse)).problem.startswith('"ellipselabels" is no brush mask')
    assert only(region("polygonlabels", open_line)).problem == "its polygon is not closed"
    assert only(region("brushlabels", tag)).problem.startswith('"brushlabels" is no brush mask')
    turned = region("rectanglelabels", {"x": 1, "y": 1, "width": 5, "height": 5}, image_rotation=90)
    assert "turned by 90 degrees" in only(turned).problem


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/local-files/?d=photos/a%20b/%C3%9F.png", "photos/a b/ß.png"),
        ("https://files.example/photos/a%20b.png?token=1", "photos/a b.png"),
        ("/data/upload/12/0a1b2c3d-cat.png", "cat.png"),
        ("s3://bucket/x/y.png", "x/y.png"),
        ("photos/a b.png", "photos/a b.png"),
    ],
)
def test_a_picture_is_named_by_the_end_of_its_address(address: str, name: str) -> None:
    assert read(data={"image": address}).name == name
    assert read(data={"picture": address}).name == name


def test_the_newest_annotation_counts_and_a_skipped_task_is_counted() -> None:
    older, newer = (
        region("rectanglelabels", {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": [name]})
        for name in ("older", "newer")
    )
    given = [
        {"result": [newer], "updated_at": "2026-11-02T00:00:00Z"},
        {"result": [older], "updated_at": "2026-11-01T00:00:00Z"},
    ]
    assert read(annotations=given).annotations[0].labels == ("newer",)
    assert read(annotations=[], predictions=[{"result": [older]}]).annotations[0].labels == ("older",)
    assert read(annotations=[]).annotations == ()
    skipped = [{"data": {"image": "a.png"}, "annotations": [{"result": [older], "was_cancelled": True}]}]
    document = read_label_studio(json.dumps(skipped).encode())
    assert (document.images, document.skipped) == ((), {CANCELLED: 1})


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (region("brushlabels", {"rle": [256]}), "bytes alone"),
        (region("brushlabels", {"rle": [1.5]}), "bytes alone"),
        (region("brushlabels", {"rle": "abc"}), "must be an array"),
        (region("brushlabels", {"rle": [1]}, original_width=0), "original_width must be a whole number"),
        (region("polygonlabels", {"points": [[1, 2, 3]]}), "pairs x, y"),
        (region("polygonlabels", {"points": [[1, None]]}), "numbers alone"),
        (region("polygonlabels", {"points": [[10**400, 1]]}), "numbers alone"),
        ({"id": "a", "type": "brushlabels"}, "value must be an object"),
        ("text", "must be an object"),
    ],
)
def test_a_damaged_result_is_refused_with_its_place(result: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as refused:
        read(result)
    assert "task 1" in str(refused.value)
