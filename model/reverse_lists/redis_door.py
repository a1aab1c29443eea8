"""The only door to redis: values that may be lost, read and written without ever raising.

Redis is a cache. It may be dead, slow, full, read-only, or hold values that are none of ours: the
caller then gets less or nothing back, and computes. Two breakers keep that cheap. One is for the
server as a whole, the other for writing alone: a full or read-only server still answers.
"""

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError, ResponseError
from redis.retry import Retry

from model.core.errors import InputError
from model.reverse_lists.breaker import CircuitBreaker, Clock
from model.reverse_lists.redis_options import RedisOptions

KEYS_A_COMMAND = 1024  # a longer MGET keeps a server's other clients waiting
SECONDS_A_KEY = 1e-4  # a fifth of what computing a list takes: slower than that is no help
SEAL_BYTES = 4
NO_REPLICAS = "NOREPLICAS"

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class RedisFailure(StrEnum):
    """What went wrong; each is a series of the metrics."""

    CONNECTION = "connection"
    TIMEOUT = "timeout"
    SLOW = "slow"
    FULL = "full"
    READ_ONLY = "read_only"
    REFUSED = "refused"
    GARBAGE = "garbage"


DEAD = {RedisFailure.CONNECTION, RedisFailure.TIMEOUT}


class RedisHealth(NamedTuple):
    """Which breakers are open, and what went wrong how often so far."""

    open: Mapping[str, bool]
    failures: Mapping[RedisFailure, int]


class RedisDoor:
    """One server's values by key, sealed so that a value is known to be the one of its key.

    Safe to share between threads; whoever shares it shares its breakers.
    """

    def __init__(
        self, url: str, options: RedisOptions | None = None, clock: Clock = time.monotonic
    ) -> None:
        """Take a redis URL; no connection is made before the first call.

        Raises:
            InputError: the URL is none that redis understands.
        """
        self._options, self._clock = options or RedisOptions(), clock
        self._server, self._writing = CircuitBreaker(clock), CircuitBreaker(clock)
        self._failures: Counter[RedisFailure] = Counter()
        self._lock = threading.Lock()
        self._client = _client(url, self._options.timeout_seconds)
        self.trouble = ""  # the last failure in words

    @property
    def ready(self) -> bool:
        """Whether a call would go to the server now."""
        return self._server.ready

    def health(self) -> RedisHealth:
        """Breakers and failures, every one of them from the start."""
        breakers = {"server": not self._server.closed, "writing": not self._writing.closed}
        with self._lock:
            return RedisHealth(breakers, {kind: self._failures[kind] for kind in RedisFailure})

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The value of each key, in one round trip; None where there is none of ours."""
        if not keys or not self._server.admits():
            return [None] * len(keys)
        raw = self._call(self._server, len(keys), lambda: self._read(keys))
        return [None] * len(keys) if raw is None else self._unsealed(keys, raw)

    def put_many(self, values: Mapping[str, bytes], keep_seconds: int) -> int:
        """How many of the values, in order, the server took for so many seconds."""
        # Reads probe a server that failed: they come first everywhere, and cost less.
        if not self._server.closed or not self._writing.ready:
            return 0
        sealed = dict(_fitting(values, self._options.put_bytes))
        if not sealed or not self._writing.admits():
            return 0
        written = self._call(self._writing, len(sealed), lambda: self._write(sealed, keep_seconds))
        return written or 0

    @property
    def writable(self) -> bool:
        """Whether a script that writes would go to the server now."""
        return self._server.ready and self._writing.ready

    def run_script(self, script: str, key: str, *values: str) -> list[Any] | None:
        """The list that a script over one key returns, None where none comes; one round trip."""
        # Where nothing else is read, scripts have to find out that the server is back.
        if not self._writing.ready or not self._server.admits() or not self._writing.admits():
            return None
        server_was_closed = self._server.closed
        reply = self._call(self._writing, 1, lambda: self._run(script, key, values))
        if reply is not None and not server_was_closed and self._server.worked():
            log.info("redis is used for %s again", self._use_of(self._server))
        return reply

    def close(self) -> None:
        """Close the connections; the door stays usable."""
        self._client.close()

    def _call(
        self, breaker: CircuitBreaker, n_keys: int, work: Callable[[], Result]
    ) -> Result | None:
        """What the work gives, None if it fails; the breaker is told either way."""
        began = self._clock()
        try:
            result = work()
        except (redis.RedisError, OSError) as error:
            kind = _kind(error)
            self._failed(self._server if kind in DEAD else breaker, kind, str(error))
            return None
        spent = self._clock() - began
        if spent > self._options.timeout_seconds + n_keys * SECONDS_A_KEY:
            words = f"{n_keys} keys took {1e3 * spent:.0f} ms"
            self._failed(self._server, RedisFailure.SLOW, words)
        elif breaker.worked():
            log.info("redis is used for %s again", self._use_of(breaker))
        return result

    def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Raw values; a key of another type reads as None."""
        pipeline = self._client.pipeline(transaction=False)
        for start in range(0, len(keys), KEYS_A_COMMAND):
            pipeline.mget(keys[start : start + KEYS_A_COMMAND])
        return [value for part in _replies(pipeline) for value in part]

    def _write(self, sealed: Mapping[str, bytes], keep_seconds: int) -> int:
        limit = self._options.max_memory_bytes
        pipeline = self._client.pipeline(transaction=False)
        for key, value in sealed.items():
            pipeline.set(key, value, ex=keep_seconds)
        if limit is not None:
            pipeline.info("memory")
        replies = _replies(pipeline)
        if limit is not None and (used := replies[-1]["used_memory"]) > limit:
            raise OutOfMemoryError(f"it uses {used} bytes, {limit} are allowed")
        return len(sealed)

    def _run(self, script: str, key: str, values: Sequence[str]) -> list[Any]:
        """What the script returns; a reply that is no list is an error of its own."""
        reply = self._client.eval(script, 1, key, *values)
        if not isinstance(reply, list):
            raise ResponseError(f"a script returns a list, got {type(reply).__name__}")
        return reply

    def _unsealed(self, keys: Sequence[str], raw: Sequence[bytes | None]) -> list[bytes | None]:
        values = [
            None if one is None else _open(key, one) for key, one in zip(keys, raw, strict=True)
        ]
        self._count(RedisFailure.GARBAGE, values.count(None) - raw.count(None))
        return values

    def _failed(self, breaker: CircuitBreaker, kind: RedisFailure, words: str) -> None:
        self._count(kind, 1)
        self.trouble = f"{kind}: {words}"
        if breaker.failed():
            log.warning(
                "redis is not used for %s until it recovers (%s): answers take longer",
                self._use_of(breaker),
                self.trouble,
            )

    def _count(self, kind: RedisFailure, times: int) -> None:
        with self._lock:
            self._failures[kind] += times

    def _use_of(self, breaker: CircuitBreaker) -> str:
        return "writing" if breaker is self._writing else "anything"


