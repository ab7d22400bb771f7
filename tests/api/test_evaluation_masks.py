"""``evaluate_masks`` end to end on coloured boxes, with a segmenter that floods regions."""

from pathlib import Path

import pytest
from PIL import Image
from tests.fakes.dataset import SIZE_HW, write_colour_set
from tests.fakes.segmenter import FloodSegmenter

from segdex.evaluation.dataset import choose_source
from segdex.evaluation.load import load_dataset
from segdex.evaluation.masks import ImageMasks, evaluate_masks
from segdex_core.errors import ImageTooLargeError, UsageError
from segdex_core.geometry import BoxXYXY
from segdex_ingest.masks.generate import GeneratorSettings

SMALL, MEDIUM, LARGE = BoxXYXY(14, 8, 40, 32), BoxXYXY(60, 10, 120, 40), BoxXYXY(5, 50, 155, 118)
SETTINGS = GeneratorSettings(points_per_side=3)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    things = [("red", SMALL), ("blue", MEDIUM), ("green", LARGE)]
    return write_colour_set(tmp_path, {"a.png": things, "b.png": things[:1], "c.png": things[1:]})


def test_boxes_of_all_sizes_are_found_and_counted_by_size(folder: Path) -> None:
    seen: list[ImageMasks] = []
    report = evaluate_masks(
        load_dataset(folder), segmenter=FloodSegmenter(), settings=SETTINGS, on_image=seen.append
    )
    values = report.to_json()

    assert [one.name for one in seen] == ["images/a.png", "images/b.png", "images/c.png"]
    assert [len(one.best_ious) for one in seen] == [3, 1, 2]
    assert values["images"] == 3
    assert values["instances"] == 6
    assert [values[f"instances_{size}"] for size in ("small", "medium", "large")] == [2, 2, 2]
    assert values["recall_75"] == values["recall_75_large"] == 1
    assert report.segments_per_image == sum(one.segments for one in seen) / 3
    assert report.cpu_s_per_image > 0
    assert set(values) == {
        "images",
        "segments_per_image",
        "cpu_s_per_image",
        "wall_s_per_image",
        *(
            name + size
            for name in ("instances", "mean_iou", "recall_50", "recall_75", "ar")
            for size in ("", "_small", "_medium", "_large")
        ),
    }


def test_what_the_generator_does_not_return_is_not_found(folder: Path) -> None:
    """The budget leaves one mask for each picture, so of three things at most one is found."""
    report = evaluate_masks(
        load_dataset(folder),
        segmenter=FloodSegmenter(),
        settings=GeneratorSettings(points_per_side=3, segments_per_image=1),
    )

    assert report.segments_per_image == 1
    assert report.figures.overall.recall_50 is not None
    assert report.figures.overall.recall_50 <= 3 / 6


def test_the_limit_takes_the_documented_sample(folder: Path) -> None:
    seen: list[ImageMasks] = []
    dataset = choose_source(load_dataset(folder), "colours")
    report = evaluate_masks(
        dataset, segmenter=FloodSegmenter(), settings=SETTINGS, limit=1, on_image=seen.append
    )

    assert report.images == 1
    assert [one.name for one in seen] == ["images/b.png"]  # random.Random(0).sample([a, b, c], 1)
    assert report.to_json()["ar_large"] is None


def test_a_picture_turned_by_exif_does_not_fit_its_masks(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    Image.new("RGB", SIZE_HW[::-1]).save(folder / "images/a.png", exif=exif)

    with pytest.raises(UsageError, match=r"a\.png: the picture is 120 x 160 .*EXIF.* 160 x 120 pixels"):
        evaluate_masks(load_dataset(folder), segmenter=FloodSegmenter(), settings=SETTINGS)


def test_pictures_above_the_limit_on_pixels_are_refused(folder: Path) -> None:
    with pytest.raises(ImageTooLargeError, match="--max-pixels"):
        evaluate_masks(load_dataset(folder), segmenter=FloodSegmenter(), settings=SETTINGS, max_pixels=100)
