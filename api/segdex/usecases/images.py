"""Pictures and segments of the index by id, and the pixels of pictures."""

from collections.abc import Sequence
from uuid import UUID

from segdex.render.results import read_picture
from segdex_core.errors import NotFoundError
from segdex_core.ports.index import IndexReader
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord, RGBImage, SegmentFilter, SegmentRecord
from segdex_search.answer import require_filled


class ImageReader:
    """Finds what the index holds by id, and reads the files of its pictures.

    Args:
        index: Whom to ask.
        source: Where pictures lie.
        max_pixels: Larger pictures are refused.
    """

    def __init__(self, index: IndexReader, source: Source, *, max_pixels: int) -> None:
        self._index = index
        self._source = source
        self._max_pixels = max_pixels

    def image(self, image_id: UUID) -> ImageRecord:
        """Return a picture of the index.

        Raises:
            NotFoundError: If it is not there.
        """
        found = self._index.get_images([image_id])
        if not found:
            require_filled(self._index)
            raise NotFoundError(f"there is no picture {image_id} in {self._index.location}")
        return found[0]

    def segment(self, segment_id: UUID) -> SegmentRecord:
        """Return a segment of the index.

        Raises:
            NotFoundError: If it is not there.
        """
        found = self._index.get_segments([segment_id])
        if not found:
            require_filled(self._index)
            raise NotFoundError(f"there is no segment {segment_id} in {self._index.location}")
        return found[0]

    def segment_with_image(self, segment_id: UUID) -> tuple[SegmentRecord, ImageRecord]:
        """Return a segment and its picture.

        Raises:
            NotFoundError: If one of them is not there.
        """
        record = self.segment(segment_id)
        images = self._index.get_images([record.image_id])
        if not images:
            raise NotFoundError(
                f"the picture of segment {segment_id} is not finished: its ingest is running or was stopped; "
                "run `segdex ingest` again, or remove it with `segdex sync`"
            )
        return record, images[0]

    def segments_of(self, image_id: UUID) -> Sequence[SegmentRecord]:
        """Return all segments of a picture, the largest first.

        Raises:
            NotFoundError: If the picture is not there.
        """
        self.image(image_id)
        found = self._index.scroll_segments(SegmentFilter(image_ids=(image_id,)))
        return sorted(found, key=lambda one: (-one.area_px, one.segment_id))

    def pixels(self, image_id: UUID) -> RGBImage:
        """Return the pixels of a picture, (H, W, 3) uint8, upright.

        Raises:
            NotFoundError: If the picture is not in the index.
            ImageGoneError: If its file is gone or has changed.
        """
        return self.pixels_of(self.image(image_id))

    def pixels_of(self, image: ImageRecord) -> RGBImage:
        """Return the pixels of a stored picture; see ``pixels``."""
        return read_picture(image, source=self._source, max_pixels=self._max_pixels)
