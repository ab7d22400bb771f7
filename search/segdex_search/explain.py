"""Explain a hit: the score of each term of the query by itself."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader
from segdex_search.embed import term_vectors
from segdex_search.queries import SearchQuery
from segdex_search.rank import SearchHit


def term_scores(
    query: SearchQuery, hits: Sequence[SearchHit], *, embedder: Embedder, index: IndexReader
) -> Mapping[UUID, tuple[float, ...]]:
    """Return the cosines of all terms with each segment of the hits, as weighted means of the views.

    The cosines are in the order of the query's terms, and the weights of the terms do not apply. Segments
    that were deleted in the meantime are left out.

    Args:
        query: Query to explain.
        hits: Hits of the query.
        embedder: Embedder that filled the index.
        index: Index with the vectors of the segments.

    Raises:
        QueryError: If a term cannot be embedded.
    """
    weights = {view: weight for view, weight in query.view_weights.items() if weight > 0}
    total = sum(weights.values())
    terms = term_vectors(query.terms, views=tuple(weights), embedder=embedder, index=index)
    stored = index.get_vectors([one.segment_id for hit in hits for one in hit.segments])
    return {
        segment_id: tuple(
            sum(weight * float(views[view] @ term[view]) for view, weight in weights.items()) / total
            for term in terms
        )
        for segment_id, views in stored.items()
    }
