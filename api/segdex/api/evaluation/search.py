"""``segdex eval search``: how well class names find their instances."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from segdex.api.evaluation.dataset import EvalDataset, EvalInstance
from segdex.api.evaluation.metrics import (
    FoundMask,
    ImageTruth,
    average_precision,
    judge_hits,
    precision_at,
)
from segdex.core.errors import ImageError, QueryError, UsageError
from segdex.core.images import MAX_BYTES, MAX_PIXELS
from segdex.core.masks import MaskRLE
from segdex.core.protocols import Embedder, SegmentIndex
from segdex.core.records import EVERYTHING, SEGMENT_VIEWS, SegmentFilter
from segdex.core.uris import path_to_uri
from segdex.ingest.ledger import Ledger
from segdex.ingest.pipeline import Recipe
from segdex.ingest.report import FAILED, FileOutcome
from segdex.ingest.run import IngestOptions, WritingPlan, ingest_files, prepare_index
from segdex.search.queries import DEFAULT_VIEW_WEIGHTS, MAX_LIMIT, SearchQuery, TextTerm
from segdex.search.rank import SearchHit
from segdex.search.service import check_embedder, search

MAX_HITS = 1_000
"""Length of the ranked list that is judged."""

IMAGE_RANKS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class QueryFigures:
    """How one class name fared.

    Attributes:
        text: The class name.
        instances: How many instances there were to find, without crowds.
        p_at_1: 1 when the first hit that counts is right, else 0.
        p_at_10: Right ones among the first ten hits that count, over ten.
        ap: Average precision, 0 to 1.
        first_image: Rank from 1 of the first picture with the class among the pictures that count; None
            when none was found.
        elapsed_ms: Wall milliseconds of embedding the text, querying and ranking.
    """

    text: str
    instances: int
    p_at_1: float
    p_at_10: float
    ap: float
    first_image: int | None
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class SearchReport:
    """The figures of all class names.

    Attributes:
        images: How many pictures were searched.
        by_query: One entry for each class name, sorted by name; at least one.
    """

    images: int
    by_query: tuple[QueryFigures, ...]

    def to_json(self) -> dict[str, int | float]:
        """Return means over the class names as JSON values.

        ``image_recall_k`` is the share of the class names for which a picture with the class is among the
        first k pictures that count; ``p_at_10`` cannot reach 1 for a class of fewer than ten instances.
        """
        elapsed_ms = [one.elapsed_ms for one in self.by_query]
        return {
            "images": self.images,
            "instances": sum(one.instances for one in self.by_query),
            "queries": len(self.by_query),
            "p_at_1": _mean([one.p_at_1 for one in self.by_query]),
            "p_at_10": _mean([one.p_at_10 for one in self.by_query]),
            "map": _mean([one.ap for one in self.by_query]),
            **{
                f"image_recall_{k}": _mean(
                    [one.first_image is not None and one.first_image <= k for one in self.by_query]
                )
                for k in IMAGE_RANKS
            },
            "latency_p50_ms": round(float(np.percentile(elapsed_ms, 50)), 2),
            "latency_p95_ms": round(float(np.percentile(elapsed_ms, 95)), 2),
        }


def ingest_dataset(
    dataset: EvalDataset,
    *,
    index: SegmentIndex,
    recipe: Recipe,
    profile: str,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    jobs: int = 2,
    workers: int = 1,
    on_file: Callable[[FileOutcome], None] = lambda _: None,
) -> dict[str, UUID]:
    """Bring an index up to date with the pictures of a data set, and return their ids by name.

    What the same recipe made before is left as it is.

    Raises:
        UsageError: If the set has no class queries.
        ImageError: If a picture could not be ingested; the others were.
        IndexMismatchError: If the index was filled by another embedder.
        KeyboardInterrupt: If the user stopped it; the next run goes on.
    """
    if not dataset.class_queries:  # before the work, not after it
        raise _no_class_queries(dataset)
    prepare_index(index, recipe, profile=profile, views=SEGMENT_VIEWS)
    ledger = Ledger(index.scroll_images())
    report = ingest_files(
        [image.path for image in dataset.images],
        plan=WritingPlan(index, recipe),
        ledger=ledger,
        recipe_fingerprint=recipe.fingerprint(),
        options=IngestOptions(max_pixels=max_pixels, max_bytes=max_bytes, jobs=jobs, workers=workers),
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
    return {image.name: ledger.at(path_to_uri(image.path))[0].image_id for image in dataset.images}


def evaluate_search(
    dataset: EvalDataset,
    *,
    index: SegmentIndex,
    embedder: Embedder,
    image_id_by_name: Mapping[str, UUID],
    exact: bool = False,
    nested: bool = False,
    per_image: int = 20,
    view_weights: Mapping[str, float] = DEFAULT_VIEW_WEIGHTS,
    on_query: Callable[[QueryFigures], None] = lambda _: None,
) -> SearchReport:
    """Ask for every class name of a data set over all its pictures, and judge the hits.

    ``class_truth`` says which pictures count for a class, ``judge_hits`` which hits are right. A text that
    the embedder cannot embed finds nothing.

    Args:
        dataset: With all its sources.
        index: Holds the pictures of the data set; others in it are not searched.
        embedder: What filled the index.
        image_id_by_name: From ``ingest_dataset``.
        exact: Compare with every vector instead of walking the HNSW graph.
        nested: Keep hits that lie inside, or around, a better hit of the same picture.
        per_image: How many hits of one picture to take, 1 to 100.
        view_weights: Share of each view in a score.
        on_query: Called after each query.

    Raises:
        UsageError: If the set has no class queries, or masks do not have the size of the true ones.
        IndexMismatchError: If another embedder filled the index.
    """
    check_embedder(index, embedder)
    image_ids = tuple(sorted({image_id_by_name[image.name] for image in dataset.images}))
    others = index.counts().images > len(image_ids)
    where = SegmentFilter(image_ids=image_ids) if others else EVERYTHING
    done: list[QueryFigures] = []
    for text in dataset.class_names:
        truth = {image_id_by_name[name]: image for name, image in class_truth(dataset, text).items()}
        if not any(image.instances for image in truth.values()):
            continue
        query = SearchQuery(
            terms=(TextTerm(text),),
            where=where,
            limit=min(len(image_ids), MAX_LIMIT),
            per_image=per_image,
            view_weights=view_weights,
            nested=nested,
            exact=exact,
        )
        started = time.perf_counter()
        try:
            hits = search(query, index=index, embedder=embedder).hits
        except QueryError:  # the model knows none of the words
            hits = ()
        elapsed_ms = (time.perf_counter() - started) * 1000
        done.append(figures_of(text, hits, truth, elapsed_ms=elapsed_ms))
        on_query(done[-1])
    if not done:
        raise _no_class_queries(dataset)
    return SearchReport(images=len(image_ids), by_query=tuple(done))


def class_truth(dataset: EvalDataset, category: str) -> dict[str, ImageTruth]:
    """Return by name every picture that is annotated exhaustively for a class, with the class in it.

    What a source annotates is read from the data: a class is stuff if any of its instances is marked so, and
    a source annotates things (stuff) if it has any thing (stuff) anywhere in the set. A picture counts for a
    class if one of its sources annotates that kind; whatever of the class is not in it then is not there.
    For COCO: both ``coco-instances-2017`` and ``coco-panoptic-2017`` annotate all things, only the latter
    stuff. Where a picture has several such sources, one counts, so that nothing is there twice: the first by
    name that uses the class anywhere in the set.
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


