"""Both forms of a data set read into the same values, and what is wrong with one is said in one line."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.fakes.dataset import SIZE_HW, box_rle, write_colour_set, write_lines
from tests.needs import shared

from segdex.evaluation.dataset import (
    DEFAULT_SOURCE,
    Caption,
    EvalDataset,
    Pair,
    choose_source,
    sample_dataset,
    sample_images,
)
from segdex.evaluation.load import load_dataset
from segdex_core.errors import UsageError
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import decode_mask

BOX = BoxXYXY(10, 20, 50, 60)
OTHER = BoxXYXY(70, 30, 150, 110)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    pictures = {f"{n}.png": [("red", BOX), ("blue", OTHER)] for n in range(6)}
    return write_colour_set(tmp_path / "set", pictures)


def segment_row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "image": "images/0.png",
        "height": SIZE_HW[0],
        "width": SIZE_HW[1],
        "instance_id": "a",
        "category": "red",
        "source": "colours",
        "rle": box_rle(BOX),
    }
    return row | changes


def rewrite(folder: Path, *rows: dict[str, object]) -> EvalDataset:
    write_lines(folder / "segments.jsonl", rows)
    (folder / "class_queries.jsonl").unlink(missing_ok=True)
    return load_dataset(folder)


def test_what_was_written_is_read_back(folder: Path) -> None:
    dataset = load_dataset(folder)
    first = dataset.images[0]

    assert [image.name for image in dataset.images] == [f"images/{n}.png" for n in range(6)]
    assert first.path == folder / "images/0.png"
    assert first.size_hw == SIZE_HW
    assert [(one.id, one.category, one.area_px) for one in first.instances] == [
        ("0", "red", BOX.area_px),
        ("1", "blue", OTHER.area_px),
    ]
    assert dataset.class_names == ("blue", "red")
    assert all(query.is_unique for query in dataset.class_queries)


def test_crowds_and_empty_masks_are_no_instances(folder: Path) -> None:
    nothing = BoxXYXY(0, 0, 0, 0)
    dataset = rewrite(
        folder,
        segment_row(),
        segment_row(instance_id="b", iscrowd=1),
        segment_row(instance_id="c", rle=box_rle(nothing)),
    )

    assert [one.id for one in dataset.images[0].instances] == ["a"]
    assert [one.id for one in dataset.images[0].crowds] == ["b"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: Invalid JSON"),
        ('{"image": "images/0.png"}', "line 2: width: Field required"),
        (b"\xff\xfe".decode("latin-1"), "line 2: Invalid JSON"),
        (json.dumps(segment_row(height=7, instance_id="b")), "line 2: an earlier line gives another size"),
        (json.dumps(segment_row()), "line 2: images/0.png has an instance 'a' already"),
        (
            json.dumps(segment_row(instance_id="b", rle={"size": [120, 160], "counts": "04"})),
            "line 2: the runs of an RLE must add up",
        ),
        (
            json.dumps(segment_row(instance_id="b", rle={"size": [120, 160], "counts": [5, 3]})),
            "line 2: the runs of an RLE must add up",
        ),
        (
            json.dumps(segment_row(instance_id="b", rle={"size": [60, 80], "counts": [4800]})),
            "line 2: the mask is 80 x 60, but the picture 160 x 120",
        ),
    ],
)
def test_a_broken_line_is_named_by_file_and_number(folder: Path, line: str, said: str) -> None:
    path = folder / "segments.jsonl"
    path.write_text(json.dumps(segment_row()) + "\n" + line + "\n", encoding="latin-1")

    with pytest.raises(UsageError) as caught:
        load_dataset(folder)
    assert str(caught.value).startswith(f"{path}, {said}")
    assert "\n" not in str(caught.value)


def test_a_query_for_an_instance_that_is_not_there_is_refused(folder: Path) -> None:
    write_lines(
        folder / "class_queries.jsonl", [{"image": "images/0.png", "text": "red", "instance_ids": ["1"]}]
    )

    with pytest.raises(UsageError, match=r"class_queries\.jsonl, line 1: .* no 'red' '1' in images/0\.png"):
        load_dataset(folder)


def test_captions_of_known_pictures_are_read(folder: Path) -> None:
    write_lines(
        folder / "captions.jsonl",
        [
            {"image": "images/2.png", "text": "a red box", "id": 7},
            {"image": "images/9.png", "text": "of a picture without masks"},
            {"image": "images/0.png", "text": "two boxes"},
        ],
    )
    dataset = load_dataset(folder)

    assert dataset.captions == (
        Caption("images/2.png", "a red box"),
        Caption("images/0.png", "two boxes"),
    )
    assert {one.image for one in sample_dataset(dataset, 1).captions} <= {
        image.name for image in sample_dataset(dataset, 1).images
    }
    (folder / "captions.jsonl").write_text('{"image": "images/0.png"}\n')
    with pytest.raises(UsageError, match=r"captions\.jsonl, line 1: text: Field required"):
        load_dataset(folder)


def test_a_folder_with_pairs_alone_has_their_pictures_and_no_masks(folder: Path) -> None:
    (folder / "segments.jsonl").unlink()
    write_lines(
        folder / "pairs.jsonl",
        [
            {"image": f"images/{number}.png", "query_image": "images/5.png", "text": "red"}
            for number in (3, 1, 3)
        ],
    )
    dataset = load_dataset(folder)

    assert [image.name for image in dataset.images] == ["images/1.png", "images/3.png"]
    assert [image.size_hw for image in dataset.images] == [SIZE_HW] * 2
    assert all(image.instances == () for image in dataset.images)
    assert [len(each) for each in (dataset.class_queries, dataset.refs, dataset.captions)] == [0, 0, 0]
    assert dataset.pairs[0] == Pair("images/3.png", folder / "images/5.png", "red")
    assert len(dataset.pairs) == 3


def test_a_pair_whose_picture_is_missing_is_named(folder: Path) -> None:
    (folder / "segments.jsonl").unlink()
    write_lines(
        folder / "pairs.jsonl", [{"image": "images/77.png", "query_image": "images/5.png", "text": "red"}]
    )

    with pytest.raises(UsageError, match=r"^1 of the 1 pictures .*77\.png; name their folder"):
        load_dataset(folder)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"has no segments\.jsonl"):
        load_dataset(folder / "images")
    (folder / "images/3.png").unlink()
    with pytest.raises(UsageError, match=r"^1 of the 6 pictures .*3\.png; name their folder with --images$"):
        load_dataset(folder)


def test_polygons_and_both_run_length_codes_are_the_same_mask(tmp_path: Path) -> None:
    runs = [BOX.x1 * SIZE_HW[0] + BOX.y1]  # down the columns, background first
    for _ in range(BOX.x1, BOX.x2):
        runs += [BOX.y2 - BOX.y1, SIZE_HW[0] - (BOX.y2 - BOX.y1)]
    runs[-1] += SIZE_HW[0] * SIZE_HW[1] - sum(runs)
    x1, y1, x2, y2 = BOX
    forms = [
        [[x1, y1, x2, y1, x2, y2, x1, y2]],
        {"size": list(SIZE_HW), "counts": runs},
        box_rle(BOX),
    ]
    dataset = load_dataset(write_coco(tmp_path, forms))
    masks = [decode_mask(one.mask) for one in dataset.images[0].instances]

    assert masks[0].sum() == BOX.area_px
    assert all((mask == masks[0]).all() for mask in masks)
    assert dataset.sources == ("instances_tiny",)
    assert [query.instance_ids for query in dataset.class_queries] == [("0", "1", "2")]


def test_a_polygon_of_several_parts_covers_what_pillow_fills(tmp_path: Path) -> None:
    parts = [[(20, 10), (60, 15), (40, 50)], [(90, 40), (140, 60), (120, 100), (80, 90)]]
    drawing = Image.new("L", SIZE_HW[::-1])
    for part in parts:
        ImageDraw.Draw(drawing).polygon(part, fill=1)
    form = [[float(v) for point in part for v in point] for part in parts]
    mask = decode_mask(load_dataset(write_coco(tmp_path, [form])).images[0].instances[0].mask)
    filled = np.asarray(drawing) > 0

    assert (mask & filled).sum() / (mask | filled).sum() > 0.95


def test_annotations_without_a_mask_and_pictures_without_annotations_are_read(tmp_path: Path) -> None:
    path = write_coco(tmp_path, [box_rle(BOX), [], [[1.0, 2.0, 3.0, 4.0]]], pictures=2)
    dataset = load_dataset(path)

    assert [[one.id for one in image.instances] for image in dataset.images] == [["0"], []]
    assert dataset.images[1].sources == ("instances_tiny",)


@pytest.mark.parametrize("place", ["annotations/images", "annotations", "images", "tiny"])
def test_the_pictures_of_coco_json_are_found_at_their_usual_places(tmp_path: Path, place: str) -> None:
    path = write_coco(tmp_path, [box_rle(BOX)], place=place)

    assert load_dataset(path).images[0].path == tmp_path / place / "0.png"


def test_pictures_of_coco_json_elsewhere_have_to_be_named(tmp_path: Path) -> None:
    path = write_coco(tmp_path, [box_rle(BOX)], place="elsewhere")

    with pytest.raises(UsageError, match="name their folder with --images"):
        load_dataset(path)
    assert load_dataset(path, image_folder=tmp_path / "elsewhere").images


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ([1, 2, 3], "annotations.0.segmentation"),
        ([[1.0] * 7], "pairs of finite numbers"),
        ([[0, 0, 1e12, 0, 1e12, 1e12]], "outside the picture"),
        ([[0, 0, -1e300, 0, 5, 5]], "outside the picture"),
    ],
)
def test_a_broken_annotation_is_named(tmp_path: Path, segmentation: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_dataset(write_coco(tmp_path, [segmentation]))


def write_coco(
    root: Path,
    segmentations: Sequence[object],
    *,
    place: str = "images",
    pictures: int = 1,
) -> Path:
    """Write COCO JSON with one class, and its pictures; all annotations are of the first."""
    (root / place).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    for number in range(pictures):
        Image.new("RGB", SIZE_HW[::-1]).save(root / place / f"{number}.png")
    path = root / "annotations/instances_tiny.json"
    images = [
        {"id": n, "file_name": f"{n}.png", "width": SIZE_HW[1], "height": SIZE_HW[0]} for n in range(pictures)
    ]
    annotations = [
        {"id": n, "image_id": 0, "category_id": 7, "segmentation": form}
        for n, form in enumerate(segmentations)
    ]
    categories = [{"id": 7, "name": "box"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_the_sample_is_the_documented_one_and_does_not_depend_on_the_order(folder: Path) -> None:
    images = load_dataset(folder).images
    names = sorted(image.name for image in images)
    wanted = sorted(random.Random(3).sample(names, 4))

    assert [image.name for image in sample_images(images, 4, 3)] == wanted
    assert [image.name for image in sample_images(images[::-1], 4, 3)] == wanted
    assert [image.name for image in sample_images(images[::-1], 99)] == names
    with pytest.raises(UsageError, match="--limit must be 1 or more"):
        sample_images(images, 0)


def test_a_sampled_set_keeps_the_queries_of_its_pictures_and_all_labels(folder: Path) -> None:
    dataset = load_dataset(folder)
    sampled = sample_dataset(dataset, 2)

    assert Counter(query.image for query in sampled.class_queries) == {
        image.name: 2 for image in sampled.images
    }
    assert sampled.labels == dataset.labels
    assert sample_dataset(dataset, None) == dataset


def test_a_source_is_chosen_with_its_pictures_only(folder: Path) -> None:
    dataset = rewrite(
        folder,
        segment_row(source=DEFAULT_SOURCE),
        segment_row(source="other", instance_id="b"),
        segment_row(source="other", image="images/1.png"),
    )
    chosen = choose_source(dataset, None)

    assert [[one.id for one in image.instances] for image in chosen.images] == [["a"]]
    assert [image.name for image in choose_source(dataset, "other").images] == [
        "images/0.png",
        "images/1.png",
    ]
    with pytest.raises(UsageError, match=rf"'x'; --source can be: {DEFAULT_SOURCE}, other, all$"):
        choose_source(dataset, "x")
    assert choose_source(dataset, "all") == dataset


def test_without_the_default_source_everything_counts(folder: Path) -> None:
    dataset = load_dataset(folder)

    assert choose_source(dataset, None) == dataset


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "images", "instances", "classes"),
    [("coco", 91, 867, 76), ("pennfudan", 16, 36, 0), ("bsds500", 40, 4354, 0), ("davis", 90, 90, 0)],
)
def test_the_shared_sets_have_what_their_notes_say(
    name: str, images: int, instances: int, classes: int
) -> None:
    dataset = load_dataset(shared("data", name))
    chosen = choose_source(dataset, None)

    assert len(chosen.images) == images
    assert sum(len(image.instances) for image in chosen.images) == instances
    assert len(dataset.class_names) == classes
