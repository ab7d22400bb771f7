"""Answer a query: embed, ask the index, rank."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from segdex.core.errors import IndexMismatchError, IndexMissingError
from segdex.core.protocols import Embedder, SegmentIndex
from segdex.core.records import IndexFingerprint
from segdex.search.embed import embed_query
from segdex.search.fusing import fused_hits
from segdex.search.queries import SearchQuery
from segdex.search.rank import SearchHit


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What a query found.

    Attributes:
        hits: Pictures, best first.
        timings_ms: Wall milliseconds of each stage: embed, query.
        embedder: Name of the model that scored.
    """

    hits: tuple[SearchHit, ...]
    timings_ms: Mapping[str, float]
    embedder: str


def require_filled(index: SegmentIndex) -> IndexFingerprint:
    """Return what filled an index.

    Raises:
        IndexMissingError: If nothing was ingested yet.
    """
    found = index.fingerprint()
    if found is None:
        raise IndexMissingError(f"{index.location} is empty; fill it with: segdex ingest FOLDER")
    return found


def check_embedder(index: SegmentIndex, embedder: Embedder) -> None:
    """Raise unless the index was filled by this embedder.

    Raises:
        IndexMissingError: If nothing was ingested yet.
        IndexMismatchError: If another embedder filled it.
    """
    found = require_filled(index)
    if found.embedder != embedder.fingerprint:
        raise IndexMismatchError(
            f"{index.location} was filled by {found.embedder!r} (profile {found.profile}), but the query "
            f"would be embedded by {embedder.fingerprint!r}; choose its profile with --profile, another "
            f"--index, or ingest again into a new index"
        )


def search(query: SearchQuery, *, index: SegmentIndex, embedder: Embedder) -> SearchAnswer:
    """Return the pictures with the segments that answer a query best.

    The index fuses the views; nested segments are dropped, and the rest is grouped by picture.

    Raises:
        QueryError: If a term cannot be embedded.
        IndexMismatchError: If another embedder filled the index.
    """
    clock = _Stopwatch()
    weights = {view: weight for view, weight in query.view_weights.items() if weight > 0}
    check_embedder(index, embedder)
    with clock.stage("embed"):
        vectors = embed_query(query.terms, views=tuple(weights), embedder=embedder, index=index)
    with clock.stage("query"):
        hits = fused_hits(query, vectors, weights=weights, index=index)
    return SearchAnswer(hits=hits, timings_ms=clock.timings_ms, embedder=embedder.name)


class _Stopwatch:
    """Wall milliseconds by stage."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.timings_ms[name] = round((time.perf_counter() - started) * 1000, 2)
