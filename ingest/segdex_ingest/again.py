"""Stored images and segments for a second pass: pixels from the files, and segments without their vectors."""

from segdex_core.errors import ImageError, ImageGoneError, ImageTooLargeError
from segdex_core.ids import sha256_hex
from segdex_core.media.decode import decode_image
from segdex_core.media.uris import display_path
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord, RGBImage, Segment, SegmentRecord


def read_again(record: ImageRecord, *, source: Source, max_pixels: int) -> RGBImage:
    """Return the pixels of a stored image, from the first of its files that still has the ingested bytes.

    Args:
        record: Record of the image.
        source: Source of its files.
        max_pixels: Images with more pixels are not decoded.

    Raises:
        ImageGoneError: If no file has these bytes any more.
        ImageError: If a file cannot be read, or the image cannot be decoded, and no other file helps.
    """
    problem: ImageError = ImageGoneError(gone(record))
    for file in record.files:
        try:
            data = source.read(file.uri, max_bytes=record.size_bytes)
        except ImageTooLargeError:
            continue  # a longer file is another image
        except ImageError as error:  # such as a permission that was taken away
            problem = error if source.exists(file.uri) else problem
            continue
        if sha256_hex(data) == record.sha256:
            try:
                return decode_image(data, name=display_path(file.uri), max_pixels=max_pixels).pixels
            except ImageError as error:  # such as a lower --max-pixels than that of the ingest
                problem = error
    raise problem


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
