"""``segdex eval search``: how well class names find instances, and texts and images find one image."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np

from segdex.evaluation.dataset import EvalDataset, EvalInstance
from segdex.evaluation.metrics import RIGHT_IOU, FoundMask, ImageTruth, judge_hits, mask_iou
from segdex.evaluation.search_report import QueryRecord, SearchReport, TextRecord
from segdex_core.errors import ImageError, QueryError, UsageError
from segdex_core.masks import MaskRLE, rle_area_px, rle_iou
from segdex_core.media.decode import read_image_file
from segdex_core.media.limits import MAX_BYTES, MAX_PIXELS
from segdex_core.media.uris import canonical_uri
from segdex_core.ports.embedder import Embedder, Vocabulary
from segdex_core.ports.index import IndexReader, SegmentIndex
from segdex_core.ports.source import Source
from segdex_core.records import EVERYTHING, SegmentFilter
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS, MAX_LIMIT
from segdex_ingest.analyse import RecipeSource
from segdex_ingest.beside import Beside
from segdex_ingest.ledger import Ledger
from segdex_ingest.report import FAILED, FileOutcome
from segdex_ingest.run import IngestOptions, ingest_into
from segdex_search.answer import SearchAnswer, check_embedder, search
from segdex_search.presence import PresenceJudge
from segdex_search.queries import ImageTerm, SearchQuery, Term, TextTerm, clean_text
from segdex_search.rank import SearchHit

MAX_HITS = 1_000
"""Length of the ranked list that is judged."""


def only_images(index: IndexReader, image_ids: Iterable[UUID]) -> SegmentFilter:
    """Return the filter of the segments of some images; it has no condition if there are no others."""
    wanted = tuple(sorted(set(image_ids)))
    return SegmentFilter(image_ids=wanted) if index.counts().images > len(wanted) else EVERYTHING


def ingest_dataset(
    dataset: EvalDataset,
    *,
    index: SegmentIndex,
    recipe: RecipeSource,
    source: Source,
    profile: str,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    decode_threads: int = 2,
    analysis_threads: int = 1,
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> dict[str, UUID]:
    """Bring an index up to date with the images of a data set, and return their ids by name.

    Images that were ingested with an equal recipe are skipped.

    Raises:
        UsageError: If the data set has no queries.
        ImageError: If an image could not be ingested; the other images were ingested.
        IndexMismatchError: If another embedder filled the index.
        KeyboardInterrupt: If the user stopped the ingest; the next run continues.
    """
    if not (dataset.class_queries or dataset.refs or dataset.captions or dataset.pairs):
        raise _nothing_to_ask(dataset)  # fails before the work
    uris = [canonical_uri(image.path) for image in dataset.images]
    report = ingest_into(
        index,
        recipe,
        uris,
        source=source,
        profile=profile,
        options=IngestOptions(
            max_pixels=max_pixels,
            max_bytes=max_bytes,
            decode_threads=decode_threads,
            analysis_threads=analysis_threads,
        ),
        beside=Beside(named=frozenset(uris)),
        on_file=on_file,
    )
    if report.interrupted:
        raise KeyboardInterrupt
    failed = [file for file in report.files if file.outcome in FAILED]
    if failed:
        raise ImageError(
            f"{len(failed):,} of {len(report.files):,} pictures could not be ingested: {failed[0].detail}"
        )
    if report.segments:
        index.optimize()
    ledger = Ledger(index.scroll_images())
    return {image.name: ledger.at(canonical_uri(image.path))[0].image_id for image in dataset.images}


def evaluate_search(
    dataset: EvalDataset,
    *,
    index: IndexReader,
    embedder: Embedder,
    image_id_by_name: Mapping[str, UUID],
    judge: PresenceJudge,
    exact: bool = False,
    nms: bool = True,
    per_image: int = 20,
    view_weights: Mapping[str, float] = DEFAULT_VIEW_WEIGHTS,
    on_query: Callable[[QueryRecord], None] = lambda _: None,
) -> SearchReport:
    """Search all images of a data set for every class name, then for its longer texts.

    ``class_truth`` says which images count for a class, ``judge_hits`` which hits are right. A text that the
    embedder cannot embed finds nothing.

    Args:
        dataset: Data set with all its sources.
        index: Index that holds the images of the data set; other images are not searched.
        embedder: Embedder that filled the index.
        image_id_by_name: Ids of the images, from ``ingest_dataset``.
        judge: Presence judge.
        exact: Whether to compare with every vector instead of walking the HNSW graph.
        nms: Whether to drop hits that lie inside, or around, a better hit of the same image.
        per_image: Number of hits per image, 1 to 100.
        view_weights: Weight of each view in a score.
        on_query: Called after each class name.

    Raises:
        UsageError: If the data set has no queries, or masks differ in size from the true masks.
        IndexMismatchError: If another embedder filled the index.
    """
    check_embedder(index, embedder)
    asker = _Asker(
        index=index,
        embedder=embedder,
        judge=judge,
        where=only_images(index, [image_id_by_name[image.name] for image in dataset.images]),
        names={image_id_by_name[image.name]: image.name for image in reversed(dataset.images)},
        options={"view_weights": view_weights, "nms": nms, "exact": exact},
    )
    queries: list[QueryRecord] = []
    for text in dataset.class_names:
        truth = class_truth(dataset, text)
        if any(image.instances for image in truth.values()):
            queries.append(asker.ask_class(text, truth, per_image=per_image))
            on_query(queries[-1])
    texts = [*asker.ask_refs(dataset), *asker.ask_captions(dataset), *asker.ask_pairs(dataset)]
    if not queries and not texts:
        raise _nothing_to_ask(dataset)
    return SearchReport(
        images=tuple(sorted(set(asker.names.values()))), queries=tuple(queries), texts=tuple(texts)
    )


JUDGED_PICTURES = 10
"""Number of images on the first page, whose presence scores decide on "not there"."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asker:
    index: IndexReader
    embedder: Embedder
    judge: PresenceJudge
    where: SegmentFilter
    names: Mapping[UUID, str]
    options: Mapping[str, Any]

    def answer(self, term: Term, *, per_image: int = 1) -> SearchAnswer | None:
        """Return the answer over all images; None if the model cannot read the text."""
        query = SearchQuery(
            terms=(term,),
            where=self.where,
            limit=min(len(self.names), MAX_LIMIT),
            per_image=per_image,
            **self.options,
        )
        try:
            return search(query, index=self.index, embedder=self.embedder, calibration=self.judge.calibration)
        except QueryError:
            return None

    def ask_class(self, text: str, truth: Mapping[str, ImageTruth], *, per_image: int) -> QueryRecord:
        """Return the results of a class name."""
        started = time.perf_counter()
        answer = self.answer(TextTerm(text), per_image=per_image)
        elapsed_ms = (time.perf_counter() - started) * 1000
        knows = self.embedder.knows(text) if isinstance(self.embedder, Vocabulary) else None
        hits = () if answer is None else answer.hits
        record = record_of(text, hits, truth, names=self.names, is_known=knows, elapsed_ms=elapsed_ms)
        if answer is None:
            return record
        without = [hit for hit in hits if not _has_class(truth, self.names[hit.image.image_id])]
        return replace(
            record,
            said_absent=self._absent(answer, hits, len(self.names)),
            said_absent_without=self._absent(answer, without, len(without)) if without else None,
        )

    def _absent(self, answer: SearchAnswer, hits: Sequence[SearchHit], pictures: int) -> bool:
        scores = self.judge.scores(
            hits[:JUDGED_PICTURES],
            answer.query_vectors,
            index=self.index,
            weights=self.options["view_weights"],
        )
        return max(scores, default=float("-inf")) < self.judge.calibration.threshold_of(pictures)

    def ask_refs(self, dataset: EvalDataset) -> Iterator[TextRecord]:
        """Yield the results of the descriptions of single objects."""
        masks = {(image.name, one.id): one.mask for image in dataset.images for one in image.instances}
        for ref in dataset.refs:
            if ref.instance_id is None:
                continue
            answer = self.answer(TextTerm(ref.text))
            hit = self._hit_of(answer, ref.image)
            right = hit is not None and (
                mask_iou(hit[1].segments[0].record.mask, masks[ref.image, ref.instance_id]) >= RIGHT_IOU
            )
            yield TextRecord("ref", ref.image, None if hit is None else hit[0], is_right=right)

    def ask_captions(self, dataset: EvalDataset) -> Iterator[TextRecord]:
        """Yield the results of captions, compared with the vectors of whole images."""
        if not dataset.captions:
            return
        wholes = self.index.get_image_vectors(sorted(self.names))
        names = [self.names[image_id] for image_id in sorted(wholes)]
        rows = np.stack([wholes[image_id] for image_id in sorted(wholes)])
        for caption in dataset.captions:
            try:
                [vector] = self.embedder.embed_texts([clean_text(caption.text)])
            except QueryError:
                yield TextRecord("caption", caption.image, None)
                continue
            order = [names[place] for place in np.argsort(-(rows @ vector), kind="stable")]
            yield TextRecord("caption", caption.image, order.index(caption.image) + 1)

    def ask_pairs(self, dataset: EvalDataset) -> Iterator[TextRecord]:
        """Yield the results of query images of objects, and of the names of the objects."""
        for pair in dataset.pairs:
            pixels = read_image_file(pair.query_path).pixels
            for kind, term in (("pair_picture", ImageTerm(pixels)), ("pair_text", TextTerm(pair.text))):
                hit = self._hit_of(self.answer(term), pair.image)
                yield TextRecord(kind, pair.image, None if hit is None else hit[0])

    def _hit_of(self, answer: SearchAnswer | None, image: str) -> tuple[int, SearchHit] | None:
        """Return the rank and the hit of an image in an answer; None if it is not in the answer."""
        for rank, hit in enumerate(() if answer is None else answer.hits, 1):
            if self.names[hit.image.image_id] == image:
                return rank, hit
        return None