def _client(url: str, timeout_seconds: float) -> redis.Redis:
    """A client whose connecting costs no round trips of its own, and that never tries twice."""
    try:
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
    except ValueError as error:
        shown = re.sub("//.*@", "//...@", url)
        raise InputError(f"redis needs a redis:// or unix:// URL, got {shown!r}") from error


def _replies(pipeline: Pipeline) -> list[Any]:
    """What the server says to each command; the first refusal is raised."""
    replies = pipeline.execute(raise_on_error=False)
    refused = next((one for one in replies if isinstance(one, Exception)), None)
    if refused is not None:
        raise refused
    return list(replies)


def _kind(error: Exception) -> RedisFailure:
    match error:
        case redis.TimeoutError() | TimeoutError():
            return RedisFailure.TIMEOUT
        case OutOfMemoryError():
            return RedisFailure.FULL
        case redis.ReadOnlyError():
            return RedisFailure.READ_ONLY
        case redis.ResponseError() if str(error).startswith(NO_REPLICAS):
            return RedisFailure.READ_ONLY
        case redis.ResponseError() | redis.AuthenticationError():
            return RedisFailure.REFUSED
        case _:
            return RedisFailure.CONNECTION


def _fitting(values: Mapping[str, bytes], room: int) -> Iterator[tuple[str, bytes]]:
    """The first values, sealed, that fit into so many bytes."""
    for key, value in values.items():
        room -= SEAL_BYTES + len(value)
        if room < 0:
            return
        yield key, _seal(key, value) + value


def _seal(key: str, value: bytes) -> bytes:
    """A checksum over key and value: no other bytes, and no other key's, pass for it."""
    return crc32(value, crc32(key.encode())).to_bytes(SEAL_BYTES, "little")


def _open(key: str, sealed: bytes) -> bytes | None:
    value = sealed[SEAL_BYTES:]
    return value if sealed[:SEAL_BYTES] == _seal(key, value) else None
