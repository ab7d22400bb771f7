"""Embed the terms of a query into one vector for each view."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from segdex_core.errors import QueryError
from segdex_core.ports.embedder import Embedder, ReadsTexts
from segdex_core.ports.index import IndexReader
from segdex_search.queries import ConceptTerm, ImageTerm, SegmentTerm, Term, TextTerm

Vector = npt.NDArray[np.float32]
"""(dim,) float32."""


def embed_query(
    terms: Sequence[Term], *, views: Sequence[str], embedder: Embedder, index: IndexReader
) -> dict[str, Vector]:
    """Return one vector for each view; its dot product with a segment's vector is the score in that view.

    The score is the cosine with the weighted mean of the positive terms, minus the weighted cosines with the
    negative terms: ``q = unit(sum of w v over w > 0) - sum of |w| v over w < 0``. A text or an image has one
    vector for all views; a segment and a concept have their own vector in each view.

    Raises:
        QueryError: If a segment is not in the index, a text cannot be read, or the terms cancel out.
    """
    return mixed(terms, term_vectors(terms, views=views, embedder=embedder, index=index), views=views)


def reading_hints(terms: Sequence[Term], embedder: Embedder) -> tuple[str, ...]:
    """Return lines that say what of the texts the embedder cannot read, or guesses; see ``ReadsTexts``."""
    if not isinstance(embedder, ReadsTexts):
        return ()
    found = [embedder.reading_hint(term.text) for term in terms if isinstance(term, TextTerm)]
    return tuple(dict.fromkeys(hint for hint in found if hint is not None))


def mixed(
    terms: Sequence[Term], vectors: Sequence[Mapping[str, Vector]], *, views: Sequence[str]
) -> dict[str, Vector]:
    """Return the vector of a query by view, see ``embed_query``, from the (dim,) unit vectors of its terms.

    Raises:
        QueryError: If the terms cancel out.
    """
    query: dict[str, Vector] = {}
    for view in views:
        towards = np.sum(
            [t.weight * v[view] for t, v in zip(terms, vectors, strict=True) if t.weight > 0], axis=0
        )
        length = float(np.linalg.norm(towards))
        away = [-t.weight * v[view] for t, v in zip(terms, vectors, strict=True) if t.weight < 0]
        whole = towards / max(length, 1e-12) - np.sum(away, axis=0)
        if min(length, float(np.linalg.norm(whole))) < 1e-6:
            raise QueryError(
                "the query says nothing: its terms cancel each other out, or the model knows none"
            )
        query[view] = whole.astype(np.float32)
    return query


def term_vectors(
    terms: Sequence[Term], *, views: Sequence[str], embedder: Embedder, index: IndexReader
) -> list[Mapping[str, Vector]]:
    """Return the (dim,) unit vectors of each term, by view.

    Raises:
        QueryError: If a segment is not in the index, or the embedder cannot read a text.
    """
    texts = [term.text for term in terms if isinstance(term, TextTerm)]
    pictures = [term.pixels for term in terms if isinstance(term, ImageTerm)]
    segment_ids = [term.segment_id for term in terms if isinstance(term, SegmentTerm)]
    text_rows = iter(embedder.embed_texts(texts)) if texts else iter(())
    picture_rows = iter(embedder.embed_images(pictures)) if pictures else iter(())
    stored = index.get_vectors(segment_ids) if segment_ids else {}
    vectors: list[Mapping[str, Vector]] = []
    for term in terms:
        if isinstance(term, SegmentTerm):
            if term.segment_id not in stored:
                raise QueryError(f"there is no segment {term.segment_id} in {index.location}")
            vectors.append(stored[term.segment_id])
        elif isinstance(term, ConceptTerm):
            if term.learnt is None:
                raise QueryError(f"the concept {term.name!r} was not looked up")
            vectors.append(term.learnt)
        else:
            row = next(text_rows) if isinstance(term, TextTerm) else next(picture_rows)
            vectors.append(dict.fromkeys(views, row))
    return vectors
