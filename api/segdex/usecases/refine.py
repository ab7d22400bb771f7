"""Re-decode the masks of segments for a query."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from segdex.usecases.images import ImageReader
from segdex.usecases.models import Models
from segdex.usecases.search import SentImage, read_question
from segdex_core.errors import QueryError
from segdex_core.ports.index import IndexReader
from segdex_core.wire.search import RefineRequest
from segdex_search.answer import check_embedder
from segdex_search.concepts import Learnt
from segdex_search.embed import embed_query
from segdex_search.queries import TextTerm
from segdex_search.refine.refiner import Refinement, refine_segments


def refine_each(
    request: RefineRequest,
    sent: Sequence[SentImage],
    *,
    index: IndexReader,
    models: Models,
    images: ImageReader,
    learnt: Callable[[str], Learnt],
) -> Iterator[Refinement]:
    """Yield the refinement of each segment, in the order of the ids.

    The request is checked immediately; masks are decoded while the iterator is consumed.

    Args:
        request: Query, and ids of the segments.
        sent: Images that were sent with the query.
        index: Index that holds the segments.
        models: Models that filled the index.
        images: Reads the image files.
        learnt: Returns the concept of a name.

    Raises:
        QueryError: If the query is empty.
        NotFoundError: If a segment is not in the index.
        ImageError: If the file of an image is missing or has changed.
    """
    check_embedder(index, models.embedder)
    terms = read_question(request, sent, images, learnt).terms
    if not any(term.weight > 0 for term in terms):
        raise QueryError("the query needs a text, a picture or a segment to look for")
    weights = {view: weight for view, weight in request.view_weights.model_dump().items() if weight > 0}
    vectors = embed_query(terms, views=tuple(weights), embedder=models.embedder, index=index)
    texts = [term.text for term in terms if isinstance(term, TextTerm) and term.weight > 0]
    chosen = images.segments_with_images(list(dict.fromkeys(request.segment_ids)))
    by_id = {image.image_id: image for _, image in chosen}
    made = refine_segments(
        [record for record, _ in chosen],
        refiner=models.refiner,
        question=np.sum(list(vectors.values()), axis=0),
        text=texts[0] if len(texts) == len(terms) == 1 else None,
        read_picture=lambda image_id: images.pixels_of(by_id[image_id]),
    )

    def each() -> Iterator[Refinement]:
        for _, image in chosen:
            images.require_unchanged(image)  # its encoding may be cached
            yield models.run(lambda: next(made))

    return each()
