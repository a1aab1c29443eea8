"""OpenTelemetry traces: a span for each request, and one below it for each stage of its search.

Off unless the extra `tracing` is installed and the standard `OTEL_` variables name where spans
go; then there is no layer for it at all. The SDK reads the rest of its variables by itself.
"""

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.core.types import Interval
from service import notes
from service.metrics import UNMATCHED, method_of, route_of
from service.notes import Notes
from service.settings import TracingSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "meet"
SERVER_ERROR = 500
NANO = 1_000_000_000
# In the order in which they are done.
STAGES = ("decode", "queue", "encode", "hash", "pq", "rerank")

log = logging.getLogger(__name__)


def provider_of(settings: TracingSettings, version: str) -> "TracerProvider | None":
    """What makes and exports spans, None where nobody asked for it or can."""
    if not settings.wanted:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning("no traces: %s; pip install 'meet-retrieval[tracing]'", error)
        return None
    named = {"service.name": settings.otel_service_name or SERVICE, "service.version": version}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Traced:
    """A server span around each request; a `traceparent` of the caller's is honoured."""

    def __init__(self, app: ASGIApp, provider: "TracerProvider") -> None:
        """Take what makes spans."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.app = app
        self._tracer = provider.get_tracer("meet")
        self._caller = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is no HTTP request; trace what is."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind

        status, began = SERVER_ERROR, time.perf_counter()
        # Both clocks at one moment: stages are timed by the one, spans by the other.
        offset = time.time_ns() - int(began * NANO)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        span = self._tracer.start_span(
            method_of(scope), self._parent(scope), SpanKind.SERVER, start_time=time.time_ns()
        )
        try:
            await self.app(scope, receive, watched)
        finally:
            self._describe(span, scope, status)
            if span.is_recording():
                self._stages(span, notes.current(), offset)
            span.end()

    def _parent(self, scope: Scope) -> Any:  # noqa: ANN401 - the API's own context
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in {b"traceparent", b"tracestate"}
        }
        return self._caller.extract(carrier) if carrier else None

    def _describe(self, span: Any, scope: Scope, status: int) -> None:  # noqa: ANN401 - a span
        from opentelemetry.trace import Status, StatusCode

        method, route, noted = method_of(scope), route_of(scope), notes.current()
        span.update_name(method if route == UNMATCHED else f"{method} {route}")
        told = {
            "http.request.method": method,
            "http.route": None if route == UNMATCHED else route,
            "http.response.status_code": status,
            "url.scheme": scope.get("scheme", "http"),
            "error.type": scope.get("problem_code"),
            "meet.request_id": noted.request_id,
            "meet.index_version": noted.index_version,
            **_search(noted),
        }
        span.set_attributes({name: value for name, value in told.items() if value is not None})
        if status >= SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))

    def _stages(self, span: Any, noted: Notes, offset: int) -> None:  # noqa: ANN401 - a span
        from opentelemetry.trace import set_span_in_context

        parent = set_span_in_context(span)
        for stage in STAGES:
            if (interval := noted.spans.get(stage)) is not None:
                began, ended = _wall(interval, offset)
                self._tracer.start_span(stage, parent, start_time=began).end(ended)


def _wall(interval: Interval, offset: int) -> tuple[int, int]:
    """An interval in nanoseconds since 1970."""
    began, ended = interval
    return int(began * NANO) + offset, int(ended * NANO) + offset


def _search(noted: Notes) -> Mapping[str, Any]:
    """What a search's span says of it; never the query."""
    if (searched := noted.searched) is None:
        return {}
    return {
        "meet.direction": searched.direction.value,
        "meet.k": searched.options.k,
        "meet.rerank": searched.rerank,
        "meet.batch_size": searched.batch_size,
        "meet.degraded": list(searched.degraded) or None,
    }
