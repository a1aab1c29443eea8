"""Several queries in one call: the answers of one at a time, in order, each failing alone."""

import asyncio
from base64 import b64encode
from typing import Any

import httpx
import numpy as np
import pytest

from service.answer_cache import Lookup
from service.engine import SearchEngine
from service.limits import Limits
from service.schemas import Answers
from service.settings import Batching
from tests.service.asking import POISON, busy, faulty, parts_of, send, text_search, until
from tests.service.conftest import OpenClient
from tests.service.test_bad_input import I2T, T2I, problem
from tests.service.test_operations import metrics
from tests.service.test_search import pairs
from tests.service.world import DIM, World
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio
OPTIONS = {"k": 7, "rerank": "none", "explain": True}


async def answers(client: httpx.AsyncClient, path: str, **body: object) -> list[dict[str, Any]]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    Answers.model_validate_json(response.text, strict=True, extra="forbid")
    found: list[dict[str, Any]] = response.json()["answers"]
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The same hits; an encoder's last bits depend on the texts that share its batch."""
    assert [hit for hit, _ in pairs(one)] == [hit for hit, _ in pairs(other)]
    np.testing.assert_allclose([s for _, s in pairs(one)], [s for _, s in pairs(other)], atol=1e-5)
    assert [set(hit) for hit in one["hits"]] == [set(hit) for hit in other["hits"]]


async def test_texts_ids_and_vectors_are_answered_in_order_like_one_at_a_time(
    client: httpx.AsyncClient,
) -> None:
    vector = np.random.default_rng(2).normal(size=DIM).tolist()
    queries: list[Any] = [
        "a red dog",
        {"query": "one cat that is red", "minus": "a bus"},
        {"id": "photo-07#1"},
        {"vector": vector},
    ]
    found = await answers(client, T2I, queries=queries, **OPTIONS)
    for query, answer in zip(queries, found, strict=True):
        alone = query if isinstance(query, dict) else {"query": query}
        same(answer, (await client.post(T2I, json={**alone, **OPTIONS})).json())


async def test_images_and_ids_are_answered_in_order_like_one_at_a_time(
    client: httpx.AsyncClient, world: World
) -> None:
    image = b64encode(world.image_path(9).read_bytes()).decode()
    found = await answers(client, I2T, queries=["photo-07", {"image": image}, {"id": "photo-09"}])
    for alone, answer in zip(
        ({"id": "photo-07"}, {"image": image}, {"id": "photo-09"}), found, strict=True
    ):
        same(answer, (await client.post(I2T, json=alone)).json())
    assert found[1]["milliseconds"]["decode"] > 0


async def test_what_all_share_gives_way_to_what_one_says(client: httpx.AsyncClient) -> None:
    queries = ["a red dog", {"query": "a red dog", "minus": "a lamp", "minus_weight": 1}]
    shared, own = await answers(client, T2I, queries=queries, minus="a bus")
    body = {"query": "a red dog"}
    same(shared, (await client.post(T2I, json={**body, "minus": "a bus"})).json())
    told = {**body, "minus": "a lamp", "minus_weight": 1}
    same(own, (await client.post(T2I, json=told)).json())


async def test_an_entry_that_is_wrong_has_its_problem_in_its_place(
    client: httpx.AsyncClient,
) -> None:
    queries = [
        "a red dog",
        "  ",
        {"query": 7},
        {"query": "a", "id": "b"},
        {"id": "nobody"},
        {"vector": [1.0]},
        {"query": "a", "k": 3},
        7,
        {"query": "a bus", "minus": "a bus", "minus_weight": 1},
        "a bus",
    ]
    response = await client.post(T2I, json={"queries": queries})
    assert response.status_code == 200
    found = response.json()["answers"]
    codes = [one.get("code", "answered") for one in found]
    invalid, vector = "invalid_request", "vector_rejected"
    assert codes == [
        "answered", "text_rejected", invalid, invalid, "unknown_item", vector, invalid, invalid,
        vector, "answered",
    ]  # fmt: skip
    assert found[2]["errors"] == [
        {"field": "query", "rule": "Input should be a valid string", "value": "7"}
    ]
    assert (
        found[3]["errors"][0]["rule"] == "exactly one of `query`, `id`, `vector` is needed, "
        "`query` and `id` were given"
    )
    assert found[6]["errors"][0]["field"] == "k"
    assert found[7]["errors"][0]["rule"] == "Input should be a text or an object"
    for one in found[1:-1]:
        assert one["instance"] == T2I
        assert one["request_id"] == response.headers["x-request-id"]


async def test_an_image_that_is_none_fails_alone(client: httpx.AsyncClient) -> None:
    queries = [{"image": "no base64!"}, {"id": "photo-07"}, {"image": b64encode(b"no").decode()}]
    found = await answers(client, I2T, queries=queries)
    assert [one.get("code") for one in found] == ["image_rejected", None, "image_rejected"]


async def test_images_of_one_call_share_the_limit_of_pixels(
    engine: SearchEngine, open_client: OpenClient, world: World
) -> None:
    image = {"image": b64encode(world.image_path(9).read_bytes()).decode()}  # 40 x 48 pixels
    async with open_client(engine, limits=Limits(max_pixels=2 * 40 * 48)) as client:
        found = await answers(client, I2T, queries=[image, image, image])
    assert [one.get("code") for one in found] == [None, None, "image_rejected"]


