"""Prometheus metrics of one server: `meet_` names, seconds, every series there from the start."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector
from starlette.routing import BaseRoute
from starlette.types import Scope

from model.core.types import WAYS, Direction, Way
from service import errors
from service.deadlines import DEGRADABLE
from service.errors import DeviceMemoryError
from service.histograms import Histograms, Series
from service.problems import http_kind, kind_of, problem_codes

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STAGES = ("decode", "queue", "encode", "hash", "pq", "rerank", "total")
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
UNMATCHED = "unmatched"
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OTHER = "other"
Lookups: TypeAlias = Mapping[Direction, Mapping[str, int]]


class Reason(StrEnum):
    """Why a request that may be well-formed was turned away."""

    QUEUE_FULL = "queue_full"
    RATE_LIMITED = "rate_limited"
    DEADLINE = "deadline"
    TOO_LARGE = "too_large"
    SLOW = "slow"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    STOPPING = "stopping"
    NOT_READY = "not_ready"
    MEMORY = "memory"


REASONS: Mapping[str, Reason] = {
    kind_of(error).code: reason
    for error, reason in (
        (errors.QueueFullError, Reason.QUEUE_FULL),
        (errors.RateLimitedError, Reason.RATE_LIMITED),
        (errors.DeadlineError, Reason.DEADLINE),
        (errors.BodyTooLargeError, Reason.TOO_LARGE),
        (errors.SlowBodyError, Reason.SLOW),
        (errors.UnauthorizedError, Reason.UNAUTHORIZED),
        (errors.ForbiddenError, Reason.FORBIDDEN),
        (errors.StoppingError, Reason.STOPPING),
        (errors.NotReadyError, Reason.NOT_READY),
        (errors.DeviceMemoryError, Reason.MEMORY),
    )
} | {http_kind(HTTPStatus.REQUEST_TIMEOUT).code: Reason.SLOW}


class Cause(StrEnum):
    """Why a batch is tried again in halves."""

    MEMORY = "memory"
    ERROR = "error"


class Metrics:
    """What one server counts, in a registry of its own so that two servers share nothing."""

    def __init__(self) -> None:
        """Make every series that does not depend on the index or the routes."""
        # A second series for every series, which nothing here reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(namespace="meet", registry=registry)
        self._durations = self._times(
            "meet_request_duration_seconds",
            "Time from a request's head to the end of its answer",
            ("method", "route"),
        )
        self._requests = Counter(
            "meet_requests", "Requests answered", ("method", "route", "status"), registry=registry
        )
        self._request: dict[tuple[str, str, int], tuple[Series, Counter]] = {}
        self._problems = self._counter(
            "meet_problems", "Problem documents sent", "code", problem_codes()
        )
        self._rejects = self._counter(
            "meet_rejects", "Requests turned away", "reason", tuple(Reason)
        )
        self._stages = self._times(
            "meet_stage_duration_seconds", "Time of one stage of a search", ("stage", "direction")
        )
        # Looking a labelled series up costs more than counting in it.
        self._stage = {(d, s): self._stages.series(s, d.value) for d in WAYS for s in STAGES}
        self._degraded = self._counter(
            "meet_searches_degraded", "Searches that had no time for this", "stage", DEGRADABLE
        )
        self._count_batches()

    def _count_batches(self) -> None:
        self._depth = Gauge("meet_queue_depth", "Jobs that wait", registry=self.registry)
        self._waits = self._times(
            "meet_queue_wait_seconds", "Time from a search's arrival in the queue to its batch"
        )
        self._wait = self._waits.series()
        self._batches = Histogram(
            "meet_batch_size",
            "Searches in one batch",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._halvings = self._counter(
            "meet_batch_halvings", "Batches tried again in halves", "cause", tuple(Cause)
        )

    def _times(self, name: str, words: str, labels: Sequence[str] = ()) -> Histograms:
        made = Histograms(name, words, labels, BUCKETS)
        self.registry.register(made)
        return made

    def _counter(self, name: str, words: str, label: str, values: Sequence[str]) -> Counter:
        """A counter with its series for these values of its one label."""
        counter = Counter(name, words, (label,), registry=self.registry)
        for value in values:
            counter.labels(str(value))
        return counter

    def expect(self, routes: Iterable[BaseRoute]) -> None:
        """Make the series of what these routes answer as a rule, and of unknown ones."""
        for route in routes:
            for method in getattr(route, "methods", None) or ():
                for status in {HTTPStatus.OK, *map(int, getattr(route, "responses", ()))}:
                    self._series(method, route_path(route), status)
        self._series("GET", UNMATCHED, HTTPStatus.NOT_FOUND)

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answered request under its route's template."""
        duration, count = self._series(method_of(scope), route_of(scope), status)
        self._durations.observe(((duration, seconds),))
        count.inc()
        if "problem_code" in scope:
            self.problem(scope["problem_code"])

    def problem(self, code: str) -> None:
        """Count one problem document."""
        self._problems.labels(code).inc()
        if (reason := REASONS.get(code)) is not None:
            self._rejects.labels(reason.value).inc()

    def _series(self, method: str, route: str, status: int) -> tuple[Series, Counter]:
        # Looking a labelled series up costs more than counting in it.
        key = (method, route, int(status))
        if (kept := self._request.get(key)) is None:
            duration = self._durations.series(method, route)
            kept = self._request[key] = duration, self._requests.labels(*map(str, key))
        return kept

    def search(
        self,
        direction: Way,
        milliseconds: Mapping[str, float],
        degraded: Sequence[str] = (),
    ) -> None:
        """Count the stages of one search, and what it had to do without."""
        for name in degraded:
            self._degraded.labels(name).inc()
        series = self._stage
        self._stages.observe(
            (series[direction, stage], spent / 1000) for stage, spent in milliseconds.items()
        )

    def batch(self, waits: Sequence[float]) -> None:
        """Count a batch of searches that waited so many seconds each."""
        self._batches.observe(len(waits))
        self._waits.observe((self._wait, seconds) for seconds in waits)

    def halved(self, failure: Exception) -> None:
        """Count a batch that is tried again in halves because of this."""
        lacking = isinstance(failure, DeviceMemoryError)
        self._halvings.labels((Cause.MEMORY if lacking else Cause.ERROR).value).inc()

    def queue(self, read: Callable[[], int]) -> None:
        """Report how many jobs wait by asking at every scrape."""
        self._depth.set_function(read)

    def collect(self, collector: Collector) -> None:
        """Report what a collector reads at every scrape."""
        self.registry.register(collector)

    def lookups(self, read: Callable[[], Lookups]) -> None:
        """Report the reverse-list layers' counters by reading them at every scrape."""
        self.registry.register(_LookupCollector(read))

    def exposition(self) -> bytes:
        """Every series in Prometheus' text format."""
        return generate_latest(self.registry)


def route_of(scope: Scope) -> str:
    """The template of the route that answered."""
    return route_path(scope.get("route"))


def route_path(route: object) -> str:
    """The template of a route."""
    return getattr(route, "path", UNMATCHED)


def method_of(scope: Scope) -> str:
    """The method; callers may invent some, but no series and no words of the log."""
    method: str = scope["method"]
    return method if method in METHODS else OTHER


class _LookupCollector(Collector):
    def __init__(self, read: Callable[[], Lookups]) -> None:
        self.read = read

    def collect(self) -> Iterable[CounterMetricFamily]:
        """One counter with a sample per direction and layer."""
        family = CounterMetricFamily(
            "meet_reverse_list_lookups",
            "Reverse lists asked for, by the layer that had them",
            labels=("direction", "layer"),
        )
        for direction, layers in self.read().items():
            for layer, count in layers.items():
                family.add_metric((direction.value, layer), count)
        yield family
