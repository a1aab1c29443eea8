import asyncio
import json
import math
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from importlib import metadata
from typing import Any, TypeAlias

import pytest

from model.core.types import CandidateBudget, Direction, RerankMode
from model.reverse_lists.redis_door import RedisDoor
from model.reverse_lists.redis_options import RedisOptions
from service.answer_cache import AnswerCache, AnswerKey, Lookup
from service.schemas import ImageUpload, SearchFields, TextSearch
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio
Answer: TypeAlias = dict[str, Any]
T2I, I2T = Direction.TEXT_TO_IMAGE, Direction.IMAGE_TO_TEXT
BUDGET = CandidateBudget()
DOGS = TextSearch(query="two dogs")


def key_of(
    search: SearchFields = DOGS,
    version: str = "v1",
    direction: Direction = T2I,
    budget: CandidateBudget = BUDGET,
) -> AnswerKey:
    return AnswerKey(version, direction, search, budget)


def answer_of(version: str = "v1", direction: Direction = T2I) -> Answer:
    metadata = {"none": None, "far": float("inf"), "deep": [{"a": 0.1}]}
    hit = {"id": "ä/1", "rank": 0, "score": 0.1 + 0.2, "caption": "«two»", "metadata": metadata}
    return {
        "index_version": version,
        "direction": direction,
        "rerank": "relationship",
        "hits": [hit],
        "milliseconds": {"total": 1.5},
        "degraded": [],
    }


def with_degraded(*stages: str) -> Answer:
    return {**answer_of(), "degraded": list(stages)}


@pytest.fixture
def door(redis_server: RedisServer) -> Iterator[RedisDoor]:
    opened = RedisDoor(redis_server.url, RedisOptions(timeout_seconds=10.0))
    yield opened
    opened.close()


@pytest.fixture
async def cache(door: RedisDoor) -> AsyncIterator[AnswerCache]:
    opened = AnswerCache(door, 600)
    yield opened
    opened.close()


async def kept(cache: AnswerCache, key: AnswerKey, answer: Answer) -> Answer | None:
    """What the cache has once everything that was put is written."""
    cache.put(key, answer)
    cache.close()
    return cache._read(cache._door, key) if cache._door is not None else None


def keys(server: RedisServer) -> list[str]:
    return [key for key in server.command("KEYS", "*") if key]


@pytest.mark.redis
async def test_an_answer_comes_back_as_it_was(
    cache: AnswerCache, redis_server: RedisServer
) -> None:
    found = await kept(cache, key_of(), answer_of())
    assert found == answer_of()
    [name] = keys(redis_server)
    assert name.startswith("meet:v1:answer:")
    assert 500 < int(redis_server.command("TTL", name)[0]) <= 600


@pytest.mark.redis
async def test_look_ups_are_counted(cache: AnswerCache) -> None:
    assert await cache.get(key_of()) is None
    cache.put(key_of(), answer_of())
    for _ in range(2000):
        if await cache.get(key_of()) is not None:
            break
        await asyncio.sleep(0.01)
    assert cache.lookups[Lookup.HIT] == 1
    assert cache.lookups[Lookup.MISS] >= 1


@pytest.mark.redis
@pytest.mark.parametrize("answer", [answer_of(version="v2"), with_degraded("pq")])
async def test_answers_of_another_version_and_degraded_ones_are_not_kept(
    cache: AnswerCache, redis_server: RedisServer, answer: Answer
) -> None:
    assert await kept(cache, key_of(), answer) is None
    assert keys(redis_server) == []


@pytest.mark.redis
async def test_an_answer_no_stage_of_which_was_shortened_is_kept(cache: AnswerCache) -> None:
    assert await kept(cache, key_of(), with_degraded()) == answer_of()


