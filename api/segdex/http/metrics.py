"""Metrics for Prometheus."""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

import psutil
from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from segdex.http.logs import RequestRecord
from segdex.http.state import NotReadyError, ServiceState
from segdex.jobs.worker import JobWorker
from segdex_core.errors import SegdexError

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one service, in a registry of its own; threads share them.

    All labels have few values: paths are templates, unknown methods are ``other``, and stages, outcomes and
    reasons are names in the code.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "segdex_requests", "Requests answered", ("method", "path", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "segdex_request_seconds",
            "Wall seconds from a request to the end of its answer",
            ("method", "path"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._stages = Histogram(
            "segdex_stage_seconds",
            "Wall seconds of the stages of an answer",
            ("stage",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._rejected = Counter(
            "segdex_rejected_requests", "Requests turned away", ("reason",), registry=self.registry
        )
        self._refinements = Counter(
            "segdex_refinements",
            "Re-decoded masks, by whether the new one was taken",
            ("answer",),
            registry=self.registry,
        )
        self._ingested = Counter(
            "segdex_ingested_files", "Uploads given to an ingest", ("outcome",), registry=self.registry
        )
        self._seen = _Seen()
        self.registry.register(self._seen)
        ProcessCollector(registry=self.registry)

    def count_request(self, record: RequestRecord, seconds: float) -> None:
        """Count an answered request, with its stages, refinements and outcomes.

        Args:
            record: Complete record of the request.
            seconds: Wall seconds to the end of the response.
        """
        self._requests.labels(record.method, record.route, str(record.status)).inc()
        self._seconds.labels(record.method, record.route).observe(seconds)
        if record.refused is not None:
            self._rejected.labels(record.refused).inc()
        for one in record.stages:
            for stage, ms in one.timings_ms.items():
                self._stages.labels(stage).observe(ms / 1000)
        for answer in record.refinements:
            self._refinements.labels(answer).inc()
        for outcome in record.outcomes:
            self._ingested.labels(outcome).inc()

    def observe(self, state: ServiceState) -> None:
        """Read the metrics that other objects count; they are exported as of this moment."""
        self._seen.families = tuple(_families(state))


class _Seen(Collector):
    """Metrics as of the last read; only such a collector can export totals of other objects as counters."""

    def __init__(self) -> None:
        self.families: tuple[Metric, ...] = ()

    def collect(self) -> Iterable[Metric]:
        return self.families


def _families(state: ServiceState) -> Iterable[Metric]:
    memory = psutil.Process().memory_info().rss
    yield GaugeMetricFamily("segdex_memory_bytes", "Resident memory", memory)
    yield GaugeMetricFamily("segdex_uptime_seconds", "Since the start", time.time() - state.started_s)
    try:
        loaded = state.loaded()
    except NotReadyError:
        yield GaugeMetricFamily("segdex_ready", "1 when models and index are loaded", 0)
        return
    yield GaugeMetricFamily("segdex_ready", "1 when models and index are loaded", 1)
    yield GaugeMetricFamily(
        "segdex_worker_calls", "Calls that run or wait for the models", loaded.model_thread.waiting
    )
    yield GaugeMetricFamily(
        "segdex_worker_calls_max", "With more of them, calls are refused", state.settings.max_waiting
    )
    with suppress(SegdexError):  # an unreachable queue must not hide all other metrics
        yield GaugeMetricFamily("segdex_jobs_waiting", "Jobs that wait", loaded.library.queue.waiting)
    if isinstance(loaded.jobs, JobWorker):
        outcomes = loaded.jobs.outcomes.copy()
        yield _counter("segdex_job_files", "Files of jobs of this process", "outcome", outcomes)
    encodings = loaded.library.models.refiner.encodings
    yield _counter(
        "segdex_encodings",
        "Encoded pictures asked for, by whether they were kept in memory",
        "result",
        {"hit": encodings.hits, "miss": encodings.misses},
    )


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, total in sorted(values.items()):
        family.add_metric((value,), total)
    return family


def metrics_of(request: Request) -> Metrics:
    """Return the metrics of the service."""
    found: Metrics = request.app.state.metrics
    return found
