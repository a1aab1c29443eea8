"""What the device's thread is given to do: searches, which share batches, and single calls."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from model.cascade import Ranking
from service.engine import SearchEngine
from service.fates import Told
from service.queries import Search


@dataclass(frozen=True)
class Found:
    """One search's ranking, the milliseconds of its stages, and the engine that found it."""

    engine: SearchEngine
    ranking: Ranking
    milliseconds: Mapping[str, float]
    degraded: tuple[str, ...] = ()
    why_not: tuple[Told, ...] = ()

    def after(self, wait: float) -> "Found":
        """The same, with the seconds in the queue among its stages."""
        return replace(self, milliseconds={"queue": 1000 * wait, **self.milliseconds})


@dataclass(frozen=True, eq=False)
class SearchJob:
    """A search in the queue; who settles the future first, answers.

    A future that is done before the job's turn (the caller hung up, or its time is over) makes
    the job one that nobody waits for.
    """

    search: Search
    future: asyncio.Future[Found]
    queued: float = field(default_factory=monotonic)


@dataclass(frozen=True, eq=False)
class CallJob:
    """A call that needs the device's thread for itself."""

    call: Callable[[], Any]
    future: asyncio.Future[Any]
    queued: float = field(default_factory=monotonic)


Job = SearchJob | CallJob
