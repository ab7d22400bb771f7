"""Queries over several views at once, as messages for a Qdrant server.

They are built here and not by qdrant-client, which checks and copies each number of a vector: that took
longer than the server took to answer.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from qdrant_client import grpc
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from segdex_backends.index.fusing import FUSED_FIELDS, SEARCH_EF, VIEWS_VECTOR, scores_by_view, unreadable
from segdex_backends.index.payloads import segment_from_payload
from segdex_backends.index.server_filter import to_filter
from segdex_core.records import FusedSegment, SegmentFilter, ViewedSegment

OVERSAMPLING = 2.0
"""Candidates per hit that are scored again with the full vectors."""

_FEW_IMAGES = 16

_FULL_VECTORS = grpc.SearchParams(quantization=grpc.QuantizationSearchParams(ignore=True))
_EXACT = grpc.SearchParams(exact=True, quantization=grpc.QuantizationSearchParams(ignore=True))
_FAST = grpc.SearchParams(
    hnsw_ef=SEARCH_EF, quantization=grpc.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
)
_FUSED_PAYLOAD = grpc.WithPayloadSelector(include=grpc.PayloadIncludeSelector(fields=FUSED_FIELDS))


def fused_request(
    collection: str, query: list[float], *, limit: int, where: SegmentFilter, exact: bool
) -> grpc.QueryPoints:
    """Return the query for the best segments.

    Args:
        collection: Of segments.
        query: As ``join_query`` makes it.
        limit: At most this many.
        where: Conditions.
        exact: Compare with every vector.
    """
    return grpc.QueryPoints(
        collection_name=collection,
        query=_nearest(query),
        using=VIEWS_VECTOR,
        filter=RestToGrpc.convert_filter(to_filter(where)),
        params=_params(where, exact=exact),
        limit=limit,
        with_payload=_FUSED_PAYLOAD,
    )


def fused_answer(answer: grpc.QueryResponse, place: str) -> list[FusedSegment]:
    """Return what the query found."""
    return [_fused(point, place) for point in answer.result]


def views_request(
    collection: str, segment_ids: Sequence[UUID], queries: Mapping[str, list[float]]
) -> grpc.QueryBatchPoints:
    """Return one query for each view over these segments; the first brings their payloads as well."""
    ids = [grpc.PointId(uuid=str(key)) for key in segment_ids]
    these = grpc.Filter(must=[grpc.Condition(has_id=grpc.HasIdCondition(has_id=ids))])
    return grpc.QueryBatchPoints(
        collection_name=collection,
        query_points=[
            grpc.QueryPoints(
                collection_name=collection,
                query=_nearest(query),
                using=VIEWS_VECTOR,
                filter=these,
                params=_FULL_VECTORS,
                limit=len(ids),
                with_payload=grpc.WithPayloadSelector(enable=place == 0),
            )
            for place, query in enumerate(queries.values())
        ],
    )


def views_answer(
    answer: grpc.QueryBatchResponse, views: Sequence[str], place: str
) -> dict[UUID, ViewedSegment]:
    """Return the segments that were found in every view."""
    by_view = [{point.id.uuid: point.score for point in batch.result} for batch in answer.result]
    records = (
        segment_from_payload(point.id.uuid, GrpcToRest.convert_payload(point.payload), place)
        for point in answer.result[0].result
    )
    return scores_by_view(records, dict(zip(views, by_view, strict=True)))


def _nearest(query: list[float]) -> grpc.Query:
    return grpc.Query(nearest=grpc.VectorInput(dense=grpc.DenseVector(data=query)))


def _params(where: SegmentFilter, *, exact: bool) -> grpc.SearchParams:
    if exact:
        return _EXACT
    # The segments of some pictures are few: all are compared, and looking at each twice does not pay.
    return _FULL_VECTORS if 0 < len(where.image_ids) <= _FEW_IMAGES else _FAST


def _fused(point: grpc.ScoredPoint, place: str) -> FusedSegment:
    if any(field not in point.payload for field in FUSED_FIELDS):
        raise unreadable(point.id.uuid, place)
    return FusedSegment(
        segment_id=point.id.uuid,
        image_id=point.payload["image_id"].string_value,
        ancestor_ids=tuple(each.string_value for each in point.payload["ancestor_ids"].list_value.values),
        score=point.score,
    )
