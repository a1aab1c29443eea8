"""How often a caller may ask: a bucket of tokens each, shared through Redis if there is one."""

import asyncio
import math
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic

from model.reverse_lists.breaker import Clock
from model.reverse_lists.redis_door import RedisDoor
from service.errors import RateLimitedError
from service.settings import RateLimit

MOST_CALLERS = 65_536  # whose buckets are kept in this process
MILLI = 1000

# Tokens of a bucket that fills by the clock of Redis itself, in one step that nobody gets
# between: {tokens left (below 0: none was left), in thousandths}. A bucket that is full is no
# bucket any more.
SCRIPT = """
local rate, size, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'left', 'at')
local left = tonumber(kept[1] or size)
left = math.min(size, left + math.max(0, now - (tonumber(kept[2] or now))) * rate)
local after = left - cost
if after >= 0 then
  redis.call('HSET', KEYS[1], 'left', tostring(after), 'at', string.format('%.6f', now))
  redis.call('PEXPIRE', KEYS[1], math.ceil((size - after) / rate * 1000) + 1000)
end
return {math.floor(after * 1000)}
"""


@dataclass(frozen=True)
class Grant:
    """What became of one request: tokens left after it, below 0 where there was none for it."""

    left: float
    limit: RateLimit

    @property
    def headers(self) -> dict[str, str]:
        """The answer's `RateLimit` fields: requests at once, left, and seconds to a full bucket."""
        size, left = self.limit.size, max(0, math.floor(self.left))
        seconds = math.ceil((size - max(0.0, self.left)) / (self.limit.per_second or 1))
        return {
            "RateLimit-Limit": str(size),
            "RateLimit-Remaining": str(left),
            "RateLimit-Reset": str(seconds),
        }

    def require(self) -> None:
        """Refuse the request that there was no token for.

        Raises:
            RateLimitedError: names the limit, and when there will be one.
        """
        if self.left < 0:
            per_second = self.limit.per_second or 1
            raise RateLimitedError(
                f"a caller may send {per_second:g} requests a second, {self.limit.size} at once",
                -self.left / per_second,
            )


class LocalBuckets:
    """Buckets in this process; beyond a bound, the callers longest silent are forgotten."""

    def __init__(
        self, limit: RateLimit, clock: Clock = monotonic, most: int = MOST_CALLERS
    ) -> None:
        self._limit, self._clock, self._most = limit, clock, most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, when

    def __len__(self) -> int:
        """Callers known."""
        return len(self._buckets)

    def take(self, caller: str, cost: int = 1) -> float:
        """Tokens left after so many were taken, below 0 where none was."""
        now, size = self._clock(), self._limit.size
        left, at = self._buckets.pop(caller, (size, now))
        left = min(size, left + (now - at) * (self._limit.per_second or 0))
        after = left - cost
        self._buckets[caller] = (after if after >= 0 else left, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return after


class RateLimiter:
    """Takes a token for each request, from Redis if it answers, else from this process."""

    def __init__(self, limit: RateLimit, door: RedisDoor | None) -> None:
        """Take a limit that is on, and the door that the reverse lists use."""
        self._limit, self._door, self._local = limit, door, LocalBuckets(limit)

    async def take(self, caller: str, cost: int = 1) -> Grant:
        """What becomes of a request of this caller that costs so many tokens.

        One that costs more than a bucket holds takes a full one.
        """
        left, cost = None, min(cost, self._limit.size)
        if self._door is not None and self._door.writable:
            left = await asyncio.to_thread(self._shared, self._door, caller, cost)
        return Grant(self._local.take(caller, cost) if left is None else left, self._limit)

    def _shared(self, door: RedisDoor, caller: str, cost: int) -> float | None:
        told = (repr(self._limit.per_second), str(self._limit.size), str(cost))
        reply = door.run_script(SCRIPT, f"meet:rate:{caller}", *told)
        return reply[0] / MILLI if reply else None


def limiter_of(limit: RateLimit, door: RedisDoor | None) -> RateLimiter | None:
    """The limiter, None where there is no limit."""
    return None if limit.per_second is None else RateLimiter(limit, door)
