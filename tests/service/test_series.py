"""The metrics of a fresh server: well named, explained, and all there from the start."""

import asyncio
import re
from collections.abc import Mapping
from urllib.parse import quote

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.engine import SearchEngine
from service.index_series import DeviceCollector, age_seconds, collectors, gpu_memory
from service.metrics import BUCKETS, Metrics
from service.problems import problem_codes
from service.protocol import patient
from service.serving import Serving
from service.settings import ServiceSettings
from tests.service.asking import busy
from tests.service.conftest import OpenClient
from tests.service.test_access import GUARDED, KEY, bearer
from tests.service.test_bad_input import JSON, T2I
from tests.service.world import World

pytestmark = pytest.mark.anyio
I2T = "/search/image-to-text"
UNITS = "milliseconds|microseconds|minutes|hours|days|kilobytes|megabytes|percent|bits"
# What may come later: statuses that no route promises. Every other series is there before.
LATER = {
    ("meet_requests", "GET", "unmatched", "405"),
    ("meet_requests", "other", "/index", "405"),
    ("meet_requests", "POST", "/healthz", "405"),
    ("meet_request_duration_seconds", "other", "/index"),
    ("meet_request_duration_seconds", "POST", "/healthz"),
}


async def families(client: httpx.AsyncClient) -> list[Metric]:
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return list(text_string_to_metric_families(response.text))


def series(found: list[Metric]) -> set[tuple[str, ...]]:
    """Every series: its family and label values, whatever its buckets."""
    return {
        (family.name, *(v for n, v in sorted(sample.labels.items()) if n != "le"))
        for family in found
        for sample in family.samples
    }


async def test_names_and_words_keep_the_rules_of_promtool(client: httpx.AsyncClient) -> None:
    found = await families(client)
    assert len({family.name for family in found}) == len(found)
    for family in found:
        name = family.name
        assert re.fullmatch(r"meet_[a-z][a-z0-9_]*", name), name
        assert "__" not in name
        assert not re.search(rf"(^|_)({UNITS})(_|$)", name), f"{name}: base units only"
        assert not re.search(r"(^|_)(counter|gauge|histogram|summary|metric)(_|$)", name), name
        assert len(family.documentation.split()) >= 1, name
        assert family.type in {"counter", "gauge", "histogram"}, name
        assert family.samples, f"{name} has no series"
        for sample in family.samples:
            assert set(map(type, sample.labels.values())) <= {str}
            for label in sample.labels:
                assert re.fullmatch(r"[a-z][a-z0-9_]*", label), (name, label)
            if family.type == "counter":
                assert sample.name == f"{name}_total", name
            else:
                assert not sample.name.endswith("_total"), name
            if family.type != "histogram":
                assert not re.search(r"_(bucket|count|sum)$", sample.name), name
                assert "le" not in sample.labels


async def test_durations_are_seconds_in_buckets_from_half_a_millisecond_to_ten_seconds(
    client: httpx.AsyncClient,
) -> None:
    timed = [one for one in await families(client) if one.name.endswith("_duration_seconds")]
    assert {one.name for one in timed} == {
        "meet_request_duration_seconds",
        "meet_stage_duration_seconds",
    }
    for family in timed:
        edges = {float(s.labels["le"]) for s in family.samples if "le" in s.labels}
        assert edges == {*BUCKETS, float("inf")}
        assert (min(edges), sorted(edges)[-2]) == (0.0005, 10.0)


async def test_what_an_operator_asks_for_is_there_before_the_first_request(
    client: httpx.AsyncClient,
) -> None:
    there = series(await families(client))
    for code in problem_codes():
        assert ("meet_problems", code) in there
    for reason in ("queue_full", "rate_limited", "deadline", "too_large", "slow", "unauthorized"):
        assert ("meet_rejects", reason) in there
    for status in ("200", "401", "408", "413", "422", "429", "500", "503", "504"):
        for path in (T2I, I2T):
            assert ("meet_requests", "POST", path, status) in there
            assert ("meet_request_duration_seconds", "POST", path) in there
    for direction in ("text-to-image", "image-to-text"):
        for layer in ("memory", "stored", "redis", "computed"):
            assert ("meet_reverse_list_lookups", direction, layer) in there
    for modality in ("image", "text"):
        assert ("meet_index_items", modality) in there
    assert ("meet_index_age_seconds",) in there
    assert ("meet_queue_depth",) in there


