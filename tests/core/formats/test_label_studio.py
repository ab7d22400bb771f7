"""Tasks and labelling configuration for Label Studio."""

import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from tests.fakes.annotated import annotated_dataset, annotated_image, shapes

from segdex_core.formats.brush import decode_brush
from segdex_core.formats.export import Dataset, FormatOptions, LossMeter
from segdex_core.formats.label_studio import CONFIG, TASKS, write_label_studio


def test_every_mask_is_a_brush_region_that_the_configuration_knows() -> None:
    dataset = annotated_dataset()
    files = written(dataset)
    tasks = json.loads(files[TASKS])
    config = ElementTree.fromstring(files[CONFIG])  # noqa: S314 - our own

    brush = config.find("BrushLabels")
    shown = config.find("Image")
    assert brush is not None
    assert shown is not None
    assert brush.get("toName") == shown.get("name")
    assert shown.get("value") == "$image"
    names = {label.get("value") for label in brush}
    for image, task in zip(dataset.images, tasks, strict=True):
        assert task["data"]["file_name"] == image.file_name
        [prediction] = task["predictions"]
        assert prediction["model_version"] == "segdex"
        for one, region in zip(image.annotations, prediction["result"], strict=True):
            assert region["type"] == "brushlabels"
            assert (region["from_name"], region["to_name"]) == (brush.get("name"), shown.get("name"))
            assert (region["original_height"], region["original_width"]) == (image.height, image.width)
            assert region["id"] == str(one.segment_id)
            assert region["value"]["format"] == "rle"
            assert decode_brush(bytes(region["value"]["rle"]), one.mask.size_hw) == one.mask
            assert set(region["value"]["brushlabels"]) == {one.category, *one.labels}
            assert names.issuperset(region["value"]["brushlabels"])


def test_a_region_may_have_several_labels_only_where_one_has_them() -> None:
    one = annotated_image("a.png", (37, 21), {"x": (shapes((37, 21))["ring"], ("x",))})

    assert 'choice="multiple"' in written(annotated_dataset())[CONFIG]
    assert "choice" not in written(Dataset((one,), ["x"]))[CONFIG]


def test_pictures_are_named_by_their_address_or_by_their_path() -> None:
    def address(**options: Any) -> str:
        [first, *_] = json.loads(written(annotated_dataset(), FormatOptions(**options))[TASKS])
        return str(first["data"]["image"])

    assert address() == "/data/local-files/?d=a%20b/stra%C3%9Fe%20%26%20%3C1%3E.png"
    assert address(has_pictures=True) == "/data/local-files/?d=images/a%20b/stra%C3%9Fe%20%26%20%3C1%3E.png"
    assert (
        address(url_prefix="https://x.example/") == "https://x.example/a%20b/stra%C3%9Fe%20%26%20%3C1%3E.png"
    )
    assert address(url_prefix="") == "a b/straße & <1>.png"


def test_the_same_segments_give_the_same_bytes_and_none_an_empty_list() -> None:
    assert written(annotated_dataset()) == written(annotated_dataset())
    assert json.loads(written(Dataset((), []))[TASKS]) == []


def written(dataset: Dataset, options: FormatOptions | None = None) -> Mapping[str, str]:
    files = write_label_studio(dataset, options or FormatOptions(), LossMeter())
    return {file.name: b"".join(file.chunks).decode() for file in files}
