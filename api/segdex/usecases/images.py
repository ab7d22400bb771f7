"""Images and segments of the index by id, and the pixels of images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from segdex_core.errors import ImageGoneError, NotFoundError
from segdex_core.ports.decoder import Decode
from segdex_core.ports.index import IndexReader
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord, RGBImage, SegmentFilter, SegmentRecord
from segdex_ingest.again import read_again, require_unchanged
from segdex_search.answer import require_filled


class ImageReader:
    """Looks up images and segments by id, and reads the files of images.

    Args:
        index: Index to read.
        source: Source of the image files.
        max_pixels: Images with more pixels are refused.
        decode: Decodes the files.
    """

    def __init__(self, index: IndexReader, source: Source, *, max_pixels: int, decode: Decode) -> None:
        self._index = index
        self._source = source
        self._max_pixels = max_pixels
        self._decode = decode

    def image(self, image_id: UUID) -> ImageRecord:
        """Return an image of the index.

        Raises:
            NotFoundError: If the image is not in the index.
        """
        found = self._index.get_images([image_id])
        if not found:
            require_filled(self._index)
            raise NotFoundError(f"there is no picture {image_id} in {self._index.location}")
        return found[0]

    def segments_with_images(self, segment_ids: Sequence[UUID]) -> list[tuple[SegmentRecord, ImageRecord]]:
        """Return segments and their images, in the order of the ids, with two requests to the index.

        Raises:
            NotFoundError: If a segment is not in the index, or the ingest of its image is not finished.
        """
        segments = {record.segment_id: record for record in self._index.get_segments(segment_ids)}
        for segment_id in segment_ids:
            if segment_id not in segments:
                require_filled(self._index)
                raise NotFoundError(f"there is no segment {segment_id} in {self._index.location}")
        image_ids = list(dict.fromkeys(record.image_id for record in segments.values()))
        images = {image.image_id: image for image in self._index.get_images(image_ids) if image.is_shown}
        for record in segments.values():
            if record.image_id not in images:
                raise NotFoundError(
                    f"the picture of segment {record.segment_id} is not finished: its ingest is running or "
                    "was stopped; run `segdex ingest` again, or remove it with `segdex sync`"
                )
        found = map(segments.__getitem__, segment_ids)
        return [(record, images[record.image_id]) for record in found]

    def segments_of(self, image: ImageRecord) -> Sequence[SegmentRecord]:
        """Return all segments of an image, largest first."""
        found = self._index.scroll_segments(SegmentFilter(image_ids=(image.image_id,)))
        return sorted(found, key=lambda one: (-one.area_px, one.segment_id))

    def pixels(self, image_id: UUID) -> RGBImage:
        """Return the pixels of an image, (H, W, 3) uint8, upright.

        Raises:
            NotFoundError: If the image is not in the index.
            ImageGoneError: If the file is missing or has changed.
        """
        return self.pixels_of(self.image(image_id))

    def pixels_of(self, image: ImageRecord) -> RGBImage:
        """Return the pixels of an image record; see ``pixels``."""
        with _explained():
            return read_again(image, source=self._source, max_pixels=self._max_pixels, decode=self._decode)

    def require_unchanged(self, image: ImageRecord) -> None:
        """Check that a file of an image still has the bytes that were ingested, without decoding them.

        Raises:
            ImageGoneError: If the file is missing or has changed.
        """
        with _explained():
            require_unchanged(image, source=self._source)


@contextmanager
def _explained() -> Iterator[None]:
    """Add what to do to the error of a file that is missing or has changed."""
    try:
        yield
    except ImageGoneError as error:
        raise ImageGoneError(
            f"{error}; bring the index up to date with `segdex ingest`, or remove it with `segdex sync`"
        ) from error
