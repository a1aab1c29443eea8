import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from model.core.errors import InputError
from model.reverse_lists.redis_door import RedisDoor, RedisFailure
from model.reverse_lists.redis_options import RedisOptions
from tests.support.clock import Clock
from tests.support.redis_server import RedisServer

PATIENT_SECONDS = 10.0  # a busy machine is not what these tests are about
OpenDoor = Callable[..., RedisDoor]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_door(clock: Clock) -> Iterator[OpenDoor]:
    opened: list[RedisDoor] = []

    def run(url: str, timeout_seconds: float = PATIENT_SECONDS, **options: object) -> RedisDoor:
        told = RedisOptions.model_validate({"timeout_seconds": timeout_seconds, **options})
        opened.append(RedisDoor(url, told, clock))
        return opened[-1]

    yield run
    for door in opened:
        door.close()


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="model.reverse_lists.redis_door")


def connections(server: socket.socket) -> int:
    """How many were made and not yet counted."""
    server.setblocking(False)
    made = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            made += 1
    return made


def noted(door: RedisDoor, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that go to the server from now on, by name: the only ones that can wait."""
    asked: list[str] = []

    def note(name: str) -> Callable[..., object]:
        real = getattr(door, name)

        def call(*told: object) -> object:
            asked.append(name)
            return real(*told)

        return call

    for name in ("_read", "_write"):
        monkeypatch.setattr(door, name, note(name))
    return asked


def failures(door: RedisDoor) -> dict[str, int]:
    return {kind.value: times for kind, times in door.health().failures.items() if times}


@pytest.mark.redis
def test_values_come_back_under_their_keys_and_others_are_none(
    redis_server: RedisServer, open_door: OpenDoor
) -> None:
    door = open_door(redis_server.url)
    assert door.put_many({"a": b"", "b": bytes(range(256))}, 60) == 2
    assert door.get_many(["b", "x", "a"]) == [bytes(range(256)), None, b""]
    assert door.get_many([]) == []
    assert door.put_many({}, 60) == 0
    assert failures(door) == {}


@pytest.mark.redis
def test_a_batch_is_one_round_trip_of_commands_that_are_not_too_long(
    redis_server: RedisServer, open_door: OpenDoor
) -> None:
    door = open_door(redis_server.url)
    values = {f"k{n}": str(n).encode() for n in range(2500)}
    assert door.put_many(values, 60) == 2500
    assert door.get_many(list(values)) == list(values.values())
    [mget] = [s for s in redis_server.command("INFO", "commandstats") if "mget" in s]
    assert "calls=3," in mget
    # Nothing else was asked: connecting costs no round trips of its own.
    stats = {line.split(":")[0] for line in redis_server.command("INFO", "commandstats")}
    assert {one for one in stats if "set" in one or "client" in one or "hello" in one} == {
        "cmdstat_set"
    }


@pytest.mark.redis
def test_values_stay_for_the_seconds_given(redis_server: RedisServer, open_door: OpenDoor) -> None:
    open_door(redis_server.url).put_many({"a": b"1"}, 77)
    assert 70 < int(redis_server.command("TTL", "a")[0]) <= 77


@pytest.mark.redis
@pytest.mark.parametrize("value", ["", "abc", "no value of ours, but long enough for one"])
def test_garbage_counts_as_missing_and_is_counted(
    redis_server: RedisServer, open_door: OpenDoor, value: str
) -> None:
    door = open_door(redis_server.url)
    door.put_many({"a": b"1", "b": b"2"}, 60)
    redis_server.command("SET", "a", value)
    assert door.get_many(["a", "b"]) == [None, b"2"]
    assert failures(door) == {"garbage": 1}
    assert door.ready


@pytest.mark.redis
def test_a_value_under_another_key_is_garbage(
    redis_server: RedisServer, open_door: OpenDoor
) -> None:
    door = open_door(redis_server.url)
    door.put_many({"a": b"1"}, 60)
    redis_server.command("COPY", "a", "b")
    assert door.get_many(["a", "b"]) == [b"1", None]
    assert failures(door) == {"garbage": 1}


@pytest.mark.redis
def test_a_key_of_another_type_is_missing_and_healed_by_the_next_write(
    redis_server: RedisServer, open_door: OpenDoor
) -> None:
    door = open_door(redis_server.url)
    redis_server.command("RPUSH", "a", "1")
    assert door.get_many(["a"]) == [None]
    assert door.put_many({"a": b"2"}, 60) == 1
    assert door.get_many(["a"]) == [b"2"]
    assert failures(door) == {}


@pytest.mark.redis
def test_a_write_holds_no_more_than_its_bytes(
    redis_server: RedisServer, open_door: OpenDoor
) -> None:
    door = open_door(redis_server.url, put_bytes=3 * (10 + 4))
    assert door.put_many({f"k{n}": bytes(10) for n in range(9)}, 60) == 3
    assert redis_server.command("DBSIZE") == ["3"]


def fill(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction")


def refill(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxmemory", "0")


def follow(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "replica-serve-stale-data", "yes")
    server.command("REPLICAOF", "127.0.0.1", "1")


def lead(server: RedisServer) -> None:
    server.command("REPLICAOF", "NO", "ONE")


def want_replicas(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "min-replicas-to-write", "1")


def want_none(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "min-replicas-to-write", "0")


def forbid(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "default", "-set")


def allow(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "default", "+set")


@pytest.mark.redis
@pytest.mark.parametrize(
    ("harm", "mend", "kind"),
    [
        (fill, refill, RedisFailure.FULL),
        (follow, lead, RedisFailure.READ_ONLY),
        (want_replicas, want_none, RedisFailure.READ_ONLY),
        (forbid, allow, RedisFailure.REFUSED),
    ],
)
def test_a_server_that_takes_nothing_still_gives_and_is_written_to_once_it_takes_again(
    redis_server: RedisServer,
    open_door: OpenDoor,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[RedisServer], None],
    mend: Callable[[RedisServer], None],
    kind: RedisFailure,
) -> None:
    door = open_door(redis_server.url)
    door.put_many({"a": b"1"}, 60)
    harm(redis_server)
    for _ in range(50):
        assert door.put_many({"b": b"2"}, 60) == 0
        assert door.get_many(["a", "b"]) == [b"1", None]
    assert failures(door) == {kind.value: 1}
    assert door.health().open == {"server": False, "writing": True}
    mend(redis_server)
    clock.now += 1.0
    assert door.put_many({"b": b"2"}, 60) == 1
    assert door.health().open == {"server": False, "writing": False}
    opened, closed = caplog.messages
    assert "not used for writing" in opened
    assert f"({kind}: " in opened
    assert closed == "redis is used for writing again"


@pytest.mark.redis
def test_nothing_is_written_while_redis_uses_more_memory_than_it_may(
    redis_server: RedisServer, open_door: OpenDoor
) -> None:
    door = open_door(redis_server.url, max_memory_bytes=1)
    door.put_many({"a": b"1"}, 60)  # its reply says how much is used
    assert door.put_many({"b": b"2"}, 60) == 0
    assert door.get_many(["a", "b"]) == [b"1", None]
    assert failures(door) == {"full": 1}
    roomy = open_door(redis_server.url, max_memory_bytes=1 << 40)
    assert roomy.put_many({"b": b"2"}, 60) == 1


@pytest.mark.redis
def test_a_killed_server_is_used_again_once_it_is_back(
    redis_server: RedisServer,
    open_door: OpenDoor,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    door = open_door(redis_server.url)
    door.put_many({"a": b"1"}, 60)
    redis_server.kill()
    for _ in range(100):
        assert door.get_many(["a"]) == [None]
        assert door.put_many({"a": b"1"}, 60) == 0
    assert failures(door) == {"connection": 1}
    assert door.health().open == {"server": True, "writing": False}
    clock.now += 1.0
    assert door.get_many(["a"]) == [None]  # the probe fails, and is no new opening
    redis_server.start()
    assert door.get_many(["a"]) == [None]
    assert failures(door) == {"connection": 2}
    clock.now += 2.0
    assert door.get_many(["a"]) == [None]  # restarted empty, and asked
    assert door.put_many({"a": b"1"}, 60) == 1
    assert door.get_many(["a"]) == [b"1"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.redis
def test_a_server_restarted_between_two_calls_is_no_failure(
    redis_server: RedisServer, open_door: OpenDoor
) -> None:
    door = open_door(redis_server.url)
    door.put_many({"a": b"1"}, 60)
    redis_server.kill()
    redis_server.start()
    assert door.put_many({"a": b"1"}, 60) == 1
    assert failures(door) == {}


@pytest.mark.redis
def test_a_stopped_server_costs_one_time_out_and_its_late_answer_is_not_mixed_up(
    redis_server: RedisServer, open_door: OpenDoor, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = open_door(redis_server.url, timeout_seconds=0.2)
    door.put_many({"a": b"1", "b": b"2"}, 60)
    redis_server.stop()
    asked = noted(door, monkeypatch)
    for _ in range(100):
        assert door.get_many(["a"]) == [None]
        assert door.put_many({"a": b"3"}, 60) == 0
    assert asked == ["_read"]  # whoever asks waits for the time-out
    assert failures(door) == {"timeout": 1}
    redis_server.resume()
    clock.now += 1.0
    assert door.get_many(["b"]) == [b"2"]
    assert door.health().open == {"server": False, "writing": False}


@pytest.mark.redis
def test_a_server_that_answers_late_is_left_alone_though_its_answer_is_used(
    redis_server: RedisServer, open_door: OpenDoor, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = open_door(redis_server.url)
    door.put_many({"a": b"1"}, 60)
    read = door._read

    def late(keys: list[str]) -> list[bytes | None]:
        clock.now += PATIENT_SECONDS + 0.01
        return read(keys)

    monkeypatch.setattr(door, "_read", late)
    assert door.get_many(["a"]) == [b"1"]
    assert door.get_many(["a"]) == [None]
    assert failures(door) == {"slow": 1}


@pytest.mark.redis
def test_a_wrong_password_is_a_refusal_that_no_log_repeats(
    redis_server: RedisServer, open_door: OpenDoor, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.command("CONFIG", "SET", "requirepass", "right")
    url = redis_server.url.replace("unix://", "unix://:mistaken@")
    assert open_door(url).get_many(["a"]) == [None]
    door = open_door(redis_server.url)
    assert door.get_many(["a"]) == [None]
    assert failures(door) == {"refused": 1}
    assert "mistaken" not in caplog.text
    assert len(caplog.messages) == 2


def test_a_silent_server_costs_one_time_out_and_then_nothing(
    silent_server: socket.socket, open_door: OpenDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"redis://127.0.0.1:{silent_server.getsockname()[1]}"
    door = open_door(url, timeout_seconds=0.2)
    asked = noted(door, monkeypatch)
    assert door.get_many(["a"]) == [None]
    assert connections(silent_server) == 1
    assert failures(door) == {"timeout": 1}
    for _ in range(100):
        assert door.get_many(["a"]) == [None]
        assert door.put_many({"a": b"1"}, 60) == 0
    assert connections(silent_server) == 0
    assert asked == ["_read"]


@pytest.mark.parametrize("url", ["localhost:6379", "redis://:secret@localhost:none"])
def test_a_url_that_is_none_is_refused_by_value_without_its_password(url: str) -> None:
    with pytest.raises(InputError, match="localhost:") as caught:
        RedisDoor(url)
    assert "secret" not in str(caught.value)
