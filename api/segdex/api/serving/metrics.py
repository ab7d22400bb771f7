"""Figures for Prometheus."""

import time

import psutil
from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from segdex.api.serving.state import NotReadyError, ServiceState

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The figures of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "path", "status")
        self.requests = Counter("segdex_requests", "Requests", labels, registry=self.registry)
        self.seconds = Histogram(
            "segdex_request_seconds",
            "Wall seconds",
            ("method", "path"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._waiting = Gauge("segdex_waiting", "Calls that wait for the models", registry=self.registry)
        self._memory = Gauge("segdex_memory_bytes", "Resident memory", registry=self.registry)
        self._uptime = Gauge("segdex_uptime_seconds", "Since the start", registry=self.registry)
        self._jobs = Gauge("segdex_jobs_waiting", "Jobs that wait", registry=self.registry)
        self._encodings = Gauge(
            "segdex_encodings", "Encoded pictures asked for", ("outcome",), registry=self.registry
        )

    def observe(self, state: ServiceState) -> None:
        """Read what is not counted as it happens."""
        self._memory.set(psutil.Process().memory_info().rss)
        self._uptime.set(time.time() - state.started_s)
        try:
            loaded = state.loaded()
        except NotReadyError:
            return
        self._waiting.set(loaded.worker.waiting)
        self._jobs.set(loaded.jobs.waiting)
        self._encodings.labels("kept").set(loaded.refiner.encodings.hits)
        self._encodings.labels("made").set(loaded.refiner.encodings.misses)


def metrics_of(request: Request) -> Metrics:
    """Return the figures of the service."""
    found: Metrics = request.app.state.metrics
    return found
