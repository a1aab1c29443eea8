import asyncio
import re
import threading
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.engine import SearchEngine
from tests.service.conftest import LIMITS, OpenClient
from tests.service.world import BUDGET, DIM

pytestmark = pytest.mark.anyio
CHOICES = {"k", "offset", "filter", "exact", "min_score", "collapse", "rerank", "candidates"}
OPTIONS = CHOICES | {"timeout_ms", "explain", "why_not"}
OPTIONS |= {"plus", "minus", "plus_weight", "minus_weight"}


async def metrics(client: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values, in order of label names."""
    text = (await client.get("/metrics")).text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_process_is_alive_and_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ready", "index_version": "v1"}


async def test_a_busy_device_is_not_ready_but_alive(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine) as client:
        release = threading.Event()
        app = client._transport.app  # type: ignore[attr-defined]
        stuck = asyncio.create_task(app.state.parts.dispatcher.run(release.wait, 20))
        response = await client.get("/readyz")
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert (await client.get("/healthz")).status_code == 200
        release.set()
        await stuck
        assert (await client.get("/readyz")).status_code == 200


async def test_the_index_says_what_is_served_and_allowed(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/index")).json()
    assert answer["version"] == "v1"
    assert answer["counts"] == {"image": 60, "text": 120}
    assert answer["encoder"]["embedding_dim"] == DIM
    assert answer["accepts"] == {
        "text-to-image": ["query", "id", "vector"],
        "image-to-text": ["image", "id", "vector"],
        "image-to-image": ["id"],
        "text-to-text": ["id"],
    }
    assert set(answer["options"]) == OPTIONS
    assert {route: set(names) for route, names in answer["fields"].items()} == {
        "/search/text-to-image": OPTIONS | {"query", "id", "vector", "queries"},
        "/search/image-to-text": OPTIONS | {"image", "id", "vector", "queries"},
        "/search/similar": OPTIONS | {"id", "to"},
    }
    assert answer["rerank"] == ["relationship", "reference", "none"]
    assert answer["default_rerank"] == "relationship"
    assert answer["budget"] == BUDGET.model_dump()
    assert answer["limits"] == LIMITS.model_dump()


async def test_an_index_lists_no_field_that_it_cannot_answer(
    vectors_root: Path, images_root: Path, open_client: OpenClient
) -> None:
    async with open_client(SearchEngine.open(vectors_root)) as client:
        answer = (await client.get("/index")).json()
        assert not {"plus", "minus", "plus_weight", "minus_weight"} & set(answer["options"])
        assert answer["fields"]["/search/text-to-image"][:3] == ["id", "vector", "queries"]
        assert "plus" not in answer["fields"]["/search/similar"]
    async with open_client(SearchEngine.open(images_root)) as client:
        fields = (await client.get("/index")).json()["fields"]
        assert fields["/search/text-to-image"][:3] == ["query", "vector", "queries"]
        assert fields["/search/image-to-text"] == []


async def test_series_are_there_before_the_first_search(client: httpx.AsyncClient) -> None:
    samples = await metrics(client)
    for direction in ("text-to-image", "image-to-text"):
        for stage in ("decode", "queue", "encode", "hash", "pq", "rerank", "total"):
            assert samples["meet_stage_duration_seconds_count", direction, stage] == 0
    assert samples["meet_index_info", "tiny-1", "v1"] == 1
    assert samples["meet_index_items", "image"] == 60
    assert ("meet_reverse_list_lookups_total", "text-to-image", "redis") in samples
    assert all(name.startswith("meet_") for name, *_ in samples)


async def test_a_search_is_counted_by_stage_route_and_layer(client: httpx.AsyncClient) -> None:
    before = await metrics(client)
    await client.post("/search/text-to-image", json={"query": "a bus"})
    await client.post("/search/text-to-image", json={"query": ""})
    after = await metrics(client)
    assert after["meet_stage_duration_seconds_count", "text-to-image", "rerank"] == 1
    assert 0 < after["meet_stage_duration_seconds_sum", "text-to-image", "total"] < 10
    route = ("POST", "/search/text-to-image")
    requests = [after["meet_requests_total", *route, status] for status in ("200", "422")]
    assert requests == [1, 1]
    assert after["meet_request_duration_seconds_count", *route] == 2
    assert after["meet_problems_total", "text_rejected"] == 1
    layer = ("meet_reverse_list_lookups_total", "text-to-image", "stored")
    assert after[layer] - before[layer] == BUDGET.counts(60)[1]


async def test_an_invented_method_makes_no_series(client: httpx.AsyncClient) -> None:
    await client.request("BREW", "/healthz")
    samples = await metrics(client)
    assert samples["meet_requests_total", "other", "/healthz", "405"] == 1
    assert not any("BREW" in labels for labels in samples)


async def test_a_request_id_is_kept_if_plain_and_made_otherwise(client: httpx.AsyncClient) -> None:
    for given, kept in (("abc-1.2:3_Z", True), ("a b", False), ("x" * 129, False), ("", False)):
        response = await client.get("/healthz", headers={"X-Request-ID": given})
        assert (response.headers["x-request-id"] == given) is kept
        assert re.fullmatch(r"[\w.:-]{1,128}", response.headers["x-request-id"])


async def test_the_docs_page_needs_nothing_from_outside(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert not re.search(r"https?:|//[a-z]", page)
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) == 4
    for link in links:
        response = await client.get(f"/{link}")
        assert response.status_code == 200, link
        assert len(response.content) > 100
    style = (await client.get("/docs/assets/swagger-ui.css")).text
    assert not re.search(r"@import|url\(\s*['\"]?https?:", style)


async def test_the_description_documents_every_problem(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    schema = {"$ref": "#/components/schemas/Problem"}
    expected = {
        ("/search/text-to-image", "post"): {
            *("400", "401", "404", "406", "408", "409", "413", "415", "422"),
            *("429", "500", "503", "504"),
        },
        ("/search/image-to-text", "post"): {
            *("400", "401", "404", "406", "408", "409", "413", "415", "422"),
            *("429", "500", "503", "504"),
        },
        ("/search/similar", "post"): {
            *("400", "401", "404", "406", "408", "409", "413", "415", "422"),
            *("429", "500", "503", "504"),
        },
        ("/items/{item_id}/image", "get"): {"401", "404", "422", "429", "500"},
        ("/items/{item_id}", "get"): {"401", "404", "422", "429", "500"},
        ("/readyz", "get"): {"500", "503"},
        ("/healthz", "get"): {"500", "503"},
        ("/metrics", "get"): {"401", "500"},
        ("/index", "get"): {"401", "429", "500"},
        ("/index/activate", "post"): {
            *("400", "401", "403", "404", "408", "409", "413", "415", "422", "429", "500", "503"),
        },
        ("/index/evaluate", "post"): {
            *("400", "401", "403", "408", "409", "413", "415", "422", "429", "500", "503"),
        },
    }
    found = {
        (path, method): operation["responses"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(found) == set(expected)
    for key, responses in found.items():
        assert set(responses) == {"200"} | expected[key], key
        for status in expected[key]:
            assert responses[status]["content"] == {"application/problem+json": {"schema": schema}}


async def test_the_description_refers_to_nothing_that_is_missing(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/openapi.json")
    known = response.json()["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', response.text))
    assert references <= set(known)
    assert {"TextSearch", "ImageSearch", "ImageUpload", "Activate", "Problem"} <= references