async def test_a_mixed_load_adds_no_series(
    engine: SearchEngine, open_client: OpenClient, world: World
) -> None:
    picture = world.image_path(3).read_bytes()
    told = {**GUARDED, "batch": {"max_queue": 1}, "limits": {"max_body_bytes": 9000}}
    async with open_client(engine, **told) as client:
        await client.get("/metrics")  # the first scrape times itself
        before = series(await families(client))
        client.headers.update(bearer(KEY))
        bodies = [{"query": "a bus"}, {"query": ""}, {"k": 0}, {"vector": [1.0]}]
        bodies += [{"query": "a", "rerank": "pillar"}, {"query": "a cat", "timeout_ms": 1}]
        async with busy(client):
            asked = [client.post(T2I, json={"query": f"a {n}"}) for n in range(4)]
            waiting = asyncio.gather(*asked)
            await asyncio.sleep(0.05)
        statuses = [one.status_code for one in await waiting]
        assert 429 in statuses
        for body in bodies:
            await client.post(T2I, json=body)
        await client.post(T2I, content="{", headers=JSON)
        await client.post(T2I, content=bytes(10_000), headers=JSON)
        await client.post(T2I, content="x", headers={"content-type": "text/plain"})
        await client.post(I2T, files={"image": picture})
        await client.post(I2T, files={"image": b"none"})
        await client.post(I2T, json={"id": "photo-07"})
        await client.post(I2T, json={"id": "nobody"})
        for path in ("/index", "/items/photo-07", "/items/photo-07/image", "/items/no", "/no"):
            await client.get(path)
        await client.get(f"/items/{quote('photo-07#0', safe='')}/image")
        await client.get("/items/photo-07/image?size=huge")
        for path in ("/", "/page/main.js", "/page/none", "/docs", "/openapi.json", "/readyz"):
            await client.get(path, headers={"accept": "text/html"})
        await client.get("/")
        await client.get("/index", headers=bearer("wrong"))
        await client.request("BREW", "/index")
        await client.post("/healthz")
        after = series(await families(client))
    assert after - before <= LATER
    assert before - after == set()


async def test_the_index_series_follow_the_engine_of_the_moment(
    engine: SearchEngine, images_root: object
) -> None:
    serving = Serving(engine)
    registry = CollectorRegistry()
    for collector in collectors(serving, "9.9", "cpu"):
        registry.register(collector)
    assert registry.get_sample_value("meet_index_items", {"modality": "text"}) == 120
    assert registry.get_sample_value("meet_build_info", release(registry)) == 1
    serving.replace(SearchEngine.open(images_root))  # type: ignore[arg-type]
    assert registry.get_sample_value("meet_index_items", {"modality": "text"}) == 0
    assert registry.get_sample_value("meet_index_items", {"modality": "image"}) == 60
    labels = {"version": "v1", "encoder": "tiny-1"}
    assert registry.get_sample_value("meet_index_info", labels) == 1


def release(registry: CollectorRegistry) -> dict[str, str]:
    [family] = [one for one in registry.collect() if one.name == "meet_build_info"]
    assert family.samples[0].labels["version"] == "9.9"
    return dict(family.samples[0].labels)


def test_an_index_is_as_old_as_the_time_since_it_was_built() -> None:
    assert age_seconds("2025-01-01T00:00:00Z", 1735689600 + 90.5) == 90.5
    assert age_seconds("2025-01-01T01:00:00+01:00", 1735689600) == 0
    assert age_seconds("2999-01-01T00:00:00Z", 0) == 0
    assert age_seconds("long ago", 0) == 0


def test_memory_of_a_gpu_is_told_where_one_is_used(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake: dict[str, object] = {
        "mem_get_info": lambda _: (5, 80),
        "memory_allocated": lambda _: 30,
        "memory_reserved": lambda _: 40,
    }
    for name, value in fake.items():
        monkeypatch.setattr(f"torch.cuda.{name}", value)
    expected: Mapping[str, int] = {"allocated": 30, "reserved": 40, "free": 5, "total": 80}
    assert gpu_memory("cuda") == expected
    registry = CollectorRegistry()
    [*_, last] = collectors(Serving(engine), "1", "cuda:1")
    assert isinstance(last, DeviceCollector)
    registry.register(last)
    for kind, size in expected.items():
        labels = {"device": "cuda:1", "kind": kind}
        assert registry.get_sample_value("meet_gpu_memory_bytes", labels) == size
    assert not any(isinstance(o, DeviceCollector) for o in collectors(Serving(engine), "1", "cpu"))


def test_what_the_protocol_refuses_is_counted() -> None:
    metrics = Metrics()
    patient(1.0, metrics.problem).refused("request_timeout")
    text = generate_latest(metrics.registry).decode()
    assert 'meet_rejects_total{reason="slow"} 1.0' in text
    assert 'meet_problems_total{code="request_timeout"} 1.0' in text


async def test_a_scrape_costs_little(engine: SearchEngine) -> None:
    app = create_app(ServiceSettings(index=engine.artifact.root), engine)
    assert len(app.state.metrics.exposition()) < 120_000  # of 17 routes and 4 kinds of search
