"""Stored images and segments for a second pass: pixels from the files, and segments without their vectors."""

from collections.abc import Generator

from segdex_core.errors import ImageError, ImageGoneError, ImageTooLargeError, NotAnImageError
from segdex_core.ids import sha256_hex
from segdex_core.media.decode import decode_image
from segdex_core.media.uris import display_path
from segdex_core.ports.decoder import Decode
from segdex_core.ports.source import Source
from segdex_core.records import ImageFile, ImageRecord, RGBImage, Segment, SegmentRecord
from segdex_ingest.places import may_exist


def read_again(
    record: ImageRecord, *, source: Source, max_pixels: int, decode: Decode = decode_image
) -> RGBImage:
    """Return the pixels of a stored image, from the first of its files that still has the ingested bytes.

    Args:
        record: Record of the image.
        source: Source of its files.
        max_pixels: Images with more pixels are not decoded.
        decode: Decodes the file.

    Raises:
        ImageGoneError: If no file has these bytes any more.
        ImageError: If a file cannot be read, or the image cannot be decoded, and no other file helps.
    """
    problem: ImageError | None = None
    copies = _copies(record, source=source)
    while True:
        try:
            file, data = next(copies)
            return decode(data, name=display_path(file.uri), max_pixels=max_pixels).pixels
        except StopIteration as end:
            raise problem or end.value from None
        except ImageError as error:  # such as a lower --max-pixels than that of the ingest
            problem = error


def bytes_again(record: ImageRecord, *, source: Source) -> bytes:
    """Return the content of a stored image's file, from the first that still has the ingested bytes.

    Raises:
        ImageGoneError: If no file has these bytes any more.
        ImageError: If a file cannot be read, and no other file helps.
    """
    copies = _copies(record, source=source)
    try:
        return next(copies)[1]
    except StopIteration as end:
        raise end.value from None


def _copies(record: ImageRecord, *, source: Source) -> Generator[tuple[ImageFile, bytes], None, ImageError]:
    """Yield the files that still have the ingested bytes; return the problem of the others."""
    problem: ImageError = ImageGoneError(gone(record))
    for file in record.files:
        try:
            data = source.read(file.uri, max_bytes=record.size_bytes)
        except (ImageTooLargeError, NotAnImageError):  # a longer file, or no image
            problem = _changed(file)
            continue
        except ImageError as error:  # such as a permission that was taken away
            problem = error if may_exist(source)(file.uri) else problem
            continue
        if sha256_hex(data) != record.sha256:
            problem = _changed(file)
            continue
        yield file, data
    return problem


def require_unchanged(record: ImageRecord, *, source: Source) -> None:
    """Check that a file still has the ingested bytes; one of the same size and time is not read.

    Raises:
        ImageGoneError: If no file has these bytes any more.
        ImageError: If a file cannot be read, and no other file helps.
    """
    problem: ImageError = ImageGoneError(gone(record))
    for file in record.files:
        try:
            if is_unchanged(record, file, source=source):
                return
            problem = _changed(file)
        except ImageError as error:
            problem = error if may_exist(source)(file.uri) else problem
    raise problem


def is_unchanged(record: ImageRecord, file: ImageFile, *, source: Source) -> bool:
    """Return whether a file still has the ingested bytes; one of the same size and time is not read.

    Raises:
        ImageError: If the file does not exist or cannot be read.
    """
    try:
        version = source.version(file.uri)
        if version.size_bytes != record.size_bytes:
            return False
        if version.mtime_ns == file.mtime_ns:
            return True
        return sha256_hex(source.read(file.uri, max_bytes=record.size_bytes)) == record.sha256
    except (ImageTooLargeError, NotAnImageError):
        return False


CHANGED = "has changed since it was ingested"
"""Part of the message about a file that holds another image now."""


def _changed(file: ImageFile) -> ImageGoneError:
    return ImageGoneError(f"{display_path(file.uri)}: {CHANGED}")


def gone(record: ImageRecord) -> str:
    """Return the line that says that none of the files of an image is there any more."""
    return f"{display_path(record.files[0].uri)}: is gone"


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
