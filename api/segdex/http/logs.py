"""The log of the service: one line for each request, and the id of the request in every record."""

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from pythonjsonlogger.json import JsonFormatter

from segdex.loggers import TextFormatter, set_level
from segdex_core.settings import LogFormat

QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that machines poll: their requests are logged at debug level and have no spans."""

Refusal = Literal["busy", "key", "loading", "rate", "site"]
"""Why a request was refused: too many calls wait for the models, a missing key or one with too small a role,
models that are not loaded, too many requests of a key, or a foreign site or host name."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_access = logging.getLogger("segdex.access")


@dataclass(frozen=True, slots=True)
class Stages:
    """Timings of an answer.

    Attributes:
        ended_ns: End of the last stage, in nanoseconds since 1970.
        timings_ms: Wall milliseconds by stage, in order.
    """

    ended_ns: int
    timings_ms: Mapping[str, float]


@dataclass(slots=True, eq=False)
class RequestRecord:
    """Facts about a request; filled while it is answered, then logged, counted and traced.

    Attributes:
        request_id: Id given by the sender if it is valid, otherwise a new id.
        method: HTTP method, or ``other``.
        path: Path of the request, percent-encoded, without the query.
        client: Address of the client.
        started_ns: Arrival of the request, in nanoseconds since 1970.
        trace_id: Id of the OpenTelemetry trace; None without tracing.
        route: Template of the path, or ``other``.
        status: Status of the response; 499 if the client disconnected before it.
        key: Name of the API key.
        refused: Reason why the request was refused; None if it was not.
        error: Class of the error that ended the request; None without one.
        stages: Stages of the answers; a stream has several answers.
        refinements: For each re-decoded mask, whether it replaced the stored mask.
        outcomes: Outcomes of the files that the request gave to an ingest.
    """

    request_id: str
    method: str
    path: str
    client: str
    started_ns: int = field(default_factory=time.time_ns)
    trace_id: str | None = None
    route: str = "other"
    status: int = 499
    key: str | None = None
    refused: Refusal | None = None
    error: str | None = None
    stages: list[Stages] = field(default_factory=list)
    refinements: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    @property
    def timings_ms(self) -> dict[str, float]:
        """Wall milliseconds by stage, summed over all answers."""
        sums: dict[str, float] = {}
        for one in self.stages:
            for stage, ms in one.timings_ms.items():
                sums[stage] = round(sums.get(stage, 0.0) + ms, 2)
        return sums


_current: ContextVar[RequestRecord | None] = ContextVar("segdex_request", default=None)


def current_request() -> RequestRecord | None:
    """Return the record of the current request, also in the threads that answer it."""
    return _current.get()


@contextmanager
def recording(record: RequestRecord) -> Iterator[None]:
    """Make a record the current one inside a block."""
    token = _current.set(record)
    try:
        yield
    finally:
        _current.reset(token)


def note_stages(timings_ms: Mapping[str, float]) -> None:
    """Add the stages of an answer to the current request, for its log line, the metrics and the trace.

    Args:
        timings_ms: Wall milliseconds by stage, in order.
    """
    request = _current.get()
    if request is not None:
        request.stages.append(Stages(time.time_ns(), dict(timings_ms)))


def note_refinement(answer: str) -> None:
    """Add a re-decoded mask to the current request, for the metrics."""
    request = _current.get()
    if request is not None:
        request.refinements.append(answer)


def note_outcome(outcome: str) -> None:
    """Add the outcome of an ingested file to the current request, for the metrics."""
    request = _current.get()
    if request is not None:
        request.outcomes.append(outcome)


def note_refusal(reason: Refusal) -> None:
    """Set why the current request is refused, for its log line and the metrics."""
    request = _current.get()
    if request is not None:
        request.refused = reason


def sound_request_id(given: str | None) -> str:
    """Return a valid id of the sender (1 to 128 letters, digits, dots, hyphens, underscores) or a new id."""
    return given if given is not None and _ID.fullmatch(given) else uuid4().hex


def log_request(record: RequestRecord, seconds: float) -> None:
    """Log a request in one line, without its query, its body or its key."""
    level = logging.INFO if record.status < 500 and record.error is None else logging.WARNING
    if record.path in QUIET_PATHS and record.status < 400:
        level = logging.DEBUG
    if not _access.isEnabledFor(level):
        return
    duration_ms = round(seconds * 1000, 1)
    fields = {
        "method": record.method,
        "route": record.route,
        "path": record.path,
        "status": record.status,
        "duration_ms": duration_ms,
        "key": record.key,
        "client": record.client,
        "refused": record.refused,
        "error": record.error,
        "stages_ms": record.timings_ms or None,
    }
    known = {name: value for name, value in fields.items() if value is not None}
    _access.log(
        level, "%s %s %d %.1f ms", record.method, record.path, record.status, duration_ms, extra=known
    )


def start_logging(log_format: LogFormat) -> None:
    """Write all records of the process to standard error, in one format; called once, by the command.

    The level is that of the command line. If ``SEGDEX_LOG`` is not set, segdex logs from info, and uvicorn
    from warning.
    """
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(text_formatter() if as_text else json_formatter())
    handler.addFilter(add_request)
    root = logging.getLogger()
    logging.basicConfig(handlers=[handler], level=root.level, force=True)
    logging.captureWarnings(True)
    if logging.getLogger("segdex").level == logging.NOTSET:
        set_level(logging.INFO)
        logging.getLogger("uvicorn").setLevel(logging.WARNING)


def add_request(record: logging.LogRecord) -> bool:
    """Add the ids of the current request to a record; this filter lets every record pass."""
    request = _current.get()
    if request is not None:
        record.request_id = request.request_id
        if request.trace_id is not None:
            record.trace_id = request.trace_id
    return True


def text_formatter() -> logging.Formatter:
    """Return the formatter for people."""
    return TextFormatter(
        "%(asctime)s %(levelname)s %(name)s: %(message)s [%(request_id)s]", defaults={"request_id": "-"}
    )


def json_formatter() -> logging.Formatter:
    """Return the formatter for machines: one object per line; the stack of an exception is one field."""
    return _JsonLines(
        ("asctime", "levelname", "name", "message"),
        rename_fields={
            "asctime": "time",
            "levelname": "level",
            "name": "logger",
            "exc_info": "exception",
            "stack_info": "stack",
        },
    )


class _JsonLines(JsonFormatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return the fields as texts that strict readers take: bytes that are not UTF-8 are replaced."""
        return {
            name: value.encode(errors="replace").decode() if isinstance(value, str) else value
            for name, value in super().process_log_record(log_data).items()
        }