def _has_class(truth: Mapping[str, ImageTruth], name: str) -> bool:
    # an image that is not annotated for the class may show it
    return name not in truth or truth[name].has_class


def class_truth(dataset: EvalDataset, category: str) -> dict[str, ImageTruth]:
    """Return every image that is annotated exhaustively for a class, with its instances, by name.

    What a source annotates is read from the data: a class is stuff if any of its instances is marked as
    stuff, and a source annotates things (stuff) if it has any thing (stuff) in the data set. An image counts
    for a class if one of its sources annotates that kind; a class without annotations is then absent. In
    COCO, both ``coco-instances-2017`` and ``coco-panoptic-2017`` annotate all things, and only the latter
    annotates stuff. If an image has several such sources, one is used, so that no instance occurs twice: the
    first by name that uses the class in the data set.
    """
    is_stuff = any(label.is_stuff for label in dataset.labels if label.category == category)
    able = {label.source for label in dataset.labels if label.is_stuff == is_stuff}
    using = {label.source for label in dataset.labels if label.category == category}
    truth: dict[str, ImageTruth] = {}
    for image in dataset.images:
        sources = [source for source in image.sources if source in able]
        if sources:
            source = min(sources, key=lambda name: (name not in using, name))
            truth[image.name] = ImageTruth(
                name=str(image.path),
                size_hw=image.size_hw,
                instances=_masks(image.instances, category, source),
                crowds=_masks(image.crowds, category, source),
            )
    return truth


