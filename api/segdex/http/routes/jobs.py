"""``/v1/jobs``: ingests of folders on the machine of the service."""

import time
from collections.abc import Callable, Iterator

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse

from segdex.http.access import State, require
from segdex.http.idempotency import IdempotencyKey
from segdex.http.problems import responses
from segdex.jobs.watch import looks_at
from segdex.roles import ROLES
from segdex_core.wire.jobs import Job, JobRequest

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(require(ROLES["jobs"]))])

_ALIVE_EVERY_S = 15.0
_EVENTS_FOR_S = 3_600.0  # a client can request the events again


@router.post(
    "",
    status_code=202,
    dependencies=[Depends(require(ROLES["add_job"]))],
    responses=responses(400, 401, 403, 411, 413, 422, 429, 503),
)
def add_job(request: JobRequest, state: State, key: IdempotencyKey) -> Job:
    """Queue an ingest of files or folders.

    The answer is the same job again if it still waits, or if it came with the same `Idempotency-Key`.
    """
    return state.loaded().library.add_job(
        request.paths, tags=request.tags, redo_outdated=request.redo_outdated, idempotency_key=key
    )


@router.get("", responses=responses(401, 403, 429, 503))
def list_jobs(state: State) -> list[Job]:
    """Return the last jobs, newest first."""
    return state.loaded().library.jobs()


@router.get("/{job_id}", responses=responses(401, 403, 404, 422, 429, 503))
def get_job(job_id: str, state: State) -> Job:
    """Return a job with its progress."""
    return state.loaded().library.job(job_id)


@router.delete(
    "/{job_id}",
    dependencies=[Depends(require(ROLES["stop_job"]))],
    responses=responses(401, 403, 404, 422, 429, 503),
)
def stop_job(job_id: str, state: State) -> Job:
    """Stop a job; finished images are kept. A job that has ended is not changed."""
    return state.loaded().library.stop_job(job_id)


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "An event named `job` whenever the job changes; its data is the job.",
            "content": {"text/event-stream": {}},
        },
        **responses(401, 403, 404, 422, 429, 503),
    },
)
def watch_job(job_id: str, state: State) -> StreamingResponse:
    """Stream the job whenever it changes, until it ends."""
    library = state.loaded().library
    library.job(job_id)
    events = events_of(lambda: library.queue.get(job_id))
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def events_of(
    look: Callable[[], Job | None],
    *,
    now_s: Callable[[], float] = time.monotonic,
    rest: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Yield a job as server-sent events whenever it changes, until it ends or an hour has passed.

    Args:
        look: Returns the current state of the job, or None if it is no longer kept.
        now_s: Returns the seconds of a clock.
        rest: Sleeps for a number of seconds.
    """
    sent_s, until_s = now_s(), now_s() + _EVENTS_FOR_S
    for job in looks_at(look, rest=rest):
        if job is not None:
            yield f"event: job\ndata: {job.model_dump_json()}\n\n"
            sent_s = now_s()
        elif now_s() - sent_s > _ALIVE_EVERY_S:
            yield ": alive\n\n"  # a comment, which shows proxies and clients that the stream is alive
            sent_s = now_s()
        if now_s() >= until_s:
            return
