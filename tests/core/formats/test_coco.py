"""COCO data sets, read by pycocotools."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from tests.core.formats.exported import (
    MASKS,
    annotation,
    dataset,
    image,
    of_masks,
    ring,
    two_parts,
    written,
)

from segdex_core.formats.coco import write_coco, write_coco_polygons, write_fiftyone
from segdex_core.formats.export import Dataset, WriteFiles
from segdex_core.masks import BoolMask

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def document(write: WriteFiles, data: Dataset, **options: float) -> dict[str, Any]:
    files, _ = written(write, data, **options)
    [content] = files.values()
    found: dict[str, Any] = json.loads(content)
    return found


def masks_of(found: dict[str, Any]) -> list[BoolMask]:
    """Return the masks that pycocotools reads, in the order of the annotations."""
    reader = COCO()
    reader.dataset = found
    reader.createIndex()
    return [reader.annToMask(one).astype(bool) for one in reader.dataset["annotations"]]


@given(st.lists(MASKS, min_size=1, max_size=4))
def test_masks_are_read_back_pixel_by_pixel(masks: list[BoolMask]) -> None:
    for read, mask in zip(masks_of(document(write_coco, of_masks(masks))), masks, strict=True):
        np.testing.assert_array_equal(read, mask)


@given(st.lists(MASKS, min_size=1, max_size=4), st.sampled_from([0.0, 0.5]))
def test_polygons_that_cross_no_pixel_centre_are_read_back_pixel_by_pixel(
    masks: list[BoolMask], tolerance_px: float
) -> None:
    data = of_masks(masks)
    files, loss = written(write_coco_polygons, data, tolerance_px=tolerance_px)

    for read, mask in zip(masks_of(json.loads(files["annotations.json"])), masks, strict=True):
        np.testing.assert_array_equal(read, mask)
    assert loss is not None
    assert (loss.segments, loss.mean_iou, loss.lowest_iou, loss.lost_holes) == (len(masks), 1, 1, 0)


@given(MASKS, st.floats(0.6, 20))
def test_the_loss_of_coarse_polygons_is_what_a_reader_loses(mask: BoolMask, tolerance_px: float) -> None:
    files, loss = written(write_coco_polygons, of_masks([mask]), tolerance_px=tolerance_px)
    [read] = masks_of(json.loads(files["annotations.json"]))

    assert loss is not None
    assert loss.lowest_iou == pytest.approx((read & mask).sum() / (read | mask).sum())
    for polygon in json.loads(files["annotations.json"])["annotations"][0]["segmentation"]:
        assert len(polygon) >= 6
        assert len(polygon) % 2 == 0


@given(st.lists(MASKS, min_size=1, max_size=4), st.sampled_from([write_coco, write_coco_polygons]))
def test_boxes_cover_masks_exactly_and_ids_start_at_1(masks: list[BoolMask], write: WriteFiles) -> None:
    found = document(write, of_masks(masks))

    assert [one["id"] for one in found["images"]] == list(range(1, len(masks) + 1))
    assert [one["id"] for one in found["annotations"]] == list(range(1, len(masks) + 1))
    assert [one["id"] for one in found["categories"]] == [1]
    for one, mask in zip(found["annotations"], masks, strict=True):
        x, y, width, height = one["bbox"]
        assert mask[y : y + height, x : x + width].sum() == mask.sum() == one["area"]
        assert all(edge.any() for edge in (mask[:, x], mask[:, x + width - 1], mask[y], mask[y + height - 1]))
        assert one["iscrowd"] == 0


def test_a_hole_and_two_parts_survive_polygons() -> None:
    masks = [ring(), two_parts()]
    files, loss = written(write_coco_polygons, of_masks(masks))
    found = json.loads(files["annotations.json"])

    assert [len(one["segmentation"]) for one in found["annotations"]] == [1, 2]
    for read, mask in zip(masks_of(found), masks, strict=True):
        np.testing.assert_array_equal(read, mask)
    assert loss is not None
    assert (loss.lost_holes, loss.joined_parts) == (0, 0)


def test_categories_are_sorted_and_everything_else_is_in_the_attributes() -> None:
    mask = ring()
    first = annotation(mask, "1", "zebra", labels=("zebra", "animal"))
    second = annotation(mask, "2", "Ape", labels=(), score=None)
    found = document(write_coco, dataset(image("a/b.jpg", [first, second], (40, 50)), image("c.jpg", [])))

    assert [(one["id"], one["name"]) for one in found["categories"]] == [(1, "Ape"), (2, "zebra")]
    assert [one["category_id"] for one in found["annotations"]] == [2, 1]
    assert found["annotations"][0]["attributes"] == {
        "segment_id": str(first.segment_id),
        "category": "zebra",
        "labels": ["zebra", "animal"],
        "score": 0.25,
        "predicted_iou": 0.875,
        "object_score": 0.5,
    }
    assert "score" not in found["annotations"][1]["attributes"]
    assert [(one["file_name"], one["width"], one["height"]) for one in found["images"]] == [
        ("a/b.jpg", 50, 40),
        ("c.jpg", 12, 12),
    ]


def test_pycocotools_opens_the_file_in_any_encoding_of_the_system(tmp_path: Path) -> None:
    data = dataset(image("größe 図.jpg", [annotation(ring(), category="傘")], (40, 50)))
    files, _ = written(write_coco, data)
    (tmp_path / "annotations.json").write_bytes(files["annotations.json"])

    assert files["annotations.json"].isascii()
    assert COCO(tmp_path / "annotations.json").cats[1]["name"] == "傘"


def test_fiftyone_gets_the_same_document_under_the_name_that_it_looks_for() -> None:
    data = of_masks([ring(), two_parts()])

    assert written(write_fiftyone, data)[0] == {
        "labels.json": written(write_coco, data)[0]["annotations.json"]
    }
