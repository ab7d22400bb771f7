"""Hits as JSON values and as tiles of a contact sheet."""

from collections.abc import Sequence

import numpy as np

from segdex.api.drawing import SheetRow, Tile
from segdex.core.errors import ImageError, ImageGoneError
from segdex.core.images import read_image_file
from segdex.core.records import ImageRecord, RGBImage, SegmentRecord
from segdex.core.uris import display_path, uri_to_path
from segdex.search.rank import HitSegment, SearchHit

TILES_PER_ROW = 5


def hit_to_json(hit: SearchHit, *, rank: int) -> dict[str, object]:
    """Return a picture with its matching segments as JSON values."""
    return {
        "rank": rank,
        "score": hit.score,
        "presence": hit.presence,
        **image_to_json(hit.image),
        "segments": [
            {"score": found.score, "view_scores": dict(found.view_scores), **segment_to_json(found.record)}
            for found in hit.segments
        ],
    }


def image_to_json(image: ImageRecord) -> dict[str, object]:
    """Return what a user may want to know of a picture."""
    return {
        "image_id": str(image.image_id),
        "path": display_path(image.files[0].uri),
        "uris": [file.uri for file in image.files],
        "width": image.width,
        "height": image.height,
        "captured_s": image.captured_s,
        "place_lat_lon": image.place_lat_lon,
        "tags": list(image.tags),
    }


def segment_to_json(record: SegmentRecord) -> dict[str, object]:
    """Return a segment with its mask as COCO run-length code."""
    return {
        "segment_id": str(record.segment_id),
        "box_xyxy": list(record.box),
        "area_px": record.area_px,
        "area_fraction": record.area_fraction,
        "predicted_iou": record.predicted_iou,
        "stability": record.stability,
        "touches_border": record.touches_border,
        "parent_id": str(record.parent_id) if record.parent_id is not None else None,
        "depth": record.depth,
        "rle": record.mask.to_coco(),
    }


def sheet_row(heading: str, hits: Sequence[SearchHit], *, max_pixels: int) -> SheetRow:
    """Return the first tiles of an answer: the best segments of its pictures, best first."""
    best = sorted(
        ((found, hit.image) for hit in hits for found in hit.segments), key=lambda item: -item[0].score
    )
    return SheetRow(
        heading=heading,
        tiles=[
            _tile(found, image, rank=rank, max_pixels=max_pixels)
            for rank, (found, image) in enumerate(best[:TILES_PER_ROW], 1)
        ],
    )


def read_picture(image: ImageRecord, *, max_pixels: int) -> RGBImage:
    """Return the pixels of a stored picture from the first of its files that still holds it.

    Raises:
        ImageGoneError: If none is there, or their size is not the stored one.
        ImageError: If one cannot be read.
    """
    for file in image.files:
        path = uri_to_path(file.uri)
        if path.exists():
            pixels = read_image_file(path, max_pixels=max_pixels).pixels
            if pixels.shape[:2] == image.size_hw:
                return pixels
    raise ImageGoneError(
        f"{display_path(image.files[0].uri)}: is gone or has changed; bring the index up to date with "
        "`segdex ingest`, or forget it with `segdex sync`"
    )


def _tile(found: HitSegment, image: ImageRecord, *, rank: int, max_pixels: int) -> Tile:
    name = display_path(image.files[0].uri).rsplit("/", 1)[-1]
    caption = f"{rank}.  {found.score:.3f}\n{name}  {found.record.area_fraction:.1%}"
    try:
        pixels = read_picture(image, max_pixels=max_pixels)
    except ImageError:
        pixels = np.full((*image.size_hw, 3), 128, dtype=np.uint8)
        caption = f"{rank}.  {found.score:.3f}\n{name}: file is gone"
    return Tile(image=pixels, mask=found.record.mask, caption=caption)
