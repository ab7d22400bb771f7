"""Queries as gRPC messages for a Qdrant server.

They are not built by qdrant-client, because it validates and copies each number of a vector, which took
longer than the response of the server.
"""

from collections.abc import Sequence
from uuid import UUID

from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc

from segdex_backends.index.conditions import AnyOf, Between, Condition, Conditions, Equals, HasId, IsMissing
from segdex_backends.index.fusing import FUSED_FIELDS, SEARCH_EF
from segdex_backends.index.point_store import Row

OVERSAMPLING = 2.0
"""Candidates per hit that are rescored with the full vectors."""

_FEW_IMAGES = 16

_FUSED_PAYLOAD = grpc.WithPayloadSelector(include=grpc.PayloadIncludeSelector(fields=FUSED_FIELDS))
_FULL_VECTORS = grpc.SearchParams(quantization=grpc.QuantizationSearchParams(ignore=True))
_EXACT = grpc.SearchParams(exact=True, quantization=grpc.QuantizationSearchParams(ignore=True))
_FAST = grpc.SearchParams(
    hnsw_ef=SEARCH_EF, quantization=grpc.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
)


def nearest(row: Row) -> grpc.Query:
    """Return the query for the points with the largest dot products (see ``PointStore.query``)."""
    return grpc.Query(nearest=_input(row))


def recommend(towards: Sequence[Row], away: Sequence[Row]) -> grpc.Query:
    """Return the query for the points that are like some examples (see ``PointStore.recommend``)."""
    return grpc.Query(
        recommend=grpc.RecommendInput(
            positive=map(_input, towards),
            negative=map(_input, away),
            strategy=grpc.RecommendStrategy.BestScore,
        )
    )


def fused_request(
    collection: str, query: grpc.Query, *, vector: str, limit: int, where: Conditions, exact: bool
) -> grpc.QueryPoints:
    """Return the request for the best points of a query, with ``FUSED_FIELDS``."""
    return grpc.QueryPoints(
        collection_name=collection,
        query=query,
        using=vector,
        filter=RestToGrpc.convert_filter(to_filter(where)),
        params=_search_params(where, exact=exact),
        limit=limit,
        with_payload=_FUSED_PAYLOAD,
    )


def scores_request(
    collection: str, ids: Sequence[UUID], rows: Sequence[Row], *, vector: str
) -> grpc.QueryBatchPoints:
    """Return one query per row over the points ``ids``. The first query also requests payloads."""
    point_ids = [grpc.PointId(uuid=str(key)) for key in ids]
    these = grpc.Filter(must=[grpc.Condition(has_id=grpc.HasIdCondition(has_id=point_ids))])
    return grpc.QueryBatchPoints(
        collection_name=collection,
        query_points=[
            grpc.QueryPoints(
                collection_name=collection,
                query=nearest(row),
                using=vector,
                filter=these,
                params=_FULL_VECTORS,
                limit=len(point_ids),
                with_payload=grpc.WithPayloadSelector(enable=place == 0),
            )
            for place, row in enumerate(rows)
        ],
    )


def to_filter(where: Conditions) -> models.Filter:
    """Return conditions as a filter of qdrant-client."""
    return models.Filter(must=[_condition(each) for each in where])


def _input(row: Row) -> grpc.VectorInput:
    return grpc.VectorInput(dense=grpc.DenseVector(data=row.tolist()))


def _search_params(where: Conditions, *, exact: bool) -> grpc.SearchParams:
    if exact:
        return _EXACT
    # A few images have few segments: all are compared, and rescoring them does not pay off.
    few = any(
        isinstance(each, AnyOf) and each.field == "image_id" and len(each.values) <= _FEW_IMAGES
        for each in where
    )
    return _FULL_VECTORS if few else _FAST


def _condition(condition: Condition) -> models.Condition:
    match condition:
        case HasId(ids):
            return models.HasIdCondition(has_id=[str(key) for key in ids])
        case IsMissing(field):
            return models.IsEmptyCondition(is_empty=models.PayloadField(key=field))
        case Equals(field, value):
            return models.FieldCondition(key=field, match=models.MatchValue(value=value))
        case AnyOf(field, values):
            return models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))
        case Between(field, gte, lte, lt):
            return models.FieldCondition(key=field, range=models.Range(gte=gte, lte=lte, lt=lt))
