"""Measure the colours of segments that an earlier segdex stored without them."""

from collections import Counter
from collections.abc import Collection, Mapping
from uuid import UUID

from segdex_core.errors import ImageError
from segdex_core.media.decode import decode_image
from segdex_core.ports.decoder import Decode
from segdex_core.ports.index import IndexReader, SegmentIndex
from segdex_core.ports.source import Source
from segdex_core.records import SegmentFilter
from segdex_ingest.again import read_again, stored_segment
from segdex_ingest.colours import with_colours


def images_without_colours(index: IndexReader) -> Mapping[UUID, int]:
    """Return the number of segments without colours of each image that has any, by its id."""
    return Counter(one.image_id for one in index.scroll_segments() if one.colours is None)


def measure_colours(
    index: SegmentIndex,
    image_ids: Collection[UUID],
    *,
    source: Source,
    max_pixels: int,
    decode: Decode = decode_image,
) -> int:
    """Measure and store the colours that are missing; an image that cannot be read is left as it is.

    Args:
        index: Index whose segments are completed.
        image_ids: The images to complete; see ``images_without_colours``.
        source: Source of the files.
        max_pixels: Images with more pixels are not read.
        decode: Decodes the files.

    Returns:
        Number of segments that have colours now.
    """
    measured = 0
    for record in index.get_images(sorted(image_ids)):
        try:
            pixels = read_again(record, source=source, max_pixels=max_pixels, decode=decode)
        except ImageError:
            continue
        stored = index.scroll_segments(SegmentFilter(image_ids=(record.image_id,)))
        lacking = [one for one in stored if one.colours is None]
        found = with_colours(pixels, [stored_segment(one) for one in lacking])
        colours = {one.segment_id: segment.colours for one, segment in zip(lacking, found, strict=True)}
        index.set_colours({key: shares for key, shares in colours.items() if shares is not None})
        measured += len(lacking)
    return measured
