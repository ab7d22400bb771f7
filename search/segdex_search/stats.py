"""Statistics of an index."""

from segdex_core.ports.index import IndexReader
from segdex_core.wire.images import Stats
from segdex_search.answer import require_filled


def describe_index(index: IndexReader) -> Stats:
    """Return how much an index holds, and which models filled it.

    Raises:
        IndexMissingError: If nothing was ingested yet.
    """
    found = require_filled(index)
    counts = index.counts()
    return Stats(
        images=counts.images,
        segments=counts.segments,
        segments_per_image=round(counts.segments / counts.images, 1) if counts.images else None,
        images_without_segments=index.count_images("no_segments"),
        profile=found.profile,
        embedder=found.embedder,
        segmenter=found.segmenter,
        dimensions=found.dim,
        views=list(found.views),
        index_schema_version=found.schema_version,
        labels=dict(index.label_counts()),
    )
