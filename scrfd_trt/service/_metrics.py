"""What the service counts for Prometheus, and its log: one JSON object a request."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from scrfd_trt._web.guard import Guard, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from scrfd_trt.service._app import Service

_logger = logging.getLogger("scrfd_trt.service")

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of the service, in a registry of its own; several processes sum theirs up by files in a folder."""

    def __init__(self, folder: str | None = None) -> None:
        self.registry = CollectorRegistry()
        own = None if folder else self.registry
        labels = ("route", "status")
        self.requests = Counter("scrfd_requests", "Requests that were answered.", labels, registry=own)
        self.seconds = Histogram(
            "scrfd_request_seconds", "Seconds of a request.", ("route",), buckets=SECONDS, registry=own
        )
        self.batch = Histogram("scrfd_batch_images", "Images in a run of the detector.", buckets=IMAGES, registry=own)
        self.faces = Counter("scrfd_faces", "Faces that were found.", registry=own)
        if folder:
            MultiProcessCollector(self.registry, folder)  # type: ignore[no-untyped-call]


class StateCollector(Collector):
    """The state of a service, which is read when it is asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[GaugeMetricFamily]:
        state = self._service.engine.state()
        for name, text, value in (
            ("scrfd_images_in_work", "Images that are decoded, wait or run.", self._service.in_work),
            ("scrfd_image_bytes", "Bytes of files and pixels in work.", state.image_bytes),
            ("scrfd_detector_busy_seconds", "Seconds in which batches ran.", state.busy_seconds),
        ):
            yield GaugeMetricFamily(name, text, value)
        if state.gpus:
            used = GaugeMetricFamily("scrfd_gpu_memory_used_bytes", "Memory in use on a GPU.", labels=["gpu"])
            for number, value in state.gpus.items():
                used.add_metric([str(number)], value)
            yield used


class Observed:
    """The ASGI application: counts and logs the requests of the service."""

    def __init__(self, guard: Guard, service: Service) -> None:
        self.guard, self.service, self._metrics = guard, service, service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.guard(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        counts: dict[str, Any] = {}
        scope["scrfd_trt"] = counts
        try:
            await self.guard(scope, receive, observe)
        finally:
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status or "none")).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            level = logging.ERROR if status == 500 else logging.INFO
            if _logger.isEnabledFor(level) and (route not in {"/healthz", "/readyz", "/metrics"} or status >= 400):
                client = (scope.get("client") or ("",))[0]
                line = {"method": scope["method"], "path": scope["path"][:200], "status": status, "client": client}
                line |= {"seconds": round(seconds, 4), **counts}
                _logger.log(level, "%(path)s", line, extra={"request": line})


class JsonLines(logging.Formatter):
    """The lines of the log."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a request, or a message with its error, as one JSON object."""
        now = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        if (fields := getattr(record, "request", None)) is None:
            error = f": {record.exc_info[1]!r}" if record.exc_info else ""
            fields = {"message": record.getMessage().strip() + error}
        return json.dumps({"time": now, "level": record.levelname.lower(), **fields})
