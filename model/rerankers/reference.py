"""The released code's rule: the top 15 by reverse rank alone, the rest stays.

Kept for parity with the paper. Ranks come from a full similarity matrix in evaluation, from
the reverse lists (so at most z) online; ties keep the first stage's order.
"""

import numpy as np
from numpy.typing import NDArray

from model.core.types import FloatArray, RankArray, RowArray

DEPTH = 15
FILTERED = -10.0
BLOCK_COLUMNS = 256


def reference_positions(ranks: NDArray[np.integer], depth: int = DEPTH) -> RowArray:
    """Positions (C,) in the new order of candidates that stand in the first stage's order.

    `ranks` (C,) are their reverse ranks; only the first `depth` move.
    """
    positions = np.arange(len(ranks))
    positions[:depth] = np.argsort(ranks[:depth], kind="stable")
    return positions


def filtered(similarities: NDArray[np.floating], kept: NDArray[np.integer]) -> FloatArray:
    """The matrix (Q, N) with -10 wherever a candidate is not among the query's kept (Q, C)."""
    matrix = np.full(similarities.shape, FILTERED, dtype=np.float32)
    values = np.take_along_axis(similarities, kept, axis=1)
    np.put_along_axis(matrix, kept, values.astype(np.float32), axis=1)
    return matrix


def reference_order(similarities: NDArray[np.floating], depth: int = DEPTH) -> RowArray:
    """Rows (Q, N) best first: by similarity, then the top `depth` by reverse rank.

    The reverse rank of query q at candidate n is q's place in column n, equal similarities by
    lower index.
    """
    order = np.argsort(-similarities, axis=1, kind="stable")
    top = order[:, :depth]
    ranks = column_ranks(similarities, top)
    moved = np.argsort(ranks, axis=1, kind="stable")
    order[:, :depth] = np.take_along_axis(top, moved, axis=1)
    return order


def column_ranks(similarities: NDArray[np.floating], rows: NDArray[np.integer]) -> RankArray:
    """Reverse ranks (Q, C) of each query at its candidates rows (Q, C): its place in the column.

    Sorts a block of columns at a time: a full (Q, N) matrix of ranks is never held.
    """
    ranks = np.empty(rows.shape, dtype=np.int32)
    n_queries, n_items = similarities.shape
    for start in range(0, n_items, BLOCK_COLUMNS):
        block = similarities[:, start : start + BLOCK_COLUMNS].T  # (columns, Q)
        order = np.argsort(-block, axis=1, kind="stable")
        places = np.empty(order.shape, dtype=np.int32)
        np.put_along_axis(places, order, np.arange(n_queries, dtype=np.int32)[None], axis=1)
        query, candidate = np.nonzero((rows >= start) & (rows < start + len(block)))
        ranks[query, candidate] = places[rows[query, candidate] - start, query]
    return ranks
