"""What an ingress counts, for Prometheus: GET /metrics.

Each ingress process counts the requests that it answered, replicas tell it what happened inside.
With several ingress processes the label `ingress` tells their series apart.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from metro_ray.serve.engine import Reply, Status
from metro_ray.serve.schema import Task

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STAGES = ("decode", "queue", "model", "encode", "total")


class Metrics:
    """Counters of one ingress process.

    Args:
        ingress: which process it is.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, ingress: str) -> None:
        disable_created_metrics()
        self._registry = CollectorRegistry()
        self._ingress = ingress
        self._requests = Counter(
            "metro_requests",
            "Answered requests.",
            ("ingress", "route", "status"),
            registry=self._registry,
        )
        self._errors = Counter(
            "metro_errors",
            "Refused and failed requests.",
            ("ingress", "code"),
            registry=self._registry,
        )
        self._stages = Histogram(
            "metro_stage_seconds",
            "Time in each stage of a prediction; queue is routing and waiting for a batch.",
            ("ingress", "task", "stage"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "metro_batch_size",
            "People in the batch that a request was part of.",
            ("ingress", "task"),
            buckets=_SIZES,
            registry=self._registry,
        )
        self._people = Counter(
            "metro_people",
            "Predicted people.",
            ("ingress", "task", "version"),
            registry=self._registry,
        )
        self._pending = Gauge(
            "metro_pending_requests", "In work or waiting.", ("ingress",), registry=self._registry
        )
        self._traffic = Gauge(
            "metro_model_traffic",
            "Share of the requests that a version answers.",
            ("ingress", "task", "version", "checkpoint"),
            registry=self._registry,
        )

    def answered(self, route: str, status: int) -> None:
        """Any request has been answered."""
        self._requests.labels(self._ingress, route, str(status)).inc()

    def failed(self, code: str) -> None:
        """A request was refused, or failed."""
        self._errors.labels(self._ingress, code).inc()

    def predicted(self, task: Task, reply: Reply, people: int, times_ms: dict[str, float]) -> None:
        """A prediction has been answered."""
        for stage in STAGES:
            self._stages.labels(self._ingress, task, stage).observe(times_ms[stage] / 1e3)
        self._batches.labels(self._ingress, task).observe(reply.batch_size)
        self._people.labels(self._ingress, task, reply.card.version).inc(people)

    def pending(self, count: int) -> None:
        """Requests are in work."""
        self._pending.labels(self._ingress).set(count)

    def text(self, statuses: dict[Task, Status]) -> bytes:
        """All of it as Prometheus reads it.

        Args:
            statuses: what is served now.
        """
        self._traffic.clear()
        for task, status in statuses.items():
            for card, traffic in status.served:
                self._traffic.labels(self._ingress, task, card.version, card.checkpoint).set(
                    traffic
                )
        return generate_latest(self._registry)
