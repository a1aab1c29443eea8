from collections.abc import Callable, Iterator

import numpy as np
import pytest

from model.core.errors import InputError
from model.core.types import Direction, HalfArray, RowArray
from model.reverse_lists.layers import ComputedLists, LayeredLists
from model.reverse_lists.redis_door import RedisDoor
from model.reverse_lists.redis_layer import RedisLayer
from model.reverse_lists.redis_options import KEEP_SECONDS, RedisOptions
from tests.support.clock import Clock
from tests.support.redis_server import RedisServer

Z = 4
T2I = Direction.TEXT_TO_IMAGE
PATIENT = RedisOptions(timeout_seconds=10.0)  # a busy machine is not what these tests are about


class Layers:
    """Layers that a test opened, each with a door of its own, closed with it."""

    def __init__(self) -> None:
        self.doors: list[RedisDoor] = []
        self.clock = Clock()

    def __call__(
        self,
        url: str,
        version: str = "v1",
        direction: Direction = T2I,
        *,
        keep_seconds: int = KEEP_SECONDS,
        options: RedisOptions = PATIENT,
    ) -> RedisLayer:
        self.doors.append(RedisDoor(url, options, self.clock))
        return RedisLayer(self.doors[-1], version, direction, Z, keep_seconds=keep_seconds)


@pytest.fixture
def layers() -> Iterator[Layers]:
    opened = Layers()
    yield opened
    for door in opened.doors:
        door.close()


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
def test_a_list_takes_two_bytes_a_value_and_a_seal_of_four(
    redis_server: RedisServer, layers: Layers
) -> None:
    layers(redis_server.url).put(rows_of(5), some_lists(1))
    assert redis_server.command("STRLEN", "meet:v1:text-to-image:5") == [str(2 * Z + 4)]


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
@pytest.mark.parametrize("seconds", [KEEP_SECONDS, 60])
def test_values_do_not_stay_for_ever(
    redis_server: RedisServer, layers: Layers, seconds: int
) -> None:
    layers(redis_server.url, keep_seconds=seconds).put(rows_of(5), some_lists(1))
    assert seconds - 10 < int(redis_server.command("TTL", "meet:v1:text-to-image:5")[0]) <= seconds


@pytest.mark.redis
def test_a_write_beyond_its_bytes_shares_the_first_lists(
    redis_server: RedisServer, layers: Layers
) -> None:
    small = PATIENT.model_copy(update={"put_bytes": 2 * (2 * Z + 4)})
    layer = layers(redis_server.url, options=small)
    assert layer.share(rows_of(3, 1, 2), some_lists(3)) == 2
    assert layer.get(rows_of(1, 2, 3)).mask.tolist() == [True, False, True]


@pytest.mark.redis
def test_a_sealed_list_of_another_length_counts_as_missing(
    redis_server: RedisServer, layers: Layers
) -> None:
    layer = layers(redis_server.url)
    layer.put(rows_of(5, 6), some_lists(2))
    layers.doors[0].put_many({"meet:v1:text-to-image:5": b"short"}, 60)
    found = layer.get(rows_of(5, 6))
    assert found.mask.tolist() == [False, True]
    np.testing.assert_array_equal(found.lists, some_lists(2)[1:])


def flip(server: RedisServer) -> None:
    server.command("SETRANGE", "meet:v1:text-to-image:3", "6", "xy")


def mix_up(server: RedisServer) -> None:
    server.command("COPY", "meet:v1:text-to-image:1", "meet:v1:text-to-image:3", "REPLACE")


def retype(server: RedisServer) -> None:
    server.command("DEL", "meet:v1:text-to-image:3")
    server.command("RPUSH", "meet:v1:text-to-image:3", "1")


def fill(server: RedisServer) -> None:
    server.command("FLUSHALL")
    server.command("CONFIG", "SET", "maxmemory", "1")


def follow(server: RedisServer) -> None:
    server.command("FLUSHALL")
    server.command("REPLICAOF", "127.0.0.1", "1")


def kill(server: RedisServer) -> None:
    server.kill()


@pytest.mark.redis
@pytest.mark.parametrize("harm", [flip, mix_up, retype, fill, follow, kill])
def test_whatever_becomes_of_redis_the_lists_stay_the_same(
    redis_server: RedisServer, layers: Layers, harm: Callable[[RedisServer], None]
) -> None:
    source = LayeredLists([layers(redis_server.url)], computed(), Z)
    rows = rows_of(3, 1, 4)
    expected = computed().lists(rows)
    for _ in range(2):
        np.testing.assert_array_equal(source.lists(rows), expected)
    assert source.lookups == {"computed": 3, "redis": 3}
    harm(redis_server)
    for _ in range(3):
        np.testing.assert_array_equal(source.lists(rows), expected)
    assert source.lookups["computed"] >= 4


@pytest.mark.redis
def test_two_layers_of_one_door_pay_for_a_dead_server_once(
    redis_server: RedisServer, layers: Layers
) -> None:
    first = layers(redis_server.url)
    [door] = layers.doors
    second = RedisLayer(door, "v1", Direction.IMAGE_TO_TEXT, Z)
    redis_server.kill()
    for layer in (first, second):
        assert not layer.get(rows_of(1)).mask.any()
    assert sum(door.health().failures.values()) == 1


@pytest.mark.redis
def test_a_shared_layer_takes_the_place_of_one_of_its_name_and_is_asked_last(
    redis_server: RedisServer, layers: Layers
) -> None:
    alone, shared = layers("unix:///nowhere"), layers(redis_server.url)
    source = LayeredLists([alone], computed(), Z)
    source.share(shared)
    source.lists(rows_of(3))
    assert shared.get(rows_of(3)).mask.all()
    assert not sum(layers.doors[0].health().failures.values())


def test_an_absent_server_gives_the_computed_lists(layers: Layers) -> None:
    layer = layers("redis://127.0.0.1:1")
    source = LayeredLists([layer], computed(), Z)
    rows = rows_of(3, 1, 4)
    np.testing.assert_array_equal(source.lists(rows), computed().lists(rows))
    assert source.lookups == {"redis": 0, "computed": 3}


def test_a_url_that_is_none_is_refused_by_value() -> None:
    with pytest.raises(InputError, match="localhost:6379"):
        RedisDoor("localhost:6379")
