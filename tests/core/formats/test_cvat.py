"""The XML of CVAT for images 1.1."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.fakes.annotated import annotated_dataset, annotated_image, shapes

from segdex_core.formats.cvat import read_cvat_mask, write_cvat
from segdex_core.formats.export import Dataset, FormatOptions, LossMeter
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import decode_mask


def test_every_mask_is_runs_along_the_rows_of_its_box() -> None:
    dataset = annotated_dataset()
    root = ElementTree.fromstring(written(dataset))  # noqa: S314 - our own

    known = [label.findtext("name") for label in root.iter("label")]
    assert known == list(dataset.categories)
    attributes = {name.text for name in root.findall("meta/task/labels/label/attributes/attribute/name")}
    for image, shown in zip(dataset.images, root.iter("image"), strict=True):
        assert (shown.get("name"), shown.get("width")) == (image.file_name, str(image.width))
        for one, shape in zip(image.annotations, shown.iter("mask"), strict=True):
            left, top, width, height = (
                int(shape.get(name, "")) for name in ("left", "top", "width", "height")
            )
            runs = [int(run) for run in shape.get("rle", "").split(",")]
            assert sum(runs) == width * height
            flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
            mask = np.zeros((image.height, image.width), np.bool_)
            mask[top : top + height, left : left + width] = flat
            assert (mask == decode_mask(one.mask)).all()
            assert read_cvat_mask(runs, one.box, one.mask.size_hw) == one.mask
            assert shape.get("label") == one.category
            values = {each.get("name"): each.text for each in shape.iter("attribute")}
            assert values["segment_id"] == str(one.segment_id)
            assert json.loads(values["labels"] or "") == list(one.labels)
            assert attributes.issuperset(values)


def test_a_name_that_xml_cannot_hold_is_written_without_these_characters() -> None:
    odd = annotated_image("a\x01b\udcff.png", (37, 21), {"x": (shapes((37, 21))["ring"], ())})
    root = ElementTree.fromstring(written(Dataset((odd,), ["x"])))  # noqa: S314 - our own

    assert [image.get("name") for image in root.iter("image")] == ["a_b_.png"]


@pytest.mark.parametrize("runs", [[3], [2, 3], [5, -1], [2**62, 2**62, 2**62, 2**62, 4], []])
def test_runs_that_are_not_the_area_of_the_box_are_refused(runs: list[int]) -> None:
    with pytest.raises(ValueError, match="add up"):
        read_cvat_mask(runs, BoxXYXY(1, 1, 3, 3), (4, 4))


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (-1, 0, 1, 1), (3, 3, 5, 4), (0, 0, 2**60, 2**60)])
def test_boxes_outside_the_picture_are_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="not in a picture"):
        read_cvat_mask([1], BoxXYXY(*box), (4, 4))


def written(dataset: Dataset) -> str:
    [file] = write_cvat(dataset, FormatOptions(), LossMeter())
    return b"".join(file.chunks).decode()
