"""Stored images and segments for a second pass: pixels from the files, and segments without their vectors."""

from segdex_core.errors import ImageError, ImageGoneError
from segdex_core.ids import sha256_hex
from segdex_core.media.decode import decode_image
from segdex_core.media.uris import display_path
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord, RGBImage, Segment, SegmentRecord


def read_again(record: ImageRecord, *, source: Source, max_pixels: int) -> RGBImage | ImageError:
    """Return the pixels from the first file that still has the bytes of an image, or the reason.

    Args:
        record: Record of the image.
        source: Source of its files.
        max_pixels: Images with more pixels are not decoded.
    """
    problem: ImageError = ImageGoneError(gone(record))
    for file in record.files:
        name = display_path(file.uri)
        try:
            # a longer file is another image
            data = source.read(file.uri, max_bytes=record.size_bytes)
        except ImageError:
            continue
        if sha256_hex(data) == record.sha256:
            try:
                return decode_image(data, name=name, max_pixels=max_pixels).pixels
            except ImageError as error:  # such as a lower --max-pixels than that of the ingest
                problem = error
    return problem


def gone(record: ImageRecord) -> str:
    """Return the line that says that no file has the bytes of an image any more."""
    return f"{display_path(record.files[0].uri)}: is gone or has changed"


def stored_segment(record: SegmentRecord) -> Segment:
    """Return a stored segment as the mask generator returned it."""
    return Segment(
        box=record.box,
        mask=record.mask,
        area_px=record.area_px,
        predicted_iou=record.predicted_iou,
        stability=record.stability,
        score=record.object_score,
        object_score=record.object_score,
    )
