"""Whole answers of repeated queries, shared through Redis."""

import asyncio
import json
import threading
import zlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b
from typing import Any

from pydantic import ValidationError

from model.core.types import CandidateBudget, Way
from model.reverse_lists.redis_door import RedisDoor
from model.search.options import REACH
from service.release import installed_version
from service.schemas import SearchAnswer, SearchFields

THREADS = 2
MAX_WAITING = 64  # answers that wait to be shared; further ones are not
MAX_BYTES = 16 << 20  # of an answer before it is compressed
DIGEST_BYTES = 16
# What a request may say that changes no whole answer.
NO_OPTIONS = frozenset({"timeout_ms"})


@dataclass(frozen=True)
class AnswerKey:
    """What an answer depends on: the index version, the query, every option, and the release.

    Another release may rank, and word, the same search of the same index otherwise.
    """

    version: str
    direction: Way
    search: SearchFields
    budget: CandidateBudget
    reach: int = REACH
    release: str = field(default_factory=installed_version)

    @cached_property
    def name(self) -> str:
        """`meet:{index version}:answer:{digest}`; digesting an image takes milliseconds."""
        told = self.search.model_dump(exclude=set(NO_OPTIONS))
        whole = [
            self.direction,
            type(self.search).__name__,
            self.budget.model_dump(),
            self.reach,
            self.release,
            told,
        ]
        text = json.dumps(whole, sort_keys=True, default=_plain)
        return f"meet:{self.version}:answer:{_digest(text.encode())}"


class Lookup(StrEnum):
    """How a look-up of an answer ended; `skipped`: Redis was not asked, its breaker is open."""

    HIT = "hit"
    MISS = "miss"
    SKIPPED = "skipped"


class AnswerCache:
    """Answers by key: `await get(key)` before a search is made, `put(key, answer)` after it.

    Neither blocks the event loop: digests, Redis and compression belong to two threads of the
    cache's own. `put` returns at once; what finds too many before it is not shared. Degraded
    answers are never kept, nor those of another version than the key's. Without a door every
    look-up misses and nothing is kept.
    """

    def __init__(self, door: RedisDoor | None, keep_seconds: int) -> None:
        """Take the door that the reverse lists use, and how long an answer is kept (0: not)."""
        self.lookups: Counter[Lookup] = Counter()
        self._door, self._keep_seconds = door if keep_seconds else None, keep_seconds
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="meet-answers")
        self._room = threading.BoundedSemaphore(MAX_WAITING)

    async def get(self, key: AnswerKey) -> dict[str, Any] | None:
        """The plain values of the answer kept under the key, None where there is none."""
        if self._door is None:
            return None
        answer, lookup = None, Lookup.SKIPPED
        if self._door.ready:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._pool, self._read, self._door, key)
            lookup = Lookup.MISS if answer is None else Lookup.HIT
        self.lookups[lookup] += 1
        return answer

    def put(self, key: AnswerKey, answer: Mapping[str, object]) -> None:
        """Keep the answer, some time soon, if it is whole and there is room."""
        if self._door is None or not _whole(key, answer) or not self._door.ready:
            return
        if self._room.acquire(blocking=False):
            written = self._pool.submit(self._write, self._door, key, answer)
            written.add_done_callback(lambda _: self._room.release())

    def close(self) -> None:
        """Let what runs end; drop what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, door: RedisDoor, key: AnswerKey) -> dict[str, Any] | None:
        [value] = door.get_many([key.name])
        return None if value is None else _unpacked(key, value)

    def _write(self, door: RedisDoor, key: AnswerKey, answer: Mapping[str, object]) -> None:
        content = json.dumps(answer).encode()
        if len(content) <= MAX_BYTES:
            door.put_many({key.name: zlib.compress(content, 1)}, self._keep_seconds)


def _whole(key: AnswerKey, answer: Mapping[str, object]) -> bool:
    return answer["index_version"] == key.version and not answer["degraded"]


def _unpacked(key: AnswerKey, value: bytes) -> dict[str, Any] | None:
    """The answer, None where the bytes hold none of this key's."""
    try:
        content = json.loads(zlib.decompressobj().decompress(value, MAX_BYTES))
        answer = SearchAnswer.model_validate(content)
    except (zlib.error, ValueError, ValidationError, RecursionError):
        return None
    fits = answer.index_version == key.version and answer.direction is key.direction
    return content if fits else None


def _plain(value: object) -> object:
    """Bytes by their digest; whatever else JSON lacks by its words."""
    return _digest(value) if isinstance(value, bytes) else str(value)


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