def figures_of(
    text: str, hits: tuple[SearchHit, ...], truth: Mapping[UUID, ImageTruth], *, elapsed_ms: float
) -> QueryFigures:
    """Return the figures of one answer.

    Args:
        text: The class name.
        hits: Pictures, best first, with their segments.
        truth: The pictures that count, with at least one instance.
        elapsed_ms: Wall milliseconds that the answer took.
    """
    segments = [segment for hit in hits for segment in hit.segments]
    segments.sort(key=lambda segment: (-segment.score, segment.record.segment_id))
    verdicts = judge_hits(
        (FoundMask(one.record.image_id, one.record.mask) for one in segments[:MAX_HITS]), truth
    )
    ranked = [truth[hit.image.image_id] for hit in hits if hit.image.image_id in truth]
    instances = sum(len(image.instances) for image in truth.values())
    return QueryFigures(
        text=text,
        instances=instances,
        p_at_1=precision_at(verdicts, 1),
        p_at_10=precision_at(verdicts, 10),
        ap=average_precision(verdicts, instances=instances),
        first_image=next((rank for rank, image in enumerate(ranked, start=1) if image.has_class), None),
        elapsed_ms=elapsed_ms,
    )


def _no_class_queries(dataset: EvalDataset) -> UsageError:
    return UsageError(
        f"{dataset.path} has no class queries; eval search needs class_queries.jsonl (image, text, "
        f"instance_ids) or a COCO JSON file"
    )


def _masks(instances: tuple[EvalInstance, ...], category: str, source: str) -> tuple[MaskRLE, ...]:
    return tuple(one.mask for one in instances if one.category == category and one.source == source)


def _mean(values: list[float] | list[bool]) -> float:
    return round(float(np.mean(values)), 4)