@pytest.mark.redis
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zlib",
        zlib.compress(b"{"),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b"{}"),
        zlib.compress(b"\xff"),
        zlib.compress(bytes(64 << 20)),
        zlib.compress(json.dumps(answer_of(version="v2")).encode()),
        zlib.compress(json.dumps(answer_of(direction=I2T)).encode()),
    ],
    ids=["empty", "plain", "json", "deep", "fields", "utf8", "bomb", "version", "direction"],
)
async def test_a_value_that_is_no_answer_to_the_key_is_a_miss(
    cache: AnswerCache, door: RedisDoor, content: bytes
) -> None:
    door.put_many({key_of().name: content}, 60)
    assert await cache.get(key_of()) is None


@pytest.mark.parametrize(
    "other",
    [
        key_of(TextSearch(query="two cats")),
        key_of(TextSearch(query="two dogs", k=11)),
        key_of(TextSearch(query="two dogs", explain=True)),
        key_of(TextSearch(query="two dogs", rerank=RerankMode.NONE)),
        key_of(TextSearch(vector=[1.0, 2.0])),
        key_of(version="v2"),
        key_of(direction=I2T),
        key_of(budget=CandidateBudget(keep_pq=0.2)),
    ],
)
async def test_every_option_makes_another_key(other: AnswerKey) -> None:
    assert other.name != key_of().name
    assert key_of(TextSearch(query="two dogs")).name == key_of().name


async def test_an_answer_of_another_release_is_not_given() -> None:
    key = key_of()
    assert key.release == metadata.version("meet-retrieval")
    assert replace(key, release=key.release).name == key.name
    assert replace(key, release=f"{key.release}.1").name != key.name


async def test_images_and_vectors_are_told_apart_by_their_bytes() -> None:
    searches = [
        ImageUpload(image=b"\xff\xd8one"),
        ImageUpload(image=b"\xff\xd8two"),
        TextSearch(vector=[0.1, 0.2]),
        TextSearch(vector=[0.1, math.nextafter(0.2, 1)]),
    ]
    names = [key_of(search).name for search in searches]
    assert len(set(names)) == len(searches)
    assert key_of(ImageUpload(image=b"\xff\xd8one")).name == names[0]


async def test_a_deadline_makes_no_other_key() -> None:
    class Timed(TextSearch):
        timeout_ms: int = 100

    short, long = (key_of(Timed(query="a", timeout_ms=ms)) for ms in (100, 200))
    assert short.name == long.name


@pytest.mark.redis
@pytest.mark.parametrize("without", ["door", "seconds"])
async def test_without_redis_or_time_to_keep_nothing_is_looked_up(
    door: RedisDoor, redis_server: RedisServer, without: str
) -> None:
    cache = AnswerCache(None, 600) if without == "door" else AnswerCache(door, 0)
    cache.put(key_of(), answer_of())
    assert await cache.get(key_of()) is None
    cache.close()
    assert not cache.lookups
    assert keys(redis_server) == []


@pytest.mark.redis
async def test_a_stopped_server_holds_no_other_task_up_and_is_then_skipped(
    redis_server: RedisServer,
) -> None:
    door = RedisDoor(redis_server.url, RedisOptions(timeout_seconds=0.5))
    cache = AnswerCache(door, 600)
    assert await cache.get(key_of()) is None
    redis_server.stop()
    waiting = [asyncio.create_task(cache.get(key_of())) for _ in range(50)]
    turns = 0
    while not all(task.done() for task in waiting):
        await asyncio.sleep(0.01)
        turns += 1
    assert turns >= 10  # the loop turned while the threads waited
    assert [task.result() for task in waiting] == [None] * 50
    cache.put(key_of(), answer_of())
    assert await cache.get(key_of()) is None
    assert cache.lookups[Lookup.SKIPPED] == 1
    # Both threads may have been waiting when the first gave up.
    assert 1 <= sum(door.health().failures.values()) <= 2
    redis_server.resume()
    cache.close()
    door.close()


@pytest.mark.redis
async def test_what_waits_to_be_kept_is_bounded(
    cache: AnswerCache, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    monkeypatch.setattr(cache, "_room", threading.BoundedSemaphore(1))
    assert cache._room.acquire()
    assert await kept(cache, key_of(), answer_of()) is None
    assert keys(redis_server) == []
