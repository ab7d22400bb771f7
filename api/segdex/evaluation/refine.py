"""``segdex eval refine``: what re-decoded masks gain, and how often "not there" is right."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from segdex.evaluation.dataset import EvalDataset, EvalImage, EvalInstance
from segdex.evaluation.metrics import LARGE_FROM_PX, RIGHT_IOU, SMALL_BELOW_PX, Floats, mask_iou
from segdex.evaluation.search import class_truth
from segdex_core.errors import QueryError, UsageError
from segdex_core.masks import MaskRLE
from segdex_core.media.decode import read_image_file
from segdex_core.media.limits import MAX_PIXELS
from segdex_core.ports.index import IndexReader
from segdex_core.records import RGBImage, SegmentFilter
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS
from segdex_search.answer import SearchAnswer, search
from segdex_search.presence import PresenceJudge
from segdex_search.queries import SearchQuery, TextTerm
from segdex_search.rank import HitSegment
from segdex_search.refine.refiner import Refiner

FIRST_HITS = 5
"""A query counts if the right segment is among this many segments of its image."""

WORSE_BY = 0.05
"""Change of IoU beyond which a mask is worse or better."""

ABSENT_TEXTS = 200


@dataclass(frozen=True, slots=True)
class RefinedHit:
    """A right hit and its refinement.

    Attributes:
        text: Text of the query.
        area_px: Area of the true mask in pixels.
        stored_iou: IoU of the stored mask and the true mask.
        refined_iou: IoU of the resulting mask and the true mask: the new mask if the gate accepted it,
            otherwise the stored mask.
        proposed_iou: IoU of the new mask and the true mask, whatever the gate decided.
        accepted: Whether the gate accepted the new mask.
        same_iou: IoU of the new mask and the stored mask.
        gain: Predicted IoU of the new mask minus that of the stored mask.
        source: How the new mask was made.
        decode_ms: Wall milliseconds without encoding the image.
    """

    text: str
    area_px: int
    stored_iou: float
    refined_iou: float
    proposed_iou: float
    accepted: bool
    same_iou: float
    gain: float
    source: str
    decode_ms: float


@dataclass(frozen=True, slots=True)
class RefineReport:
    """Metrics of refinement and presence.

    Attributes:
        hits: Refined hits of the queries whose right segment was found.
        present: Presence scores of texts for objects that are in the image.
        absent: Presence scores of texts for objects that are not in the image.
        threshold: Presence score below which the answer is "not there".
    """

    hits: tuple[RefinedHit, ...]
    present: tuple[float, ...]
    absent: tuple[float, ...]
    threshold: float

    def to_json(self) -> dict[str, int | float | None]:
        """Return the metrics as JSON values."""
        values: dict[str, int | float | None] = {"queries": len(self.hits)}
        areas = np.array([hit.area_px for hit in self.hits])
        sizes = {
            "": areas > 0,
            "_small": areas < SMALL_BELOW_PX,
            "_medium": (areas >= SMALL_BELOW_PX) & (areas < LARGE_FROM_PX),
            "_large": areas >= LARGE_FROM_PX,
        }
        for suffix, chosen in sizes.items():
            some = [hit for hit, take in zip(self.hits, chosen, strict=True) if take]
            values[f"queries{suffix}"] = len(some)
            values[f"stored_iou{suffix}"] = _mean([hit.stored_iou for hit in some])
            values[f"refined_iou{suffix}"] = _mean([hit.refined_iou for hit in some])
            values[f"proposed_iou{suffix}"] = _mean([hit.proposed_iou for hit in some])
        changes = [hit.refined_iou - hit.stored_iou for hit in self.hits]
        values["accepted"] = _mean([hit.accepted for hit in self.hits])
        values["worse"] = _mean([change < -WORSE_BY for change in changes])
        values["better"] = _mean([change > WORSE_BY for change in changes])
        values["decode_p50_ms"] = _percentile([hit.decode_ms for hit in self.hits], 50)
        values["decode_p95_ms"] = _percentile([hit.decode_ms for hit in self.hits], 95)
        values["present_texts"], values["absent_texts"] = len(self.present), len(self.absent)
        values["absent_true"] = _mean([score < self.threshold for score in self.absent])
        values["absent_false"] = _mean([score < self.threshold for score in self.present])
        return values


def evaluate_refine(
    dataset: EvalDataset,
    *,
    index: IndexReader,
    refiner: Refiner,
    judge: PresenceJudge,
    image_id_by_name: Mapping[str, UUID],
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    on_image: Callable[[], None] = lambda: None,
) -> RefineReport:
    """Query each image for its unique classes and refs, refine the right hits, and judge presence.

    Args:
        dataset: Data set with all its sources.
        index: Index that holds the images of the data set.
        refiner: Refiner to evaluate.
        judge: Presence judge to evaluate.
        image_id_by_name: Ids of the images, from ``ingest_dataset``.
        max_pixels: Images with more pixels are refused.
        seed: Random seed of the absent class names.
        on_image: Called after each image.

    Raises:
        UsageError: If the data set has neither class queries nor refs.
    """
    if not dataset.class_queries and not dataset.refs:
        raise UsageError(f"{dataset.path} has neither class queries nor refs; eval refine needs one of them")
    asker = _Asker(index, refiner, judge, image_id_by_name)
    absent = absent_texts(dataset, seed=seed, count=ABSENT_TEXTS)
    hits: list[RefinedHit] = []
    scores: dict[bool, list[float]] = {True: [], False: []}
    for image in dataset.images:
        pixels: RGBImage | None = None
        for text, instance in _questions(dataset, image):
            answer = asker.ask(image, text)
            found = None if answer is None else _right_hit(answer, instance.mask)
            if answer is not None and found is not None:
                if pixels is None:
                    pixels = read_image_file(image.path, max_pixels=max_pixels).pixels
                hits.append(asker.refine(answer, found, instance, pixels, text))
        for text, is_there in (
            *((query.text, True) for query in dataset.class_queries if query.image == image.name),
            *((text, False) for text in absent.get(image.name, ())),
        ):
            scores[is_there].append(asker.presence(image, text))
        on_image()
    return RefineReport(
        tuple(hits), tuple(scores[True]), tuple(scores[False]), judge.calibration.threshold_of(1)
    )


def absent_texts(dataset: EvalDataset, *, seed: int, count: int) -> dict[str, list[str]]:
    """Return class names that are absent from an image, and refs that match nothing, by image.

    A class name is used only for images that are annotated exhaustively for it, see ``class_truth``.
    """
    pairs = [
        (name, text)
        for text in dataset.class_names
        for name, truth in sorted(class_truth(dataset, text).items())
        if not truth.has_class
    ]
    chosen = random.Random(seed).sample(pairs, min(count, len(pairs)))  # noqa: S311 - not for secrets
    chosen += [(ref.image, ref.text) for ref in dataset.refs if ref.is_absent]
    by_image: dict[str, list[str]] = {}
    for name, text in chosen:
        by_image.setdefault(name, []).append(text)
    return by_image


@dataclass(frozen=True, slots=True)
class _Asker:
    index: IndexReader
    refiner: Refiner
    judge: PresenceJudge
    image_id_by_name: Mapping[str, UUID]

    def ask(self, image: EvalImage, text: str, *, per_image: int = FIRST_HITS) -> SearchAnswer | None:
        """Return the best segments of one image; None if the model cannot read the text."""
        query = SearchQuery(
            terms=(TextTerm(text),),
            where=SegmentFilter(image_ids=(self.image_id_by_name[image.name],)),
            limit=1,
            per_image=per_image,
        )
        try:
            return search(query, index=self.index, embedder=self.refiner.embedder)
        except QueryError:
            return None

    def presence(self, image: EvalImage, text: str) -> float:
        answer = self.ask(image, text)
        if answer is None or not answer.hits:
            return float("-inf")
        [score] = self.judge.scores(
            answer.hits[:1], answer.query_vectors, index=self.index, weights=DEFAULT_VIEW_WEIGHTS
        )
        return score

    def refine(
        self, answer: SearchAnswer, hit: HitSegment, instance: EvalInstance, pixels: RGBImage, text: str
    ) -> RefinedHit:
        refined = self.refiner.refine(hit.record, pixels, query=answer.question, text=text)
        stored_iou = mask_iou(hit.record.mask, instance.mask)
        proposed_iou = mask_iou(refined.proposal.mask.mask, instance.mask)
        return RefinedHit(
            text=text,
            area_px=instance.area_px,
            stored_iou=stored_iou,
            refined_iou=proposed_iou if refined.decision.accepted else stored_iou,
            proposed_iou=proposed_iou,
            accepted=refined.decision.accepted,
            same_iou=refined.decision.iou,
            gain=refined.decision.gain,
            source=refined.proposal.source,
            decode_ms=sum(ms for stage, ms in refined.timings_ms.items() if stage != "encode"),
        )


def _questions(dataset: EvalDataset, image: EvalImage) -> list[tuple[str, EvalInstance]]:
    """Return the texts that refer to exactly one instance of an image."""
    by_id = {one.id: one for one in image.instances}
    asked = [
        (query.text, by_id[query.instance_ids[0]])
        for query in dataset.class_queries
        if query.image == image.name and query.is_unique
    ]
    asked += [
        (ref.text, by_id[ref.instance_id])
        for ref in dataset.refs
        if ref.image == image.name and ref.instance_id is not None
    ]
    return asked


def _right_hit(answer: SearchAnswer, truth: MaskRLE) -> HitSegment | None:
    """Return the first right segment among the first hits."""
    for hit in answer.hits:
        for segment in hit.segments[:FIRST_HITS]:
            if mask_iou(segment.record.mask, truth) >= RIGHT_IOU:
                return segment
    return None


def _mean(values: Sequence[float] | Sequence[bool]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _percentile(values: Sequence[float], share: int) -> float | None:
    found: Floats = np.percentile(values, [share]) if values else np.zeros(0)
    return round(float(found[0]), 1) if len(found) else None
