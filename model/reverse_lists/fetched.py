"""Reverse lists of several queries' candidates, asked for in one call and handed out from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.core.types import HalfArray, RowArray
from model.reverse_lists.layers import LayeredLists, ReverseListSource


def fetched(source: ReverseListSource, wanted: Sequence[RowArray]) -> ReverseListSource:
    """A source with the lists of all rows that are wanted at hand, each asked for once.

    The source itself where that saves nothing: for one query, or with lists in a mapped table.
    """
    if len(wanted) < 2 or (isinstance(source, LayeredLists) and source.in_table):
        return source
    rows = np.unique(np.concatenate(wanted))
    return FetchedLists(source, rows, source.lists(rows))


@dataclass(frozen=True)
class FetchedLists:
    """Lists (U, z) of the rows (U,) at hand, ascending; any other row is asked of the source."""

    source: ReverseListSource
    rows: RowArray
    table: HalfArray

    def lists(self, rows: RowArray) -> HalfArray:
        """Lists (C, z) of rows (C,)."""
        places = np.searchsorted(self.rows, rows)
        if len(self.rows) and (self.rows.take(places, mode="clip") == rows).all():
            return self.table[places]
        return self.source.lists(rows)
