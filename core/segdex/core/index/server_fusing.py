"""Queries over several views at once, as messages for a Qdrant server.

They are built here and not by qdrant-client, which checks and copies each number of each vector: a query has
its vectors several times, and that took twice as long as the server took to answer.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

import numpy as np
import numpy.typing as npt
from qdrant_client import grpc
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from segdex.core.index.fusing import (
    ABSENT,
    FUSED_FIELDS,
    per_view,
    scores_by_view,
    unreadable,
)
from segdex.core.index.schema import segment_from_payload
from segdex.core.index.server_filter import to_filter
from segdex.core.records import FusedSegment, SegmentFilter, ViewedSegment

_FULL_VECTORS = grpc.SearchParams(quantization=grpc.QuantizationSearchParams(ignore=True))
_EXACT = grpc.SearchParams(exact=True, quantization=grpc.QuantizationSearchParams(ignore=True))
_FAST = grpc.SearchParams(quantization=grpc.QuantizationSearchParams(rescore=False))
_FUSED_PAYLOAD = grpc.WithPayloadSelector(include=grpc.PayloadIncludeSelector(fields=FUSED_FIELDS))


def fused_request(
    collection: str,
    vectors: Mapping[str, npt.NDArray[np.float32]],
    *,
    shares: Mapping[str, float],
    limit: int,
    filters: Sequence[SegmentFilter],
    exact: bool,
) -> grpc.QueryBatchPoints:
    """Return one query for each filter: the best of each view, scored in all by full vectors, and fused."""
    queries = {view: _nearest(vectors[view]) for view in shares}
    formula = _weighted_sum(shares)

    def query_one(where: SegmentFilter) -> grpc.QueryPoints:
        most, complete = per_view(limit, where, exact=exact)
        matching = RestToGrpc.convert_filter(to_filter(where))
        fast = _FAST if complete else _FULL_VECTORS
        found = [
            grpc.PrefetchQuery(
                query=query, using=view, limit=most, filter=matching, params=_EXACT if exact else fast
            )
            for view, query in queries.items()
        ]
        scored = [
            grpc.PrefetchQuery(
                prefetch=found, query=query, using=view, limit=len(found) * most, params=_FULL_VECTORS
            )
            for view, query in queries.items()
        ]
        return grpc.QueryPoints(
            collection_name=collection,
            prefetch=scored if complete else found,
            query=formula,
            limit=limit,
            with_payload=_FUSED_PAYLOAD,
        )

    return grpc.QueryBatchPoints(
        collection_name=collection, query_points=[query_one(where) for where in filters]
    )


def fused_answer(answer: grpc.QueryBatchResponse, place: str) -> list[list[FusedSegment]]:
    """Return what each query found."""
    return [[_fused(point, place) for point in batch.result] for batch in answer.result]


def views_request(
    collection: str, segment_ids: Sequence[UUID], vectors: Mapping[str, npt.NDArray[np.float32]]
) -> grpc.QueryBatchPoints:
    """Return one query for each view over these segments; the first brings their payloads as well."""
    ids = [grpc.PointId(uuid=str(key)) for key in segment_ids]
    these = grpc.Filter(must=[grpc.Condition(has_id=grpc.HasIdCondition(has_id=ids))])
    return grpc.QueryBatchPoints(
        collection_name=collection,
        query_points=[
            grpc.QueryPoints(
                collection_name=collection,
                query=_nearest(vector),
                using=view,
                filter=these,
                params=_FULL_VECTORS,
                limit=len(ids),
                with_payload=grpc.WithPayloadSelector(enable=place == 0),
            )
            for place, (view, vector) in enumerate(vectors.items())
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


def _nearest(vector: npt.NDArray[np.float32]) -> grpc.Query:
    row = vector.astype(np.float32).tolist()
    return grpc.Query(nearest=grpc.VectorInput(dense=grpc.DenseVector(data=row)))


def _weighted_sum(shares: Mapping[str, float]) -> grpc.Query:
    parts = []
    for place, share in enumerate(shares.values()):
        factors = [grpc.Expression(constant=share), grpc.Expression(variable=f"$score[{place}]")]
        parts.append(grpc.Expression(mult=grpc.MultExpression(mult=factors)))
    absent = {f"$score[{place}]": grpc.Value(double_value=ABSENT) for place in range(len(shares))}
    whole = grpc.Expression(sum=grpc.SumExpression(sum=parts))
    return grpc.Query(formula=grpc.Formula(expression=whole, defaults=absent))


def _fused(point: grpc.ScoredPoint, place: str) -> FusedSegment:
    if any(field not in point.payload for field in FUSED_FIELDS):
        raise unreadable(point.id.uuid, place)
    return FusedSegment(
        segment_id=point.id.uuid,
        image_id=point.payload["image_id"].string_value,
        ancestor_ids=tuple(each.string_value for each in point.payload["ancestor_ids"].list_value.values),
        score=point.score,
    )
