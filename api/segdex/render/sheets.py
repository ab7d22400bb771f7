"""Contact sheets of answers and refinements."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segdex.answers import Hit
from segdex.render.drawing import SheetRow, Tile, contact_sheet, draw_heat, draw_prompt
from segdex_core.errors import ImageError, NotFoundError, UsageError
from segdex_core.files import durable_file
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import MaskRLE, decode_mask, encode_mask
from segdex_core.records import RGBImage
from segdex_ingest.again import CHANGED
from segdex_search.refine.refiner import Refinement
from segdex_search.windows import windows_around

TILES_PER_ROW = 5


def answer_row(
    heading: str, hits: Sequence[Hit], on_problem: Callable[[str], None] = lambda _: None
) -> SheetRow:
    """Return the first hits of an answer as tiles; a hit whose file is gone or has changed is gray.

    Args:
        heading: Text above the tiles.
        hits: Hits of the answer.
        on_problem: Called with a line for each hit that is gray.
    """
    first = hits[:TILES_PER_ROW]
    tiles = [_tile(hit, rank=rank, on_problem=on_problem) for rank, hit in enumerate(first, 1)]
    return SheetRow(heading=heading, tiles=tiles)


def save_rows(path: Path, rows: Sequence[SheetRow], *, title: str) -> None:
    """Write a contact sheet to a PNG file.

    Raises:
        UsageError: If the file cannot be written.
    """
    _save(contact_sheet(rows, title=title), path, option="--save")


def save_explanation(path: Path, explained: Sequence[tuple[Hit, Refinement]], *, title: str) -> None:
    """Draw stored mask, relevance map, prompt and new mask of each refinement to a PNG file.

    Raises:
        UsageError: If the file cannot be written.
    """
    rows = []
    for hit, one in explained:
        pixels = hit.library.pixels(hit.image.id)
        views = ", ".join(f"{view} {score:.3f}" for view, score in hit.record.view_scores.items())
        stored = MaskRLE(hit.rle.size, hit.rle.counts)
        tiles = [Tile(pixels, stored, f"stored\npredicted IoU {hit.predicted_iou:.2f}")]
        if one.relevance is not None and one.prompt is not None:
            relevance, prompt = one.relevance, one.prompt
            heat = draw_heat(pixels, relevance.values, relevance.window)
            drawn = draw_prompt(pixels, prompt.points_xy, prompt.labels, prompt.box_xyxy)
            low, high = float(np.min(relevance.values)), float(np.max(relevance.values))
            tiles.append(Tile(heat, None, f"relevance\n{low:.1f} to {high:.1f} deviations"))
            tiles.append(Tile(drawn, None, "prompt of the map\npoints on and off it, box"))
        mask = one.proposal.mask
        new = f"{one.proposal.source}\npredicted IoU {mask.predicted_iou:.2f}"
        tiles.append(Tile(pixels, mask.mask if mask.area_px else None, new))
        answer = "refined" if one.decision.accepted else "kept"
        rows.append(SheetRow(f"{hit.score:.3f} ({views}): {answer}, {one.decision.reason}", tiles))
    _save(contact_sheet(rows, title=title, columns=4, tile_px=320), path, option="--explain")


def _tile(hit: Hit, *, rank: int, on_problem: Callable[[str], None]) -> Tile:
    name = hit.image.path.rsplit("/", 1)[-1]
    caption = f"{rank}.  {hit.score:.3f}\n{name}"
    mask = MaskRLE(hit.rle.size, hit.rle.counts)
    try:
        pixels = hit.library.pixels(hit.image.id)
    except (ImageError, NotFoundError) as error:
        on_problem(str(error))
        grey = np.full((*mask.size_hw, 3), 128, dtype=np.uint8)
        why = "changed since it was ingested" if CHANGED in str(error) else "file is gone"
        return Tile(image=grey, mask=mask, caption=f"{caption}: {why}")
    shown, shown_mask = window_around(pixels, mask, BoxXYXY(*hit.record.box_xyxy))
    return Tile(image=shown, mask=shown_mask, caption=f"{caption}  {hit.area_fraction:.1%}")


def window_around(pixels: RGBImage, mask: MaskRLE, box: BoxXYXY) -> tuple[RGBImage, MaskRLE]:
    """Return the part of a long picture around a box, with the mask there: a strip would be a line on a tile.

    A picture of usual shape is returned as it is.

    Args:
        pixels: (H, W, 3) uint8.
        mask: Mask of the picture's size.
        box: Box of the mask.
    """
    window = next(windows_around(box, mask.size_hw))
    if window.size_wh == (mask.size_hw[1], mask.size_hw[0]):
        return pixels, mask
    part = (slice(window.y1, window.y2), slice(window.x1, window.x2))
    return pixels[part], encode_mask(decode_mask(mask)[part])


def _save(sheet: Image.Image, path: Path, *, option: str) -> None:
    try:
        with durable_file(path) as file:
            sheet.save(file, "PNG")
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be written: {error.strerror or error}") from error
