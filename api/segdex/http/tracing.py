"""Spans for OpenTelemetry, where its standard variables ask for them.

The spans are made here and not by its instrumentation of ASGI: that writes addresses with their queries into
them, knows the route too late for the name, and is still a beta that changes its attributes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from segdex.http.logs import QUIET_PATHS, RequestRecord
from segdex_core.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"


class Tracing:
    """Makes the spans of requests.

    Args:
        provider: Where they go; no global one is set.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("segdex", version("segdex"))

    @contextmanager
    def span(self, record: RequestRecord, headers: Mapping[str, str]) -> Iterator[None]:
        """Make the span of a request, as part of the sender's trace where ``traceparent`` names one.

        Args:
            record: Of the request; is given the trace's id at once, and must be complete when the block ends.
            headers: Of the request.
        """
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, format_trace_id

        if record.path in QUIET_PATHS:
            yield
            return
        with self._tracer.start_as_current_span(
            record.method,
            context=extract(headers),
            kind=SpanKind.SERVER,
            start_time=record.started_ns,
            attributes={
                "http.request.method": "_OTHER" if record.method == "other" else record.method,
                "url.path": record.path,
                "segdex.request_id": record.request_id,
            },
            record_exception=False,  # the log has it, and its text may be a query's
            set_status_on_exception=False,
        ) as span:
            record.trace_id = format_trace_id(span.get_span_context().trace_id)
            try:
                yield
            finally:
                self._complete(span, record)

    def close(self) -> None:
        """Send what was not sent yet; waits for a while if nobody takes it."""
        self._provider.shutdown()

    def _complete(self, span: "Span", record: RequestRecord) -> None:
        from opentelemetry.trace import StatusCode

        if record.route != "other":
            span.update_name(f"{record.method} {record.route}")
            span.set_attribute("http.route", record.route)
        span.set_attribute("http.response.status_code", record.status)
        if record.key is not None:
            span.set_attribute("segdex.key", record.key)
        if record.status >= 500 or record.error is not None:
            span.set_attribute("error.type", record.error or str(record.status))
            span.set_status(StatusCode.ERROR)
        for one in record.stages:
            # One after the other, and the last has just ended: exact but for what lies between them.
            start_ns = one.ended_ns - round(sum(one.timings_ms.values()) * 1e6)
            for stage, ms in one.timings_ms.items():
                end_ns = start_ns + round(ms * 1e6)
                child = self._tracer.start_span(stage, start_time=max(start_ns, record.started_ns))
                child.end(max(end_ns, record.started_ns))
                start_ns = end_ns


def start_tracing(environment: Mapping[str, str]) -> Tracing | None:
    """Return what makes spans and sends them away, if the variables of OpenTelemetry ask for it; else None.

    Args:
        environment: ``OTEL_EXPORTER_OTLP_ENDPOINT`` and others of its specification, as of ``os.environ``;
            the packages read more of them there themselves.

    Raises:
        UsageError: If the packages are absent, or a variable asks for what they do not do.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not exporter and any(environment.get(name) for name in _ENDPOINTS):
        exporter = "otlp"
    if exporter in ("", "none") or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if exporter not in ("otlp", "console"):
        raise UsageError(f"OTEL_TRACES_EXPORTER must be otlp, console or none, but is {exporter!r}")
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _HTTP)
    if exporter == "otlp" and protocol != _HTTP:
        raise UsageError(f"OTEL_EXPORTER_OTLP_PROTOCOL must be {_HTTP} here, but is {protocol!r}")
    try:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        named = OTELResourceDetector().detect().attributes
        ours = {"service.name": "segdex", "service.version": version("segdex")}
        # what the variables say wins; `create` alone would let ours win
        provider = TracerProvider(resource=Resource.create({**ours, **named}))
        provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
    except ImportError as error:
        raise UsageError(
            "the variables of OpenTelemetry are set, but its packages are absent: "
            "pip install 'segdex[telemetry]', or unset them"
        ) from error
    return Tracing(provider)


def _exporter(name: str) -> "SpanExporter":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
