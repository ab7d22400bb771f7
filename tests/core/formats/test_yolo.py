"""YOLO outlines, read by the rules of Ultralytics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from tests.core.formats.exported import MASKS, annotation, dataset, image, of_masks, ring, two_parts, written

from segdex_core.formats.outlines import drawn
from segdex_core.formats.yolo import label_path, write_yolo
from segdex_core.masks import BoolMask, decode_mask


def read_masks(lines: bytes, size_hw: tuple[int, int]) -> list[BoolMask]:
    """Return the masks of a label file: a class and shares of width and height in each line.

    As OpenCV's ``fillPoly`` does, what fills an outline draws it too.
    """
    masks = []
    for line in lines.decode("ascii").splitlines():
        values = np.array(line.split()[1:], np.float64).reshape(-1, 2)
        assert len(values) >= 3
        assert ((values >= 0) & (values <= 1)).all()
        masks.append(decode_mask(drawn(values * size_hw[::-1], size_hw)))
    return masks


@given(MASKS)
def test_an_outline_covers_the_mask_and_what_it_adds_is_said(mask: BoolMask) -> None:
    files, loss = written(write_yolo, of_masks([mask]), tolerance_px=0)
    [read] = read_masks(files["labels/0.txt"], (mask.shape[0], mask.shape[1]))
    _, parts = ndimage.label(mask)

    assert (read | ~mask).all()
    assert loss is not None
    assert loss.lowest_iou == pytest.approx(mask.sum() / read.sum())
    assert (loss.lost_holes, loss.joined_parts) == (0, int(parts > 1))


@pytest.mark.parametrize("tolerance_px", [0, 0.5])
def test_a_ring_is_read_back_with_its_hole(tolerance_px: float) -> None:
    files, _ = written(write_yolo, of_masks([ring()]), tolerance_px=tolerance_px)

    np.testing.assert_array_equal(read_masks(files["labels/0.txt"], (40, 50))[0], ring())


@given(MASKS, st.floats(0, 20))
def test_the_loss_of_coarse_outlines_is_what_a_reader_loses(mask: BoolMask, tolerance_px: float) -> None:
    files, loss = written(write_yolo, of_masks([mask]), tolerance_px=tolerance_px)
    [read] = read_masks(files["labels/0.txt"], (mask.shape[0], mask.shape[1]))

    assert loss is not None
    assert loss.lowest_iou == pytest.approx((mask & read).sum() / (mask | read).sum())


def test_every_picture_has_a_label_file_and_classes_count_from_0() -> None:
    mask = ring()
    first = image("x/a.jpg", [annotation(mask, "1", "zebra"), annotation(mask, "2", "Ape")], (40, 50))
    files, loss = written(write_yolo, dataset(first, image("b.png", [], (40, 50))))

    assert list(files) == ["data.yaml", "labels/x/a.txt", "labels/b.txt"]
    assert files["data.yaml"].decode() == 'train: images\nval: images\nnames:\n  0: "Ape"\n  1: "zebra"\n'
    assert [line.split()[0] for line in files["labels/x/a.txt"].decode().splitlines()] == ["1", "0"]
    assert files["labels/b.txt"] == b""
    assert loss is not None
    assert loss.joined_parts == 0


def test_joined_parts_are_counted() -> None:
    _, loss = written(write_yolo, of_masks([two_parts(), ring()]))

    assert loss is not None
    assert (loss.segments, loss.joined_parts) == (2, 1)
    assert 0.85 < loss.lowest_iou < 1  # a line joins the parts


def test_long_outlines_and_thousands_of_parts_and_holes_are_joined() -> None:
    mask = np.zeros((120, 400), bool)
    mask[:40, ::2] = mask[20] = True  # two combs of 1,600 corners each
    mask[50:70] = True
    mask[51:69:2, 1:-1:2] = False  # holes of a pixel
    mask[80:110:3, ::3] = True  # parts of a pixel
    files, loss = written(write_yolo, of_masks([mask]))

    [read] = read_masks(files["labels/0.txt"], (120, 400))
    assert (read | ~mask).mean() > 0.99
    assert loss is not None
    assert loss.joined_parts == 1


@pytest.mark.parametrize(
    ("picture", "labels"),
    [
        ("images/a.jpg", "labels/a.txt"),
        ("images/x/y.z/a.b.jpg", "labels/x/y.z/a.b.txt"),
        ("images/old images/a", "labels/old images/a.txt"),
        ("images/x/images/a.jpg", "images/x/labels/a.txt"),  # the last folder of this name counts
    ],
)
def test_labels_are_where_ultralytics_looks_for_them(picture: str, labels: str) -> None:
    assert label_path(picture) == labels
