"""Label the segments of an index: with words, by a person, and remove labels."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np

from segdex.usecases.models import Models
from segdex_core.errors import NotFoundError
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import SegmentLabel
from segdex_core.slices import slices
from segdex_core.wire.labels import LabelReport, LabelRequest
from segdex_search.answer import check_embedder
from segdex_search.labels import LabelScorer, find_labels, replace_labels, write_labels
from segdex_search.queries import clean_labels

_WORDS_AT_ONCE = 64


def label_index(
    request: LabelRequest,
    *,
    index: SegmentIndex,
    models: Models,
    writing: AbstractContextManager[object],
    on_batch: Callable[[int], None] = lambda _: None,
) -> LabelReport:
    """Label segments as a request says.

    Args:
        request: Words for all segments, or for some that a person names.
        index: Where the segments are.
        models: What filled the index; a person's labels need none.
        writing: Held while labels are written.
        on_batch: Called with the number of segments after each batch.

    Raises:
        QueryError: If a label has no word, or the embedder cannot read it.
        NotFoundError: If a segment is not there.
        IndexMismatchError: If another embedder filled the index.
    """
    started_s = time.perf_counter()
    names = clean_labels(request.labels)
    if request.segments:
        return _label_some(request, names, index=index, writing=writing, started_s=started_s)
    embedder, judge = models.embedder, models.judge
    check_embedder(index, embedder)
    # a service embeds the texts of searches between the slices
    texts = np.concatenate([embedder.embed_texts(some) for some in slices(names, _WORDS_AT_ONCE)])
    scorer = LabelScorer(names, texts, judge.distractors)
    min_score = judge.calibration.label_threshold if request.min_score is None else request.min_score
    author = f"model:{embedder.fingerprint}"
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
            index.set_labels(
                {key: replace_labels(record, said, author=author) for key, record in records.items()}
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
