"""Label the segments of an index: with words, by a person, and remove labels."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np

from segdex.usecases.models import Models
from segdex_core.errors import NotFoundError, QueryError
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import SegmentLabel, Vectors
from segdex_core.slices import slices
from segdex_core.wire.labels import LabelReport, LabelRequest
from segdex_search.answer import check_embedder, require_filled
from segdex_search.concepts import Learnt, look_up
from segdex_search.embed import embed_query
from segdex_search.grammar import parse_text
from segdex_search.labels import LabelScorer, change_labels, find_labels, replace_labels, write_labels
from segdex_search.queries import ConceptTerm, SearchQuery, clean_labels

_WORDS_AT_ONCE = 64


def label_index(
    request: LabelRequest,
    *,
    index: SegmentIndex,
    models: Models,
    learnt: Callable[[str], Learnt],
    writing: AbstractContextManager[object],
    on_batch: Callable[[int], None] = lambda _: None,
) -> LabelReport:
    """Label segments as a request says.

    Args:
        request: Words for all segments, or for some that a person names.
        index: Where the segments are.
        models: What filled the index; a person's labels need none.
        learnt: Returns the concept of a name; ``concept:NAME`` labels with it, under its name.
        writing: Held while labels are written.
        on_batch: Called with the number of segments after each batch.

    Raises:
        QueryError: If a label has no word, or the embedder cannot read it.
        NotFoundError: If a segment or a concept is not there.
        IndexMismatchError: If another embedder filled the index.
    """
    started_s = time.perf_counter()
    names = clean_labels(request.labels)
    if request.segments:
        return _label_some(request, names, index=index, writing=writing, started_s=started_s)
    embedder, judge = models.embedder, models.judge
    check_embedder(index, embedder)
    concept = _concept_of(names)
    texts: Vectors | dict[str, Vectors]
    if concept is None:
        author = f"model:{embedder.fingerprint}"
        # a service embeds the texts of searches between the slices
        texts = np.concatenate([embedder.embed_texts(some) for some in slices(names, _WORDS_AT_ONCE)])
    else:
        author, names = concept.text, [concept.name]
        parsed = look_up(parse_text(concept.text), learnt)
        if parsed.condition is not None or parsed.colors:
            raise QueryError(f"{concept.text} cannot label: its text has a position, a number or a color")
        query = SearchQuery(parsed.terms)
        rows = embed_query(query.terms, views=require_filled(index).views, embedder=embedder, index=index)
        texts = {view: row[None] for view, row in rows.items()}
    scorer = LabelScorer(names, texts, judge.distractors)
    min_score = judge.calibration.label_threshold if request.min_score is None else request.min_score
    found = find_labels(index, scorer, min_score=min_score, several=request.several, on_batch=on_batch)
    if not request.dry_run:
        with writing:
            write_labels(found, index, index, author=author, now_s=time.time())
    return LabelReport(
        counts=found.counts(names),
        labelled=len(found.by_segment),
        segments=found.segments,
        min_score=min_score,
        author=author,
        dry_run=request.dry_run,
        elapsed_s=round(time.perf_counter() - started_s, 3),
    )


def _concept_of(names: list[str]) -> ConceptTerm | None:
    """Return the concept that labels; None where words do.

    Raises:
        QueryError: If there are other labels beside it.
    """
    concepts = [
        term
        for name in names
        if name.lower().startswith("concept:")
        for term in parse_text(name).terms
        if isinstance(term, ConceptTerm)
    ]
    if concepts and len(names) > 1:
        raise QueryError(f"{concepts[0].text} labels alone: leave the other labels out")
    return concepts[0] if concepts else None


def _label_some(
    request: LabelRequest,
    names: list[str],
    *,
    index: SegmentIndex,
    writing: AbstractContextManager[object],
    started_s: float,
) -> LabelReport:
    author = f"person:{request.by}"
    now_s = time.time()
    with writing:
        records = {record.segment_id: record for record in index.get_segments(request.segments)}
        for segment_id in request.segments:
            if segment_id not in records:
                raise NotFoundError(f"there is no segment {segment_id} in {index.location}")
        said = [SegmentLabel(name, author, None, now_s) for name in names]
        if not request.dry_run:
            change_labels(
                list(records),
                lambda record: replace_labels(record, said, author=author),
                index=index,
                writer=index,
            )
    return LabelReport(
        counts=dict.fromkeys(names, len(records)),
        labelled=len(records),
        segments=len(records),
        min_score=None,
        author=author,
        dry_run=request.dry_run,
        elapsed_s=round(time.perf_counter() - started_s, 3),
    )
