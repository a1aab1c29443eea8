"""Exact nearest rows, and the tables of a gallery's neighbours that stand still between queries."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.ann.halves import widened
from model.ann.selection import top_positions
from model.core.errors import CodeShapeError
from model.core.types import FloatArray, RowArray

MISSING = -1  # a place that a small pool leaves empty
BLOCK_ROWS = 256


class Nearest(NamedTuple):
    """Rows (Q, k) by (cosine, row), best first, and their cosines; -1 and 0 where none is left."""

    rows: RowArray
    cosines: FloatArray


def nearest(
    queries: NDArray[np.floating],
    items: NDArray[np.floating],
    count: int,
    own_rows: RowArray | None = None,
) -> Nearest:
    """The `count` nearest items (N, D) of each query (Q, D).

    `own_rows` (Q,) are the queries' own rows among the items: these come first, whatever
    duplicates there are.
    """
    found = Nearest(
        np.full((len(queries), count), MISSING, np.int64),
        np.zeros((len(queries), count), np.float32),
    )
    pool, rows = widened(items), np.arange(len(items))
    for start in range(0, len(queries), BLOCK_ROWS):
        cosines = widened(queries[start : start + BLOCK_ROWS]) @ pool.T
        for place, scores in enumerate(cosines, start):
            ordered = scores if own_rows is None else _own_first(scores, own_rows[place])
            best = top_positions(ordered, rows, count)
            found.rows[place, : len(best)] = best
            found.cosines[place, : len(best)] = scores[best]
    return found


def _own_first(scores: FloatArray, own: np.int64) -> FloatArray:
    ordered = scores.copy()
    ordered[own] = np.inf
    return ordered


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
        full = other.rows[:, -1] != MISSING  # a list with room lets every query in
        reach = np.where(full, other.cosines[:, -1], -np.inf).astype(np.float32)
        return cls(candidates, background, own, other.rows, reach)
