"""Find ids by their first digits, so that people need not type them whole."""

from segdex_core.ports.index import IndexReader
from segdex_core.wire.ids import MAX_CANDIDATES, FoundId, FoundIds, id_range
from segdex_search.answer import require_filled


def find_ids(index: IndexReader, prefix: str) -> FoundIds:
    """Return the ids of segments, then of images, that start with a prefix: the first few of each.

    Args:
        index: Index to look in; it is asked for ids alone, twice, whatever its size.
        prefix: Digits that ``id_prefix`` returned.

    Raises:
        IndexMissingError: If nothing was ingested yet.
    """
    require_filled(index)
    first, last = id_range(prefix)
    segments = index.segment_ids(first, last, limit=MAX_CANDIDATES)
    images = index.image_ids(first, last, limit=MAX_CANDIDATES)
    return FoundIds(
        ids=[
            *(FoundId(id=one, kind="segment") for one in segments),
            *(FoundId(id=one, kind="image") for one in images),
        ]
    )
