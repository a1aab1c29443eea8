"""How often a caller may ask: buckets of this process, and of a real Redis."""

import asyncio
import logging
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model.reverse_lists.redis_door import RedisDoor
from model.reverse_lists.redis_options import RedisOptions
from service.access import home
from service.engine import SearchEngine
from service.rates import SCRIPT, Grant, LocalBuckets, RateLimiter
from service.settings import RateLimit, ServiceSettings
from tests.service.conftest import OpenClient
from tests.service.test_access import ADMIN, GUARDED, KEY, OTHER, bearer
from tests.service.test_bad_input import problem
from tests.service.test_operations import metrics
from tests.support.clock import Clock
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio
SLOWLY = {"per_second": 0.01, "burst": 3}  # one more in 100 seconds
PATIENT = RedisOptions(timeout_seconds=10)


def test_a_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    clock = Clock()
    buckets = LocalBuckets(RateLimit(per_second=2, burst=3), clock)
    assert [buckets.take("a") for _ in range(4)] == [2, 1, 0, -1]
    clock.now = 0.25
    assert buckets.take("a") == -0.5
    clock.now = 0.5
    assert buckets.take("a") == 0
    assert buckets.take("b") == 2, "every caller has a bucket of its own"
    clock.now = 100
    assert buckets.take("a") == 2, "no more than the burst is saved up"


@given(
    pauses=st.lists(st.floats(0, 2), min_size=1, max_size=60),
    rate=st.floats(0.1, 50),
    burst=st.integers(1, 9),
)
def test_no_pattern_of_asking_gets_more_than_burst_and_rate_allow(
    pauses: list[float], rate: float, burst: int
) -> None:
    clock = Clock()
    buckets = LocalBuckets(RateLimit(per_second=rate, burst=burst), clock)
    allowed = 0
    for pause in pauses:
        clock.now += pause
        allowed += buckets.take("a") >= 0
        assert allowed <= burst + rate * clock.now + 1e-6


def test_a_call_of_several_searches_costs_as_many_tokens() -> None:
    clock = Clock()
    buckets = LocalBuckets(RateLimit(per_second=1, burst=5), clock)
    assert [buckets.take("a", 3), buckets.take("a", 3), buckets.take("a", 2)] == [2, -1, 0]


async def test_a_call_that_costs_more_than_a_bucket_takes_a_full_one() -> None:
    limiter = RateLimiter(RateLimit(per_second=0.001, burst=5), None)
    assert [(await limiter.take("a", 64)).left, (await limiter.take("b")).left] == [0, 4]
    assert (await limiter.take("b", 64)).left < 0


