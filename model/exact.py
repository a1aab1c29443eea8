"""One query against every item: Stage II without Stage I, a chunk of the gallery at a time.

The yardstick of what the cascade leaves out while it serves. A whole gallery takes seconds: the
caller goes on from chunk to chunk, and nothing of the index is held on to in between.
"""

from dataclasses import dataclass, replace

import numpy as np

from model.ann.selection import top_positions
from model.cascade import CandidateSide, Cascade, SearchOptions
from model.core.types import Direction, FloatArray, RerankMode, RowArray
from model.rerankers.reference import DEPTH
from model.rerankers.second_stage import SecondStage, Shortlist
from model.reverse_lists.compute import BLOCK_ROWS
from model.reverse_lists.layers import ComputedLists, LayeredLists

CHUNK_ROWS = 2048
# Lists of more items than this are not computed for one query: then the nearest by cosine count.
MOST_COMPUTED = 8192
BY_RELATIONSHIP = (RerankMode.RELATIONSHIP, RerankMode.LEARNED)


@dataclass(frozen=True)
class _Pass:
    """Candidates looked at chunk by chunk under one mode, and how many of the best go on."""

    mode: RerankMode
    keep: int
    chunk: int


class ExactSearch:
    """The best k of all items for one query (D,); `advance` until it says that they are found.

    Equal to a cascade whose stages keep everything. A mode that orders a shortlist gets the
    shortlist of the whole gallery. Reverse lists are read without being counted or kept; where
    they have to be computed for more than `MOST_COMPUTED` items, these are the nearest ones.
    """

    def __init__(self, direction: Direction, embedding: FloatArray, options: SearchOptions) -> None:
        """Take a query as the cascade does; the budget does not count."""
        self._direction, self._embedding, self._options = direction, embedding, options
        self._passes: list[_Pass] | None = None
        self._pool: RowArray | None = None  # rows that are looked at, None: all
        self._next = 0
        self._best = _Best()

    @property
    def rows(self) -> RowArray:
        """The rows (k,) found, best first."""
        return self._best.rows

    def advance(self, cascade: Cascade) -> bool:
        """Look at one more chunk; True at the end. Always over the same cascade."""
        side = _quiet(cascade.sides[self._direction.candidate])
        if self._passes is None:
            self._passes = _passes(side, cascade.second, self._options)
        total = len(side) if self._pool is None else len(self._pool)
        now, stop = self._passes[0], min(total, self._next + self._passes[0].chunk)
        rows = np.arange(self._next, stop) if self._pool is None else self._pool[self._next : stop]
        self._best.add(*self._ranked(cascade, side, rows, now), now.keep)
        self._next = stop
        if stop == total:
            self._passes.pop(0)
        if stop == total and self._passes:
            self._pool, self._next, self._best = self._best.rows, 0, _Best()
        return not self._passes

    def _ranked(
        self, cascade: Cascade, side: CandidateSide, rows: RowArray, now: _Pass
    ) -> tuple[RowArray, FloatArray]:
        """The best of a chunk's rows, and their scores."""
        head = cascade.heads.heads[self._direction.query]
        shortlist = Shortlist.of(
            self._direction,
            self._embedding[None],
            head.query_hash_space(self._embedding[None]),
            rows[None],
            side.embeddings,
            side.lists,
        )
        found = cascade.second.rerank(shortlist, now.mode, now.keep)
        return rows[found.places[0]], found.scores[0]


class _Best:
    """The best rows so far, by (score, row)."""

    def __init__(self) -> None:
        self.rows: RowArray = np.empty(0, np.int64)
        self._scores: FloatArray = np.empty(0, np.float32)

    def add(self, rows: RowArray, scores: FloatArray, keep: int) -> None:
        if not len(self.rows):  # in an order of their own, where the mode breaks ties otherwise
            self.rows, self._scores = rows, scores
            return
        rows = np.concatenate([self.rows, rows])
        scores = np.concatenate([self._scores, scores])
        places = top_positions(scores, rows, keep)
        self.rows, self._scores = rows[places], scores[places]


def _quiet(side: CandidateSide) -> CandidateSide:
    """The side with lists that leave no trace."""
    lists = side.lists
    return replace(side, lists=lists.quiet) if isinstance(lists, LayeredLists) else side


def _passes(side: CandidateSide, second: SecondStage, options: SearchOptions) -> list[_Pass]:
    """What is done one after the other: all items down to a shortlist, and that in its mode."""
    mode = second.mode(options.rerank)
    first = RerankMode.RELATIONSHIP if mode in BY_RELATIONSHIP else RerankMode.NONE
    keep = max(options.k, _shortlisted(second, mode))
    computed = first is RerankMode.RELATIONSHIP and isinstance(side.lists, ComputedLists)
    passes = [_Pass(first, keep, BLOCK_ROWS if computed else CHUNK_ROWS)]
    if computed and len(side) > MOST_COMPUTED:
        passes.insert(0, _Pass(RerankMode.NONE, MOST_COMPUTED, CHUNK_ROWS))
    if mode is not first:
        passes.append(_Pass(mode, options.k, keep))
    return passes


def _shortlisted(second: SecondStage, mode: RerankMode) -> int:
    """How many of the best a mode looks at again."""
    match mode:
        case RerankMode.LEARNED if second.learned is not None:
            return second.learned.depth
        case RerankMode.PILLAR if second.pillar is not None:
            return second.pillar.reranker.config.pillars
        case RerankMode.REFERENCE:
            return DEPTH
        case _:
            return 0
