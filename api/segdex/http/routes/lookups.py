"""Records of the index by id, or a 404."""

from uuid import UUID

from fastapi import HTTPException

from segdex.http.state import Loaded
from segdex_core.records import ImageRecord, SegmentRecord


def get_image(loaded: Loaded, image_id: UUID) -> ImageRecord:
    """Return a picture of the index.

    Raises:
        HTTPException: 404 if it is not there.
    """
    found = loaded.index.get_images([image_id])
    if not found:
        raise HTTPException(404, f"there is no picture {image_id} in {loaded.index.location}")
    return found[0]


def get_segment(loaded: Loaded, segment_id: UUID) -> SegmentRecord:
    """Return a segment of the index.

    Raises:
        HTTPException: 404 if it is not there.
    """
    found = loaded.index.get_segments([segment_id])
    if not found:
        raise HTTPException(404, f"there is no segment {segment_id} in {loaded.index.location}")
    return found[0]
