"""A share of the searches, repeated exactly when there is time: what the stages leave out.

Of the first ten that Stage II would choose among all items: how many each stage of Stage I kept,
and how many were answered.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from random import random

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram

from model.cascade import Kept, SearchOptions
from model.core.types import Direction, FloatArray, RowArray, Way
from model.exact import ExactSearch
from service.jobs import Found, Steps
from service.serving import Lease, Serving

DEPTH = 10
# Tenths as they come out of a division by ten; the last bucket is "all of them".
BUCKETS = tuple(tenths / DEPTH for tenths in range(DEPTH + 1))

log = logging.getLogger(__name__)


class Stage(StrEnum):
    """Where an item can be lost; the final answer can also lose it to the order."""

    HASH = "hash"
    PQ = "pq"
    FINAL = "final"


class Result(StrEnum):
    """What became of a search that was drawn."""

    MEASURED = "measured"
    BUSY = "busy"
    REPLACED = "replaced"
    FAILED = "failed"


class Shadows:
    """Draws searches and measures them; what a measurement costs a waiting search is one chunk."""

    def __init__(
        self,
        serving: Serving,
        share: float,
        registry: CollectorRegistry,
        draw: Callable[[], float] = random,
    ) -> None:
        """Take the share of searches, 0 to 1, and where the results are counted."""
        self._serving, self._share, self._draw = serving, share, draw
        recall = Histogram(
            "meet_shadow_recall_ratio",
            "Share of the exact first ten that a stage kept, of searches repeated exactly",
            ("stage", "direction"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._recall = {(d, s): recall.labels(s.value, d.value) for d in Direction for s in Stage}
        ended = Counter(
            "meet_shadow_searches",
            "Searches drawn to be repeated exactly, by what became of them",
            ("result",),
            registry=registry,
        )
        self._ended = {result: ended.labels(result.value) for result in Result}

    def sampled(self, direction: Way, found: Found) -> Steps | None:
        """The measurement of a search, if it is drawn; it holds on to no engine.

        Only a search from one modality to the other is, and one that leaves nothing out: a filter
        and its like change what there is to be found.
        """
        if self._draw() >= self._share:
            return None
        options = found.options
        plain = replace(options, offset=0, filter=None, exact=False, min_score=None, collapse=None)
        if not isinstance(direction, Direction) or options != plain:
            return None
        answered = found.ranking.rows[:DEPTH]
        one = _Answered(direction, found.embedding, options, answered)
        return self._steps(self._serving.lease(found.engine), one)

    def ended(self, result: Result = Result.BUSY) -> None:
        """Count what became of a search that was drawn."""
        self._ended[result].inc()

    def _steps(self, lease: Lease, one: "_Answered") -> Steps:
        """Measure, whatever happens: nobody waits for the outcome."""
        try:
            yield from self._measured(lease, one)
        except Exception as error:  # noqa: BLE001 - it must not harm who searches
            log.warning("a search could not be repeated exactly: %r", error)
            self.ended(Result.FAILED)

    def _measured(self, lease: Lease, one: "_Answered") -> Steps:
        exact = ExactSearch(one.direction, one.embedding, replace(one.options, k=DEPTH))
        found = False
        while not found:
            if (engine := lease()) is None:
                return self.ended(Result.REPLACED)
            found = exact.advance(engine.cascade)
            del engine  # between two steps it may be replaced
            yield
        if (engine := lease()) is None:
            return self.ended(Result.REPLACED)
        kept = engine.cascade.kept(one.direction, one.embedding, one.options)
        self._count(one, exact.rows, kept)
        return self.ended(Result.MEASURED)

    def _count(self, one: "_Answered", exact: RowArray, kept: Kept) -> None:
        """Recall at ten of the stages; of an answer of fewer hits, recall at as many."""
        if not len(exact):
            return
        shares = {
            Stage.HASH: np.isin(exact, kept.by_hash).mean(),
            Stage.PQ: np.isin(exact, kept.by_pq).mean(),
            Stage.FINAL: np.isin(exact[: len(one.rows)], one.rows).mean(),
        }
        for stage, share in shares.items():
            self._recall[one.direction, stage].observe(float(share))


@dataclass(frozen=True)
class _Answered:
    """A search as it was done, and the first rows that it found."""

    direction: Direction
    embedding: FloatArray  # (D,)
    options: SearchOptions
    rows: RowArray  # at most DEPTH
