"""How near the items of a side are to everything, remembered: it depends on no query."""

import numpy as np

from model.core.types import FloatArray, HalfArray, RowArray
from model.rerankers.relationship import hubness


class Hubs:
    """The hubness of a side's items, four bytes each; safe to share between threads.

    Computed when an item is first a candidate: reverse lists never change under a side. Two
    threads that compute one at the same time write the same bits.
    """

    def __init__(self, n_items: int) -> None:
        """Take room for n_items once they are asked for."""
        self._n_items = n_items
        self._known: dict[float, FloatArray] = {}  # (N,) by temperature, NaN: not yet

    def of(self, rows: RowArray, lists: HalfArray, temperature: float) -> FloatArray:
        """The hubness (C,) of rows (C,) with lists (C, z)."""
        if (known := self._known.get(temperature)) is None:
            nothing = np.full(self._n_items, np.nan, np.float32)
            known = self._known.setdefault(temperature, nothing)
        found = known.take(rows)
        new = np.flatnonzero(np.isnan(found))
        if len(new):
            found[new] = known[rows[new]] = hubness(lists.take(new, axis=0), temperature)
        return found
