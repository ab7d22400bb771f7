"""Errors as problem+json (RFC 9457): one clear line, and a status."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from segdex.faults import fault, full_disk
from segdex.http.logs import Refusal, current_request, note_refusal
from segdex.http.methods import allowed_methods
from segdex.http.model_thread import BusyError
from segdex.http.state import NotReadyError
from segdex.jobs.queue import JobsFullError
from segdex.jobs.storages import JobsUnavailableError
from segdex_core.errors import (
    DecodersUnavailableError,
    ImageError,
    ImageGoneError,
    ImageTooLargeError,
    IndexMissingError,
    ModelError,
    NotAnImageError,
    NotFoundError,
    QueryError,
    SegdexError,
    SegmentIndexError,
    StorageError,
    UsageError,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
BINARY = {"type": "string", "format": "binary"}
"""Schema of the bytes of a picture."""

PROBLEM_REF = {"$ref": "#/components/schemas/Problem"}

_STATUS: tuple[tuple[type[SegdexError], int], ...] = (
    (BusyError, 503),
    (JobsFullError, 429),
    (JobsUnavailableError, 503),
    (ImageTooLargeError, 413),
    (NotAnImageError, 415),
    (ImageGoneError, 410),
    (ImageError, 422),
    (NotFoundError, 404),
    (QueryError, 422),
    (UsageError, 422),
    (IndexMissingError, 503),
    (DecodersUnavailableError, 503),
    (SegmentIndexError, 503),
    (StorageError, 507),
    (ModelError, 503),
)
_REFUSALS: dict[int, Refusal] = {401: "key", 403: "key", 429: "rate"}

_log = logging.getLogger(__name__)


class Problem(BaseModel):
    """An error.

    Attributes:
        title: Kind of the error.
        status: HTTP status.
        detail: What is wrong, and what to change.
        request_id: Id of the request in the log.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"title": "Unprocessable", "status": 422, "detail": "the query text is empty"}]
        }
    )

    title: str
    status: int
    detail: str
    request_id: str | None = None


def responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return the documentation of the error responses of a path."""
    return {
        status: {
            "description": _TITLES[status],
            "content": {MEDIA_TYPE: {"schema": PROBLEM_REF}},
        }
        for status in statuses
    }


_TITLES = {
    400: "Bad request",
    401: "A key is needed",
    403: "Forbidden",
    404: "Not found",
    405: "Another method is needed",
    406: "Not acceptable",
    410: "Its file is gone",
    411: "The length is needed",
    413: "Too large",
    415: "Not a picture",
    422: "Cannot be answered",
    429: "Too many requests",
    500: "A bug of segdex",
    503: "Not ready or busy",
    507: "A disk is full",
}


def problem(status: int, detail: str, *, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the response to an error."""
    request = current_request()
    content = Problem(
        title=_TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        request_id=None if request is None else request.request_id,
    )
    return JSONResponse(
        content.model_dump(exclude_none=True), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )


def bug(error: Exception) -> JSONResponse:
    """Return the response to an unexpected error, and log the error with its stack."""
    request = current_request()
    full = full_disk(error)
    if full is not None:
        _log.error("%s", full)
        return problem(507, full)
    _log.error("unexpected %s; this is a bug of segdex", type(error).__name__, exc_info=error)
    name = "" if request is None else f", request {request.request_id}"
    return problem(500, f"a bug of segdex; see the log of the service{name}")


def _other_method(request: Request) -> Response:
    """Return the answer to a method that a path does not have; OPTIONS asks for those that it has."""
    allow = {"Allow": allowed_methods(request.app, request.scope)}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=allow)
    return problem(405, f"{request.method} is not a method of this path: use {allow['Allow']}", headers=allow)


def add_handlers(app: FastAPI) -> None:
    """Answer errors of segdex, the framework and the validation with problem+json."""

    @app.exception_handler(SegdexError)
    async def on_segdex(request: Request, error: SegdexError) -> JSONResponse:  # noqa: ARG001
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        if isinstance(error, BusyError):
            note_refusal("loading" if isinstance(error, NotReadyError) else "busy")
        record = current_request()
        if record is not None and status >= 500:
            record.error = type(error).__name__  # its message may contain a query
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else None
        return problem(status, str(error), headers=headers)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            return _other_method(request)
        full = full_disk(error)
        if full is not None:  # an upload that did not fit into the temporary folder
            _log.error("%s", full)
            return problem(507, full)
        if error.status_code in _REFUSALS:
            note_refusal(_REFUSALS[error.status_code])
        headers = None if error.headers is None else dict(error.headers)
        return problem(error.status_code, str(error.detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:  # noqa: ARG001
        sent_in, *place = error.errors()[0]["loc"]  # body, query, path or header, then the field
        inside = [{**one, "loc": one["loc"][1:]} for one in error.errors()]
        return problem(422, str(fault(inside, name="" if place and isinstance(place[0], str) else sent_in)))
