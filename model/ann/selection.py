"""The one rule of order among candidates, without sorting all of them."""

import numpy as np

from model.core.types import FloatArray, RowArray
from model.core.vectors import best_rows


def top_positions(scores: FloatArray, rows: RowArray, count: int) -> RowArray:
    """Positions (count,) of the highest scores, best first; equal scores by lower row.

    The same answer as `best_rows`, which sorts everything: here only what reaches the cut's
    score, ties at the cut included, is sorted.
    """
    surplus = len(scores) - count
    if surplus <= 0 or not count:
        return best_rows(scores, rows, count)
    cut = np.partition(scores, surplus)[surplus]
    kept = np.flatnonzero(scores >= cut)
    return kept[best_rows(scores[kept], rows[kept], count)]
