"""Drawing shows the mask where it is, and touches nothing else."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy import ndimage
from tests import needs

from segdex.answers import rgba_image
from segdex.render.drawing import HIGHLIGHT, SheetRow, Tile, contact_sheet, draw_mask, mask_png, png_of
from segdex_core.masks import BoolMask, encode_mask, mask_box
from segdex_core.media.decode import read_image_file
from segdex_core.records import RGBImage


def noise(height: int = 40, width: int = 60) -> RGBImage:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def disc(
    height: int = 40, width: int = 60, *, centre_xy: tuple[int, int] = (30, 20), radius: int = 10
) -> BoolMask:
    y, x = np.mgrid[:height, :width]
    mask: BoolMask = (x - centre_xy[0]) ** 2 + (y - centre_xy[1]) ** 2 <= radius**2
    return mask


def pixels_of(data: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)))


def tile(mask: BoolMask | None = None, *, caption: str = "1  0.31\na.jpg") -> Tile:
    return Tile(noise(), encode_mask(disc() if mask is None else mask), caption)


def test_drawing_leaves_pixels_outside_the_mask_and_the_input_untouched() -> None:
    image, mask = noise(), disc()
    drawn = draw_mask(image, mask)

    np.testing.assert_array_equal(drawn[~mask], image[~mask])
    np.testing.assert_array_equal(image, noise())
    assert (drawn[mask] != image[mask]).any(axis=1).mean() > 0.99


def test_the_outline_is_the_rim_of_the_mask_and_the_tint_its_inside() -> None:
    image, mask = noise(), disc()
    drawn = draw_mask(image, mask, alpha=0.5, outline_px=1)
    inside = ndimage.binary_erosion(mask)

    assert (drawn[mask & ~inside] == HIGHLIGHT).all()
    np.testing.assert_allclose(drawn[inside], image[inside] / 2 + np.array(HIGHLIGHT) / 2, atol=1)


def test_the_outline_runs_along_the_edge_of_the_picture_too() -> None:
    drawn = draw_mask(noise(), np.ones((40, 60), bool), outline_px=2)

    assert (drawn[:2] == HIGHLIGHT).all()
    assert (drawn[:, -2:] == HIGHLIGHT).all()


def test_no_tint_and_no_outline_draw_nothing() -> None:
    np.testing.assert_array_equal(draw_mask(noise(), disc(), alpha=0, outline_px=0), noise())


def test_an_empty_mask_draws_nothing() -> None:
    np.testing.assert_array_equal(draw_mask(noise(), np.zeros((40, 60), bool)), noise())


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        draw_mask(noise(), disc(60, 40))


def test_the_mask_png_reads_back_as_the_mask() -> None:
    np.testing.assert_array_equal(pixels_of(mask_png(disc())), disc())


def test_the_cutout_is_the_box_with_the_mask_as_its_alpha() -> None:
    image, mask = noise(), disc()
    box = mask_box(mask)
    pixels, inside = image[box.y1 : box.y2, box.x1 : box.x2], mask[box.y1 : box.y2, box.x1 : box.x2]
    cutout = pixels_of(png_of(rgba_image(pixels, inside)))

    assert cutout.shape == (21, 21, 4)
    np.testing.assert_array_equal(cutout[:, :, 3], inside * 255)
    np.testing.assert_array_equal(cutout[:, :, :3], pixels)


@pytest.mark.parametrize("size_hw", [(40, 61), (60, 40), (1, 1)])
def test_a_cutout_by_a_mask_of_another_size_is_refused(size_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="dimension"):
        rgba_image(noise(), np.ones(size_hw, bool))


def test_the_sheet_is_as_wide_as_its_columns_and_as_high_as_its_lines() -> None:
    def size(tiles: int, *, columns: int = 3, rows: int = 1) -> tuple[int, int]:
        row = SheetRow("a disc", [tile()] * tiles)
        return contact_sheet([row] * rows, title="t", columns=columns, tile_px=100).size

    width, height = size(1)
    assert size(3) == (width, height)
    assert size(4)[0] == width
    assert size(4)[1] - height == size(7)[1] - size(4)[1]  # one more line of tiles each
    assert size(1, rows=3)[1] - size(1, rows=2)[1] == size(1, rows=2)[1] - height
    assert size(1, columns=5)[0] - size(1, columns=4)[0] == size(1, columns=4)[0] - width > 100


def test_a_tile_shows_the_mask_at_its_place_and_darkens_the_rest() -> None:
    grey = np.full((300, 400, 3), 200, np.uint8)
    mask = disc(300, 400, centre_xy=(100, 150), radius=60)
    plain, shown = (
        np.asarray(
            contact_sheet([SheetRow("", [Tile(grey, code, "")])], title="", columns=1, tile_px=400)
        ).astype(int)
        for code in (None, encode_mask(mask))
    )
    # Its corners are rounded, but its first row and column still begin here.
    top, left = np.argwhere((plain == 200).all(axis=2)).min(axis=0)
    inside = shown[top : top + 300, left : left + 400]
    outline = (inside == HIGHLIGHT).all(axis=2)

    assert (inside[150, 300] < 120).all()
    assert inside[150, 100, 0] > 190
    ring = ndimage.binary_dilation(mask, iterations=4) & ~mask
    assert outline.sum() > 200
    assert outline[ring].sum() / outline.sum() > 0.95


@pytest.mark.parametrize(
    "text",
    ["", "飛行機 самолёт ✈ 👩‍👩‍👧 مرحبا", "\ud800\udcff", "a\0b\x1b[31m\nc", "x" * 10_000, "\u202egnirts"],
)
def test_any_text_can_be_a_title_a_heading_and_a_caption_without_changing_the_width(text: str) -> None:
    row = SheetRow(text, [tile(caption=text.replace("\n", " "))])
    sheet = contact_sheet([row], title=text, columns=1, tile_px=64)

    assert sheet.width == contact_sheet([], title="", columns=1, tile_px=64).width


def test_long_text_is_cut_inside_the_margins() -> None:
    sheet = np.asarray(contact_sheet([SheetRow("W" * 200, [])], title="W" * 200, columns=2, tile_px=100))

    assert (sheet[:, -32:] == sheet[0, 0]).all()


def test_rows_without_tiles_pictures_without_mask_and_extreme_shapes_are_drawn() -> None:
    thin = Tile(noise(1, 3000), encode_mask(np.ones((1, 3000), bool)), "")
    empty = Tile(noise(), encode_mask(np.zeros((40, 60), bool)), "")
    one = Tile(noise(1, 1), None, "")
    sheet = contact_sheet([SheetRow("none", []), SheetRow("odd", [thin, empty, one])], title="t")

    assert sheet.mode == "RGB"


@pytest.mark.parametrize(("columns", "tile_px"), [(0, 100), (-1, 100), (3, 63)])
def test_impossible_sheets_are_refused(columns: int, tile_px: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        contact_sheet([], title="", columns=columns, tile_px=tile_px)


def test_a_sheet_of_real_photographs_keeps_their_colours() -> None:
    image = read_image_file(needs.photo("chelsea.png")).pixels
    sheet = np.asarray(
        contact_sheet(
            [SheetRow("a cat", [Tile(image, None, "chelsea.png")])], title="", columns=1, tile_px=256
        )
    )
    height = round(256 * image.shape[0] / image.shape[1])
    lines = sheet[:, 32 : 32 + 256].astype(float).mean(axis=(1, 2))
    start = max(range(len(lines) - height), key=lambda y: lines[y : y + height].sum())

    shown = sheet[start : start + height, 32 : 32 + 256].astype(float).mean(axis=(0, 1))
    assert np.abs(shown - image.mean(axis=(0, 1))).max() < 4
