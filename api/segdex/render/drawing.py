"""Masks drawn on images, cut-outs, and contact sheets of hits: pure functions on arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from segdex.render.typesetting import Typesetter
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, MaskRLE, decode_mask
from segdex_core.records import RGBImage

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

HIGHLIGHT: Colour = (255, 196, 0)
"""Amber, which is unlike skin, sky, leaves and the background of the sheet."""

_POINT_ON: Colour = (46, 204, 113)
_POINT_OFF: Colour = (231, 76, 60)

_BACKGROUND: Colour = (24, 26, 30)
_CARD: Colour = (36, 39, 45)
_RULE: Colour = (58, 62, 70)
_BRIGHT: Colour = (240, 241, 243)
_DIM: Colour = (154, 160, 170)

_MARGIN_PX, _GAP_PX, _CARD_RADIUS_PX = 32, 16, 6
_TITLE_PX, _HEADING_PX, _CAPTION_PX = 28, 22, 14  # text sizes; a line is 1.5 times as high
_SMOOTH = 2  # tiles are drawn larger by this factor and reduced, which smooths outlines


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One image of a contact sheet.

    Attributes:
        image: Image of any size.
        mask: Mask to show, with the aspect ratio of the image but any size; None shows the image alone.
        caption: Lines below the image; the first line is brighter. Lines that are too long lose their middle.
    """

    image: RGBImage
    mask: MaskRLE | None
    caption: str


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A heading, such as a query, and the tiles below it."""

    heading: str
    tiles: Sequence[Tile]


def draw_mask(
    image: RGBImage,
    mask: BoolMask,
    *,
    colour: Colour = HIGHLIGHT,
    alpha: float = 0.35,
    outline_px: int = 2,
) -> RGBImage:
    """Return a copy of the image with the mask tinted and its edge drawn inside it.

    Pixels outside the mask do not change.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool.
        colour: Color of the tint and the outline.
        alpha: Share of the color in the tint, 0 to 1.
        outline_px: Width of the outline in pixels; 0 for no outline.

    Raises:
        ValueError: If image and mask differ in size.
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(f"a mask of {mask.shape} does not fit a picture of {image.shape[:2]}")
    drawn = image.copy()
    drawn[mask] = np.round(image[mask] * (1 - alpha) + np.asarray(colour) * alpha).astype(np.uint8)
    if outline_px:
        # Padded, so that the outline also runs along the edge of the image.
        depth_px = _depth_px(np.pad(mask, 1))[1:-1, 1:-1]
        drawn[mask & (depth_px <= outline_px)] = colour
    return drawn


def _depth_px(mask: BoolMask) -> npt.NDArray[np.float64]:
    """Return the distance of each mask pixel from the edge of the mask in pixels; 0 outside."""
    from scipy import ndimage  # its import takes 0.3 s, which a search without drawing would pay

    depth_px: npt.NDArray[np.float64] = ndimage.distance_transform_edt(mask)
    return depth_px


