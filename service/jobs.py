"""What the device's thread is given to do: searches, which share batches, calls, and idle work."""

import asyncio
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeAlias

from model.cascade import Ranking, SearchOptions
from model.core.types import FloatArray, Interval
from service.engine import SearchEngine
from service.fates import Told
from service.queries import Search

# What goes on a step at a time while nothing else waits; what it returns is its result.
Steps: TypeAlias = Generator[None, None, Any]


@dataclass(frozen=True)
class Found:
    """One search's ranking, the milliseconds of its stages, and the engine that found it.

    `embedding` (D,) and `options` are what was searched with in the end.
    """

    engine: SearchEngine
    ranking: Ranking
    milliseconds: Mapping[str, float]
    degraded: tuple[str, ...]
    embedding: FloatArray
    options: SearchOptions
    spans: Mapping[str, Interval] = field(default_factory=dict)  # when each stage was done
    batch_size: int = 1  # searches that were answered together
    why_not: tuple[Told, ...] = ()

    def after(self, queued: Interval, batch_size: int) -> "Found":
        """The same, with the time in the queue among its stages, as one of so many searches."""
        began, ended = queued
        milliseconds = {"queue": 1000 * (ended - began), **self.milliseconds}
        spans = {"queue": queued, **self.spans}
        return Found(
            self.engine,
            self.ranking,
            milliseconds,
            self.degraded,
            self.embedding,
            self.options,
            spans,
            batch_size,
            self.why_not,
        )


@dataclass(frozen=True, eq=False)
class SearchJob:
    """A search in the queue, and the engine that answers it; who settles the future first, answers.

    A future that is done before the job's turn (the caller hung up, or its time is over) makes
    the job one that nobody waits for.
    """

    search: Search
    engine: SearchEngine
    future: asyncio.Future[Found]
    urgent: bool = False
    queued: float = field(default_factory=monotonic)


@dataclass(frozen=True, eq=False)
class CallJob:
    """A call that needs the device's thread for itself."""

    call: Callable[[], Any]
    future: asyncio.Future[Any]
    queued: float = field(default_factory=monotonic)


@dataclass(frozen=True, eq=False)
class IdleJob:
    """Work for when nothing else waits; without a future nobody asks how it ends."""

    steps: Steps
    future: asyncio.Future[Any] | None = None

    @property
    def wanted(self) -> bool:
        """Whether it is still worth doing."""
        return self.future is None or not self.future.done()


Job = SearchJob | CallJob
