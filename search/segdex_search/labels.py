"""Label all segments of an index with words: one pass over the stored vectors, no picture is read.

A word scores a segment by how many standard deviations it lies above other words, the distractors of the
presence score and all words that were given, times how likely the segment is one whole object. Below a
threshold, which belongs to the embedder, nothing fits. docs/labels.md has the figures.

The labels of a segment are read and written as a whole. A write succeeds only if they are still those that
were read, so that two processes that change the labels of one segment at the same moment both have theirs.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.ports.index import IndexReader, IndexWriter
from segdex_core.records import (
    EVERYTHING,
    EmbeddedSegments,
    SegmentFilter,
    SegmentLabel,
    SegmentRecord,
    Vectors,
)
from segdex_core.slices import slices
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS
from segdex_search.counting import distinct
from segdex_search.presence import mean_cosines, stands_out

MAX_LABELS_EACH = 16
"""Labels that one pass gives a segment at most."""

_PICTURES_PER_BATCH = 64
"""Pictures whose masks are in memory at once."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelScorer:
    """Scores segments for words.

    Attributes:
        names: k labels.
        texts: (k, dim) unit rows of ``names``; by view for a concept, which differs by view.
        others: (m, dim) unit rows of other words.
    """

    names: Sequence[str]
    texts: Vectors | Mapping[str, Vectors]
    others: Vectors

    def scores(self, segments: EmbeddedSegments) -> npt.NDArray[np.float32]:
        """Return (n, k) the score of each label for each segment: 0 or more, mostly below 10."""
        weights = {view: DEFAULT_VIEW_WEIGHTS[view] for view in segments.vectors}
        texts = self.texts if isinstance(self.texts, Mapping) else dict.fromkeys(weights, self.texts)
        words = {view: np.concatenate([self.others, texts[view]]) for view in weights}
        cosines = mean_cosines(segments.vectors, words, weights)
        above = stands_out(cosines[:, len(self.others) :], cosines)
        whole = np.array([[record.object_score] for record in segments.records], np.float32)
        scores: npt.NDArray[np.float32] = (np.maximum(above, 0) * whole).astype(np.float32)
        return scores


@dataclass(frozen=True, slots=True)
class FoundLabel:
    """A label that fits a segment.

    Attributes:
        name: The label.
        score: See ``LabelScorer``.
    """

    name: str
    score: float


@dataclass(slots=True)
class FoundLabels:
    """What a pass over an index found.

    Attributes:
        by_segment: The labels of each segment that has any, best first.
        segments: How many segments were looked at.
    """

    by_segment: dict[UUID, list[FoundLabel]] = field(default_factory=dict)
    segments: int = 0

    def counts(self, names: Sequence[str]) -> dict[str, int]:
        """Return the number of objects with each label, in the order of the names."""
        counts = dict.fromkeys(names, 0)
        for found in self.by_segment.values():
            for one in found:
                counts[one.name] += 1
        return counts


def find_labels(
    index: IndexReader,
    scorer: LabelScorer,
    *,
    min_score: float,
    several: bool = False,
    where: SegmentFilter = EVERYTHING,
    on_batch: Callable[[int], None] = lambda _: None,
) -> FoundLabels:
    """Return the labels that fit the segments of an index; nothing is written.

    Of the masks of one object, those that overlap a better one with the same label, only the best one gets
    the label.

    Args:
        index: Where the segments are.
        scorer: Scores them.
        min_score: Lowest score of a label that fits.
        several: Give a segment the best ``MAX_LABELS_EACH`` labels that fit, not only the best one.
        where: Conditions on the segments.
        on_batch: Called with the number of segments after each batch.
    """
    found = FoundLabels()
    by_image: dict[UUID, list[tuple[UUID, int, float]]] = {}
    for batch in index.scroll_vectors(where):
        scores = scorer.scores(batch)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : MAX_LABELS_EACH if several else 1]
        rows, places = np.nonzero(np.take_along_axis(scores, best, axis=1) >= min_score)
        columns = best[rows, places]
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            record = batch.records[row]
            candidate = (record.segment_id, column, float(scores[row, column]))
            by_image.setdefault(record.image_id, []).append(candidate)
        found.segments += len(batch.records)
        on_batch(len(batch.records))
    for some in slices(list(by_image.values()), _PICTURES_PER_BATCH):
        ids = {segment_id for candidates in some for segment_id, _, _ in candidates}
        records = {record.segment_id: record for record in index.get_segments(list(ids))}
        for candidates in some:
            _add_objects(found, candidates, records, scorer.names)
    return found