@pytest.mark.parametrize(
    "body",
    [
        {"queries": []},
        {"queries": "a bus"},
        {"queries": ["a bus"], "query": "a dog"},
        {"queries": ["a bus"], "k": 0},
        {"queries": ["a bus"], "k": 5000},
        {"queries": ["a bus"], "colour": "red"},
        {"queries": ["a bus"] * 65},
    ],
)
async def test_what_is_wrong_with_all_refuses_the_call(
    client: httpx.AsyncClient, body: dict[str, object]
) -> None:
    problem(await client.post(T2I, json=body), 422, "invalid_request")


async def test_the_published_limit_is_named(client: httpx.AsyncClient) -> None:
    most = (await client.get("/index")).json()["limits"]["max_queries"]
    response = await client.post(T2I, json={"queries": ["a bus"] * (most + 1), "k": 1})
    [error] = problem(response, 422, "invalid_request")["errors"]
    assert (error["field"], error["value"]) == ("queries", str(most + 1))
    assert str(most) in error["rule"]
    assert len(await answers(client, T2I, queries=["a bus"] * most, k=1)) == most


async def test_queries_of_a_call_share_a_batch_and_one_that_fails_there_fails_alone(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    broken, sizes = faulty(engine)
    async with open_client(broken) as client:
        await answers(client, T2I, queries=[f"a {n} bus" for n in range(6)])
        assert sizes == [6]
        found = await answers(client, T2I, queries=["a bus", POISON, "a dog"])
        assert [one.get("code") for one in found] == [None, "text_rejected", None]
        before = (await metrics(client))["meet_batch_size_count",]
    assert before == 2


async def test_a_problem_among_answers_is_counted_like_one_of_its_own(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    broken, _ = faulty(engine, room=0)
    async with open_client(broken) as client:
        found = await answers(client, T2I, queries=["a bus", {"k": 0}, {"id": "photo-07#0"}])
        counts = await metrics(client)
    assert [one.get("code") for one in found] == ["device_memory", "invalid_request", None]
    problems = {name[1]: n for name, n in counts.items() if name[0] == "meet_problems_total" and n}
    assert problems == {"device_memory": 1, "invalid_request": 1}
    assert counts["meet_rejects_total", "memory"] == 1


async def test_an_error_of_the_servers_own_fails_alone_and_says_nothing_of_the_inside(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    broken, _ = faulty(engine, room=0, lacking=ValueError("secret of the inside"))
    async with open_client(broken) as client:
        response = await client.post(T2I, json={"queries": ["a bus", {"id": "photo-07#0"}]})
    first, second = response.json()["answers"]
    assert (first["code"], first["status"]) == ("internal", 500)
    assert "secret" not in response.text
    assert second["hits"]


async def test_a_call_that_the_queue_has_no_room_for_is_refused_whole(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    counted, sizes = faulty(engine)
    async with open_client(counted, batch=Batching(max_queue=4)) as client, busy(client):
        waiting = asyncio.create_task(send(client, text_search(queries=["a dog", "a cat"])))
        await until(lambda: parts_of(client).dispatcher.waiting == 2)
        response = await client.post(T2I, json={"queries": ["a bus"] * 3})
        assert "4 searches" in problem(response, 429, "queue_full")["detail"]
        assert response.headers["retry-after"]
        assert parts_of(client).dispatcher.waiting == 2
    assert len((await waiting).json()["answers"]) == 2
    assert sizes == [2]


async def test_a_call_alone_may_ask_more_than_the_queue_holds(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine, batch=Batching(max_queue=2, max_batch=3)) as client:
        assert len(await answers(client, T2I, queries=["a bus"] * 8)) == 8


async def test_a_caller_that_hangs_up_leaves_nothing_in_the_queue(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    counted, sizes = faulty(engine)
    async with open_client(counted) as client:
        async with busy(client):
            waiting = asyncio.create_task(send(client, text_search(queries=["a dog"] * 5)))
            await until(lambda: parts_of(client).dispatcher.waiting == 5)
            waiting.cancel()
            await asyncio.sleep(0.01)
        await answers(client, T2I, queries=["a bus"])
    assert sizes == [1]


@pytest.mark.redis
async def test_a_query_that_was_answered_before_is_not_asked_again(
    engine: SearchEngine, open_client: OpenClient, redis_server: RedisServer
) -> None:
    counted, sizes = faulty(engine)
    given = {"redis_url": redis_server.url, "redis_timeout_ms": 5000}
    async with open_client(counted, **given) as client:
        alone = (await client.post(T2I, json={"query": "a red dog"})).json()
        cache = parts_of(client).searcher.answers
        await until(
            lambda: bool([key for key in redis_server.command("KEYS", "*:answer:*") if key])
        )
        found = await answers(client, T2I, queries=["a cat", "a red dog", "a bus"])
        assert sizes == [1, 2]
        assert cache.lookups[Lookup.HIT] == 1
    assert found[1]["hits"] == alone["hits"]