def draw_heat(image: RGBImage, values: npt.NDArray[np.float32], window: BoxXYXY) -> RGBImage:
    """Return a copy of the image with values drawn over a part of it, from dark to the highlight color.

    Args:
        image: (H, W, 3) uint8.
        values: (h, w) float32, one value for each cell of the part; the lowest is dark, the highest bright.
        window: Part of the image, in pixels.
    """
    drawn = (image * 0.35).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    scaled = ((values - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    heat = Image.fromarray(scaled).resize(window.size_wh, Image.Resampling.BILINEAR)
    share = np.asarray(heat, np.float32)[:, :, None] / 255 * 0.8
    part = image[window.y1 : window.y2, window.x1 : window.x2]
    drawn[window.y1 : window.y2, window.x1 : window.x2] = np.round(
        part * 0.5 * (1 - share) + np.asarray(HIGHLIGHT) * share
    ).astype(np.uint8)
    return drawn


def draw_prompt(
    image: RGBImage,
    points_xy: Sequence[tuple[float, float]],
    labels: Sequence[int],
    box_xyxy: tuple[float, float, float, float] | None,
) -> RGBImage:
    """Return a copy of the image with a box, and points on the object (green) and off the object (red)."""
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    radius = max(max(image.shape[:2]) // 80, 3)
    if box_xyxy is not None:
        pen.rectangle(box_xyxy, outline=HIGHLIGHT, width=max(radius // 2, 1))
    for (x, y), label in zip(points_xy, labels, strict=True):
        colour = _POINT_ON if label else _POINT_OFF
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline="white")
    return np.array(canvas)


def mask_png(mask: BoolMask) -> bytes:
    """Return the mask as a PNG with 1 bit per pixel; white is the object."""
    return _png(Image.fromarray(mask))


def png_of(image: Image.Image | RGBImage) -> bytes:
    """Return an image as PNG."""
    return _png(image if isinstance(image, Image.Image) else Image.fromarray(image))


def jpeg_of(pixels: RGBImage, max_px: int) -> bytes:
    """Return an image as JPEG, reduced until no side is longer than ``max_px``."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


_JPEG_QUALITY = 88


def contact_sheet(
    rows: Sequence[SheetRow], *, title: str, columns: int = 5, tile_px: int = 256
) -> Image.Image:
    """Return a contact sheet with a block for each row: a heading, and tiles in lines of ``columns``.

    All tiles have an aspect ratio of 4:3, and show images whole. In a tile with a mask the rest of the image
    is darkened. Lines that are too long lose their middle.

    Args:
        rows: Rows from top to bottom.
        title: Title of the sheet; empty for none.
        columns: Number of tiles side by side, at least 1.
        tile_px: Width of a tile in pixels, at least 64.

    Raises:
        ValueError: If ``columns`` or ``tile_px`` is too small.
    """
    if columns < 1 or tile_px < 64:
        raise ValueError(f"columns must be at least 1 and tile_px 64, but got {columns} and {tile_px}")
    layout = _Layout(rows, title=title, columns=columns, tile_px=tile_px)
    sheet = Image.new("RGB", layout.size_wh, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    y = _MARGIN_PX
    if title:
        _text(draw, title, xy=(_MARGIN_PX, y), size_px=_TITLE_PX, colour=_BRIGHT, width_px=layout.inner_px)
        y += layout.title_px
    for row in rows:
        draw.line((_MARGIN_PX, y, _MARGIN_PX + layout.inner_px - 1, y), fill=_RULE)
        y += _GAP_PX
        draw.rectangle((_MARGIN_PX, y + 4, _MARGIN_PX + 3, y + _HEADING_PX + 2), fill=HIGHLIGHT)
        heading_x = _MARGIN_PX + _GAP_PX
        width_px = layout.inner_px - _GAP_PX
        _text(draw, row.heading, xy=(heading_x, y), size_px=_HEADING_PX, colour=_BRIGHT, width_px=width_px)
        y += _line_px(_HEADING_PX) + _GAP_PX // 2
        if not row.tiles:
            _text(draw, "no hits", xy=(heading_x, y), size_px=_CAPTION_PX, colour=_DIM, width_px=width_px)
        for position, tile in enumerate(row.tiles):
            line, column = divmod(position, columns)
            x = _MARGIN_PX + column * (tile_px + _GAP_PX)
            _draw_tile(sheet, tile, xy=(x, y + line * layout.tile_line_px), tile_wh=layout.tile_wh)
        y += layout.tiles_px(row) + _GAP_PX
    return sheet


class _Layout:
    """The sizes of a contact sheet in pixels."""

    def __init__(self, rows: Sequence[SheetRow], *, title: str, columns: int, tile_px: int) -> None:
        self.columns = columns
        self.inner_px = columns * (tile_px + _GAP_PX) - _GAP_PX
        lines = max((tile.caption.count("\n") + 1 for row in rows for tile in row.tiles), default=1)
        self.tile_wh = (tile_px, tile_px * 3 // 4)
        self.tile_line_px = self.tile_wh[1] + _GAP_PX // 2 + lines * _line_px(_CAPTION_PX) + _GAP_PX // 2
        self.title_px = _line_px(_TITLE_PX) + _GAP_PX // 2 if title else 0
        row_px = _GAP_PX + _line_px(_HEADING_PX) + _GAP_PX // 2 + _GAP_PX
        height_px = 2 * _MARGIN_PX + self.title_px + sum(row_px + self.tiles_px(row) for row in rows)
        self.size_wh = (self.inner_px + 2 * _MARGIN_PX, height_px - (_GAP_PX if rows else 0))

    def tiles_px(self, row: SheetRow) -> int:
        """Return the height of the tiles of a row, or of the text in their place."""
        lines = -(-len(row.tiles) // self.columns)
        return lines * self.tile_line_px or _line_px(_CAPTION_PX)


def _draw_tile(sheet: Image.Image, tile: Tile, *, xy: tuple[int, int], tile_wh: tuple[int, int]) -> None:
    x, y = xy
    width, height = tile_wh
    picture = _tile_picture(tile, tile_wh=tile_wh)
    card = Image.new("RGB", tile_wh, _CARD)
    card.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    rounded = Image.new("L", (width * _SMOOTH, height * _SMOOTH), 0)
    ImageDraw.Draw(rounded).rounded_rectangle(
        (0, 0, rounded.width - 1, rounded.height - 1), radius=_CARD_RADIUS_PX * _SMOOTH, fill=255
    )
    sheet.paste(card, xy, rounded.resize(tile_wh, Image.Resampling.BOX))
    draw = ImageDraw.Draw(sheet)
    y += height + _GAP_PX // 2
    for position, line in enumerate(tile.caption.split("\n")):
        colour = _DIM if position else _BRIGHT
        # a name is followed by figures, which stay behind it whatever its direction is
        _text(draw, line, xy=(x + 2, y), size_px=_CAPTION_PX, colour=colour, width_px=width - 4, is_ltr=True)
        y += _line_px(_CAPTION_PX)


def _tile_picture(tile: Tile, *, tile_wh: tuple[int, int]) -> Image.Image:
    height, width = tile.image.shape[:2]
    scale = min(tile_wh[0] / width, tile_wh[1] / height)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    if tile.mask is None:
        return Image.fromarray(tile.image).resize(size_wh, Image.Resampling.LANCZOS)
    large_wh = (size_wh[0] * _SMOOTH, size_wh[1] * _SMOOTH)
    pixels = np.asarray(Image.fromarray(tile.image).resize(large_wh, Image.Resampling.BICUBIC))
    coverage = Image.fromarray(decode_mask(tile.mask).astype(np.uint8) * 255)
    mask = np.asarray(coverage.resize(large_wh, Image.Resampling.BILINEAR)) >= 128
    # The outline lies outside the mask, so that it does not cover small objects.
    outline_px = 2 * _SMOOTH
    grown = _depth_px(~mask) <= outline_px if mask.any() else mask
    tinted = draw_mask(pixels, mask, alpha=0.12, outline_px=0)
    dimmed = np.where(mask[:, :, None], tinted, (pixels * 0.55).astype(np.uint8))
    drawn = draw_mask(dimmed, grown, alpha=0, outline_px=outline_px)
    return Image.fromarray(drawn).resize(size_wh, Image.Resampling.BOX)


def _text(
    draw: ImageDraw.ImageDraw,
    text: str,
    *,
    xy: tuple[int, int],
    size_px: int,
    colour: Colour,
    width_px: int,
    is_ltr: bool = False,
) -> None:
    setter = Typesetter()
    fitted = setter.fitted(text, size_px=size_px, width_px=width_px, is_ltr=is_ltr)
    setter.draw(draw, fitted, xy=xy, size_px=size_px, fill=colour, is_ltr=is_ltr)


def _line_px(size_px: int) -> int:
    return size_px * 3 // 2


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
