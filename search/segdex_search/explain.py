"""Why a segment is a hit: what each term of the question alone says of it."""

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
    """Return the cosine of each term to each segment of the hits, mean of the views as the score weighs them.

    The order of the terms is the query's, and their weights are not in it. A segment that was deleted
    meanwhile is left out.

    Args:
        query: The question.
        hits: Its answer.
        embedder: What filled the index.
        index: Where the vectors of the segments are.

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
