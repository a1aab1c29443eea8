"""Reverse lists shared through Redis: a cache only, and the only door to redis.

Redis may be absent, slow, full or wrong about a value's size: the answer stays the same and
only costs more. Nothing is ever raised from here once the URL is read.
"""

import logging
import time
from collections.abc import Callable

import numpy as np
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from model.core.errors import InputError
from model.core.types import Direction, HalfArray, RowArray
from model.reverse_lists.layers import Found

TIMEOUT_SECONDS = 0.05
KEEP_SECONDS = 7 * 24 * 3600

log = logging.getLogger(__name__)


class CircuitBreaker:
    """Open after a failure, for a time that doubles with each further one.

    So a dead server costs one time-out now and then, not one a request.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        first_seconds: float = 1.0,
        longest_seconds: float = 30.0,
    ) -> None:
        self._clock, self._first, self._longest = clock, first_seconds, longest_seconds
        self._pause = 0.0
        self._until = 0.0

    @property
    def closed(self) -> bool:
        """Whether a call may be tried now."""
        return self._clock() >= self._until

    def failed(self) -> None:
        """Hold calls back, twice as long as after the failure before."""
        self._pause = min(self._longest, max(self._first, 2 * self._pause))
        self._until = self._clock() + self._pause

    def worked(self) -> None:
        """Forget the failures."""
        self._pause = 0.0


class RedisLayer:
    """Lists under `meet:{index version}:{direction}:{row}`, fp16 bytes.

    Rows never move within an index version, so a row names its item as well as an id does and
    costs no look-up. One MGET reads a search's lists; one pipeline of SETs shares new ones.
    """

    name = "redis"

    def __init__(
        self,
        url: str,
        index_version: str,
        direction: Direction,
        z: int,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a redis URL, and how long connecting and an answer may each take.

        No connection is made before the first look-up.

        Raises:
            InputError: the URL is none that redis understands.
        """
        self._prefix, self._z = f"meet:{index_version}:{direction}:", z
        self._reading, self._writing = CircuitBreaker(clock), CircuitBreaker(clock)
        try:
            self._client = redis.Redis.from_url(
                url,
                socket_connect_timeout=timeout_seconds,
                socket_timeout=timeout_seconds,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise InputError(f"redis needs a redis:// or unix:// URL, got {url!r}") from error

    def get(self, rows: RowArray) -> Found:
        """The lists that Redis has; values of another length count as missing."""
        values = self._read(rows)
        held = [v if isinstance(v, bytes) and len(v) == 2 * self._z else None for v in values]
        mask = np.fromiter((v is not None for v in held), np.bool_, len(held))
        joined = b"".join(v for v in held if v is not None)
        return Found(mask, np.frombuffer(joined, dtype="<f2").reshape(-1, self._z))

    def put(self, rows: RowArray, lists: HalfArray) -> None:
        """Share the lists, if Redis takes them, for a week."""
        if not (self._reading.closed and self._writing.closed):
            return
        pipeline = self._client.pipeline(transaction=False)
        for key, values in zip(self._keys(rows), lists.astype("<f2"), strict=True):
            pipeline.set(key, values.tobytes(), ex=KEEP_SECONDS)
        try:
            pipeline.execute()
        except (redis.RedisError, OSError) as error:
            _report("keep", error)
            self._writing.failed()
        else:
            self._writing.worked()

    def close(self) -> None:
        """Close the connections; the layer stays usable."""
        self._client.close()

    def _read(self, rows: RowArray) -> list[object]:
        nothing: list[object] = [None] * len(rows)
        if not len(rows) or not self._reading.closed:
            return nothing
        try:
            values = self._client.mget(self._keys(rows))
        except (redis.RedisError, OSError) as error:
            _report("read", error)
            self._reading.failed()
            return nothing
        self._reading.worked()
        return list(values)

    def _keys(self, rows: RowArray) -> list[str]:
        return [f"{self._prefix}{row}" for row in rows.tolist()]


def _report(action: str, error: Exception) -> None:
    log.warning("redis could not %s reverse lists: %s", action, error)
