"""Ranks and leading rows of a ranking that lists some candidates of every query.

What Stage I drops is never answered, yet median and mean rank, and the metrics that read fifty
rows, ask where it would stand. One rule everywhere: behind what is listed follows the rest in
the order of the plain cosine, as a user finds it who goes on without the cascade. So a true
match that was dropped ranks behind the whole list, however near its cosine was.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.ann.selection import top_positions
from model.core.metrics import best_true_ranks, first_true
from model.core.types import Direction, FloatArray, RankArray, RowArray

BLOCK_VALUES = 1 << 24

Lists = Mapping[Direction, RowArray]


class RankingName(StrEnum):
    """The rankings that are measured side by side."""

    BASE = "base"
    REFERENCE = "reference"
    TRANSDUCTIVE = "transductive"
    INDUCTIVE = "inductive"


class OneWay(NamedTuple):
    """One direction of a split: Q queries, N candidates, and the image that each belongs to."""

    queries: FloatArray  # (Q, D)
    candidates: FloatArray  # (N, D)
    query_image: RowArray  # (Q,)
    candidate_image: RowArray  # (N,)

    def true(self, order: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which candidates of orders (Q, C) belong to their query."""
        return np.asarray(self.candidate_image[order] == self.query_image[:, None])


def true_ranks(way: OneWay, listed: RowArray) -> RankArray:
    """Rank (Q,) of every query's best true match, listed (Q, C) or behind the list."""
    ranks = first_true(way.true(listed))
    missed = np.flatnonzero(ranks == listed.shape[1])
    for rows, rest in _rest(way, missed, listed):
        is_true = way.candidate_image == way.query_image[rows, None]
        ranks[rows] += best_true_ranks(rest, is_true)
    return ranks


def leading(way: OneWay, listed: RowArray, depth: int) -> RowArray:
    """The first rows (Q, depth) of every query: what is listed (Q, C), then the rest."""
    depth = min(depth, len(way.candidates))
    missing = depth - listed.shape[1]
    if missing <= 0:
        return listed[:, :depth]
    candidates = np.arange(len(way.candidates))
    filled = [
        top_positions(one, candidates, missing)
        for _, rest in _rest(way, np.arange(len(way.queries)), listed)
        for one in rest
    ]
    return np.concatenate([listed, np.stack(filled)], axis=1)


def _rest(
    way: OneWay, queries: RowArray, listed: RowArray
) -> Iterator[tuple[RowArray, FloatArray]]:
    """Blocks of queries (q,) and their cosines (q, N), lowest of all where a row is listed."""
    step = max(1, BLOCK_VALUES // max(1, len(way.candidates)))
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        cosines = way.queries[rows] @ way.candidates.T
        np.put_along_axis(cosines, listed[rows], np.float32(-np.inf), axis=1)
        yield rows, cosines
