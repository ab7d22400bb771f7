"""Health, readiness and Prometheus metrics of the service."""

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from segdex.http.access import State, require
from segdex.http.metrics import Metrics, metrics_of
from segdex.http.problems import responses
from segdex_core.wire.images import Health

router = APIRouter(tags=["health"])


@router.get("/healthz")
def get_health() -> Health:
    """Report that the process answers."""
    return Health(status="ok")


@router.get("/readyz", responses=responses(503))
def get_readiness(state: State) -> Health:
    """Report that the models and the index answer."""
    state.loaded().library.index.counts()
    return Health(status="ok")


@router.get(
    "/metrics",
    dependencies=[Depends(require("admin"))],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses(401, 403, 429)},
)
def get_metrics(state: State, found: Metrics = Depends(metrics_of)) -> Response:  # noqa: B008 - FastAPI's way
    """Return the metrics of the process."""
    found.observe(state)
    return Response(generate_latest(found.registry), media_type=CONTENT_TYPE_LATEST)
