"""Searches beside a Redis that fails in every way: the same answers, one log line, a metric."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.cascade import Cascade
from service.app import create_app
from service.engine import SearchEngine
from service.settings import ServiceSettings
from tests.service.test_operations import metrics
from tests.service.world import World
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.redis]
T2I, I2T = "/search/text-to-image", "/search/image-to-text"
Body = dict[str, Any]
TURNS = 1000  # of at least ten milliseconds


@pytest.fixture(scope="module")
def forgetful(lazy_root: Path) -> SearchEngine:
    """An engine without lists in its own memory: whatever it is asked, it asks Redis."""
    engine = SearchEngine.open(lazy_root)
    cascade = Cascade.from_artifact(engine.artifact, cache_bytes=0)
    return SearchEngine(engine.artifact, engine.encoder, cascade)


@asynccontextmanager
async def opened(
    engine: SearchEngine, server: RedisServer, **told: object
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app of its own; patient, unless a test is about time."""
    told = {"redis_url": server.url, "redis_timeout_ms": 10_000, **told}
    settings = ServiceSettings.model_validate({"index": engine.artifact.root, **told})
    app = create_app(settings, engine)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://meet.test") as client,
    ):
        yield client


async def asked(client: httpx.AsyncClient, body: Body, path: str = T2I) -> Body:
    """The answer, less the time it took."""
    response = await client.post(path, json=body)
    assert response.status_code == 200
    answer: Body = response.json()
    assert answer.pop("milliseconds")["total"] > 0
    return answer


async def until_kept(server: RedisServer, count: int) -> None:
    """Return once so many whole answers are in Redis."""
    for _ in range(TURNS):
        if len([k for k in server.command("KEYS", "meet:*:answer:*") if k]) >= count:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError(f"{count} answers were not kept in time")


async def searches(client: httpx.AsyncClient, direction: str = "text-to-image") -> float:
    """How many searches went through the cascade."""
    return (await metrics(client))["meet_stage_duration_seconds_count", direction, "hash"]


async def test_a_repeated_query_gets_its_answer_without_a_search(
    forgetful: SearchEngine, redis_server: RedisServer
) -> None:
    async with opened(forgetful, redis_server) as client:
        # Photo 0 has metadata that JSON cannot hold: what is kept has to end as it began.
        body = {"query": "a red dog", "k": 60, "explain": True}
        first = await asked(client, body)
        await until_kept(redis_server, 1)
        assert await asked(client, body) == first
        assert await searches(client) == 1
        after = await metrics(client)
        assert after["meet_answer_lookups_total", "hit"] == 1
        assert after["meet_answer_lookups_total", "miss"] == 1
        assert after["meet_stage_duration_seconds_count", "text-to-image", "total"] == 2


async def test_images_by_upload_base64_and_id_are_answered_again_too(
    forgetful: SearchEngine, redis_server: RedisServer, world: World
) -> None:
    image = world.image_path(3).read_bytes()
    bodies: list[Body] = [
        {"image": base64.b64encode(image).decode()},
        {"id": world.ids[3]},
    ]
    async with opened(forgetful, redis_server) as client:
        first = [await asked(client, body, I2T) for body in bodies]
        uploads = [(await client.post(I2T, files={"image": image})).json()["hits"]]
        await until_kept(redis_server, 3)
        assert [await asked(client, body, I2T) for body in bodies] == first
        uploads.append((await client.post(I2T, files={"image": image})).json()["hits"])
        assert uploads[0] == uploads[1] == first[0]["hits"]
        assert await searches(client, "image-to-text") == 3


async def test_refused_requests_are_refused_again(
    forgetful: SearchEngine, redis_server: RedisServer
) -> None:
    async with opened(forgetful, redis_server) as client:
        for _ in range(2):
            assert (await client.post(I2T, json={"id": "nobody"})).status_code == 404
            assert (await client.post(T2I, json={"vector": [1.0]})).status_code == 422
        assert [k for k in redis_server.command("KEYS", "*:answer:*") if k] == []


async def test_answers_can_be_left_out_and_both_kinds_have_seconds_of_their_own(
    forgetful: SearchEngine, redis_server: RedisServer
) -> None:
    async with opened(forgetful, redis_server, redis_answer_seconds=0) as client:
        await asked(client, {"query": "a red dog"})
        await asked(client, {"query": "a red dog"})
        assert await searches(client) == 2
    told = {"redis_answer_seconds": 50, "redis_list_seconds": 500}
    redis_server.command("FLUSHALL")
    async with opened(forgetful, redis_server, **told) as client:
        await asked(client, {"query": "a red dog"})
        await until_kept(redis_server, 1)
    [answer] = redis_server.command("KEYS", "*:answer:*")
    a_list = redis_server.command("KEYS", "*:text-to-image:*")[0]
    assert 0 < int(redis_server.command("TTL", answer)[0]) <= 50
    assert 400 < int(redis_server.command("TTL", a_list)[0]) <= 500


