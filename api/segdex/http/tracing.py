"""OpenTelemetry spans, if its standard variables request them.

OpenTelemetry's instrumentation of ASGI is not used: it writes addresses with their queries into the spans,
knows the route too late for the name, and is still a beta that changes its attributes.
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
    """Creates the spans of requests.

    Args:
        provider: Provider that receives the spans; no global provider is set.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("segdex", version("segdex"))

    @contextmanager
    def span(self, record: RequestRecord, headers: Mapping[str, str]) -> Iterator[None]:
        """Create the span of a request, as part of the sender's trace if ``traceparent`` names one.

        Args:
            record: Record of the request; gets the trace id at once, and must be complete when the block
                ends.
            headers: Headers of the request.
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
            record_exception=False,  # the log has it, and its message may contain a query
            set_status_on_exception=False,
        ) as span:
            record.trace_id = format_trace_id(span.get_span_context().trace_id)
            try:
                yield
            finally:
                self._complete(span, record)

    def close(self) -> None:
        """Send the remaining spans; waits for a while if the receiver does not answer."""
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
            # Stages run one after the other, and the last has just ended: exact except for gaps between them.
            start_ns = one.ended_ns - round(sum(one.timings_ms.values()) * 1e6)
            for stage, ms in one.timings_ms.items():
                end_ns = start_ns + round(ms * 1e6)
                child = self._tracer.start_span(stage, start_time=max(start_ns, record.started_ns))
                child.end(max(end_ns, record.started_ns))
                start_ns = end_ns


def start_tracing(environment: Mapping[str, str]) -> Tracing | None:
    """Return an object that creates and sends spans, if the variables of OpenTelemetry request it, or None.

    Args:
        environment: Variables such as ``OTEL_EXPORTER_OTLP_ENDPOINT``, from ``os.environ``; the packages read
            further variables there.

    Raises:
        UsageError: If the packages are missing, or a variable requests something that is not supported.
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
        # the variables win; with `create` alone ours would win
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
