"""Exact nearest rows, and the tables of a gallery's neighbours that stand still between queries."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.ann.halves import widened
from model.core.errors import CodeShapeError
from model.core.types import FloatArray, RowArray

MISSING = -1  # a place that a small pool leaves empty
BLOCK_ROWS = 256
BLOCK_ITEMS = 16_384


class Nearest(NamedTuple):
    """Rows (Q, k) by (cosine, row), best first, and their cosines; -1 and 0 where none is left."""

    rows: RowArray
    cosines: FloatArray


def nearest(
    queries: NDArray[np.floating],
    items: NDArray[np.floating],
    count: int,
    own_rows: RowArray | None = None,
    *,
    block_items: int = BLOCK_ITEMS,
) -> Nearest:
    """The `count` nearest items (N, D) of each query (Q, D), `block_items` compared at a time.

    `own_rows` (Q,) are the queries' own rows among the items: these come first, whatever
    duplicates there are. Both arrays may be memory-mapped, neither is widened whole.
    """
    rows = np.full((len(queries), count), MISSING, np.int64)
    found = Nearest(rows, np.zeros((len(queries), count), np.float32))
    for start in range(0, len(queries), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        own = None if own_rows is None else own_rows[block]
        best = _nearest(queries[block], items, count, own, block_items)
        found.rows[block], found.cosines[block] = best
    return found


def _nearest(
    queries: NDArray[np.floating],
    items: NDArray[np.floating],
    count: int,
    own_rows: RowArray | None,
    block_items: int,
) -> Nearest:
    """The nearest items of one block of queries, a block of items at a time."""
    asked, shape = widened(queries), (len(queries), count)
    best = Nearest(np.full(shape, MISSING, np.int64), np.full(shape, -np.inf, np.float32))
    for start in range(0, len(items), block_items):
        cosines = asked @ widened(items[start : start + block_items]).T
        if own_rows is not None:
            here = np.flatnonzero((own_rows >= start) & (own_rows < start + cosines.shape[1]))
            cosines[here, own_rows[here] - start] = np.inf
        best = _merged(best, cosines, start)
    if own_rows is not None:
        best.cosines[:, 0] = np.einsum("qd,qd->q", asked, widened(items[own_rows]))
    best.cosines[best.rows == MISSING] = 0.0
    return best


def _merged(best: Nearest, cosines: FloatArray, start: int) -> Nearest:
    """The best (Q, k) of those so far and of the next items' cosines (Q, n), by (cosine, row).

    Only what reaches the last place so far is sorted; at first, what reaches the block's own.
    """
    count = best.rows.shape[1]
    cut = best.cosines[:, -1:]
    if count < cosines.shape[1] and np.isneginf(cut).any():
        cut = np.partition(cosines, -count, axis=1)[:, -count, None]
    # Ten times faster than np.nonzero of two dimensions.
    query, place = np.divmod(np.flatnonzero(cosines >= cut), cosines.shape[1])
    queries = np.concatenate([np.repeat(np.arange(len(cosines)), count), query])
    rows = np.concatenate([best.rows.ravel(), place + start])
    values = np.concatenate([best.cosines.ravel(), cosines[query, place]])
    order = np.lexsort((rows, -values, queries))
    firsts = np.searchsorted(queries[order], np.arange(len(cosines)))
    taken = order[firsts[:, None] + np.arange(count)]
    return Nearest(rows[taken], values[taken])


def reach_of(other: Nearest) -> FloatArray:
    """The cosine (N,) that a query from outside must exceed to be among a list's neighbours."""
    full = other.rows[:, -1] != MISSING  # a list with room lets every query in
    return np.where(full, other.cosines[:, -1], -np.inf).astype(np.float32)


@dataclass(frozen=True)
class PillarSide:
    """What stands still of a direction: the candidates, and the background of the queries' kind.

    The background is the pool that a query is compared with: the other queries of its split
    (transductive, the query among them) or a bank (inductive). Arrays may be memory-mapped.
    """

    candidates: NDArray[np.floating]  # (N, D) unit rows
    background: NDArray[np.floating]  # (M, D) unit rows
    own: NDArray[np.integer]  # (N, k), each candidate's nearest candidates, itself first
    other: NDArray[np.integer]  # (N, k), each candidate's nearest entries of the background
    reach: NDArray[np.floating]  # (N,), the cosine of the last of `other`

    def __post_init__(self) -> None:
        """Check that the parts fit.

        Raises:
            CodeShapeError: embeddings differ in width, or a table in length.
        """
        widths = {self.candidates.shape[1], self.background.shape[1]}
        if len(widths) > 1:
            raise CodeShapeError(f"candidates and background need one width, got {sorted(widths)}")
        lengths = {len(a) for a in (self.candidates, self.own, self.other, self.reach)}
        if len(lengths) > 1 or self.own.shape != self.other.shape:
            raise CodeShapeError(
                f"neighbour tables need a row per candidate, {len(self.candidates)}, and one "
                f"depth, got {self.own.shape}, {self.other.shape} and {self.reach.shape}"
            )

    @classmethod
    def of(
        cls, candidates: NDArray[np.floating], background: NDArray[np.floating], neighbours: int
    ) -> "PillarSide":
        """A side with its tables computed, `neighbours` deep."""
        own = nearest(candidates, candidates, neighbours, np.arange(len(candidates))).rows
        other = nearest(candidates, background, neighbours)
        return cls.of_tables(candidates, background, own, other)

    @classmethod
    def of_tables(
        cls,
        candidates: NDArray[np.floating],
        background: NDArray[np.floating],
        own: RowArray,
        other: Nearest,
    ) -> "PillarSide":
        """A side from neighbours (N, k) that were found before."""
        return cls(candidates, background, own, other.rows, reach_of(other))
