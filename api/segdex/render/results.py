"""Conversion of records to JSON records."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from segdex_core.masks import MaskRLE
from segdex_core.media.uris import display_path
from segdex_core.records import ImageRecord, SegmentRecord
from segdex_core.wire.images import FAILED, ImageOut, Ingested
from segdex_core.wire.labels import LabelOut
from segdex_core.wire.search import HitOut, HitSegmentOut, RefinementOut, TermScore
from segdex_core.wire.segments import Rle, SegmentOut
from segdex_ingest.report import FileOutcome

if TYPE_CHECKING:
    from segdex_search.rank import SearchHit
    from segdex_search.refine.refiner import Refinement


def hit_out(
    hit: "SearchHit", *, rank: int, terms: Mapping[UUID, list[TermScore]] = MappingProxyType({})
) -> HitOut:
    """Return an image with its matching segments as a JSON record.

    Args:
        hit: Image with its matching segments.
        rank: Rank of the image in the answer, from 1.
        terms: Score of each term by segment, if the query asks for explanations.
    """
    return HitOut(
        rank=rank,
        score=hit.score,
        presence=hit.presence,
        is_match=hit.is_match,
        image=image_out(hit.image),
        segments=[
            HitSegmentOut(
                **_segment_values(one.record),
                score=one.score,
                view_scores=dict(one.view_scores),
                terms=terms.get(one.segment_id),
                related_id=one.related_id,
            )
            for one in hit.segments
        ],
        count=hit.count,
        near_duplicates=list(hit.near_duplicates),
    )


def image_out(image: ImageRecord) -> ImageOut:
    """Return an image as a JSON record."""
    return ImageOut(
        id=image.image_id,
        path=display_path(image.files[0].uri),
        uris=[file.uri for file in image.files],
        segment_count=image.segment_count,
        width=image.width,
        height=image.height,
        captured_s=image.captured_s,
        captured_from=image.captured_from,
        place_lat_lon=image.place_lat_lon,
        tags=list(image.tags),
    )


def segment_out(record: SegmentRecord) -> SegmentOut:
    """Return a segment as a JSON record, with its mask in COCO's run-length encoding."""
    return SegmentOut(**_segment_values(record))


def _segment_values(record: SegmentRecord) -> dict[str, Any]:
    return {
        "id": record.segment_id,
        "image_id": record.image_id,
        "box_xyxy": record.box,
        "area_px": record.area_px,
        "area_fraction": record.area_fraction,
        "predicted_iou": record.predicted_iou,
        "stability": record.stability,
        "object_score": record.object_score,
        "touches_border": record.touches_border,
        "parent_id": record.parent_id,
        "depth": record.depth,
        "labels": [LabelOut.of(one.name, one.author, one.score, one.labelled_s) for one in record.labels],
        "rle": rle_out(record.mask),
        "colors": None if record.colours is None else record.colours.by_name(),
    }


def rle_out(mask: MaskRLE) -> Rle:
    """Return a mask as a JSON record."""
    return Rle(size=mask.size_hw, counts=mask.counts)


def refinement_out(refined: "Refinement") -> RefinementOut:
    """Return a refinement as a JSON record, with the new mask whatever the gate decided."""
    mask, decision = refined.proposal.mask, refined.decision
    return RefinementOut(
        segment_id=refined.segment_id,
        answer="refined" if decision.accepted else "kept",
        reason=decision.reason,
        made_by=refined.proposal.source,
        iou_with_stored=decision.iou,
        gain=decision.gain,
        agreement=refined.proposal.agreement,
        predicted_iou=mask.predicted_iou,
        box_xyxy=mask.box,
        area_px=mask.area_px,
        rle=rle_out(mask.mask),
        timings_ms=dict(refined.timings_ms),
    )


def ingested_out(outcome: FileOutcome, image_id: UUID) -> Ingested:
    """Return the outcome of an upload as a JSON record."""
    failed = outcome.outcome in FAILED
    return Ingested(
        outcome=outcome.outcome.value,
        detail=outcome.detail,
        image_id=None if failed else image_id,
        segments=outcome.segments,
    )