def _add_objects(
    found: FoundLabels,
    candidates: Sequence[tuple[UUID, int, float]],
    records: Mapping[UUID, SegmentRecord],
    names: Sequence[str],
) -> None:
    """Add the labels of one picture, each once for each object."""
    by_label: dict[int, list[tuple[float, UUID]]] = {}
    for segment_id, column, score in candidates:
        if segment_id in records:  # not deleted in the meantime
            by_label.setdefault(column, []).append((score, segment_id))
    for column, scored in by_label.items():
        scored.sort(key=lambda one: (-one[0], one[1]))
        for position in distinct([records[segment_id].mask for _, segment_id in scored]):
            score, segment_id = scored[position]
            labels = found.by_segment.setdefault(segment_id, [])
            labels.append(FoundLabel(names[column], round(score, 4)))
            labels.sort(key=lambda one: (-one.score, one.name))


_WRITTEN_AT_ONCE = 512


def write_labels(
    found: FoundLabels, index: IndexReader, writer: IndexWriter, *, author: str, now_s: float
) -> None:
    """Replace the labels of one author by what was found; see ``replace_labels``.

    Which segments have labels is read here, so that of two passes one after the other is left. Writing again
    changes nothing.

    Args:
        found: From ``find_labels``.
        index: Where the segments are.
        writer: The same index.
        author: See ``SegmentLabel``.
        now_s: The time, seconds since 1970 UTC.
    """
    known = tuple(index.label_counts())
    held = index.scroll_segments(SegmentFilter(labels=known)) if known else ()
    ids = list(dict.fromkeys([*found.by_segment, *(record.segment_id for record in held)]))

    def with_found(record: SegmentRecord) -> tuple[SegmentLabel, ...]:
        said = [
            SegmentLabel(one.name, author, one.score, now_s)
            for one in found.by_segment.get(record.segment_id, ())
        ]
        return replace_labels(record, said, author=author)

    change_labels(ids, with_found, index=index, writer=writer)


def change_labels(
    segment_ids: Sequence[UUID],
    change: Callable[[SegmentRecord], tuple[SegmentLabel, ...]],
    *,
    index: IndexReader,
    writer: IndexWriter,
) -> None:
    """Change the labels of some segments. Of what other processes change meanwhile, nothing is lost.

    Args:
        segment_ids: Segments; one that is gone is skipped.
        change: Returns the new labels of a segment. It may be called several times for one.
        index: Where the segments are.
        writer: The same index.
    """
    for some in slices(segment_ids, _WRITTEN_AT_ONCE):
        left: Sequence[UUID] = some
        while left:
            records = [(record, change(record)) for record in index.get_segments(left)]
            changed = {record.segment_id: labels for record, labels in records if labels != record.labels}
            seen = {record.segment_id: record.labelling for record, _ in records}
            left = writer.set_labels(changed, over=seen)


def replace_labels(
    record: SegmentRecord, said: Sequence[SegmentLabel], *, author: str
) -> tuple[SegmentLabel, ...]:
    """Return the labels of a segment with those of one author replaced.

    A label that the author gave before with the same score keeps its time.
    """
    before = {(one.name, one.score): one for one in record.labels if one.author == author}
    others = [one for one in record.labels if one.author != author]
    return (*others, *(before.get((one.name, one.score), one) for one in said))


def clear_labels(
    index: IndexReader, writer: IndexWriter, *, names: Sequence[str], authors: Sequence[str]
) -> dict[str, int]:
    """Remove labels, and return how many segments lost each, by name.

    Args:
        index: Where the segments are.
        writer: The same index.
        names: These alone; none of them means all names.
        authors: Kinds of authors whose labels go, see ``LABEL_AUTHORS``.
    """
    known = tuple(name for name in index.label_counts() if not names or name in names)
    if not known:
        return {}
    removed: dict[UUID, set[str]] = {}
    held = index.scroll_segments(SegmentFilter(labels=known))
    # read to the end before anything is written: what is written no longer matches
    ids = [record.segment_id for record in held]

    def without(record: SegmentRecord) -> tuple[SegmentLabel, ...]:
        labels = record.labels
        gone = [one for one in labels if one.name in known and one.author.partition(":")[0] in authors]
        removed.setdefault(record.segment_id, set()).update(one.name for one in gone)
        return tuple(one for one in labels if one not in gone)

    change_labels(ids, without, index=index, writer=writer)
    return dict(sorted(Counter(name for some in removed.values() for name in some).items()))