async def test_a_server_keeps_no_more_than_its_bytes_a_write(
    forgetful: SearchEngine, redis_server: RedisServer
) -> None:
    async with opened(forgetful, redis_server, redis_put_bytes=100) as client:
        await asked(client, {"query": "a red dog"})
    # A list of eight takes 20 bytes with its seal.
    assert len(redis_server.command("KEYS", "*")) == 5


async def test_series_are_there_before_the_first_search(
    forgetful: SearchEngine, redis_server: RedisServer
) -> None:
    async with opened(forgetful, redis_server) as client:
        samples = await metrics(client)
    for use in ("server", "writing"):
        assert samples["meet_redis_breaker_open", use] == 0
    for kind in ("connection", "timeout", "slow", "full", "read_only", "refused", "garbage"):
        assert samples["meet_redis_failures_total", kind] == 0
    for result in ("hit", "miss", "skipped"):
        assert samples["meet_answer_lookups_total", result] == 0


def kill(server: RedisServer) -> None:
    server.kill()


def stop(server: RedisServer) -> None:
    server.stop()


def fill(server: RedisServer) -> None:
    server.command("FLUSHALL")
    server.command("CONFIG", "SET", "maxmemory", "1")


def follow(server: RedisServer) -> None:
    server.command("FLUSHALL")
    server.command("REPLICAOF", "127.0.0.1", "1")


def refuse(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "default", "-@all", "+ping")


def every_key(server: RedisServer, lua: str) -> None:
    """Do this with each `key` that there is."""
    loop = f"for _, key in ipairs(redis.call('KEYS', '*')) do {lua} end"
    server.command("EVAL", loop, "0")


def retype(server: RedisServer) -> None:
    every_key(server, "redis.call('DEL', key); redis.call('RPUSH', key, '1')")


def garble(server: RedisServer) -> None:
    """Bytes of the same length under every key."""
    every_key(server, "redis.call('SET', key, ('x'):rep(redis.call('STRLEN', key)))")


def mix_up(server: RedisServer) -> None:
    """The value of one key of its kind under every key."""
    for kind in ("answer", "text-to-image"):
        first, *_ = server.command("KEYS", f"*:{kind}:*")
        copy = f"redis.call('COPY', '{first}', key, 'REPLACE')"
        every_key(server, f"if key ~= '{first}' and key:find('{kind}', 1, true) then {copy} end")


@pytest.mark.parametrize(
    ("harm", "series", "opens"),
    [
        (kill, ("meet_redis_failures_total", "connection"), "server"),
        (stop, ("meet_redis_failures_total", "timeout"), "server"),
        (refuse, ("meet_redis_failures_total", "refused"), "server"),
        (fill, ("meet_redis_failures_total", "full"), "writing"),
        (follow, ("meet_redis_failures_total", "read_only"), "writing"),
        (garble, ("meet_redis_failures_total", "garbage"), None),
        (mix_up, ("meet_redis_failures_total", "garbage"), None),
        (retype, ("meet_answer_lookups_total", "miss"), None),
    ],
)
async def test_whatever_becomes_of_redis_the_answers_stay_the_same(
    forgetful: SearchEngine,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[RedisServer], None],
    series: tuple[str, str],
    opens: str | None,
) -> None:
    bodies: list[Body] = [{"query": f"one {thing}"} for thing in ("dog", "cat", "bus", "tree")]
    time_out = {"redis_timeout_ms": 300} if harm is stop else {}
    async with opened(forgetful, redis_server, **time_out) as client:
        expected = [await asked(client, body) for body in bodies]
        await until_kept(redis_server, len(bodies))
    async with opened(forgetful, redis_server, **time_out) as client:
        assert await asked(client, bodies[0]) == expected[0]  # connected, answered from Redis
        before = await metrics(client)
        assert before["meet_answer_lookups_total", "hit"] == 1
        harm(redis_server)
        assert [await asked(client, body) for body in bodies] == expected
        assert (await client.get("/readyz")).status_code == 200
        after = await metrics(client)
        assert after[series] > before[series]
        for use in ("server", "writing"):
            assert after["meet_redis_breaker_open", use] == (use == opens)
        redis_server.resume()
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == (opens is not None)


async def test_a_redis_that_returns_is_used_again_by_itself(
    forgetful: SearchEngine, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(forgetful, redis_server) as client:
        redis_server.kill()
        expected = await asked(client, {"query": "one dog"})
        assert (await metrics(client))["meet_redis_breaker_open", "server"] == 1
        redis_server.start()
        for _ in range(TURNS):
            if (await metrics(client))["meet_answer_lookups_total", "hit"]:
                break
            assert await asked(client, {"query": "one dog"}) == expected
            await asyncio.sleep(0.05)
        assert (await metrics(client))["meet_redis_breaker_open", "server"] == 0
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
