"""Traces: one server span a request with its stages below, and nothing at all where it is off."""

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.app import create_app
from service.engine import SearchEngine
from service.settings import ServiceSettings, TracingSettings
from service.tracing import provider_of
from tests.service.asking import texts, together
from tests.service.test_bad_input import T2I
from tests.service.test_headers import broken
from tests.service.world import World

pytestmark = pytest.mark.anyio
I2T = "/search/image-to-text"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ENDPOINT = "http://127.0.0.1:9/v1/traces"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@asynccontextmanager
async def traced(
    engine: SearchEngine, exporter: InMemorySpanExporter
) -> AsyncIterator[httpx.AsyncClient]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = create_app(ServiceSettings(index=engine.artifact.root), engine, provider)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://meet.test") as client,
    ):
        yield client


def named(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def lasted(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


async def test_a_search_is_a_span_with_its_stages_in_their_real_order(
    engine: SearchEngine, exporter: InMemorySpanExporter, world: World
) -> None:
    async with traced(engine, exporter) as client:
        before = time.time_ns()
        answer = await client.post(I2T, files={"image": world.image_path(3).read_bytes()})
        after = time.time_ns()
    spans = named(exporter)
    server = spans.pop(f"POST {I2T}")
    stages = ["decode", "queue", "encode", "hash", "pq", "rerank"]
    assert sorted(spans) == sorted(stages)
    assert server.kind is SpanKind.SERVER
    assert server.parent is None
    assert server.context is not None
    # The wall clock may be set while a test runs, but not by half a second.
    slack = 500_000_000
    begin, end = lasted(server)
    assert before - slack <= begin < end <= after + slack
    moment = begin - 1_000_000
    for stage in stages:
        span = spans[stage]
        assert span.parent is not None
        assert span.parent.span_id == server.context.span_id
        began, ended = lasted(span)
        assert moment <= began <= ended <= end + 1_000_000, stage
        moment = began
    told = answer.json()["milliseconds"]
    for stage in ("queue", "encode", "hash", "pq", "rerank"):
        began, ended = lasted(spans[stage])
        # Alone in its batch, a search's share of the time is all of it.
        assert (ended - began) / 1e6 >= told[stage] - 0.01
        assert (ended - began) / 1e6 <= told[stage] + 5


async def test_a_span_says_what_was_asked_and_never_the_query(
    engine: SearchEngine, exporter: InMemorySpanExporter
) -> None:
    async with traced(engine, exporter) as client:
        body = {"query": "a very private bus", "k": 3}
        await client.post(T2I, json=body, headers={"X-Request-ID": "r-1"})
    attributes = dict(named(exporter)[f"POST {T2I}"].attributes or {})
    assert attributes == {
        "http.request.method": "POST",
        "http.route": T2I,
        "http.response.status_code": 200,
        "url.scheme": "http",
        "meet.request_id": "r-1",
        "meet.index_version": "v1",
        "meet.direction": "text-to-image",
        "meet.k": 3,
        "meet.rerank": "relationship",
        "meet.batch_size": 1,
    }


async def test_searches_of_one_batch_share_its_encoding_and_have_a_trace_each(
    engine: SearchEngine, exporter: InMemorySpanExporter
) -> None:
    async with traced(engine, exporter) as client:
        await together(client, texts(["a red dog", "a blue cat", "a bus"]))
    spans = exporter.get_finished_spans()
    encoding = [lasted(span) for span in spans if span.name == "encode"]
    assert len(encoding) == 3
    assert max(begin for begin, _ in encoding) - min(begin for begin, _ in encoding) < 5_000_000
    servers = [span for span in spans if span.kind is SpanKind.SERVER]
    assert len({span.context.trace_id for span in servers if span.context}) == 3
    assert [dict(span.attributes or {})["meet.batch_size"] for span in servers] == [3, 3, 3]


async def test_a_callers_trace_goes_on(
    engine: SearchEngine, exporter: InMemorySpanExporter
) -> None:
    async with traced(engine, exporter) as client:
        for parent in (f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00", "nonsense"):
            await client.get("/index", headers={"traceparent": parent})
    followed, fresh = exporter.get_finished_spans()
    assert followed.context is not None
    assert f"{followed.context.trace_id:032x}" == TRACE
    assert followed.parent is not None
    assert f"{followed.parent.span_id:016x}" == PARENT
    # A caller that does not sample is not sampled; a broken header begins a new trace.
    assert fresh.parent is None


async def test_a_fault_is_an_error_and_a_refusal_is_none(
    engine: SearchEngine, exporter: InMemorySpanExporter
) -> None:
    async with traced(broken(engine), exporter) as client:
        await client.post(T2I, json={"query": "a bus"})
        await client.post(T2I, json={"query": ""})
        await client.get("/nowhere/private")
    fault, refusal, unknown = exporter.get_finished_spans()
    assert (fault.status.status_code, refusal.status.status_code) == (
        StatusCode.ERROR,
        StatusCode.UNSET,
    )
    assert dict(refusal.attributes or {})["error.type"] == "text_rejected"
    assert unknown.name == "GET"
    assert "private" not in str(dict(unknown.attributes or {}))


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({}, False),
        ({"otel_exporter_otlp_endpoint": ENDPOINT}, True),
        ({"otel_exporter_otlp_traces_endpoint": ENDPOINT}, True),
        ({"otel_exporter_otlp_endpoint": ENDPOINT, "otel_sdk_disabled": "TRUE"}, False),
        ({"otel_exporter_otlp_endpoint": ENDPOINT, "otel_traces_exporter": "none"}, False),
    ],
)
def test_traces_go_where_the_standard_variables_say_or_nowhere(
    told: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name.upper(), value)
    provider = provider_of(TracingSettings(), "9.9")
    assert (provider is not None) is wanted
    if provider is not None:
        assert provider.resource.attributes["service.name"] == "meet"
        assert provider.resource.attributes["service.version"] == "9.9"
        provider.shutdown()


def test_without_the_extra_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert provider_of(TracingSettings(), "9.9") is None
    assert "meet-retrieval[tracing]" in caplog.text


def test_where_it_is_off_there_is_no_layer_for_it(engine: SearchEngine) -> None:
    app = create_app(ServiceSettings(index=engine.artifact.root), engine)
    assert not any("Traced" in repr(one.cls) for one in app.user_middleware)
