import socket
from collections.abc import Iterator
from contextlib import suppress
from time import perf_counter

import numpy as np
import pytest

from model.core.errors import InputError
from model.core.types import Direction, HalfArray, RowArray
from model.reverse_lists.layers import ComputedLists, LayeredLists
from model.reverse_lists.redis_layer import CircuitBreaker, RedisLayer
from tests.support.redis_server import RedisServer

Z = 4
T2I = Direction.TEXT_TO_IMAGE
PATIENT_SECONDS = 10.0  # a busy machine is not what these tests are about


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Layers:
    """Layers that a test opened, closed with it."""

    def __init__(self) -> None:
        self.opened: list[RedisLayer] = []
        self.clock = Clock()

    def __call__(
        self,
        url: str,
        version: str = "v1",
        direction: Direction = T2I,
        timeout_seconds: float = PATIENT_SECONDS,
    ) -> RedisLayer:
        layer = RedisLayer(
            url, version, direction, Z, timeout_seconds=timeout_seconds, clock=self.clock
        )
        self.opened.append(layer)
        return self.opened[-1]


@pytest.fixture
def layers() -> Iterator[Layers]:
    opened = Layers()
    yield opened
    for layer in opened.opened:
        layer.close()


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def connections(server: socket.socket) -> int:
    """How many were made and not yet counted."""
    server.setblocking(False)
    made = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            made += 1
    return made


def rows_of(*rows: int) -> RowArray:
    return np.array(rows, dtype=np.int64)


def some_lists(count: int, z: int = Z) -> HalfArray:
    return np.random.default_rng(count).standard_normal((count, z)).astype(np.float16)


def computed() -> ComputedLists:
    rng = np.random.default_rng(1)
    candidates, bank = (rng.standard_normal((n, 8)).astype(np.float16) for n in (30, 20))
    return ComputedLists(candidates, bank, Z)


@pytest.mark.redis
def test_one_process_reads_what_another_wrote(redis_server: RedisServer, layers: Layers) -> None:
    writer, reader = layers(redis_server.url), layers(redis_server.url)
    lists = some_lists(3)
    writer.put(rows_of(5, 1, 9), lists)
    found = reader.get(rows_of(9, 2, 5))
    assert found.mask.tolist() == [True, False, True]
    np.testing.assert_array_equal(found.lists, lists[[2, 0]])


@pytest.mark.redis
def test_keys_are_told_apart_by_version_direction_and_row(
    redis_server: RedisServer, layers: Layers
) -> None:
    layers(redis_server.url).put(rows_of(5), some_lists(1))
    assert redis_server.command("KEYS", "*") == ["meet:v1:text-to-image:5"]
    assert not layers(redis_server.url, version="v2").get(rows_of(5)).mask.any()
    assert (
        not layers(redis_server.url, direction=Direction.IMAGE_TO_TEXT).get(rows_of(5)).mask.any()
    )


@pytest.mark.redis
def test_values_do_not_stay_for_ever(redis_server: RedisServer, layers: Layers) -> None:
    layers(redis_server.url).put(rows_of(5), some_lists(1))
    (seconds,) = redis_server.command("TTL", "meet:v1:text-to-image:5")
    assert 0 < int(seconds) <= 7 * 24 * 3600


@pytest.mark.redis
@pytest.mark.parametrize("value", ["", "short", "longer than a list"])
def test_values_of_another_length_count_as_missing(
    redis_server: RedisServer, layers: Layers, value: str
) -> None:
    layer = layers(redis_server.url)
    layer.put(rows_of(5, 6), some_lists(2))
    redis_server.command("SET", "meet:v1:text-to-image:5", value)
    found = layer.get(rows_of(5, 6))
    assert found.mask.tolist() == [False, True]
    np.testing.assert_array_equal(found.lists, some_lists(2)[1:])


@pytest.mark.redis
def test_a_key_of_another_type_counts_as_missing(redis_server: RedisServer, layers: Layers) -> None:
    redis_server.command("RPUSH", "meet:v1:text-to-image:5", "a")
    assert layers(redis_server.url).get(rows_of(5)).mask.tolist() == [False]


@pytest.mark.redis
def test_a_server_killed_between_searches_costs_time_and_no_answer(
    redis_server: RedisServer, layers: Layers
) -> None:
    layer = layers(redis_server.url)
    source = LayeredLists([layer], computed(), Z)
    rows = rows_of(3, 1, 4)
    before = source.lists(rows)
    np.testing.assert_array_equal(source.lists(rows), before)
    redis_server.kill()
    np.testing.assert_array_equal(source.lists(rows), before)
    assert source.lookups == {"computed": 6, "redis": 3}


@pytest.mark.redis
def test_a_server_that_returns_is_used_again_after_the_pause(
    redis_server: RedisServer, layers: Layers
) -> None:
    layer = layers(redis_server.url)
    redis_server.kill()
    assert not layer.get(rows_of(1)).mask.any()
    redis_server.start()
    layers(redis_server.url).put(rows_of(1), some_lists(1))
    assert not layer.get(rows_of(1)).mask.any()  # still paused
    layers.clock.now += 1.0
    assert layer.get(rows_of(1)).mask.all()


@pytest.mark.redis
def test_a_full_server_still_answers_what_it_has(redis_server: RedisServer, layers: Layers) -> None:
    layer = layers(redis_server.url)
    layer.put(rows_of(1), some_lists(1))
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    layer.put(rows_of(2), some_lists(1))
    assert layer.get(rows_of(1, 2)).mask.tolist() == [True, False]


def test_a_silent_server_costs_one_short_time_out_and_then_nothing(
    silent_server: socket.socket, layers: Layers
) -> None:
    url = f"redis://127.0.0.1:{silent_server.getsockname()[1]}"
    layer = layers(url, timeout_seconds=0.2)
    began = perf_counter()
    assert not layer.get(rows_of(1)).mask.any()
    assert 0.15 < perf_counter() - began < 5.0
    assert connections(silent_server) == 1
    began = perf_counter()
    for _ in range(100):
        assert not layer.get(rows_of(1)).mask.any()
        layer.put(rows_of(1), some_lists(1))
    assert perf_counter() - began < 5.0  # a hundred time-outs would be twenty seconds
    assert connections(silent_server) == 0


def test_an_absent_server_gives_the_computed_lists(layers: Layers) -> None:
    layer = layers("redis://127.0.0.1:1")
    source = LayeredLists([layer], computed(), Z)
    rows = rows_of(3, 1, 4)
    np.testing.assert_array_equal(source.lists(rows), computed().lists(rows))
    assert source.lookups == {"redis": 0, "computed": 3}


def test_a_url_that_is_none_is_refused_by_value() -> None:
    with pytest.raises(InputError, match="localhost:6379"):
        RedisLayer("localhost:6379", "v1", T2I, Z)


def test_the_breaker_opens_for_twice_as_long_after_each_failure_and_closes_after_success() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock, first_seconds=1.0, longest_seconds=3.0)
    assert breaker.closed
    for pause in (1.0, 2.0, 3.0, 3.0):
        breaker.failed()
        clock.now += pause - 0.01
        assert not breaker.closed
        clock.now += 0.01 + 1e-9
        assert breaker.closed
    breaker.worked()
    breaker.failed()
    clock.now += 1.001
    assert breaker.closed