async def test_queries_of_one_call_are_counted_one_by_one(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    limit = {"rate_limit": {"per_second": 0.001, "burst": 5}}
    async with open_client(engine, **limit) as client:
        call = {"queries": ["a bus", "a dog", "a cat"]}
        first = await client.post("/search/text-to-image", json=call)
        assert (first.status_code, first.headers["ratelimit-remaining"]) == (200, "2")
        second = await client.post("/search/text-to-image", json=call)
        assert (second.status_code, second.json()["code"]) == (429, "rate_limited")


def test_buckets_are_bounded_and_those_silent_for_long_are_forgotten() -> None:
    buckets = LocalBuckets(RateLimit(per_second=0.01, burst=2), Clock(), most=2)
    assert [buckets.take(one) for one in ("a", "b", "a", "c")] == [1, 1, 0, 1]
    assert len(buckets) == 2
    assert buckets.take("a") == -1
    assert buckets.take("b") == 1, "b was silent for longest when c came"


def test_a_grant_names_what_is_left_and_when_it_is_whole_again() -> None:
    headers = Grant(1.5, RateLimit(per_second=2, burst=5)).headers
    assert headers == {
        "RateLimit-Limit": "5",
        "RateLimit-Remaining": "1",
        "RateLimit-Reset": "2",
    }
    assert Grant(-1, RateLimit(per_second=2)).headers["RateLimit-Remaining"] == "0"


async def test_too_many_requests_are_429_with_the_time_to_wait(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine, rate_limit=SLOWLY) as client:
        answers = [await client.get("/index") for _ in range(4)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        left = [one.headers["ratelimit-remaining"] for one in answers]
        assert left == ["2", "1", "0", "0"]
        document = problem(answers[-1], 429, "rate_limited")
        assert "0.01 requests a second, 3 at once" in document["detail"]
        assert 90 <= int(answers[-1].headers["retry-after"]) <= 100
        assert answers[-1].headers["ratelimit-limit"] == "3"
        for path in ("/healthz", "/readyz", "/metrics"):
            response = await client.get(path)
            assert response.status_code == 200
            assert "ratelimit-limit" not in response.headers
        assert (await metrics(client))["meet_rejects_total", "rate_limited"] == 1


async def test_a_page_of_pictures_costs_nothing(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine, **GUARDED, rate_limit=SLOWLY) as client:
        for _ in range(20):
            shown = await client.get("/items/photo-07/image", headers=bearer(KEY))
            assert shown.status_code == 200
        guesses = [(await client.get("/items/photo-07/image")).status_code for _ in range(4)]
        assert guesses == [401, 401, 401, 429]


async def test_each_key_has_a_bucket_and_a_wrong_one_spends_its_addresses(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine, **GUARDED, rate_limit=SLOWLY) as client:

        async def statuses(headers: dict[str, str], count: int) -> list[int]:
            return [(await client.get("/index", headers=headers)).status_code for _ in range(count)]

        assert await statuses(bearer(KEY), 4) == [200, 200, 200, 429]
        assert await statuses(bearer(OTHER), 3) == [200, 200, 200]
        guesses = [(await statuses(bearer(f"guess-{n}"), 1))[0] for n in range(5)]
        assert guesses == [401, 401, 401, 429, 429]
        assert await statuses({}, 1) == [429]
        assert await statuses(bearer(ADMIN), 1) == [200]


async def test_an_address_behind_no_trusted_proxy_is_the_connections_own(
    engine: SearchEngine, open_client: OpenClient
) -> None:
    async with open_client(engine, rate_limit=SLOWLY) as client:
        forged = [
            {"x-forwarded-for": f"10.0.0.{n}", "forwarded": f"for=10.0.0.{n}"} for n in "1234"
        ]
        answers = [await client.get("/index", headers=headers) for headers in forged]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]


def test_addresses_of_one_network_are_one_caller() -> None:
    assert home("2001:db8::1") == home("2001:db8::ffff:1") != home("2001:db8:0:1::1")
    assert home("192.0.2.1") != home("192.0.2.2")
    assert home("") == ""


@pytest.mark.parametrize("proxies", ["10.0.0.300", "10.0.0.1/8", "localhost"])
def test_proxies_are_addresses_or_networks(tmp_path: Path, proxies: str) -> None:
    with pytest.raises(ValidationError, match="needs addresses or networks"):
        ServiceSettings.model_validate({"index": tmp_path, "trusted_proxies": proxies})


@pytest.mark.redis
async def test_servers_that_share_a_redis_share_the_buckets(redis_server: RedisServer) -> None:
    limit = RateLimit(per_second=0.01, burst=4)
    limiters = [RateLimiter(limit, RedisDoor(redis_server.url, PATIENT)) for _ in range(2)]
    lefts = [(await limiters[turn % 2].take("a")).left for turn in range(5)]
    # Milliseconds pass between them, so a bucket is a little fuller than the count says.
    assert lefts == pytest.approx([3, 2, 1, 0, -1], abs=0.1)
    assert (await limiters[0].take("b")).left == 3
    [ttl] = redis_server.command("PTTL", "meet:rate:a")
    assert 300_000 < int(ttl) <= 401_000, "a bucket goes when it would be full again"


@pytest.mark.redis
async def test_of_many_at_once_redis_lets_exactly_the_burst_through(
    redis_server: RedisServer,
) -> None:
    limiter = RateLimiter(
        RateLimit(per_second=0.01, burst=20), RedisDoor(redis_server.url, PATIENT)
    )
    grants = await asyncio.gather(*(limiter.take("a") for _ in range(60)))
    assert sum(grant.left >= 0 for grant in grants) == 20


@pytest.mark.redis
def test_a_bucket_in_redis_fills_by_the_rate(redis_server: RedisServer) -> None:
    door = RedisDoor(redis_server.url, PATIENT)
    empty = door.run_script(SCRIPT, "meet:rate:a", "0.000001", "1", "1")
    again = door.run_script(SCRIPT, "meet:rate:a", "0.000001", "1", "1")
    assert (empty, again) == ([0], [-1000])
    # The same bucket read at another rate: a microsecond is enough.
    assert door.run_script(SCRIPT, "meet:rate:a", "1000000", "1", "1") == [0]
    assert door.run_script(SCRIPT, "meet:rate:b", "0.000001", "5", "3") == [2000]


@pytest.mark.redis
async def test_without_its_redis_a_server_limits_by_itself_at_once(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = RateLimiter(RateLimit(per_second=0.01, burst=2), RedisDoor(redis_server.url))
    redis_server.kill()
    with caplog.at_level(logging.WARNING):
        lefts = [(await limiter.take("a")).left for _ in range(3)]
    assert lefts == pytest.approx([1, 0, -1], abs=0.1)
    assert len([one for one in caplog.messages if "redis is not used" in one]) == 1


@pytest.mark.redis
def test_a_script_alone_finds_out_that_redis_is_back(redis_server: RedisServer) -> None:
    clock = Clock()
    door = RedisDoor(redis_server.url, PATIENT, clock)
    redis_server.kill()
    assert door.run_script("return {1}", "k") is None
    assert not door.writable
    redis_server.start()
    assert door.run_script("return {1}", "k") is None, "the breaker is open"
    clock.now = 60
    assert door.writable
    assert door.run_script("return {1}", "k") == [1]
    assert not any(door.health().open.values())


@pytest.mark.redis
def test_a_script_that_redis_refuses_gives_nothing(redis_server: RedisServer) -> None:
    door = RedisDoor(redis_server.url, PATIENT)
    assert door.run_script("return nonsense(", "k") is None
    assert not door.writable
    assert RedisDoor(redis_server.url, PATIENT).run_script("return 1", "k") is None


async def test_a_client_waits_as_long_as_it_is_told(client: httpx.AsyncClient) -> None:
    # Without a limit nothing is said of one.
    assert not any(name.startswith("ratelimit") for name in (await client.get("/index")).headers)