def record_of(
    text: str,
    hits: Sequence[SearchHit],
    truth: Mapping[str, ImageTruth],
    *,
    names: Mapping[UUID, str],
    is_known: bool | None = None,
    elapsed_ms: float = 0.0,
) -> QueryRecord:
    """Return the results of one answer; presence is not judged.

    Args:
        text: Class name.
        hits: Images with their segments, best first.
        truth: Images that count by name, at least one of them with an instance.
        names: Names of the images by id.
        is_known: Whether the embedder knows the class name; None if it has no vocabulary.
        elapsed_ms: Wall milliseconds of the answer.
    """
    segments = [segment for hit in hits for segment in hit.segments]
    segments.sort(key=lambda segment: (-segment.score, segment.record.segment_id))
    by_id = {image_id: truth[name] for image_id, name in names.items() if name in truth}
    shown = segments[:MAX_HITS]
    verdicts = judge_hits((FoundMask(one.record.image_id, one.record.mask) for one in shown), by_id)
    with_instances = {name: image for name, image in truth.items() if image.instances}
    first_right = dict.fromkeys(with_instances, False)
    for hit in hits:
        name = names[hit.image.image_id]
        if name in with_instances:
            best = rle_iou([hit.segments[0].record.mask], with_instances[name].instances)
            first_right[name] = bool(best.max() >= RIGHT_IOU)
    return QueryRecord(
        text=text,
        is_known=is_known,
        instances={name: len(image.instances) for name, image in with_instances.items()},
        hits=tuple((names[image_id], is_right) for image_id, is_right in verdicts),
        pictures=tuple(
            (names[hit.image.image_id], truth[names[hit.image.image_id]].has_class)
            for hit in hits
            if names[hit.image.image_id] in truth
        ),
        first_right=first_right,
        largest_px={name: max(map(rle_area_px, image.instances)) for name, image in with_instances.items()},
        said_absent=not hits,
        said_absent_without=True if not hits else None,
        elapsed_ms=elapsed_ms,
    )


def _nothing_to_ask(dataset: EvalDataset) -> UsageError:
    return UsageError(
        f"{dataset.path} has nothing to ask for; eval search needs class_queries.jsonl (image, text, "
        f"instance_ids), refs.jsonl, captions.jsonl or pairs.jsonl, or a COCO JSON file"
    )


def _masks(instances: tuple[EvalInstance, ...], category: str, source: str) -> tuple[MaskRLE, ...]:
    return tuple(one.mask for one in instances if one.category == category and one.source == source)
