"""rSum of the gallery's own pairs over the index that is served, measured while nothing waits."""

import asyncio
import logging
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TypeAlias

import numpy as np

from model.artifact.own_queries import Queries, own_queries
from model.artifact.reader import Artifact
from model.cascade import SearchOptions
from model.core.metrics import CUTS, SHORT, Recalls
from model.core.types import Direction, RankArray, RerankMode
from service.aside import aside
from service.dispatcher import STOPPING, Dispatcher
from service.errors import (
    EvaluationRunningError,
    IndexReplacedError,
    NoPairsError,
    StoppingError,
)
from service.jobs import Steps
from service.serving import Lease, Serving

Ranks: TypeAlias = Mapping[Direction, RankArray]

REPORTS = 10  # lines in the log from beginning to end

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Recalls in percent of a version's own pairs, by how many queries of either direction."""

    version: str
    rerank: RerankMode
    queries: dict[str, int]
    recalls: Recalls
    seconds: float


class Evaluator:
    """Runs one evaluation at a time, a query a step: that is all a search can be held up by.

    The queries are the embeddings that the gallery stores, as `meet-build evaluate` takes them;
    searched for and counted as `meet-eval --index` does it.
    """

    def __init__(self, serving: Serving, dispatcher: Dispatcher) -> None:
        """Take what is evaluated, and who does it."""
        self._serving, self._dispatcher = serving, dispatcher
        self._running: asyncio.Task[Ranks] | None = None
        self._busy = self._stopping = False

    async def evaluate(self, sample: int, seed: int) -> Evaluation:
        """Recalls of at most `sample` seeded queries a direction.

        Raises:
            EvaluationRunningError: another one runs.
            NoPairsError: the gallery's images and captions are not paired.
            IndexReplacedError: another version took the index's place meanwhile.
            StoppingError: the service stops.
        """
        if self._stopping:
            raise StoppingError(STOPPING)
        if self._busy:
            raise EvaluationRunningError("one evaluation runs at a time, another one does")
        self._busy = True
        try:
            return await self._evaluated(sample, seed)
        finally:
            self._busy = False

    def stop(self) -> None:
        """End what runs, and begin nothing more."""
        self._stopping = True
        if self._running is not None:
            self._running.cancel()

    async def _evaluated(self, sample: int, seed: int) -> Evaluation:
        engine, began = self._serving.engine, perf_counter()
        version, rerank = engine.version, engine.cascade.second.default
        lease = self._serving.lease(engine)
        drawn = await aside(_drawn, engine.artifact, sample, seed)
        del engine  # it may be replaced before this ends
        ranks = await self._ranks(_steps(version, lease, drawn))
        recalls = Recalls.of(ranks[Direction.IMAGE_TO_TEXT], ranks[Direction.TEXT_TO_IMAGE])
        counts = {name: len(ranks[direction]) for direction, name in SHORT.items()}
        log.info("evaluation of index %s: rSum %.1f", version, recalls.rsum)
        return Evaluation(version, rerank, counts, recalls, perf_counter() - began)

    async def _ranks(self, steps: Steps) -> Ranks:
        self._running = asyncio.create_task(self._dispatcher.idle(steps))
        try:
            return await self._running
        except asyncio.CancelledError:
            if self._stopping:
                raise StoppingError(STOPPING) from None
            raise
        finally:
            self._running = None


def _drawn(artifact: Artifact, sample: int, seed: int) -> dict[Direction, Queries]:
    """Queries of both directions, each with true candidates."""
    drawn = {}
    for direction in Direction:
        queries = own_queries(artifact, direction, sample, seed)
        if queries is None or not queries.paired:
            raise NoPairsError("rSum needs images with their captions, this gallery has none")
        drawn[direction] = queries
    return drawn


def _steps(
    version: str, lease: Lease, drawn: Mapping[Direction, Queries]
) -> Generator[None, None, Ranks]:
    """Ranks of the best true match, a query a step; at least the deepest cut where none is hit."""
    ranks = {direction: np.empty(len(queries), np.int32) for direction, queries in drawn.items()}
    asked = [(direction, place) for direction, own in ranks.items() for place in range(len(own))]
    for done, (direction, place) in enumerate(asked, start=1):
        query = drawn[direction].part(place, place + 1)
        ranks[direction][place] = _rank(version, lease, direction, query)
        if done * REPORTS // len(asked) > (done - 1) * REPORTS // len(asked):
            log.info("evaluation of index %s: %d of %d queries", version, done, len(asked))
        yield
    return ranks


def _rank(version: str, lease: Lease, direction: Direction, query: Queries) -> int:
    if (engine := lease()) is None:
        raise IndexReplacedError(f"index version {version} is not served any more")
    options = SearchOptions(k=max(CUTS), budget=engine.budget)
    [found] = engine.cascade.search(direction, query.embeddings, options)
    is_true = query.is_true(found.rows[None])[0]
    return int(is_true.argmax()) if is_true.any() else max(CUTS)
