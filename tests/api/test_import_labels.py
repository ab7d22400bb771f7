"""Labels that are corrected in another tool come back to the segments that they are of."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from tests.environment import no_variables
from tests.fakes.parts import parts

from segdex.library import Library
from segdex.wiring import build_settings, open_library
from segdex_core.errors import UsageError
from segdex_core.formats.brush import decode_brush
from segdex_core.masks import decode_mask, encode_mask
from segdex_core.records import SegmentRecord
from segdex_core.settings import Settings
from segdex_core.wire.imports import ImportReport
from segdex_core.wire.limits import ImportFormat

__all__ = ["no_variables"]

NAMES = ["red umbrella", "猫", "قطة", 'a "quoted" & <b>', "emoji 🐈", "Straße"]
FORMATS: list[ImportFormat] = ["coco", "label-studio"]


@pytest.fixture(name="library")
def _library(tmp_path: Path, no_variables: None) -> Iterator[Library]:
    fakes = parts(tmp_path / "set")
    index = fakes.open_index(Settings(), create=True)
    with open_library(build_settings(), replace(fakes, open_index=lambda *_, **__: index)) as library:
        yield library


def records(library: Library) -> list[SegmentRecord]:
    return list(library.index.scroll_segments())


def labels(library: Library) -> dict[UUID, set[tuple[str, str]]]:
    return {one.segment_id: {(label.name, label.author) for label in one.labels} for one in records(library)}


def label_all(library: Library, names: list[str] = NAMES) -> None:
    """Give the segments different labels of a person; the first has two, the last has none."""
    ids = [one.segment_id for one in records(library)]
    for position, segment_id in enumerate(ids[:-1]):
        wanted = {names[position % len(names)], names[0]} if position == 1 else {names[position % len(names)]}
        library.label(*sorted(wanted), segments=[segment_id], by="anna")


class Exported:
    """An export of everything that can be edited as another tool does."""

    def __init__(self, library: Library, folder: Path, kind: ImportFormat) -> None:
        library.export(folder, format=kind, everything=True)
        self.kind = kind
        self.path = folder / ("annotations.json" if kind == "coco" else "tasks.json")
        self.document: Any = json.loads(self.path.read_bytes())

    def items(self) -> list[dict[str, Any]]:
        if self.kind == "coco":
            return list(self.document["annotations"])
        return [one for task in self.document for one in task["predictions"][0]["result"]]

    def segment_id(self, item: dict[str, Any]) -> UUID:
        return UUID(item["attributes"]["segment_id"] if self.kind == "coco" else item["meta"]["segment_id"])

    def of(self, segment_id: UUID) -> dict[str, Any]:
        return next(one for one in self.items() if self.segment_id(one) == segment_id)

    def rename(self, segment_id: UUID, old: str, new: str) -> None:
        """Give a segment another name, as a person does in the other tool."""
        item = self.of(segment_id)
        if self.kind == "label-studio":
            names = item["value"]["brushlabels"]
            names[names.index(old)] = new
            return
        known = {one["name"]: one["id"] for one in self.document["categories"]}
        assert item["category_id"] == known[old]
        if new not in known:
            known[new] = max(known.values()) + 1
            self.document["categories"].append({"id": known[new], "name": new})
        item["category_id"] = known[new]

    def forget_ids(self) -> None:
        """Take away what only segdex writes."""
        for one in self.items():
            one.pop("attributes", None)
            one.pop("meta", None)
            one["id"] = 1 if self.kind == "coco" else str(one["id"])[:8]
        if self.kind == "coco":
            for number, one in enumerate(self.items()):
                one["id"] = number
            for one in self.document["images"]:
                del one["sha256"], one["uri"]
        else:
            for task in self.document:
                task["data"] = {"image": task["data"]["image"]}

    def delete(self, segment_id: UUID) -> None:
        if self.kind == "coco":
            self.document["annotations"].remove(self.of(segment_id))
        else:
            for task in self.document:
                kept = [one for one in task["predictions"][0]["result"] if self.segment_id(one) != segment_id]
                task["predictions"][0]["result"] = kept

    def into(self, library: Library, **options: Any) -> ImportReport:
        self.path.write_text(json.dumps(self.document), encoding="utf-8")
        return library.import_labels(self.path, format=self.kind, **{"by": "anna", **options})


@pytest.fixture(name="exported", params=FORMATS)
def _exported(request: pytest.FixtureRequest, library: Library, tmp_path: Path) -> Exported:
    label_all(library)
    return Exported(library, tmp_path / "out", request.param)


def test_masks_that_come_back_are_equal_and_their_segments_and_labels_stay(
    library: Library, exported: Exported
) -> None:
    before = {one.segment_id: one for one in records(library)}
    for item in exported.items():
        mask = before[exported.segment_id(item)].mask
        if exported.kind == "coco":
            assert item["segmentation"] == mask.to_coco()
        else:
            assert decode_brush(bytes(item["value"]["rle"]), mask.size_hw) == mask

    report = exported.into(library)
    assert report.annotations == report.matched == report.matched_by_id == len(before)
    assert report.images == 2
    assert (report.segments_changed, report.segments_unchanged) == (0, len(before))
    assert report.problems == []
    assert {one.segment_id: one for one in records(library)} == before


def test_labels_survive_without_anything_that_segdex_wrote(library: Library, exported: Exported) -> None:
    before = labels(library)
    exported.forget_ids()
    library.clear_labels(authors=["person"])

    report = exported.into(library)
    assert report.matched == report.matched_by_mask == len(before)
    assert labels(library).keys() == before.keys()
    if exported.kind == "label-studio":
        assert labels(library) == before
    else:  # COCO has one category for each object; the other labels were in what segdex wrote
        assert sum(map(len, labels(library).values())) == len(before) - 1


def test_a_renamed_category_replaces_the_label_and_leaves_the_others(
    library: Library, exported: Exported
) -> None:
    before = labels(library)
    two = next(one for one, said in before.items() if len(said) == 2)
    old, kept = sorted(name for name, _ in before[two])
    if exported.kind == "coco":
        number = exported.of(two)["category_id"]
        old = next(one["name"] for one in exported.document["categories"] if one["id"] == number)
        [kept] = {name for name, _ in before[two]} - {old}
    library.label("old of a model", segments=[two], by="bert")
    exported.rename(two, old, "新しい")

    dry = exported.into(library, dry_run=True)
    assert (dry.segments_changed, dry.labels_added, dry.labels_removed) == (1, 1, 1)
    assert (two, (old, "person:anna")) in pairs(library)
    report = exported.into(library)
    assert report.model_copy(update={"dry_run": True, "elapsed_s": dry.elapsed_s}) == dry
    assert labels(library)[two] == {
        ("新しい", "person:anna"),
        (kept, "person:anna"),
        ("old of a model", "person:bert"),
    }
    assert {key: said for key, said in labels(library).items() if key != two} == {
        key: said for key, said in before.items() if key != two
    }
    again = exported.into(library)
    assert (again.segments_changed, again.segments_unchanged) == (0, len(before))


def test_labels_of_others_stay_unless_they_are_overruled(library: Library, exported: Exported) -> None:
    one = next(key for key, said in labels(library).items() if len(said) == 1)
    [(old, _)] = labels(library)[one]
    exported.rename(one, old, "new")

    exported.into(library, by="bert")
    assert labels(library)[one] == {(old, "person:anna"), ("new", "person:bert")}
    exported.into(library, by="bert", overrule=True)
    assert labels(library)[one] == {("new", "person:bert")}


def test_an_annotation_that_is_gone_keeps_its_label_unless_it_is_asked_to_go(
    library: Library, exported: Exported
) -> None:
    one = next(key for key, said in labels(library).items() if len(said) == 1)
    before = labels(library)
    exported.delete(one)

    assert exported.into(library).segments_changed == 0
    assert labels(library) == before
    report = exported.into(library, remove_missing=True)
    assert (report.segments_changed, report.labels_removed) == (1, 1)
    assert labels(library) == {**before, one: set()}


def test_a_category_that_was_no_label_does_not_become_one(
    library: Library, tmp_path: Path, exported: Exported
) -> None:
    library.clear_labels(authors=["person"])
    for name, options in {"none": {}, "given": {"category": "everything here"}}.items():
        folder = tmp_path / name
        library.export(folder, format=exported.kind, everything=True, **options)  # type: ignore[arg-type]
        report = library.import_labels(folder / exported.path.name, format=exported.kind)
        assert report.matched == report.segments_unchanged == report.annotations
        assert library.labels().counts == {}


def test_what_matches_nothing_is_counted_and_named(library: Library, exported: Exported) -> None:
    drawn = exported.items()[0]
    mask = np.zeros((120, 160), np.bool_)
    mask[::2, 3] = True
    if exported.kind == "coco":
        drawn["segmentation"] = encode_mask(mask).to_coco()
        exported.document["images"].append({"id": 99, "file_name": "strange.png", "width": 5, "height": 5})
        lost = {**exported.items()[1], "id": 77, "image_id": 99, "attributes": {}}
        exported.document["annotations"].append(lost)
    else:
        from segdex_core.formats.brush import encode_brush

        drawn["value"]["rle"] = encode_brush(encode_mask(mask))
        lost = {**exported.items()[1], "meta": {}, "id": "abc"}
        exported.document.append(
            {"data": {"image": "/data/upload/7/0123abcd-strange.png"}, "predictions": [{"result": [lost]}]}
        )
        exported.document.append({"data": {"image": "x.png"}, "annotations": [{"was_cancelled": True}]})

    report = exported.into(library)
    assert (report.unmatched, report.unknown_images, report.of_unknown_images) == (1, 1, 1)
    assert report.skipped_images == (exported.kind == "label-studio")
    assert report.annotations == report.matched + report.unmatched + report.of_unknown_images
    unknown, unmatched = report.problems
    assert unknown.image == "strange.png"
    assert "no picture of the index has this name" in unknown.reason
    assert unmatched.annotation is not None
    assert "no segment of the picture is like it" in unmatched.reason


def test_a_picture_of_another_size_is_named_and_not_stretched(library: Library, exported: Exported) -> None:
    for one in exported.document["images"] if exported.kind == "coco" else exported.items():
        if exported.kind == "coco":
            one["width"], one["height"] = one["height"], one["width"]
        else:
            one["original_width"], one["original_height"] = one["original_height"], one["original_width"]

    report = exported.into(library)
    assert report.matched == 0
    assert report.annotations == report.unmatched + report.of_unknown_images
    assert all("120 x 160" in problem.reason for problem in report.problems)


def test_polygons_and_boxes_find_their_segments(library: Library, tmp_path: Path) -> None:
    [record, *_] = [one for one in records(library) if one.area_px == one.box.area_px]
    image = library.image(record.image_id)
    x1, y1, x2, y2 = record.box
    height, width = record.mask.size_hw
    outline = [x1, y1, x2, y1, x2, y2, x1, y2]

    def report(**shape: Any) -> ImportReport:
        one = {"id": 5, "image_id": "a", "category_id": 3, **shape}
        document = {
            "images": [{"id": "a", "file_name": image.path, "width": width, "height": height}],
            "categories": [{"id": 3, "name": "mine"}],
            "annotations": [one],
        }
        return library.import_labels(json.dumps(document).encode(), format="coco", dry_run=True)

    whole = report(segmentation=[outline])
    assert (whole.matched_by_mask, whole.counts) == (1, {"mine": 1})
    middle = (x1 + x2) / 2
    halves = [
        [x1, y1, middle, y1, middle, y2, x1, y2],
        [middle, y1, x2, y1, x2, y2, middle, y2],
        [1, 1, 2, 2],
    ]
    assert report(segmentation=halves).matched_by_mask == 1
    assert report(bbox=[x1, y1, x2 - x1, y2 - y1]).matched_by_box == 1
    columns = decode_mask(record.mask).T.ravel()
    changes = [0, *(np.flatnonzero(np.diff(columns)) + 1).tolist(), columns.size]
    runs = {"size": [height, width], "counts": np.diff(changes).tolist()}
    assert report(segmentation=runs).matched_by_mask == 1
    assert "neither a segmentation nor a box" in report().problems[0].reason
    assert report(segmentation=[[1, 1, 2, 2]]).unmatched == 1


def test_a_corrected_task_counts_and_not_what_was_predicted(library: Library, tmp_path: Path) -> None:
    label_all(library)
    exported = Exported(library, tmp_path / "out", "label-studio")
    one = exported.segment_id(exported.items()[0])
    task = next(each for each in exported.document if exported.of(one) in each["predictions"][0]["result"])
    corrected = json.loads(json.dumps(task["predictions"][0]["result"]))
    shown = next(each for each in corrected if exported.segment_id(each) == one)
    shown["value"]["brushlabels"] = ["corrected"]
    stale = [{**shown, "value": {**shown["value"], "brushlabels": ["stale"]}}]
    task["annotations"] = [
        {"result": corrected, "updated_at": "2026-11-02T10:00:00Z"},
        {"result": stale, "updated_at": "2026-11-01T10:00:00Z"},
        {"result": stale, "updated_at": "2026-11-03T10:00:00Z", "was_cancelled": True},
    ]

    exported.into(library)
    assert ("corrected", "person:anna") in labels(library)[one]
    assert "stale" not in library.labels().counts


def test_pictures_with_the_same_name_are_not_guessed(library: Library, exported: Exported) -> None:
    for record in library.index.scroll_images():
        [file] = record.files
        folder = "x" if file.uri.endswith("a.png") else "y"
        uri = f"file:///photos/{folder}/one.png"
        library.index.update_image(replace(record, files=(replace(file, uri=uri),)))
    exported.forget_ids()
    pictures = exported.document["images"] if exported.kind == "coco" else None
    for position, one in enumerate(pictures or [task["data"] for task in exported.document]):
        one["file_name" if pictures else "image"] = "one.png" if position else "elsewhere/y/one.png"

    report = exported.into(library)
    assert (report.images, report.unknown_images) == (1, 1)
    assert "2 pictures of the index have paths that end like this" in report.problems[0].reason


def test_a_picture_is_found_by_the_segments_of_its_annotations(library: Library, exported: Exported) -> None:
    """Other tools name pictures anew, and keep the attributes of annotations."""
    for one in exported.document["images"] if exported.kind == "coco" else exported.document:
        if exported.kind == "coco":
            one.update(file_name="renamed.jpg", sha256=None, uri=None)
        else:
            one["data"] = {"image": "renamed.jpg"}

    report = exported.into(library)
    assert (report.images, report.matched_by_id) == (2, report.annotations)


def test_names_that_are_no_text_are_told_in_a_form_that_can_be_sent(library: Library) -> None:
    document = json.loads(coco({"segmentation": [[1, 1, 5, 1, 5, 5]], "id": "\ud800\n" * 500}))
    document["images"].append({"id": 2, "file_name": "\udcff\x1b[2J.png"})

    report = library.import_labels(json.dumps(document).encode(), format="coco")
    assert "\ufffd" in report.model_dump_json()
    for problem in report.problems:
        said = f"{problem.image} {problem.annotation} {problem.reason}"
        assert said.isprintable()
        assert len(said) < 1_000


@pytest.mark.parametrize(
    ("kind", "document", "problem"),
    [
        ("coco", b"", "it is no JSON"),
        ("coco", b"[" * 100_000, "nested too deeply"),
        ("coco", b"\xff\xfe\xfa", "it is no JSON"),
        ("coco", b"[]", "must be an object, but is an array"),
        ("coco", b'{"images": []}', "it is no COCO data set: it has no 'annotations'"),
        ("label-studio", b"{}", "must be an array, but is an object"),
        ("label-studio", b'[{"image": "a.png", "label": []}]', "not as JSON-MIN"),
    ],
)
def test_a_document_that_is_none_is_refused_in_one_line(
    library: Library, kind: ImportFormat, document: bytes, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem) as refused:
        library.import_labels(document, format=kind)

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"segmentation": {"size": [120, 160], "counts": [2**62] * 5}}, "whole numbers of 0 or more"),
        ({"segmentation": {"size": [120, 160], "counts": [-1]}}, "whole numbers of 0 or more"),
        ({"segmentation": {"size": [2**40, 160], "counts": "0"}}, "size.0. must be a whole number between"),
        ({"segmentation": {"size": [120], "counts": "0"}}, "must be height and width"),
        ({"segmentation": {"size": [120, 160], "counts": "\u00e9"}}, "compressed ASCII code"),
        ({"segmentation": [[1, 2, 3]]}, "must have pairs x, y"),
        ({"segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, "finite numbers"),
        ({"segmentation": [["1", 2, 3, 4, 5, 6]]}, "numbers alone"),
        ({"segmentation": [], "bbox": [1, 2, 3]}, "must have 4 numbers"),
        ({"category_id": 99}, "category_id is that of no category: 99"),
        ({"image_id": [1]}, "image_id is that of no picture"),
        ({"category_id": 2}, "a label must have a letter or digit"),
        ({"category_id": 3}, "at most 100 printable characters"),
        ({"category_id": 4}, "at most 100 printable characters"),
    ],
)
def test_a_damaged_annotation_is_refused_with_its_place_before_anything_is_written(
    library: Library, change: dict[str, Any], problem: str
) -> None:
    before = labels(library)

    with pytest.raises(UsageError, match=problem) as refused:
        library.import_labels(coco(change), format="coco")
    assert len(str(refused.value)) < 300
    assert labels(library) == before


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"segmentation": {"size": [120, 160], "counts": [5, 5]}}, "add up"),
        ({"segmentation": {"size": [120, 160], "counts": "ooooooooooooo"}}, "add up"),
        ({"segmentation": {"size": [120, 160], "counts": ""}}, "add up"),
        ({"segmentation": {"size": [1 << 20, 1 << 20], "counts": "0"}}, "of a picture of 1048576 x 1048576"),
        ({"segmentation": [[0, 0, 1e9, 0, 5, 5]]}, "far outside the picture"),
        ({"segmentation": [[0, 0, 160, 120] * 20_000]}, "pixels long"),
        ({"bbox": [1e300, 0, 1e300, 5]}, "no segment of the picture is like it"),
    ],
)
def test_a_mask_that_cannot_be_is_named_before_native_code_sees_it(
    library: Library, change: dict[str, Any], problem: str
) -> None:
    report = library.import_labels(coco(change), format="coco")

    assert (report.matched, report.unmatched) == (0, 1)
    assert problem in report.problems[0].reason


def coco(change: dict[str, Any]) -> bytes:
    """Return a document with one annotation of the first picture."""
    one = {"id": 1, "image_id": 1, "category_id": 1, **change}
    categories = [{"id": 1, "name": "x"}, {"id": 2, "name": "?!"}, {"id": 3, "name": "x" * 101}]
    categories.append({"id": 4, "name": "x" * 100_000})
    images = [{"id": 1, "file_name": "a.png", "width": 160, "height": 120}]
    return json.dumps({"images": images, "categories": categories, "annotations": [one]}).encode()


def pairs(library: Library) -> set[tuple[UUID, tuple[str, str]]]:
    return {(key, one) for key, said in labels(library).items() for one in said}
